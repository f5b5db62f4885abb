package routes

import (
	"slices"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/rewrite"
)

// Walk follows a request through the routes of a server. T is what is noted of each
// place that it may have passed.
type Walk[T any] struct {
	// Named are the named routes of the server.
	Named map[string]*caddyhttp.Route
	// Group is where T keeps the group of its route in the list that is walked.
	Group func(*T) *string
	// Match returns what is noted of matchers that have matched; nil notes nothing.
	Match func(caddyhttp.MatcherSets) []T
	// Handler looks at one handler, and walks what is inside it. path is what a request
	// has matched that reaches it, before what it may have passed. It returns what a
	// request may have passed that goes on behind the handler.
	Handler func(handler any, path []caddyhttp.MatcherSets, group string, before []T) []T

	invoked []string // the named routes that were entered
	entered []string // those that the walk is in
}

// Rewritten stands, in what a request has matched, for a handler that rewrites it:
// what is matched later is another path.
var Rewritten = caddyhttp.MatcherSets{}

// Routes walks a list of routes and returns what a request may have passed at the end of the routes. path is what
// it has matched, before what it has passed.
func (w *Walk[T]) Routes(routes caddyhttp.RouteList, path []caddyhttp.MatcherSets, before []T) []T {
	before = slices.Clone(before)
	for i := range before {
		*w.Group(&before[i]) = "" // the groups of this list are others
	}
	for _, route := range routes {
		at := path
		if len(route.MatcherSets) > 0 {
			at = append(slices.Clip(path), route.MatcherSets)
		}
		// Of a group only one route runs.
		behind := slices.DeleteFunc(slices.Clone(before), func(p T) bool { group := *w.Group(&p); return group != "" && group == route.Group })
		known := len(behind)
		if w.Match != nil {
			behind = append(behind, w.Match(route.MatcherSets)...)
		}
		for _, handler := range route.Handlers {
			behind = w.Handler(handler, at, route.Group, behind)
			if _, rewrites := handler.(*rewrite.Rewrite); rewrites {
				at, path = append(slices.Clip(at), Rewritten), append(slices.Clip(path), Rewritten)
			}
		}
		if route.Terminal {
			continue
		}
		for _, p := range behind[known:] {
			*w.Group(&p) = route.Group
			before = append(before, p)
		}
	}
	return before
}

// Invoke walks a named route, unless it invokes itself.
func (w *Walk[T]) Invoke(name string, path []caddyhttp.MatcherSets, before []T) []T {
	route := w.Named[name]
	if route == nil || slices.Contains(w.entered, name) {
		return before
	}
	if !slices.Contains(w.invoked, name) {
		w.invoked = append(w.invoked, name)
	}
	w.entered = append(w.entered, name)
	before = w.Routes(caddyhttp.RouteList{*route}, path, before)
	w.entered = w.entered[:len(w.entered)-1]
	return before
}

// Invoked reports whether a named route was entered.
func (w *Walk[T]) Invoked(name string) bool { return slices.Contains(w.invoked, name) }
