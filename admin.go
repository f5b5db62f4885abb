package rediscache

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gplus-recycling/caddy-redis-cache/internal/admin"
	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
	"github.com/gplus-recycling/caddy-redis-cache/internal/cachekey"
	"github.com/gplus-recycling/caddy-redis-cache/internal/config"
	"github.com/gplus-recycling/caddy-redis-cache/internal/doctor"
	"github.com/gplus-recycling/caddy-redis-cache/internal/lint"
)

func init() {
	caddy.RegisterModule(adminAPI{})
}

// adminAPI serves the admin routes under /redis_cache/. Caddy makes one for
// every configuration, also for one that then fails to load, so that each
// request finds the configuration that runs.
type adminAPI struct{}

// CaddyModule returns the Caddy module information.
func (adminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.redis_cache", New: func() caddy.Module { return new(adminAPI) }}
}

// Provision registers the metrics, for the endpoint shows the registry of this
// configuration even if nothing else of it can be loaded.
func (adminAPI) Provision(ctx caddy.Context) error { return registerMetrics(ctx) }

// Routes returns the admin routes.
func (adminAPI) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: "/redis_cache/purge", Handler: route(methods{http.MethodPost: {does((*admin.API).Purge), nil}})},
		{Pattern: "/redis_cache/journal", Handler: route(methods{http.MethodGet: {does((*admin.API).Listing), []string{"limit"}}})},
		{Pattern: "/redis_cache/nodes", Handler: route(methods{http.MethodGet: {does((*admin.API).Nodes), nil}})},
		{Pattern: "/redis_cache/events", Handler: route(methods{http.MethodPost: {does((*admin.API).Event), nil}})},
		{Pattern: "/redis_cache/warm", Handler: route(methods{
			http.MethodPost: {does((*admin.API).Warm), nil},
			http.MethodGet:  {does((*admin.API).WarmProgress), []string{"id"}},
		})},
		{Pattern: "/redis_cache/stats", Handler: route(methods{http.MethodGet: {does((*admin.API).Stats), []string{"window"}}})},
		{Pattern: "/redis_cache/tail", Handler: route(methods{http.MethodGet: {does((*admin.API).Tail), []string{"namespace", "outcome"}}})},
		{Pattern: "/redis_cache/explain", Handler: route(methods{http.MethodGet: {does((*admin.API).Explain), []string{"url", "method", "header"}}})},
		{Pattern: "/redis_cache/entries", Handler: route(methods{
			http.MethodGet: {does((*admin.API).Entries), []string{"namespace", "pattern", "limit", "cursor"}},
		})},
		{Pattern: "/redis_cache/entry", Handler: route(methods{
			http.MethodGet:    {does((*admin.API).Entry), []string{"key", "body"}},
			http.MethodDelete: {does((*admin.API).DeleteEntry), []string{"key", "wait", "require"}},
		})},
		{Pattern: "/redis_cache/doctor", Handler: route(methods{http.MethodGet: {does((*admin.API).Doctor), nil}})},
		{Pattern: "/redis_cache/enable", Handler: route(methods{http.MethodPost: {does((*admin.API).Enable), nil}})},
		{Pattern: "/redis_cache/disable", Handler: route(methods{http.MethodPost: {does((*admin.API).Disable), nil}})},
	}
}

// methods are what a route does, by method.
type methods map[string]action

// action is what a request does. A parameter of the URL that is not known is an
// error, as are unknown fields of a body.
type action struct {
	handle     func(*App, http.ResponseWriter, *http.Request) error
	parameters []string
}

// does is what a method of the API does for the configuration that runs.
func does(method func(*admin.API, http.ResponseWriter, *http.Request) error) func(*App, http.ResponseWriter, *http.Request) error {
	return func(app *App, w http.ResponseWriter, r *http.Request) error { return method(app.admin(), w, r) }
}

// checkParameters lets nobody mistype a parameter without a notice.
func (a *action) checkParameters(r *http.Request) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return fmt.Errorf("query: %w", err)
	}
	for name := range query {
		if !slices.Contains(a.parameters, name) {
			return fmt.Errorf("unknown parameter %q", name)
		}
	}
	return nil
}

