package rediscache

import (
	"errors"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

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
	if own, ok := errors.AsType[*engine.Error](err); ok {
		return caddyhttp.Error(own.Status, own.Err)
	}
	return err
}
