package rediscache

import (
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// This file is the only place that calls the handlers behind the cache. They
// must not be called twice with one request: the context of a request remembers
// which routes it has been through.

// passThrough is for requests that this handler has no part in.
func passThrough(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return next.ServeHTTP(w, r)
}

// callNext calls the handlers behind the cache. When they return an error
// nothing has been written, and an error route will answer; its response gets
// the fields of the cache, too.
func (x *exchange) callNext(w *captureWriter) error {
	err := x.next.ServeHTTP(w, x.r)
	if w.status == 0 {
		x.refuse(ReasonError)
		x.annotate(w.Header())
	}
	return err
}
