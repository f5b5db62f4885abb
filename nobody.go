package rediscache

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gplus-recycling/caddy-redis-cache/internal/cachekey"
	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
	"github.com/gplus-recycling/caddy-redis-cache/internal/routes"
	"github.com/gplus-recycling/caddy-redis-cache/internal/subrequest"
)

// What is fetched without a client is fetched as nobody: what is stored for everybody
// must not be what one of them got. The key and Vary say which request fields may
// matter; of the others, those that tell who has asked are left out.

// inFront is what handlers in front write. It is read once, from the configuration
// that runs: when handlers are provisioned, those around them are not there yet.
func (h *Handler) inFront(r *http.Request) *routes.Front {
	if f := h.front.Load(); f != nil {
		return f
	}
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	return h.readFront(server)
}

func (h *Handler) readFront(server *caddyhttp.Server) *routes.Front {
	p := routes.Policy{VaryHeader: h.policy.VaryHeader, VaryCookie: h.policy.VaryCookie, CredentialHeaders: h.policy.CredentialHeaders}
	if h.policy.Key != nil {
		p.Template = h.policy.Key.Template
	}
	f := routes.Read(server, h, &p)
	h.front.Store(f)
	return f
}

// nobodysHeader takes out of a request header what tells who asks, unless the key
// holds it.
func (h *Handler) nobodysHeader(f *routes.Front, header http.Header) {
	p := h.policy
	for name := range header {
		switch {
		case slices.Contains(p.VaryHeader, name):
		case name == "Cookie":
			if kept := keyedCookies(p, header); kept == "" {
				delete(header, name)
			} else {
				header[name] = []string{kept}
			}
		case name == "Forwarded":
			header[name] = withoutClient(header[name])
		case f.TellsField(name):
			delete(header, name)
		}
	}
}

// keyedCookies are the cookies of a request that are part of the key.
func keyedCookies(p *Policy, header http.Header) string {
	var kept []string
	for name, value := range cachekey.Cookies(header) {
		if slices.Contains(p.VaryCookie, name) {
			kept = append(kept, name+"="+value)
		}
	}
	return strings.Join(kept, "; ")
}

// withoutClient keeps of Forwarded what the key holds, see appendHash.
func withoutClient(lines []string) []string {
	var kept []string
	for _, line := range lines {
		for pair := range strings.FieldsFuncSeq(line, func(c rune) bool { return c == ',' || c == ';' }) {
			name, _, _ := strings.Cut(strings.TrimSpace(pair), "=")
			if strings.EqualFold(name, "host") || strings.EqualFold(name, "proto") {
				kept = append(kept, strings.TrimSpace(pair))
			}
		}
	}
	if len(kept) == 0 {
		return nil
	}
	return []string{strings.Join(kept, ";")}
}

// nobodysRequest makes of a request as it came in one that nobody has sent: a GET, unless
// method and body are part of the key, without a connection.
func (h *Handler) nobodysRequest(f *routes.Front, came *http.Request) *http.Request {
	client := came.Context()
	original, _ := client.Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	address, _ := subrequest.NobodysAddress(came.RemoteAddr)
	if original.RemoteAddr = address; original.Method == http.MethodHead {
		original.Method = http.MethodGet
	}
	// Nothing else of the client's context: other handlers note there who asks.
	ctx := context.Background()
	for _, key := range []any{caddyhttp.ServerCtxKey, http.ServerContextKey, http.LocalAddrContextKey} {
		if value := client.Value(key); value != nil {
			ctx = context.WithValue(ctx, key, value)
		}
	}
	r := came.Clone(context.WithValue(ctx, caddyhttp.OriginalRequestCtxKey, original))
	if r.Method == http.MethodHead {
		r.Method = http.MethodGet
	}
	r.RemoteAddr = address
	if r.TLS != nil {
		state := *r.TLS
		state.PeerCertificates, state.VerifiedChains = nil, nil
		r.TLS = &state
	}
	h.nobodysHeader(f, r.Header)
	engine.DropConditions(r.Header) // all of it is fetched, whatever a client wants of it
	return r
}

// disguise makes nobody of a request that no client has sent: whoever has it sent may
// give it fields for variants, and not for one user.
func (h *Handler) disguise(r *http.Request, repl *caddy.Replacer) {
	f := h.inFront(r)
	h.nobodysHeader(f, r.Header)
	vars, _ := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	for _, name := range f.Vars {
		delete(vars, name)
	}
	for _, prefix := range authPlaceholders {
		repl.DeleteByPrefix(prefix)
	}
	repl.Map(func(name string) (any, bool) { return "", isAuthPlaceholder(name) })
	for _, name := range f.Placeholders {
		if name != routes.Captured { // which others need, too
			repl.DeleteByPrefix(name + ".")
			repl.Set(name, "")
		}
	}
}

// authPlaceholders begin the names of what authentication in front, and servers that
// were asked there, say of who asks.
var authPlaceholders = []string{"http.auth.", "http.reverse_proxy."}

func isAuthPlaceholder(name string) bool {
	return slices.ContainsFunc(authPlaceholders, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// mask hides what placeholders of handlers in front tell of who asks. Those of the
// request itself are for the request that is made.
func (c *call) mask(f *routes.Front, outer caddy.ReplacerFunc) caddy.ReplacerFunc {
	return func(name string) (any, bool) {
		switch {
		case f.TellsPlaceholder(name) && routes.IsCapture(name):
			// It may be of an expression that says nothing of who asks, and then is missed.
			c.unstorable = true
			return "", true
		case strings.HasPrefix(name, "http.request."), strings.HasPrefix(name, "http.vars."):
			return nil, false
		case isAuthPlaceholder(name), f.TellsPlaceholder(name):
			return "", true
		}
		return outer(name)
	}
}
