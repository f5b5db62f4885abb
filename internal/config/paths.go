package config

import (
	"context"
	"net/http"
	"net/url"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gplus-recycling/caddy-redis-cache/internal/cachekey"
	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc3986"
)

// Caddy's path matcher cleans a path and decodes it once; an origin may clean it
// later, decode it again, or leave out parameters. What the two read differently must
// not be stored: a rule for /static/* would hold for an account page, and one for
// /account/* would not.

// withoutParams calls f with the request while its paths, the original one included,
// lack the parameters of the last segment. It is changed in place, because the
// replacer is bound to it. What matchers note in the replacer meanwhile, such as the
// groups of a regular expression, is of that path, and dropped.
func withoutParams[T any](r *http.Request, f func(*http.Request) T) T {
	came := *r
	defer func() { *r = came }()
	ctx := r.Context()
	repl := caddy.NewEmptyReplacer()
	repl.Map(ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer).Get)
	original := ctx.Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	original.URL, original.RequestURI = cutParams(original.URL, original.RequestURI)
	ctx = context.WithValue(ctx, caddyhttp.OriginalRequestCtxKey, original)
	*r = *r.WithContext(context.WithValue(ctx, caddy.ReplacerCtxKey, repl))
	r.URL, r.RequestURI = cutParams(r.URL, r.RequestURI)
	return f(r)
}

func cutParams(u *url.URL, requestURI string) (*url.URL, string) {
	plain := *u
	plain.Path, plain.RawPath = rfc3986.WithoutParams(u.Path), rfc3986.WithoutParams(u.RawPath)
	if path, query := cachekey.SplitURI(u, requestURI); requestURI != "" {
		requestURI = rfc3986.WithoutParams(path)
		if query != "" {
			requestURI += "?" + query
		}
	}
	return &plain, requestURI
}
