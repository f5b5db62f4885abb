// Package rediscache is a Caddy plugin: an HTTP handler that caches upstream
// responses in Redis with a memory tier in front.
//
// The package is the glue between Caddy and the cache: its modules, its placeholders, the
// table of admin routes, metrics and log. The cache itself lives in the packages under
// internal, which ARCHITECTURE.md lists by floors; the path of a request is
// internal/engine, and begins for this package at Handler.ServeHTTP.
package rediscache
