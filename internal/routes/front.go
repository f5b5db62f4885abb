package routes

import (
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/intercept"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// What handlers in front write into a request cannot be told, there, from what its
// client has sent. So the configuration is read: which handlers a request may have
// met before it reaches a redis_cache, what they write, and whether that tells who
// asks.

// Policy is what the policy of a cache says of who asks.
type Policy struct {
	VaryHeader, VaryCookie []string // fields and cookies that are part of the key
	CredentialHeaders      []string // of the option
	Template               string   // of the key, or ""
}

// Front is what handlers in front of one cache may write that tells who asks. It is
// set by Read and never changed.
type Front struct {
	// Copied are request fields that are credentials here, and are copied from another
	// server's answer, by any name.
	Copied []string
	// Deferred are response fields that are written too late for the cache to see.
	Deferred []string

	// Variables, and what placeholders begin with, that a request goes without which
	// nobody has sent.
	Vars, Placeholders []string
	// Keyed tells that the key itself tells who asks.
	Keyed bool

	credentials *fieldSet // request fields that are credentials here
	told        *fieldSet // those that are copied, whether or not a rule accounts for them
	toldVars    []string
	fields      *fieldSet // those that a request goes without which nobody has sent
}

// Read reads what may be written in front of a cache from the configuration of the
// server, or nothing if that is nil.
func Read(server *caddyhttp.Server, cache caddyhttp.MiddlewareHandler, p *Policy) *Front {
	w := frontWalk{of: cache}
	if server != nil {
		w.Walk = Walk[write]{
			Named: server.NamedRoutes, Handler: w.pass, Match: captures,
			Group: func(p *write) *string { return &p.group },
		}
		w.Routes(server.Routes, nil, nil)
		if server.Errors != nil {
			w.Routes(server.Errors.Routes, nil, w.all) // whatever was written before the error
		}
		for name := range server.NamedRoutes {
			w.Invoke(name, nil, nil)
		}
	}
	if !w.reached { // inside a handler that cannot be looked into
		return newFront(p, w.all)
	}
	return newFront(p, w.found)
}

// frontWalk collects what is in front of one handler.
type frontWalk struct {
	Walk[write]

	of      caddyhttp.MiddlewareHandler
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
		behind := w.Routes(h.Routes, path, before)
		if h.Errors != nil { // any of the routes may have failed, one that ends there included
			w.Routes(h.Errors.Routes, path, append(slices.Clip(behind), w.all[known:]...))
		}
		return behind
	case *caddyhttp.Invoke:
		return w.Invoke(h.Name, path, before)
	case *reverseproxy.Handler:
		// The request goes on behind the routes for the response, forward_auth above all.
		behind := before
		w.copies++
		for _, response := range h.HandleResponse {
			behind = append(behind, w.Routes(response.Routes, path, before)[len(before):]...)
		}
		w.copies--
		return behind
	case *intercept.Intercept:
		for _, response := range h.HandleResponse {
			w.Routes(response.Routes, path, before) // where it ends
		}
	default:
		if handler == any(w.of) {
			w.reached = true
			w.found = append(w.found, before...)
			return before
		}
		written := writesOf(handler)
		for i := range written {
			written[i].copied, written[i].when = w.copies > 0, path
		}
		w.all = append(w.all, written...)
		return append(slices.Clip(before), written...)
	}
	return before
}

// newFront sorts out what tells who asks, as far as a policy does not account for it.
func newFront(p *Policy, writes []write) *Front {
	f := new(Front)
	for _, w := range writes {
		if w.kind == writesDeferred {
			f.Deferred = append(f.Deferred, w.name)
		}
	}
	told := f.handOn(p, writes)
	f.credentials = newFieldSet(p.credentialHeaders(told))
	f.told = newFieldSet(slices.DeleteFunc(slices.Clone(told), p.noCredential))
	for _, name := range told {
		if f.credentials.has(name) && !slices.Contains(f.Copied, name) {
			f.Copied = append(f.Copied, name)
		}
	}
	slices.Sort(f.Copied)
	t := teller{p: p, f: f, fields: slices.Clone(f.Copied)}
	t.spread(writes)
	f.fields, f.Vars, f.Placeholders = newFieldSet(t.fields), t.vars, t.placeholders
	f.Keyed = t.tells(p.Template)
	slices.Sort(f.Deferred)
	f.Deferred = slices.Compact(f.Deferred)
	return f
}

// handOn finds the fields and variables that hold what another server said of the
// request, by whatever names it is handed on, unless the policy accounts for one.
func (f *Front) handOn(p *Policy, writes []write) (fields []string) {
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

// Identity is the name of what tells who asks in a request, or "".
func (f *Front) Identity(r *http.Request) string {
	if name := f.credentials.in(r.Header); name != "" {
		return name
	}
	return f.copiedVar(r)
}

// Identities are the names of everything of that kind, keyed or not.
func (f *Front) Identities(r *http.Request) (names []string) {
	for name := range r.Header {
		if f.credentials.has(name) || f.told.has(name) || slices.Contains(CredentialHeaders, name) {
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
func (f *Front) copiedVar(r *http.Request) string {
	for _, name := range f.toldVars {
		if value := caddyhttp.GetVar(r.Context(), name); value != nil && value != "" {
			return "vars " + name
		}
	}
	return ""
}

// Authenticated reports whether a handler in front has told who asks.
func (f *Front) Authenticated(r *http.Request) bool {
	return f.told.in(r.Header) != "" || f.copiedVar(r) != ""
}

// TellsField reports whether a request field tells who asks, so that a request that
// nobody has sent goes without it. What cookies and the key say is not looked at.
func (f *Front) TellsField(name string) bool {
	return name == "Authorization" || slices.Contains(clientFields, name) || f.credentials.has(name) || f.fields.has(name)
}

// TellsPlaceholder reports whether a placeholder that handlers in front have set tells
// who asks.
func (f *Front) TellsPlaceholder(name string) bool { return isPlaceholder(f.Placeholders, name) }
