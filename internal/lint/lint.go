package lint

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/intercept"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
	"github.com/gplus-recycling/caddy-redis-cache/internal/routes"
)

// Config is the configuration that runs.
type Config struct {
	Servers map[string]*caddyhttp.Server
	// Directive returns what is known of a handler of a server, if it is a redis_cache;
	// nil for any other.
	Directive func(handler any, server *caddyhttp.Server) *Directive
	// Disabled tells that the configuration switches this node off.
	Disabled bool
	// Unused are the namespaces that are declared and that no directive names.
	Unused []string
}

// linter looks for configurations that run but are hardly meant.
type linter struct {
	routes.Walk[passed]

	config   *Config
	server   string
	running  *caddyhttp.Server
	findings []api.Check
}

// passed is a redis_cache that a request may have passed on its way.
type passed struct {
	directive *Directive
	path      []caddyhttp.MatcherSets // what the request has matched
	group     string                  // of the route in the list that is walked
}

// Lint checks the configuration.
func (c *Config) Lint() []api.Check {
	l := &linter{config: c}
	for _, name := range slices.Sorted(maps.Keys(c.Servers)) {
		l.walkServer(name, c.Servers[name])
	}
	if c.Disabled {
		l.add(api.Warn, "this node caches nothing: the configuration switches it off", "remove enabled false, or REDIS_CACHE_ENABLED from the environment")
	}
	for _, name := range c.Unused {
		l.add(api.Warn, "namespace "+name+" is declared, but no redis_cache names it", "name it in a directive, or remove it")
	}
	if len(l.findings) == 0 {
		l.add(api.OK, "nothing to say", "")
	}
	return l.findings
}

func (l *linter) add(status api.Status, detail, advice string) {
	c := api.Check{Name: "configuration", Status: status, Detail: detail, Advice: advice}
	if !slices.Contains(l.findings, c) {
		l.findings = append(l.findings, c)
	}
}

func (l *linter) walkServer(name string, server *caddyhttp.Server) {
	l.server, l.running = name, server
	l.Walk = routes.Walk[passed]{
		Named: server.NamedRoutes, Handler: l.handler, Group: func(p *passed) *string { return &p.group },
	}
	l.Routes(server.Routes, nil, nil)
	if server.Errors != nil {
		l.Routes(server.Errors.Routes, nil, nil)
	}
	for _, route := range slices.Sorted(maps.Keys(l.Named)) {
		if !l.Invoked(route) {
			l.Invoke(route, nil, nil)
		}
	}
}

// handler looks at one handler and returns the caches that were passed behind it.
func (l *linter) handler(handler any, path []caddyhttp.MatcherSets, group string, before []passed) []passed {
	directive := l.config.Directive(handler, l.running)
	l.order(handler, directive, path, before)
	if directive != nil {
		l.directive(directive, path, group != "")
		return append(before, passed{directive: directive, path: path})
	}
	switch h := handler.(type) {
	case *caddyhttp.Subroute:
		if h.Errors != nil {
			l.Routes(h.Errors.Routes, path, nil)
		}
		return l.Routes(h.Routes, path, before)
	case *caddyhttp.Invoke:
		return l.Invoke(h.Name, path, before)
	case *reverseproxy.Handler:
		// The request goes on behind the routes for the response.
		behind := before
		for _, response := range h.HandleResponse {
			behind = append(behind, l.Routes(response.Routes, path, before)[len(before):]...)
		}
		return behind
	case *intercept.Intercept:
		for _, response := range h.HandleResponse {
			l.Routes(response.Routes, path, before) // where it ends
		}
	}
	return before
}

// order looks for a handler that should not run behind the caches before it. directive
// is nil, or what is known of the handler.
func (l *linter) order(handler any, directive *Directive, path []caddyhttp.MatcherSets, before []passed) {
	module, ok := handler.(caddy.Module)
	if !ok {
		return
	}
	id := module.CaddyModule().ID
	name, known := authenticates(handler, id)
	for _, p := range before {
		related := relation(p.path, path)
		if related != disjoint {
			l.unkeyed(handler, path, p)
		}
		switch {
		case related == disjoint:
		case name != "" && !known:
			l.add(api.Warn, l.where(p.directive, p.path)+": "+name+" runs behind redis_cache: if it decides who has a right, the cache answers others, too", orderAdvice)
		case name != "" && related == overlap:
			l.add(api.Fail, l.where(p.directive, p.path)+": "+name+" runs behind redis_cache, which then answers who has no right", orderAdvice)
		case name != "":
			l.add(api.Warn, l.where(p.directive, p.path)+": "+name+" may run behind redis_cache, which then answers who has no right", orderAdvice)
		case id == "http.handlers.encode" && related == overlap:
			l.add(api.Warn, l.where(p.directive, p.path)+": encode runs behind redis_cache, which then stores encoded bodies, a variant for each encoding",
				"put encode first, as Caddy's default order does")
		case directive != nil && hides(p.path, path):
			l.add(api.Warn, l.where(directive, path)+": a redis_cache in front takes every request, and this one passes them through",
				"put the narrower one first, or give the two matchers that exclude each other")
		}
	}
}

const orderAdvice = "put authentication first, as Caddy's default order does, or exclude it by matchers"

// authenticates returns what to call a handler that decides who may go on, or "".
// Of other modules only the name tells, and known is false.
func authenticates(handler any, id caddy.ModuleID) (name string, known bool) {
	if proxy, ok := handler.(*reverseproxy.Handler); ok {
		// What the directive forward_auth is made into: a GET beside the request,
		// which goes on if the answer is good.
		beside := proxy.Rewrite != nil && strings.EqualFold(proxy.Rewrite.Method, http.MethodGet)
		good := func(r caddyhttp.ResponseHandler) bool {
			return r.Match != nil && slices.Contains(r.Match.StatusCode, 2)
		}
		if beside && slices.ContainsFunc(proxy.HandleResponse, good) {
			return "forward_auth", true
		}
		return "", false
	}
	switch {
	case id == "http.handlers.authentication":
		return "authentication", true
	case strings.Contains(id.Name(), "auth"):
		return id.Name(), false
	}
	return "", false
}

// where names server, site and namespace.
func (l *linter) where(d *Directive, path []caddyhttp.MatcherSets) string {
	var text strings.Builder
	text.WriteString("server " + l.server)
	for _, sets := range path {
		for _, set := range sets {
			for _, m := range set {
				switch m := m.(type) {
				case *caddyhttp.MatchHost:
					text.WriteString(", host " + strings.Join(*m, " "))
				case *caddyhttp.MatchPath:
					text.WriteString(", path " + strings.Join(*m, " "))
				}
			}
		}
	}
	return fmt.Sprintf("%s, namespace %s", text.String(), d.Namespace)
}
