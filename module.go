package rediscache

import (
	"cmp"
	"fmt"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gplus-recycling/caddy-redis-cache/internal/cachekey"
	"github.com/gplus-recycling/caddy-redis-cache/internal/cli"
	"github.com/gplus-recycling/caddy-redis-cache/internal/config"
	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
	"github.com/gplus-recycling/caddy-redis-cache/internal/routes"
	"github.com/gplus-recycling/caddy-redis-cache/internal/stats"
	"github.com/gplus-recycling/caddy-redis-cache/internal/watch"
)

func init() {
	caddy.RegisterModule(new(Handler))
	caddycmd.RegisterCommand(cli.Command())
}

// Handler caches the responses of the handlers behind it in Redis, with a memory
// tier in front. It is a shared cache in the sense of RFC 9111.
//
// Its policy is that of its namespace, with the options that are set here in
// their place; `no_store`, `ignore_cookies`, `credential_headers`, `tag` and `invalidate` are added to
// those of the namespace.
//
// A request belongs to the first such handler that it reaches; further ones
// pass it through untouched.
//
// The handler sets these placeholders:
//
// Placeholder | Description
// ------------|---------------
// `{http.redis_cache.status}` | HIT, MISS, STALE, REVALIDATED or BYPASS
// `{http.redis_cache.reason}` | Why it was not a hit, or why the response was not stored
// `{http.redis_cache.key}` | The key
// `{http.redis_cache.namespace}` | The namespace
// `{http.redis_cache.tier}` | memory or redis, for what was answered from the cache
// `{http.redis_cache.ttl}` | The seconds for which the stored response stays fresh
// `{http.redis_cache.age}` | The age of the stored response in seconds
type Handler struct {
	// The namespace whose policy applies and under which responses are stored.
	// Default: general.
	Namespace string `json:"namespace,omitempty"`

	Policy

	app      *App
	node     *process
	policy   *Policy       // of namespace and handler, merged
	route    *engine.Route // the same, compiled
	counter  *stats.Counter
	watch    *watch.Route
	front    atomic.Pointer[routes.Front] // see inFront
	logger   *zap.Logger
	warnOnce sync.Once // about an identity that appears below the cache
}

const handlerID = "http.handlers.redis_cache"

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: handlerID, New: func() caddy.Module { return new(Handler) }}
}

// Provision finds the app, which Caddy creates with its defaults when there is
// no global option, and merges the policy.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	app, err := ctx.App(appID)
	if err != nil {
		return err
	}
	h.app = app.(*App)
	h.node = h.app.node
	h.Namespace = cmp.Or(h.Namespace, config.DefaultNamespace)
	if err := h.Policy.Provision(ctx); err != nil {
		return err
	}
	if h.policy, err = h.app.PolicyOf(h.Namespace, &h.Policy); err != nil {
		return fmt.Errorf("redis_cache: %w", err)
	}
	h.app.use(h.Namespace, h.policy)
	h.watch = &watch.Route{Namespace: h.Namespace, Log: slogger(h.logger)}
	h.route = h.compile()
	h.counter = h.node.Counters.Namespace(h.Namespace)
	return nil
}

// The documentation of the configuration in JSON finds these here.
type (
	// Policy says what is cached, under which key and for how long. A namespace and
	// a handler each have one; Handler says how the two are merged.
	Policy = config.Policy
	// VaryQuery selects query parameters.
	VaryQuery = cachekey.Query
)

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
