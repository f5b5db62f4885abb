package lint

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"

	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
)

// unkeyed looks for a handler behind a cache that makes the response depend on what
// the key does not hold: a hit does not ask it.
func (l *linter) unkeyed(handler any, path []caddyhttp.MatcherSets, p passed) {
	where := l.where(p.directive, p.path)
	name := nameOfUnkeyed(handler)
	switch h, isHeaders := handler.(*headers.Handler); {
	case name == "":
		return
	case isHeaders && (expands(h.Request.Add) || expands(h.Request.Set)):
		l.add(api.Warn, where+": request_header runs behind redis_cache: the key does not hold what it tells the origin, and Vary on that field cannot work",
			"put it in front of redis_cache, as Caddy's default order does; where responses depend on the field, name it in vary_header")
	}
	limits, rules := beyondShared(p.path, path)
	for _, rule := range rules {
		reads := beyondKey(rule, p.directive)
		excluded := func(limit caddyhttp.MatcherSets) bool { return negates(limit, rule) || negates(rule, limit) }
		if reads == "" || slices.ContainsFunc(limits, excluded) || p.directive.bypasses(rule) {
			continue
		}
		l.add(api.Warn, where+": "+name+" runs behind redis_cache and looks at "+reads+", which the key does not hold: a hit skips it",
			"let redis_cache bypass what the matcher matches, or put it in front of redis_cache in a route")
	}
}

// nameOfUnkeyed is the directive of a handler that decides about the response, or changes
// the request, or "".
func nameOfUnkeyed(handler any) string {
	switch h := handler.(type) {
	case *caddyhttp.StaticResponse:
		switch {
		case h.Abort:
			return "abort"
		case len(h.Headers["Location"]) > 0:
			return "redir"
		}
		return "respond"
	case *caddyhttp.StaticError:
		return "error"
	case *headers.Handler:
		if h.Request != nil {
			return "request_header"
		}
	}
	return ""
}

// expands reports whether fields get values that may differ from request to request.
func expands(fields http.Header) bool {
	for _, values := range fields {
		if slices.ContainsFunc(values, func(value string) bool { return strings.Contains(value, "{") }) {
			return true
		}
	}
	return false
}

// beyondKey names a matcher that looks at more of a request than the key holds, or
// is "".
func beyondKey(sets caddyhttp.MatcherSets, d *Directive) (name string) {
	for _, m := range slices.Concat(sets...) {
		fields := []string{""} // for other matchers than those of fields
		switch m := m.(type) {
		case *caddyhttp.MatchNot:
			if name := beyondKey(m.MatcherSets, d); name != "" {
				return name
			}
			continue
		case *caddyhttp.MatchHeader:
			fields = slices.Collect(maps.Keys(*m))
		case *caddyhttp.MatchHeaderRE:
			fields = slices.Collect(maps.Keys(*m))
		}
		module, ok := m.(caddy.Module)
		if !ok {
			continue
		}
		name := module.CaddyModule().ID.Name()
		if slices.Contains(beyondKeys, name) && slices.ContainsFunc(fields, func(field string) bool { return !d.keysField(field) }) {
			return name
		}
	}
	return ""
}

// beyondKeys are matchers of what keys do not hold, or need not.
var beyondKeys = []string{"remote_ip", "client_ip", "header", "header_regexp", "expression", "vars", "vars_regexp"}

// keysField reports whether a request field is part of the key.
func (d *Directive) keysField(name string) bool {
	return slices.ContainsFunc(d.VaryHeader, func(field string) bool { return strings.EqualFold(field, name) }) ||
		strings.Contains(strings.ToLower(d.ByUser+d.KeyTemplate), "{http.request.header."+strings.ToLower(name)+"}")
}

// bypasses reports whether the option bypass has these matchers.
func (d *Directive) bypasses(sets caddyhttp.MatcherSets) bool {
	return slices.ContainsFunc(d.Bypass, func(matchers caddyhttp.MatcherSets) bool { return textOf(matchers) == textOf(sets) })
}

// negates reports whether a matches what b does not.
func negates(a, b caddyhttp.MatcherSets) bool {
	if len(a) != 1 || len(a[0]) != 1 {
		return false
	}
	not, ok := a[0][0].(*caddyhttp.MatchNot)
	return ok && textOf(not.MatcherSets) == textOf(b)
}

// textOf is the same for matchers that are configured alike.
func textOf(sets caddyhttp.MatcherSets) string {
	either := make([]string, 0, len(sets))
	for _, set := range sets {
		all := make([]string, 0, len(set))
		for _, m := range set {
			text, _ := json.Marshal(m)
			if not, ok := m.(*caddyhttp.MatchNot); ok {
				text = []byte(textOf(not.MatcherSets)) // Caddy has forgotten how it was written
			}
			all = append(all, fmt.Sprintf("%T(%s)", m, text))
		}
		slices.Sort(all) // they come from a map
		either = append(either, strings.Join(all, " and "))
	}
	return strings.Join(either, " or ")
}
