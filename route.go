package rediscache

import (
	"errors"
	"net/http"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
)

// compile makes the policy of a handler what the engine knows of it.
func (h *Handler) compile() *engine.Route {
	app, n := h.app, h.node
	rt := engine.NewRoute(n.Cache, h.policy.KeySpec(app.Prefix, h.Namespace))
	rt.Log, rt.Secret, rt.Strict = slogger(h.logger), app.secret, app.Strict()
	rt.Disabled = func() bool { return !app.IsEnabled() || n.IsOff(h.Namespace) }
	h.policy.Compile(rt, &h.Policy)
	rt.IsFailure, rt.IsIncremental = isFailure, caddyhttp.IsIncremental
	rt.IdentityBelow = h.warnIdentityBelow
	rt.Redirected = func(r *http.Request, up engine.Upstream, header http.Header) {
		h.watch.Redirected(r, up.UserID(), header)
	}
	return rt
}

// isFailure tells an upstream that fails from one whose answer is an error route's, such
// as a file that is not there.
func isFailure(err error) bool {
	var handlerError caddyhttp.HandlerError
	return !errors.As(err, &handlerError) || handlerError.StatusCode >= http.StatusInternalServerError
}

// warnIdentityBelow tells the operator, once, that authentication runs behind the cache: a
// hit would not ask for it.
func (h *Handler) warnIdentityBelow(path string) {
	h.warnOnce.Do(func() {
		h.logger.Warn("an authentication handler runs behind redis_cache; its responses are not stored."+
			" Put it in front of redis_cache", zap.String("path", path))
	})
}
