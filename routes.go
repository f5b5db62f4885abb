package rediscache

import (
	"slices"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/rewrite"
)

// routeWalk follows a request through the routes of a server. T is what is noted of
// each place that it may have passed.
type routeWalk[T any] struct {
	named   map[string]*caddyhttp.Route // of the server
	invoked map[string]bool             // those that were entered
	entered []string                    // those that the walk is in

	group   func(*T) *string // of the route in the list that is walked
	match   func(caddyhttp.MatcherSets) []T
	handler func(handler any, path []caddyhttp.MatcherSets, group string, before []T) []T
}

// walk returns what a request may have passed at the end of the routes. path is what
// it has matched, before what it has passed.
func (w *routeWalk[T]) walk(routes caddyhttp.RouteList, path []caddyhttp.MatcherSets, before []T) []T {
	before = slices.Clone(before)
	for i := range before {
		*w.group(&before[i]) = "" // the groups of this list are others
	}
	for _, route := range routes {
		at := path
		if len(route.MatcherSets) > 0 {
			at = append(slices.Clip(path), route.MatcherSets)
		}
		// Of a group only one route runs.
		behind := slices.DeleteFunc(slices.Clone(before), func(p T) bool { group := *w.group(&p); return group != "" && group == route.Group })
		known := len(behind)
		behind = append(behind, w.match(route.MatcherSets)...)
		for _, handler := range route.Handlers {
			behind = w.handler(handler, at, route.Group, behind)
			if _, rewrites := handler.(*rewrite.Rewrite); rewrites {
				at, path = append(slices.Clip(at), rewritten), append(slices.Clip(path), rewritten)
			}
		}
		if route.Terminal {
			continue
		}
		for _, p := range behind[known:] {
			*w.group(&p) = route.Group
			before = append(before, p)
		}
	}
	return before
}

// invoke walks a named route, unless it invokes itself.
func (w *routeWalk[T]) invoke(name string, path []caddyhttp.MatcherSets, before []T) []T {
	route := w.named[name]
	if route == nil || slices.Contains(w.entered, name) {
		return before
	}
	w.invoked[name] = true
	w.entered = append(w.entered, name)
	before = w.walk(caddyhttp.RouteList{*route}, path, before)
	w.entered = w.entered[:len(w.entered)-1]
	return before
}
