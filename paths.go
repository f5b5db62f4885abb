package rediscache

import (
	"context"
	"net/http"
	"net/url"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc3986"
)

// Caddy's path matcher cleans a path and decodes it once; an origin may clean it
// later, decode it again, or leave out parameters. What the two read differently must
// not be stored: a rule for /static/* would hold for an account page, and one for
// /account/* would not.

// pathKind judges the path as the client sent it and as it was rewritten. A target that
// has none but is sent on as it came, as "x:http://host/path" is, is read as a URL.
func (q *keyRequest) pathKind() rfc3986.PathKind {
	if q.opaque {
		return rfc3986.PathAmbiguous
	}
	kind := rfc3986.KindOf(q.path)
	if q.rewrittenPath != "" {
		kind = max(kind, rfc3986.KindOf(q.rewrittenPath))
	}
	return kind
}

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
	if path, query := splitURI(u, requestURI); requestURI != "" {
		requestURI = rfc3986.WithoutParams(path)
		if query != "" {
			requestURI += "?" + query
		}
	}
	return &plain, requestURI
}

// matchesBypass reports whether the option bypass matches the request, with parameters
// of its path or without.
func (x *exchange) matchesBypass() bool {
	p := &x.h.policy
	return p.matchesBypass(x.r) || len(p.Bypass) > 0 && x.q.pathKind() == rfc3986.PathParams && withoutParams(x.r, p.matchesBypass)
}

// requestTTL is the configured lifetime for the responses to the request. Where the
// path has parameters and their absence makes a difference, the safer one holds.
func (x *exchange) requestTTL() (*TTL, error) {
	p := &x.h.policy
	ttl, err := p.requestTTL(x.r)
	if err != nil || len(p.TTLRules) == 0 || x.q.pathKind() != rfc3986.PathParams {
		return ttl, err
	}
	plain := withoutParams(x.r, func(r *http.Request) (ttl *TTL) {
		ttl, err = p.requestTTL(r)
		return ttl
	})
	return safer(ttl, plain), err
}

// safer is the lifetime of two that stores less: one that overrides the origin with
// zero, else none, else the one that does not override, else the shorter one.
func safer(a, b *TTL) *TTL {
	for _, ttl := range []*TTL{a, b} {
		if ttl != nil && ttl.Override && ttl.Duration == 0 {
			return ttl
		}
	}
	switch {
	case a == nil || b == nil:
		return nil
	case a.Override != b.Override:
		if a.Override {
			return b
		}
		return a
	case b.Duration < a.Duration:
		return b
	}
	return a
}
