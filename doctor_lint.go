package rediscache

import (
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/intercept"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
	"github.com/gplus-recycling/caddy-redis-cache/internal/routes"
)

// linter looks for configurations that run but are hardly meant.
type linter struct {
	routes.Walk[passed]

	server   string
	running  *caddyhttp.Server
	findings []api.Check
}

// passed is a redis_cache that a request may have passed on its way.
type passed struct {
	handler *Handler
	path    []caddyhttp.MatcherSets // what the request has matched
	group   string                  // of the route in the list that is walked
}

// lint checks the configuration that runs.
func (a *App) lint() []api.Check {
	l := new(linter)
	if running, err := a.ctx.AppIfConfigured("http"); err == nil {
		servers := running.(*caddyhttp.App).Servers
		for _, name := range slices.Sorted(maps.Keys(servers)) {
			l.walkServer(name, servers[name])
		}
	}
	if !a.enabled {
		l.add(api.Warn, "this node caches nothing: the configuration switches it off", "remove enabled false, or REDIS_CACHE_ENABLED from the environment")
	}
	a.mu.Lock()
	for _, name := range slices.Sorted(maps.Keys(a.Namespaces)) {
		if !a.used[name] {
			l.add(api.Warn, "namespace "+name+" is declared, but no redis_cache names it", "name it in a directive, or remove it")
		}
	}
	a.mu.Unlock()
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
	l.order(handler, path, before)
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
	case *Handler:
		l.directive(h, path, group != "")
		return append(before, passed{handler: h, path: path})
	}
	return before
}

