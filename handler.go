package rediscache

import (
	"errors"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gplus-recycling/caddy-redis-cache/internal/cachekey"
	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
	"github.com/gplus-recycling/caddy-redis-cache/internal/explain"
	"github.com/gplus-recycling/caddy-redis-cache/internal/subrequest"
)

// ServeHTTP answers from the store or from the handlers behind.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	c, first := h.call(w, r, next)
	if !first {
		return next.ServeHTTP(w, r)
	}
	if e := explanationOf(r); e != nil {
		e.Explain(&explain.Site{
			Node: h.node.Node, Off: !h.app.IsEnabled(), Options: h.policy,
			Identities: func(r *http.Request) []string { return h.inFront(r).Identities(r) },
		}, c.answer.Examine())
		return nil
	}
	defer c.observe()
	return handlerError(c.answer.Serve())
}

// explanationOf is what is to be said of an explained request, or nil.
func explanationOf(r *http.Request) *explain.Explanation {
	e, _ := subrequest.Explaining(r).(*explain.Explanation)
	return e
}

// handlerError is an error as Caddy's error routes know it.
func handlerError(err error) error {
	if err == nil {
		return nil // most often; own costs an allocation
	}
	var own *engine.Error
	if errors.As(err, &own) {
		return caddyhttp.Error(own.Status, own.Err)
	}
	return err
}

// targetOf is what a request asks for.
func targetOf(r *http.Request) cachekey.Target {
	t := cachekey.Target{Scheme: "http"}
	if r.TLS != nil {
		t.Scheme = "https"
	}
	t.Host = cachekey.NormalHost(t.Scheme, r.Host)
	t.Trusted, _ = caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	t.URLScheme = t.Scheme
	if t.Trusted {
		t.URLScheme = statedScheme(r.Header, t.Scheme)
	}
	original := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	t.Path, t.Query = cachekey.SplitURI(original.URL, original.RequestURI)
	if path := r.URL.EscapedPath(); path != t.Path {
		t.RewrittenPath = path
	}
	t.RewrittenQuery = r.URL.RawQuery
	t.Opaque = r.URL.Opaque != ""
	return t
}

// statedScheme is the scheme that the client of a proxy has used: that of the
// connection, unless the proxy states another one in X-Forwarded-Proto.
func statedScheme(header http.Header, scheme string) string {
	if lines := header["X-Forwarded-Proto"]; len(lines) == 1 {
		for _, stated := range []string{"http", "https"} {
			if strings.EqualFold(lines[0], stated) {
				return stated
			}
		}
	}
	return scheme
}
