package rediscache

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// ServeHTTP answers from the store or from the handlers behind.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	x, first := h.begin(w, r, next)
	if !first {
		return passThrough(w, r, next)
	}
	defer x.count()
	if reason := x.bypassReason(); reason != ReasonNone {
		return x.bypass(reason)
	}
	if reason := x.buildKey(); reason != ReasonNone {
		return x.bypass(reason)
	}
	x.lookup()
	if x.rec != nil {
		return x.serve()
	}
	return x.fetch()
}

// exchange is one request on its way through the cache. It belongs to the
// goroutine of the request.
type exchange struct {
	h    *Handler
	w    http.ResponseWriter
	r    *http.Request
	next caddyhttp.Handler
	repl *caddy.Replacer
	now  time.Time

	credentials credentials
	userID      string // the identity at entry

	key  requestKey // of the URL; without a variant
	base *store.Record
	// What was found, and may be used for this request. Its key is answered.
	rec      *store.Record
	tier     store.TierName
	answered store.Key

	outcome Outcome
	reason  Reason // why it is no hit, or is not stored
	forward Reason // why it went upstream
	detail  string // what the reason is about, such as the name of a cookie

	freshness *rfc9111.Freshness // of what is answered from the store or being stored
	storing   bool
	status    int // of the upstream
}

// seenVar marks a request that a cache has taken, so that another one behind
// it, a subrequest or an error route passes it through.
const seenVar = "redis_cache"

// begin starts the exchange, unless the request already has one.
func (h *Handler) begin(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) (*exchange, bool) {
	ctx := r.Context()
	if caddyhttp.GetVar(ctx, seenVar) != nil {
		return nil, false
	}
	caddyhttp.SetVar(ctx, seenVar, true)
	repl := ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	x := &exchange{h: h, w: w, r: r, next: next, repl: repl, now: time.Now()}
	repl.Map(x.placeholder)
	return x, true
}

// count adds the request to the statistics. Hit rates leave out what the cache
// took no part in.
func (x *exchange) count() {
	x.h.counter.Add(uint8(x.outcome))
	if x.outcome != OutcomeBypass {
		x.h.node.window.Add(x.now, x.outcome != OutcomeMiss)
	}
}

// bypassReason says why the cache takes no part in a request.
func (x *exchange) bypassReason() Reason {
	r, p := x.r, &x.h.policy
	switch {
	case !x.h.app.enabled:
		return ReasonDisabled
	case !p.cachesMethod(r.Method):
		return ReasonMethod
	case r.ContentLength != 0:
		return ReasonRequestBody
	case len(r.Header["Upgrade"]) > 0:
		return ReasonUpgrade
	}
	for _, name := range overrideFields {
		if len(r.Header[name]) > 0 {
			return ReasonOverrideField
		}
	}
	for _, rule := range p.Bypass {
		// A matcher that cannot decide must not let a response be shared.
		if ok, err := rule.matches(r); ok || err != nil {
			return ReasonMatcher
		}
	}
	return ReasonNone
}

// overrideFields make some origins read another method or URL than the request
// states, which the key would not show.
var overrideFields = []string{
	"X-Http-Method-Override", "X-Http-Method", "X-Method-Override", "X-Original-Url", "X-Rewrite-Url",
}

func (p *Policy) cachesMethod(method string) bool {
	if len(p.Methods) > 0 {
		return slices.Contains(p.Methods, method)
	}
	return method == http.MethodGet || method == http.MethodHead
}

