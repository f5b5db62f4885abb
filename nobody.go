package rediscache

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gplus-recycling/caddy-redis-cache/internal/coalesce"
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
	p := &h.policy
	for name := range header {
		switch {
		case slices.Contains(p.VaryHeader, name):
		case name == "Cookie":
			if kept := p.keyedCookies(header); kept == "" {
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
func (p *Policy) keyedCookies(header http.Header) string {
	var kept []string
	for name, value := range cookies(header) {
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

// nobody makes a request that nobody has sent of the one of another exchange as it
// came in: a GET, unless method and body are part of the key, without a connection.
func (x *exchange) nobody(f *routes.Front, of *exchange) *http.Request {
	client := of.r.Context()
	original, _ := client.Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	address, ip := subrequest.NobodysAddress(of.came.RemoteAddr)
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
	r := of.came.Clone(context.WithValue(ctx, caddyhttp.OriginalRequestCtxKey, original))
	if r.Method == http.MethodHead {
		r.Method = http.MethodGet
	}
	r.RemoteAddr = address
	if r.TLS != nil {
		state := *r.TLS
		state.PeerCertificates, state.VerifiedChains = nil, nil
		r.TLS = &state
	}
	x.h.nobodysHeader(f, r.Header)
	for _, name := range conditionFields { // all of it is fetched, whatever a client wants of it
		delete(r.Header, name)
	}
	vars := map[string]any{}
	all, _ := client.Value(caddyhttp.VarsCtxKey).(map[string]any)
	for name, value := range all {
		if !slices.Contains(f.Vars, name) {
			vars[name] = value
		}
	}
	vars[caddyhttp.ClientIPVarKey] = ip
	return x.prepare(r, x.w, vars, x.mask(f, of.repl.Get))
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
func (x *exchange) mask(f *routes.Front, outer caddy.ReplacerFunc) caddy.ReplacerFunc {
	return func(name string) (any, bool) {
		switch {
		case f.TellsPlaceholder(name) && routes.IsCapture(name):
			// It may be of an expression that says nothing of who asks, and then is missed.
			x.noStore = true
			return "", true
		case strings.HasPrefix(name, "http.request."), strings.HasPrefix(name, "http.vars."):
			return nil, false
		case isAuthPlaceholder(name), f.TellsPlaceholder(name):
			return "", true
		}
		return outer(name)
	}
}

// authenticated reports whether a handler in front, or the connection, knows who asks.
func (x *exchange) authenticated(f *routes.Front) bool {
	return x.userID != "" || x.r.TLS != nil && len(x.r.TLS.PeerCertificates) > 0 ||
		f.Authenticated(x.r)
}

// presents reports whether the request carries something by which it may get more than
// nobody, whatever the route makes of it.
func (x *exchange) presents() bool {
	return x.credentials.count() || len(x.r.Header["Authorization"]) > 0 || len(x.r.Header["Cookie"]) > 0 ||
		len(x.h.inFront(x.r).Identities(x.r)) > 0
}

// deputize reports whether what is stored can be fetched anew by nobody, and prepares
// that. Who was authenticated in front triggers no such fetch: nobody would not have
// come this far. Nor does who carries what may open a door that was closed to nobody of
// late: it would stay stale for as long as that is allowed. Nor can nobody fetch what is
// stored for one user, or for request fields that nobody sends.
func (x *exchange) deputize() bool {
	if x.deputy != nil {
		return true
	}
	if x.presents() && x.h.node.doors.Recent(coalesce.IDOf(x.answered.Full), x.now) {
		return false
	}
	p, f := &x.h.policy, x.h.inFront(x.r)
	if p.ByUser != "" || f.Keyed || x.authenticated(f) {
		return false
	}
	x.remember()
	y := &exchange{
		h: x.h, next: x.next, now: x.now, position: x.position, soft: x.soft, tier: x.tier, ended: x.ended,
		id: coalesce.IDOf(x.answered.Full), background: true, key: x.key, base: x.base, stored: cmp.Or(x.stored, x.rec),
		answered: x.answered, forward: ReasonExpired, q: x.q, level: x.level, url: x.url, body: x.body, operation: x.operation,
	}
	// What the outer handlers prepared is still untouched, and only what the
	// upstream makes of it will be stored.
	y.w = subrequest.NewDiscard(x.w.Header().Clone())
	y.r = y.nobody(f, x)
	y.repl = y.r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	y.method = y.r.Method
	y.came = y.r.Clone(y.r.Context())
	y.reqHead = y.came.Header
	if x.base != nil {
		if variant, _ := variantKey(x.key, x.base.Vary, y.reqHead); variant != x.answered {
			return false
		}
	}
	if y.matchesBypass() {
		return false
	}
	y.readTTL()
	x.deputy = y
	return true
}