const maxAdminBody = 1 << 20

// route dispatches on the method and finds the app that runs.
func route(m methods) caddy.AdminHandler {
	return caddy.AdminHandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		do, allowed := m[r.Method]
		if !allowed {
			return admin.Error(http.StatusMethodNotAllowed, errors.New("method not allowed"))
		}
		if err := do.checkParameters(r); err != nil {
			return admin.Error(http.StatusBadRequest, err)
		}
		app := started.active()
		if app == nil {
			return admin.Error(http.StatusServiceUnavailable, errors.New("no configuration with redis_cache runs"))
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxAdminBody)
		return do.handle(app, w, r)
	})
}

// lintConfig is the configuration that runs, as far as it is examined.
func (a *App) lintConfig() *lint.Config {
	c := &lint.Config{Disabled: !a.IsEnabled(), Directive: directiveOf}
	if running, err := a.ctx.AppIfConfigured("http"); err == nil {
		c.Servers = running.(*caddyhttp.App).Servers
	}
	a.mu.Lock()
	for _, name := range slices.Sorted(maps.Keys(a.Namespaces)) {
		if !a.used[name] {
			c.Unused = append(c.Unused, name)
		}
	}
	a.mu.Unlock()
	return c
}

// directiveOf is what is known of a handler of the server, if it is ours.
func directiveOf(handler any, server *caddyhttp.Server) *lint.Directive {
	h, ours := handler.(*Handler)
	if !ours {
		return nil
	}
	p := h.policy
	d := &lint.Directive{
		Namespace: h.Namespace, TTL: p.TTL != nil || len(p.TTLRules) > 0, Override: p.TTL != nil && p.TTL.Override,
		Shared: p.Shared, ByUser: p.ByUser, SetCookie: p.SetCookieMode(), IgnoreCookies: p.IgnoreCookies,
		VaryCookie: p.VaryCookie, VaryHeader: p.VaryHeader, Targets: p.TargetFields(), Bypass: p.Matchers(),
		Front:        h.front.Load(),
		PublicSecret: string(h.app.secret) == h.app.PublicSecret(),
	}
	if p.Key != nil {
		d.KeyTemplate = p.Key.Template
	}
	if d.Front == nil {
		d.Front = h.readFront(server)
	}
	h.watch.Tell(d)
	return d
}

// caches reports whether a route caches responses to a method.
func (a *App) caches(method string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.ContainsFunc(a.policies, func(p *Policy) bool { return slices.Contains(p.CachedMethods(), method) })
}

// warmJobs are those of this process.
var warmJobs admin.Jobs

// admin answers requests for this configuration.
func (a *App) admin() *admin.API {
	n := a.node
	return &admin.API{
		Subject: doctor.Subject{
			Prefix: n.Prefix, Client: n.Slow, Lookups: n.Client, Replicated: n.Replicated, Store: n.Store, Redis: n.Redis, Journal: n.Journal,
			IsNamespace: config.IsNamespace,
		},
		Node: n.Node,

		Context: a.ctx, Off: !a.IsEnabled(), Named: a.Redis.Named(), Config: a.lintConfig, Expand: a.expand,
		HashUser: func(identity string) string { return cachekey.UserHash(a.secret, identity) },

		Jobs:   &warmJobs,
		Thrown: func(what string, recovered any) { logPanic(a.logger, what, recovered) },
		Caches: a.caches,
		Warmed: func(end *api.WarmProgress) {
			n.Log().Info("cache_warmed", "id", end.ID, "total", end.Total, "failed", end.Failed)
			n.Emit("warm_finished", map[string]any{"id": end.ID, "total": end.Total, "failed": end.Failed})
		},
		Confirmed: func(took time.Duration) { n.confirm.Observe(took.Seconds()) },
		Waits: func(err error) {
			waiting, since := n.Journal.Waiting()
			n.Log().Warn("a purge waits to be recorded: it covers what this node has stored, and other nodes do not know of it",
				"waiting", waiting, "since", since, "error", err)
		},
	}
}
