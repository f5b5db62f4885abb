// Package rediscache is a Caddy plugin: an HTTP handler that caches upstream
// responses in Redis with a memory tier in front.
//
// The package is the glue between Caddy and the cache. It holds the
// configuration, the main path of a request (handler.go) and the admin API;
// the cache itself lives in the packages under internal, none of which knows
// Caddy:
//
//   - internal/rfc9111: what HTTP says about caching, as pure functions
//   - internal/store: stored responses, in memory and in Redis
//   - internal/journal: purges, final on every node
//   - internal/glob: Redis glob patterns
//   - internal/stats: counters
package rediscache
