package rediscache

import (
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/intercept"
	maphandler "github.com/caddyserver/caddy/v2/modules/caddyhttp/map"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// What handlers in front write into a request cannot be told, there, from what its
// client has sent. So the configuration is read: which handlers a request may have
// met before it reaches a redis_cache, what they write, and whether that tells who
// asks.

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

// front is what a handler in front of one redis_cache may write that tells who asks.
type front struct {
	credentials *fieldSet // request fields that are credentials here
	copied      []string  // those that are copied from another server's answer, by any name; for the doctor
	told        *fieldSet // the same, whether or not a rule accounts for them
	toldVars    []string

	// What a request that nobody has sent goes without.
	fields       *fieldSet
	vars         []string
	placeholders []string
	keyed        bool // the key itself tells who asks

	deferred []string // response fields that are written too late for the cache to see; for the doctor
}

// inFront is what handlers in front write. It is read once, from the configuration
// that runs: when handlers are provisioned, those around them are not there yet.
func (h *Handler) inFront(r *http.Request) *front {
	if f := h.front.Load(); f != nil {
		return f
	}
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	return h.readFront(server)
}

func (h *Handler) readFront(server *caddyhttp.Server) *front {
	w := frontWalk{of: h}
	if server != nil {
		w.routeWalk = routeWalk[write]{
			named: server.NamedRoutes, invoked: make(map[string]bool), handler: w.pass, match: captures,
			group: func(p *write) *string { return &p.group },
		}
		w.walk(server.Routes, nil, nil)
		if server.Errors != nil {
			w.walk(server.Errors.Routes, nil, w.all) // whatever was written before the error
		}
		for name := range server.NamedRoutes {
			w.invoke(name, nil, nil)
		}
	}
	writes := w.found
	if !w.reached { // inside a handler that cannot be looked into
		writes = w.all
	}
	f := newFront(&h.policy, writes)
	h.front.Store(f)
	return f
}

// frontWalk collects what is in front of one handler.
type frontWalk struct {
	routeWalk[write]

	of      *Handler
	copies  int // proxies for whose responses the routes are that the walk is in
	reached bool
	found   []write
	all     []write // of the server
}

// pass looks at one handler and returns what may have been written behind it.
func (w *frontWalk) pass(handler any, path []caddyhttp.MatcherSets, _ string, before []write) []write {
	switch h := handler.(type) {
	case *caddyhttp.Subroute:
		known := len(w.all)
		behind := w.walk(h.Routes, path, before)
		if h.Errors != nil { // any of the routes may have failed, one that ends there included
			w.walk(h.Errors.Routes, path, append(slices.Clip(behind), w.all[known:]...))
		}
		return behind
	case *caddyhttp.Invoke:
		return w.invoke(h.Name, path, before)
	case *reverseproxy.Handler:
		// The request goes on behind the routes for the response, forward_auth above all.
		behind := before
		w.copies++
		for _, response := range h.HandleResponse {
			behind = append(behind, w.walk(response.Routes, path, before)[len(before):]...)
		}
		w.copies--
		return behind
	case *intercept.Intercept:
		for _, response := range h.HandleResponse {
			w.walk(response.Routes, path, before) // where it ends
		}
	case *Handler:
		if h == w.of {
			w.reached = true
			w.found = append(w.found, before...)
		}
	default:
		written := writesOf(handler)
		for i := range written {
			written[i].copied, written[i].when = w.copies > 0, path
		}
		w.all = append(w.all, written...)
		return append(slices.Clip(before), written...)
	}
	return before
}

// captures are the placeholders that matchers write.
func captures(sets caddyhttp.MatcherSets) (writes []write) {
	add := func(name, value string) {
		for _, placeholder := range []string{"http.regexp." + name, captured} {
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

// captured stands for {http.regexp.1} and the like: the latest match of any expression.
const captured = "http.regexp.*"

// isPlaceholder reports whether a placeholder is one of those named, or a part of one.
func isPlaceholder(names []string, placeholder string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		rest, part := strings.CutPrefix(placeholder, name)
		if name == captured {
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

// newFront sorts out what tells who asks, as far as a policy does not account for it.
func newFront(p *Policy, writes []write) *front {
	f := new(front)
	for _, w := range writes {
		if w.kind == writesDeferred {
			f.deferred = append(f.deferred, w.name)
		}
	}
	told := f.handOn(p, writes)
	f.credentials = newFieldSet(p.credentialHeaders(told))
	f.told = newFieldSet(slices.DeleteFunc(slices.Clone(told), p.noCredential))
	for _, name := range told {
		if f.credentials.has(name) && !slices.Contains(f.copied, name) {
			f.copied = append(f.copied, name)
		}
	}
	slices.Sort(f.copied)
	t := teller{p: p, f: f, fields: slices.Clone(f.copied)}
	t.spread(writes)
	f.fields, f.vars, f.placeholders = newFieldSet(t.fields), t.vars, t.placeholders
	f.keyed = p.Key != nil && t.tells(p.Key.Template)
	slices.Sort(f.deferred)
	f.deferred = slices.Compact(f.deferred)
	return f
}

// handOn finds the fields and variables that hold what another server said of the
// request, by whatever names it is handed on, unless the policy accounts for one.
func (f *front) handOn(p *Policy, writes []write) (fields []string) {
	says := func(placeholder string) bool {
		if field, ok := strings.CutPrefix(placeholder, "http.request.header."); ok {
			field = http.CanonicalHeaderKey(field)
			return slices.Contains(fields, field) && !slices.Contains(p.VaryHeader, field) && !p.noCredential(field)
		}
		if name, ok := strings.CutPrefix(placeholder, "http.vars."); ok {
			return slices.Contains(f.toldVars, name)
		}
		return strings.HasPrefix(placeholder, copiedPlaceholder)
	}
	for known := -1; known != len(fields)+len(f.toldVars); {
		known = len(fields) + len(f.toldVars)
		for _, w := range writes {
			switch {
			case !w.copied && !reads(w.value, says):
			case w.kind == writesField:
				fields = appendNew(fields, w.name)
			case w.kind == writesVar:
				f.toldVars = appendNew(f.toldVars, w.name)
			}
		}
	}
	return fields
}

// identity is the name of what tells who asks in a request, or "".
func (f *front) identity(r *http.Request) string {
	if name := f.credentials.in(r.Header); name != "" {
		return name
	}
	return f.copiedVar(r)
}

// identities are the names of everything of that kind, keyed or not.
func (f *front) identities(r *http.Request) (names []string) {
	for name := range r.Header {
		if f.credentials.has(name) || f.told.has(name) || slices.Contains(credentialHeaders, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if name := f.copiedVar(r); name != "" {
		names = append(names, name)
	}
	return names
}

// copiedVar is the name of a variable that a handler in front has set from what
// another server said of the request, or "".
func (f *front) copiedVar(r *http.Request) string {
	for _, name := range f.toldVars {
		if value := caddyhttp.GetVar(r.Context(), name); value != nil && value != "" {
			return "vars " + name
		}
	}
	return ""
}

// copiedPlaceholder begins the names of what a server said that was asked beside the
// request.
const copiedPlaceholder = "http.reverse_proxy.header."

// teller knows what tells who asks.
type teller struct {
	p            *Policy
	f            *front
	fields       []string // that handlers in front write
	vars         []string
	placeholders []string
}

// spread finds what is written from something that tells who asks, or only for some of
// those who ask.
func (t *teller) spread(writes []write) {
	for known := -1; known != len(t.fields)+len(t.vars)+len(t.placeholders); {
		known = len(t.fields) + len(t.vars) + len(t.placeholders)
		for _, w := range writes {
			if !w.copied && !t.tells(w.value) && !slices.ContainsFunc(w.when, t.selects) {
				continue
			}
			switch w.kind {
			case writesField:
				if !slices.Contains(t.p.VaryHeader, w.name) {
					t.fields = appendNew(t.fields, w.name)
				}
			case writesVar:
				t.vars = appendNew(t.vars, w.name)
			case writesPlaceholder:
				t.placeholders = appendNew(t.placeholders, w.name)
			case writesDeferred:
			}
		}
	}
}

func appendNew(list []string, name string) []string {
	if slices.Contains(list, name) {
		return list
	}
	return append(list, name)
}

// tells reports whether a template reads what tells who asks.
func (t *teller) tells(template string) bool { return reads(template, t.names) }

// reads reports whether a template has a placeholder of a kind.
func reads(template string, is func(placeholder string) bool) bool {
	for {
		_, rest, found := strings.Cut(template, "{")
		if !found {
			return false
		}
		name, _, _ := strings.Cut(rest, "}")
		if is(name) {
			return true
		}
		template = rest
	}
}

// names reports whether a placeholder tells who asks.
func (t *teller) names(placeholder string) bool {
	if cookie, ok := strings.CutPrefix(placeholder, "http.request.cookie."); ok {
		return !slices.Contains(t.p.VaryCookie, cookie) && !slices.Contains(t.p.VaryHeader, "Cookie")
	}
	if field, ok := strings.CutPrefix(placeholder, "http.request.header."); ok {
		return t.field(field)
	}
	if name, ok := strings.CutPrefix(placeholder, "http.vars."); ok {
		return name == caddyhttp.ClientIPVarKey || slices.Contains(t.vars, name)
	}
	for _, prefix := range []string{"http.auth.", copiedPlaceholder, "http.request.tls.client.", "http.request.remote"} {
		if strings.HasPrefix(placeholder, prefix) {
			return true
		}
	}
	return isPlaceholder(t.placeholders, placeholder)
}

// field reports whether a request field tells who asks.
func (t *teller) field(name string) bool {
	name = http.CanonicalHeaderKey(name)
	if slices.Contains(t.p.VaryHeader, name) {
		return false
	}
	return name == "Authorization" || name == "Cookie" || slices.Contains(clientFields, name) ||
		t.f.credentials.has(name) || slices.Contains(t.fields, name)
}

// selects reports whether matchers tell some of those who ask from others.
func (t *teller) selects(sets caddyhttp.MatcherSets) bool {
	for _, m := range slices.Concat(sets...) {
		var reads []string
		switch m := m.(type) {
		case *caddyhttp.MatchNot:
			if t.selects(m.MatcherSets) {
				return true
			}
		case *caddyhttp.MatchRemoteIP, *caddyhttp.MatchClientIP:
			return true
		case *caddyhttp.MatchExpression:
			text := strings.ToLower(m.Expr)
			return t.tells(m.Expr) || slices.ContainsFunc([]string{"cookie", "authorization", "_ip(", "header", "vars"},
				func(word string) bool { return strings.Contains(text, word) })
		case *caddyhttp.MatchHeader:
			for name := range *m {
				reads = append(reads, "{http.request.header."+name+"}")
			}
		case *caddyhttp.MatchHeaderRE:
			for name := range *m {
				reads = append(reads, "{http.request.header."+name+"}")
			}
		case *caddyhttp.VarsMatcher:
			for name := range *m {
				reads = append(reads, "{http.vars."+name+"}", name)
			}
		case *caddyhttp.MatchVarsRE:
			for name := range *m {
				reads = append(reads, "{http.vars."+name+"}", name)
			}
		}
		if slices.ContainsFunc(reads, t.tells) {
			return true
		}
	}
	return false
}
