package routes

import (
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	maphandler "github.com/caddyserver/caddy/v2/modules/caddyhttp/map"
)

// write is something that a handler in front may write.
type write struct {
	kind   writeKind
	name   string // canonical, for fields
	value  string // a template; of a map, everything that it reads
	copied bool   // from the answer of a server that was asked beside the request
	when   []caddyhttp.MatcherSets
	group  string // of the route in the list that is walked
}

type writeKind uint8

const (
	writesField       writeKind = iota // a request field
	writesVar                          // {http.vars.*}
	writesPlaceholder                  // of a map, or of what a regular expression has matched: all that begin with it
	writesDeferred                     // a response field, after the cache has decided
)

// captures are the placeholders that matchers write.
func captures(sets caddyhttp.MatcherSets) (writes []write) {
	add := func(name, value string) {
		for _, placeholder := range []string{"http.regexp." + name, Captured} {
			writes = append(writes, write{kind: writesPlaceholder, name: placeholder, value: value})
		}
	}
	for _, m := range slices.Concat(sets...) {
		switch m := m.(type) {
		case *caddyhttp.MatchHeaderRE:
			for field, re := range *m {
				add(re.Name, "{http.request.header."+field+"}")
			}
		case *caddyhttp.MatchVarsRE:
			for name, re := range *m {
				add(re.Name, name+"{http.vars."+name+"}")
			}
		}
	}
	return writes
}

// Captured stands for {http.regexp.1} and the like: the latest match of any expression.
const Captured = "http.regexp.*"

// IsCapture reports whether a placeholder is one that Captured stands for.
func IsCapture(placeholder string) bool { return isPlaceholder([]string{Captured}, placeholder) }

// isPlaceholder reports whether a placeholder is one of those named, or a part of one.
func isPlaceholder(names []string, placeholder string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		rest, part := strings.CutPrefix(placeholder, name)
		if name == Captured {
			number, found := strings.CutPrefix(placeholder, "http.regexp.")
			return found && strings.Trim(number, "0123456789") == ""
		}
		return part && (rest == "" || rest[0] == '.')
	})
}

// writesOf is what a handler writes from request to request.
func writesOf(handler any) (writes []write) {
	switch h := handler.(type) {
	case *headers.Handler:
		if h.Request != nil {
			writes = fieldWrites(writesField, h.Request)
		}
		if h.Response != nil && (h.Response.Deferred || h.Response.Require != nil) {
			writes = append(writes, fieldWrites(writesDeferred, h.Response.HeaderOps)...)
		}
	case *caddyhttp.VarsMiddleware:
		for name, value := range *h {
			writes = append(writes, write{kind: writesVar, name: name, value: caddy.ToString(value)})
		}
	case *maphandler.Handler:
		reads := []string{h.Source}
		reads = append(reads, h.Defaults...)
		for _, m := range h.Mappings {
			for _, output := range m.Outputs {
				reads = append(reads, caddy.ToString(output))
			}
		}
		for _, destination := range h.Destinations {
			writes = append(writes, write{kind: writesPlaceholder, name: strings.Trim(destination, "{}"), value: strings.Join(reads, "\n")})
		}
	}
	return writes
}

// fieldWrites is what operations on a header write. Of response fields it counts, too,
// when one is taken out.
func fieldWrites(kind writeKind, ops *headers.HeaderOps) (writes []write) {
	if ops == nil {
		return nil
	}
	add := func(name, value string) {
		writes = append(writes, write{kind: kind, name: http.CanonicalHeaderKey(name), value: value})
	}
	for _, fields := range []http.Header{ops.Add, ops.Set} {
		for name, values := range fields {
			add(name, strings.Join(values, "\n"))
		}
	}
	for name, replacements := range ops.Replace {
		for _, r := range replacements {
			add(name, r.Replace)
		}
	}
	if kind == writesDeferred {
		for _, name := range ops.Delete {
			add(name, "")
		}
	}
	return writes
}
