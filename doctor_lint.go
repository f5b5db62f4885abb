package rediscache

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// linter looks for configurations that run but are hardly meant.
type linter struct {
	server   string
	findings []check
}

// passed is a redis_cache that a request may have passed on its way.
type passed struct {
	handler *Handler
	path    []caddyhttp.MatcherSets // what the request has matched
	group   string                  // of the route in the list that is walked
}

// lint checks the configuration that runs.
func (a *App) lint() []check {
	l := new(linter)
	if running, err := a.ctx.AppIfConfigured("http"); err == nil {
		servers := running.(*caddyhttp.App).Servers
		for _, name := range slices.Sorted(maps.Keys(servers)) {
			l.walkServer(name, servers[name])
		}
	}
	a.mu.Lock()
	for _, name := range slices.Sorted(maps.Keys(a.Namespaces)) {
		if !a.used[name] {
			l.add(statusWarn, "namespace "+name+" is declared, but no redis_cache names it", "name it in a directive, or remove it")
		}
	}
	a.mu.Unlock()
	if len(l.findings) == 0 {
		l.add(statusOK, "nothing to say", "")
	}
	return l.findings
}

func (l *linter) add(status, detail, advice string) {
	c := check{"configuration", status, detail, advice}
	if !slices.Contains(l.findings, c) {
		l.findings = append(l.findings, c)
	}
}

func (l *linter) walkServer(name string, server *caddyhttp.Server) {
	l.server = name
	l.walk(server.Routes, nil, nil)
	for _, route := range slices.Sorted(maps.Keys(server.NamedRoutes)) {
		l.walk(caddyhttp.RouteList{*server.NamedRoutes[route]}, nil, nil)
	}
	if server.Errors != nil {
		l.walk(server.Errors.Routes, nil, nil)
	}
}

// walk follows a request through routes. before are the caches that it has
// passed; it returns those that it may have passed at the end.
func (l *linter) walk(routes caddyhttp.RouteList, path []caddyhttp.MatcherSets, before []passed) []passed {
	for i := range before {
		before[i].group = "" // the groups of this list are others
	}
	for _, route := range routes {
		at := path
		if len(route.MatcherSets) > 0 {
			at = append(slices.Clip(path), route.MatcherSets)
		}
		// Of a group only one route runs.
		behind := slices.DeleteFunc(slices.Clone(before), func(p passed) bool { return p.group != "" && p.group == route.Group })
		known := len(behind)
		for _, handler := range route.Handlers {
			behind = l.handler(handler, at, route.Group, behind)
		}
		if route.Terminal {
			continue
		}
		for _, p := range behind[known:] {
			p.group = route.Group
			before = append(before, p)
		}
	}
	return before
}

// handler looks at one handler and returns the caches that were passed behind it.
func (l *linter) handler(handler any, path []caddyhttp.MatcherSets, group string, before []passed) []passed {
	switch h := handler.(type) {
	case *caddyhttp.Subroute:
		if h.Errors != nil {
			l.walk(h.Errors.Routes, path, nil)
		}
		return l.walk(h.Routes, path, slices.Clone(before))
	case *Handler:
		for _, p := range before {
			if relation(p.path, path) == overlap {
				l.add(statusWarn, l.where(h, path)+": a redis_cache in front takes the request, and this one passes it through", "give the two matchers that exclude each other")
			}
		}
		l.directive(h, path, group != "")
		return append(before, passed{handler: h, path: path})
	}
	module, ok := handler.(caddy.Module)
	if !ok {
		return before
	}
	for _, p := range before {
		related := relation(p.path, path)
		switch id := module.CaddyModule().ID; {
		case related == disjoint:
		case id == "http.handlers.authentication":
			status := statusFail
			if related == unknown {
				status = statusWarn
			}
			l.add(status, l.where(p.handler, p.path)+": authentication runs behind redis_cache, which then answers who has no right",
				"put authentication first, as Caddy's default order does, or exclude it by matchers")
		case id == "http.handlers.encode" && related == overlap:
			l.add(statusWarn, l.where(p.handler, p.path)+": encode runs behind redis_cache, which then stores encoded bodies, a variant for each encoding",
				"put encode first, as Caddy's default order does")
		}
	}
	return before
}

// directive looks at the policy of one handler.
func (l *linter) directive(h *Handler, path []caddyhttp.MatcherSets, grouped bool) {
	where, p := l.where(h, path), &h.policy
	if !grouped && !slices.ContainsFunc(path, narrows) {
		if p.Shared {
			l.add(statusWarn, where+": shared holds for the whole site", "limit it by a matcher to what is the same for everybody")
		}
		if p.TTL != nil && p.TTL.Override {
			l.add(statusWarn, where+": ttl … override holds for the whole site, whatever the origin forbids", "limit it by a matcher to where the origin is wrong")
		}
	}
	if p.SetCookie == "store" && p.ByUser == "" {
		l.add(statusWarn, where+": set_cookie store without by_user gives everybody the cookies of one", "use strip, or by_user")
	}
	if p.ByUser != "" && string(h.app.secret) == h.app.publicSecret() {
		l.add(statusWarn, where+": by_user without a secret and without a password of Redis: who reads keys can guess users", "set secret")
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
	return !slices.ContainsFunc(sets, func(set caddyhttp.MatcherSet) bool {
		return !slices.ContainsFunc(set, func(m any) bool { _, host := m.(*caddyhttp.MatchHost); return !host })
	})
}

// relations of the requests that two handlers see
const (
	disjoint = iota
	unknown
	overlap
)

// relation compares what two handlers match, beyond what leads to both.
func relation(a, b []caddyhttp.MatcherSets) int {
	for len(a) > 0 && len(b) > 0 && reflect.DeepEqual(a[0], b[0]) {
		a, b = a[1:], b[1:]
	}
	if len(a) == 0 || len(b) == 0 {
		return overlap
	}
	result := unknown
	for _, x := range a {
		for _, y := range b {
			p, q := paths(x), paths(y)
			switch {
			case p == nil || q == nil:
			case !touch(p, q):
				return disjoint
			case len(a) == 1 && len(b) == 1:
				result = overlap
			}
		}
	}
	return result
}

// paths are the paths that matchers select by, nil if they do by more.
func paths(sets caddyhttp.MatcherSets) (all []string) {
	for _, set := range sets {
		if len(set) != 1 {
			return nil
		}
		m, ok := set[0].(*caddyhttp.MatchPath)
		if !ok {
			return nil
		}
		all = append(all, *m...)
	}
	return all
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