// order looks for a handler that should not run behind the caches before it.
func (l *linter) order(handler any, path []caddyhttp.MatcherSets, before []passed) {
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
			l.add(api.Warn, l.where(p.handler, p.path)+": "+name+" runs behind redis_cache: if it decides who has a right, the cache answers others, too", orderAdvice)
		case name != "" && related == overlap:
			l.add(api.Fail, l.where(p.handler, p.path)+": "+name+" runs behind redis_cache, which then answers who has no right", orderAdvice)
		case name != "":
			l.add(api.Warn, l.where(p.handler, p.path)+": "+name+" may run behind redis_cache, which then answers who has no right", orderAdvice)
		case id == "http.handlers.encode" && related == overlap:
			l.add(api.Warn, l.where(p.handler, p.path)+": encode runs behind redis_cache, which then stores encoded bodies, a variant for each encoding",
				"put encode first, as Caddy's default order does")
		case id == handlerID && hides(p.path, path):
			l.add(api.Warn, l.where(handler.(*Handler), path)+": a redis_cache in front takes every request, and this one passes them through",
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

// From how many requests on, and for credentials from which share, 1/leastKept, it is
// said what keeps a route from the cache.
const (
	enoughKept = 10
	leastKept  = 10
)

// directive looks at the policy of one handler, and at what its requests were like.
func (l *linter) directive(h *Handler, path []caddyhttp.MatcherSets, grouped bool) {
	where, p := l.where(h, path), &h.policy
	if !grouped && !slices.ContainsFunc(path, narrows) {
		if p.Shared {
			l.add(api.Warn, where+": shared holds for the whole site", "limit it by a matcher to what is the same for everybody")
		}
		if p.TTL != nil && p.TTL.Override {
			l.add(api.Warn, where+": ttl … override holds for the whole site, whatever the origin forbids", "limit it by a matcher to where the origin is wrong")
		}
	}
	l.ofVisitors(where, p)
	if path := h.strangers.latest(); path != "" {
		l.add(api.Warn, fmt.Sprintf("%s: invalidate has purged after a redirect to %q, which was answered to a request without credentials: any stranger can purge so", where, path),
			"authenticate in front of redis_cache, or let a matcher of invalidate ask for what only users send, such as header Cookie *session=*")
	}
	l.written(where, h)
	requests, kept, name := h.credentialed.counts()
	credentials := (p.TTL != nil || len(p.TTLRules) > 0) && kept >= enoughKept && kept*leastKept >= requests
	if credentials {
		l.add(api.Warn, fmt.Sprintf("%s: ttl does not hold for %d of %d requests, which carried credentials such as %q", where, kept, requests, name),
			"let the origin answer with public what is for everybody, and say what the others depend on: by_user, vary_cookie or vary_header."+
				" ignore_cookies, credential_headers -<name> and shared give to all what one was answered: only where that is the same for everybody")
	}
	l.lintUnstored(h, where, credentials)
	if p.ByUser != "" && string(h.app.secret) == h.app.publicSecret() {
		l.add(api.Warn, where+": by_user without a secret and without a password of Redis: who reads keys can guess users", "set secret")
	}
}

// where names server, site and namespace.
func (l *linter) where(h *Handler, path []caddyhttp.MatcherSets) string {
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
	return fmt.Sprintf("%s, namespace %s", text.String(), h.Namespace)
}

// narrows reports whether matchers select less than a site.
func narrows(sets caddyhttp.MatcherSets) bool {
	return len(sets) > 0 && !slices.ContainsFunc(sets, func(set caddyhttp.MatcherSet) bool {
		return !slices.ContainsFunc(set, func(m any) bool { _, host := m.(*caddyhttp.MatchHost); return !host })
	})
}

// relations of the requests that two handlers see
const (
	disjoint = iota
	unknown
	overlap
)

// asItCame is what was matched before the request was rewritten, and whether that is
// all.
func asItCame(path []caddyhttp.MatcherSets) (_ []caddyhttp.MatcherSets, all bool) {
	i := slices.IndexFunc(path, func(sets caddyhttp.MatcherSets) bool { return len(sets) == 0 })
	if i < 0 {
		return path, true
	}
	return path[:i], !slices.ContainsFunc(path[i:], func(sets caddyhttp.MatcherSets) bool { return len(sets) > 0 })
}

// relation compares what two handlers match, beyond what leads to both.
func relation(a, b []caddyhttp.MatcherSets) int {
	a, b = beyondShared(a, b)
	a, allOfA := asItCame(a)
	b, allOfB := asItCame(b)
	all := allOfA && allOfB
	if all && (len(a) == 0 || len(b) == 0) {
		return overlap
	}
	for _, x := range a {
		for _, y := range b {
			if apart(x, y) {
				return disjoint
			}
		}
	}
	if all && len(a) == 1 && len(b) == 1 && byPath(a[0]) && byPath(b[0]) {
		return overlap
	}
	return unknown
}

// hides reports whether the first handler sees every request that the second does.
func hides(a, b []caddyhttp.MatcherSets) bool {
	a, b = beyondShared(a, b)
	if len(a) == 0 {
		return true
	}
	a, all := asItCame(a)
	b, _ = asItCame(b)
	return all && len(a) == 1 && slices.ContainsFunc(b, func(narrow caddyhttp.MatcherSets) bool {
		return byPath(narrow) && !slices.ContainsFunc(narrow, func(y caddyhttp.MatcherSet) bool {
			return len(y) == 0 || !slices.ContainsFunc(a[0], func(x caddyhttp.MatcherSet) bool { return holds(x, *y[0].(*caddyhttp.MatchPath)) })
		})
	})
}

// beyondShared leaves out what leads to both.
func beyondShared(a, b []caddyhttp.MatcherSets) (_, _ []caddyhttp.MatcherSets) {
	for len(a) > 0 && len(b) > 0 && same(a[0], b[0]) {
		a, b = a[1:], b[1:]
	}
	return a, b
}

// same reports whether two handlers are behind one route, or behind equal matchers.
func same(a, b caddyhttp.MatcherSets) bool {
	if len(a) == 0 || len(b) == 0 {
		return len(a) == len(b)
	}
	return &a[0] == &b[0] || isData(a) && isData(b) && reflect.DeepEqual(a, b)
}

// isData reports whether matchers are lists, maps and strings. Others may hold what
// changes while requests run.
func isData(sets caddyhttp.MatcherSets) bool {
	return !slices.ContainsFunc(sets, func(set caddyhttp.MatcherSet) bool {
		return slices.ContainsFunc(set, func(m any) bool {
			t := reflect.TypeOf(m)
			return t.Kind() != reflect.Pointer || !slices.Contains([]reflect.Kind{reflect.Slice, reflect.Map, reflect.String}, t.Elem().Kind())
		})
	})
}

// byPath reports whether matchers look at the path only.
func byPath(sets caddyhttp.MatcherSets) bool {
	return !slices.ContainsFunc(sets, func(set caddyhttp.MatcherSet) bool {
		return slices.ContainsFunc(set, func(m any) bool { _, ok := m.(*caddyhttp.MatchPath); return !ok })
	})
}

// apart reports whether no request can match both.
func apart(a, b caddyhttp.MatcherSets) bool {
	for _, x := range a {
		for _, y := range b {
			if !excludes(x, y) && !excludes(y, x) {
				return false
			}
		}
	}
	return true
}

// excludes reports whether a matcher of x rules out what one of y demands.
func excludes(x, y caddyhttp.MatcherSet) bool {
	for _, demanded := range y {
		paths, ok := demanded.(*caddyhttp.MatchPath)
		if !ok {
			continue
		}
		for _, m := range x {
			switch m := m.(type) {
			case *caddyhttp.MatchPath:
				if !touch(*m, *paths) {
					return true
				}
			case *caddyhttp.MatchNot:
				if slices.ContainsFunc(m.MatcherSets, func(set caddyhttp.MatcherSet) bool { return holds(set, *paths) }) {
					return true
				}
			}
		}
	}
	return false
}

// holds reports whether a set matches every path that one of the patterns does.
func holds(set caddyhttp.MatcherSet, patterns []string) bool {
	if len(set) != 1 {
		return false
	}
	wide, ok := set[0].(*caddyhttp.MatchPath)
	return ok && !slices.ContainsFunc(patterns, func(pattern string) bool {
		return !slices.ContainsFunc(*wide, func(w string) bool {
			begin, open := literal(w)
			p, _ := literal(pattern)
			return w == pattern || open && w == begin+"*" && strings.HasPrefix(p, begin)
		})
	})
}

// touch reports whether two lists of path patterns may match the same path.
func touch(a, b []string) bool {
	for _, x := range a {
		for _, y := range b {
			p, open := literal(x)
			q, wide := literal(y)
			if p == q || open && strings.HasPrefix(q, p) || wide && strings.HasPrefix(p, q) {
				return true
			}
		}
	}
	return false
}

// literal is what a path pattern begins with, and whether more may follow.
func literal(pattern string) (string, bool) {
	if i := strings.IndexAny(pattern, "*?[\\{%"); i >= 0 {
		return pattern[:i], true
	}
	return pattern, false
}