// buildKey makes the key from the request as it came in.
func (x *exchange) buildKey() Reason {
	p := &x.h.policy
	q := x.keyRequest()
	if p.ByUser != "" {
		identity, err := x.repl.ReplaceOrErr(p.ByUser, true, true)
		if err != nil || identity == "" {
			return ReasonNoIdentity
		}
		q.user = userHash(x.h.app.secret, identity)
	}
	if p.Key != nil {
		// An unbalanced brace is the only error, and the template is fixed.
		identifier, err := x.repl.ReplaceFunc(p.Key.Template, escapeValue)
		if err != nil {
			return ReasonKeyTooLong
		}
		q.templated, q.exact, q.identifier = true, p.Key.Exact, identifier
	}
	key, err := q.build()
	if err != nil {
		return ReasonKeyTooLong
	}
	x.key = key
	x.answered = key.Key
	x.userID = userID(x.repl)
	x.credentials = p.credentialsOf(x.r, x.userID)
	return ReasonNone
}

func escapeValue(_ string, value any) (any, error) {
	return escape(caddy.ToString(value)), nil
}

// keyRequest collects what the key is made of.
func (x *exchange) keyRequest() keyRequest {
	r, p := x.r, &x.h.policy
	q := keyRequest{
		prefix: x.h.app.Prefix, namespace: x.h.Namespace,
		scheme: "http", header: r.Header,
		varyQuery: p.VaryQuery, varyHeader: p.VaryHeader, varyCookie: p.VaryCookie,
	}
	if r.TLS != nil {
		q.scheme = "https"
	}
	q.host = normalHost(q.scheme, r.Host)
	original := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	q.path, q.query = splitURI(original.URL, original.RequestURI)
	if path := r.URL.EscapedPath(); path != q.path {
		q.rewrittenPath = path
	}
	q.rewrittenQuery = r.URL.RawQuery
	return q
}

// lookup finds a fresh stored response that this request may be answered from,
// or says why there is none.
func (x *exchange) lookup() {
	ctx := x.r.Context()
	rec, tier := x.h.node.store.Lookup(ctx, x.key.Key, x.now)
	x.forward = ReasonAbsent
	if rec != nil && rec.IsBase() {
		x.base = rec
		x.answered, _ = variantKey(x.key, rec.Vary, x.r.Header)
		rec, tier = x.h.node.store.Lookup(ctx, x.answered, x.now)
		x.forward = ReasonVariant
	}
	switch {
	case rec == nil:
	case !rec.Freshness.Fresh(x.now):
		x.forward = ReasonExpired
	case !x.credentials.allowed(&rec.Freshness):
		x.forward = ReasonCredentials
	default:
		x.rec, x.tier = rec, tier
	}
	x.reason = x.forward
}

// bypass passes the request on without looking up or storing anything.
func (x *exchange) bypass(reason Reason) error {
	x.outcome, x.reason, x.forward = OutcomeBypass, reason, reason
	return x.callNext(newPassWriter(x))
}

// fetch answers from upstream and stores the response if it may be.
func (x *exchange) fetch() error {
	x.outcome = OutcomeMiss
	capture := newCaptureWriter(x)
	if err := x.callNext(capture); err != nil {
		return err
	}
	if rec := capture.record(); rec != nil {
		x.h.node.put(capture, rec)
	}
	return nil
}

// placeholder resolves {http.redis_cache.*}.
func (x *exchange) placeholder(name string) (any, bool) {
	name, ok := strings.CutPrefix(name, "http.redis_cache.")
	if !ok {
		return nil, false
	}
	switch name {
	case "status":
		return x.outcome.String(), true
	case "reason":
		return x.reasonText(), true
	case "key":
		return x.answered.Full, true
	case "namespace":
		return x.h.Namespace, true
	case "tier":
		return x.tier.String(), true
	case "ttl", "age":
		if x.freshness == nil {
			return "", true
		}
		if name == "ttl" {
			return seconds(x.freshness.Remaining(x.now)), true
		}
		return seconds(x.freshness.CurrentAge(x.now)), true
	}
	return nil, false
}

// reasonText is the reason with what it is about; empty for a hit.
func (x *exchange) reasonText() string {
	if x.detail != "" {
		return x.reason.String() + " " + x.detail
	}
	return x.reason.String()
}

func seconds(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) }
