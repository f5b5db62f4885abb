package rediscache

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
	"github.com/gplus-recycling/caddy-redis-cache/internal/routes"
	"github.com/gplus-recycling/caddy-redis-cache/internal/subrequest"
)

// call is one request of a handler with what surrounds the cache, as the engine asks for it.
type call struct {
	h    *Handler
	next caddyhttp.Handler
	r    *http.Request
	repl *caddy.Replacer

	warms      bool // no client has sent it: see disguise
	unstorable bool // see mask
	answer     engine.Answer
	outcome    func() *engine.Outcome // of another answer, where the request is nobody's; or nil
}

// seenVar marks a request that a cache has taken, so that another one behind
// it, a subrequest or an error route passes it through. Variables have the names that
// anybody gives them: nobody gives this one, and no value that is set has its type.
const seenVar = handlerID + " has taken the request"

type seen struct{}

// call begins to deal with a request, unless another cache does already.
func (h *Handler) call(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) (*call, bool) {
	ctx := r.Context()
	if _, taken := caddyhttp.GetVar(ctx, seenVar).(seen); taken {
		return nil, false
	}
	caddyhttp.SetVar(ctx, seenVar, seen{})
	c := &call{h: h, next: next, r: r, repl: ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer), warms: subrequest.Warming(r)}
	if c.warms {
		h.disguise(r, c.repl)
	}
	e := explanationOf(r)
	if c.warms || e != nil {
		subrequest.Trust(r)
	}
	if e != nil {
		caddyhttp.SetVar(ctx, caddyhttp.LogSkipVar, true) // it is no request of a client
		// What is cancelled is only what the request might have met before.
		c.r = r.WithContext(context.WithoutCancel(ctx))
	}
	c.repl.Map(c.placeholder)
	target := targetOf(c.r)
	c.answer.Begin(h.route, w, c.r, c, &target)
	return c, true
}

// placeholder resolves {http.redis_cache.*}.
func (c *call) placeholder(name string) (any, bool) {
	name, ok := strings.CutPrefix(name, "http.redis_cache.")
	if !ok {
		return nil, false
	}
	o := c.answer.Outcome()
	if c.outcome != nil {
		o = c.outcome()
	}
	switch name {
	case "status":
		return o.Result.String(), true
	case "reason":
		return o.Text(), true
	case "key":
		return o.Key.Full, true
	case "namespace":
		return c.h.Namespace, true
	case "tier":
		return o.AnsweredBy().String(), true
	case "ttl":
		return shownSeconds(o.Remaining()), true
	case "age":
		return shownSeconds(o.Age()), true
	}
	return nil, false
}

// Serve calls the handlers behind the cache. They must not be called twice with one
// request: the context of a request remembers which routes it has been through, and a
// second call would find them all done. Every further call takes a request from Again.
func (c *call) Serve(w http.ResponseWriter, r *http.Request) error { return c.next.ServeHTTP(w, r) }

// Again prepares a request for a further call of the handlers behind: as it came in, with
// the variables and placeholders that the handlers in front have set, but for those of the
// cache, which are the call's.
func (c *call) Again(came *http.Request, w http.ResponseWriter, body []byte) *http.Request {
	vars, _ := came.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	return prepare(came, w, body, vars, c.placeholder, c.repl.Get)
}

// prepare makes a request that the handlers behind have not seen, with variables and
// placeholders of handlers in front. Of the placeholders the first that knows a name counts.
func prepare(r *http.Request, w http.ResponseWriter, body []byte, vars map[string]any, names ...caddy.ReplacerFunc) *http.Request {
	r.Body = http.NoBody
	if len(body) > 0 {
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	ctx := r.Context()
	server := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	original := ctx.Value(caddyhttp.OriginalRequestCtxKey)
	repl := caddy.NewReplacer()
	prepared := caddyhttp.PrepareRequest(r, repl, w, server)
	if copied, ok := prepared.Context().Value(caddyhttp.VarsCtxKey).(map[string]any); ok {
		maps.Copy(copied, vars)
	}
	// In place, because the replacer is bound to the request.
	*prepared = *prepared.WithContext(context.WithValue(prepared.Context(), caddyhttp.OriginalRequestCtxKey, original))
	for _, resolve := range names {
		repl.Map(resolve)
	}
	return prepared
}

// Nobody makes a request that nobody has sent: a GET, unless method and body are part of
// the key, without a connection. Who was authenticated in front cannot be nobody, nor can
// anybody where the key itself tells who asks.
func (c *call) Nobody(came *http.Request, w http.ResponseWriter, body []byte, outcome func() *engine.Outcome) (*http.Request, engine.Upstream) {
	f := c.h.inFront(c.r)
	if f.Keyed || c.authenticated(f) {
		return nil, nil
	}
	r := c.h.nobodysRequest(f, came)
	vars := map[string]any{}
	all, _ := came.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	for name, value := range all {
		if !slices.Contains(f.Vars, name) {
			vars[name] = value
		}
	}
	_, vars[caddyhttp.ClientIPVarKey] = subrequest.NobodysAddress(came.RemoteAddr)
	nobody := &call{h: c.h, next: c.next, outcome: outcome}
	nobody.r = prepare(r, w, body, vars, nobody.placeholder, nobody.mask(f, c.repl.Get))
	nobody.repl = nobody.r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	return nobody.r, nobody
}

// authenticated reports whether a handler in front, or the connection, knows who asks.
func (c *call) authenticated(f *routes.Front) bool {
	return c.UserID() != "" || c.r.TLS != nil && len(c.r.TLS.PeerCertificates) > 0 ||
		f.Authenticated(c.r)
}

// Presents reports whether the request carries something by which it may get more than
// nobody, whatever the route makes of it.
func (c *call) Presents(r *http.Request) bool { return len(c.h.inFront(r).Identities(r)) > 0 }

// Unstorable reports whether the handlers behind have read what nobody does not have.
func (c *call) Unstorable() bool { return c.unstorable }

// UserID is the identity that Caddy's authentication handlers set.
func (c *call) UserID() string { return userID(c.repl) }

func userID(repl *caddy.Replacer) string {
	id, _ := repl.GetString("http.auth.user.id")
	return id
}

// Identity names what handlers in front of this route write that tells who asks.
func (c *call) Identity(r *http.Request) string { return c.h.inFront(r).Identity(r) }

func shownSeconds(d time.Duration, known bool) string {
	if !known {
		return ""
	}
	return engine.Seconds(d)
}
