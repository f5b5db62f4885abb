package rediscache

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gplus-recycling/caddy-redis-cache/internal/coalesce"
	"github.com/gplus-recycling/caddy-redis-cache/internal/graphql"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
	"github.com/gplus-recycling/caddy-redis-cache/internal/subrequest"
)

// ServeHTTP answers from the store or from the handlers behind.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	x, first := h.begin(w, r, next)
	if !first {
		return passThrough(w, r, next)
	}
	if e := explanationOf(r); e != nil {
		x.explain(e)
		return nil
	}
	defer x.observe()
	what := x.choose()
	x.matchInvalidations()
	switch what {
	case actBypass:
		return x.bypass(x.reason)
	case actHit:
		x.refreshAhead()
		return x.serve(OutcomeHit, ReasonNone)
	case actAccepted:
		return x.serve(OutcomeStale, x.forward)
	case actStale:
		return x.serveStale()
	case actNothing:
		return x.serveNothing()
	case actFailed:
		return x.serveFailed()
	case actFetch:
	}
	return x.fetch()
}

// act is what is done with a request.
type act uint8

const (
	actBypass   act = iota // pass it on without a lookup
	actHit                 // answer from a fresh response
	actAccepted            // answer from a stale response, which the request accepts
	actStale               // answer from a stale response, and refresh it
	actNothing             // answer 504: the request forbids to go upstream
	actFailed              // answer from a stale response in place of an upstream that has failed lately
	actFetch               // ask the upstream
)

// choose finds out what is to be done with the request. It changes nothing but
// the exchange.
func (x *exchange) choose() act {
	x.reason = x.bypassReason()
	x.readContent(x.reason != ReasonNone)
	if x.reason == ReasonNone && x.operation.Changes() {
		x.reason, x.detail = ReasonGraphQL, x.operation.String()
	}
	if x.reason != ReasonNone {
		return actBypass
	}
	if x.reason = x.buildKey(); x.reason != ReasonNone {
		return actBypass
	}
	x.lookup()
	switch {
	case x.rec != nil && x.rec.Freshness.Fresh(x.now) && !x.soft:
		return actHit
	case x.rec != nil:
		return actAccepted
	case x.servesStale():
		return actStale
	case x.onlyIfCached:
		return actNothing
	case x.backsOff():
		return actFailed
	}
	return actFetch
}

// exchange is one request on its way through the cache. It belongs to the
// goroutine of the request.
type exchange struct {
	h    *Handler
	w    http.ResponseWriter
	r    *http.Request
	next caddyhttp.Handler
	repl *caddy.Replacer

	began  time.Time
	asked  time.Time // when it went to the handlers behind; zero if it did not
	headed time.Time // when the header of the response went out
	waited bool      // for its own fetch, another request's or another node's
	now    time.Time // of the last decision

	method      string // of the request as it came in
	credentials credentials
	userID      string // the identity at entry

	// What the journal had applied before the lookup: whatever is fetched from
	// now on is covered by every later purge.
	position      journal.Position
	invalidations []*InvalidateRule // of a successful answer

	user     string     // hash of the identity, with by_user
	key      requestKey // of the URL; without a variant
	base     *store.Record
	answered store.Key     // of what was found, or will be stored
	rec      *store.Record // found, and good as an answer
	stored   *store.Record // found, and in need of the upstream
	soft     bool          // a soft purge made what was found stale
	unsuited bool          // memory has a response that is not for this Origin
	tier     store.TierName

	// The request as it came in: handlers behind may change it. came and what
	// follows are set by remember, but for body.
	q       keyRequest
	level   string // of diagnostics
	came    *http.Request
	reqHead http.Header // of came
	url     string
	ttl     *TTL
	body    []byte // part of the key, with vary_body

	operation graphql.Kind // of a request with such a body
	unread    bool         // the body is too large for that

	directives   *rfc9111.Directives // of a request whose Cache-Control is honoured
	onlyIfCached bool                // RFC 9111 section 5.2.1.7
	noStore      bool                // the request forbids to store, section 5.2.1.5
	asGet        bool                // a POST whose response may answer GET
	overtaken    bool                // its own purge covers its response, too

	// See flight.go.
	ended      uint64          // flights before the lookup
	id         coalesce.ID     // of what is fetched
	shares     bool            // the fetch may answer others, or another one this
	collapsed  bool            // another request's fetch has answered this one
	background bool            // there is no client
	deputy     *exchange       // that may fetch anew what is stored, in the background
	explained  bool            // nothing is done: see explain.go
	warms      bool            // no client has sent it: see warm.go
	lease      *coalesce.Lease // in the fleet, while this request fetches
	attach     func()          // ties the fetch to its client again; nil unless it is detached

	outcome Outcome
	reason  Reason // why it is no hit, or is not stored
	forward Reason // why it went upstream
	why     Reason // of an earlier answer, that the key cannot be shared; only to explain
	detail  string // what the reason is about, such as the name of a cookie

	values    [numValues]string  // of the cache's own fields; see single
	freshness *rfc9111.Freshness // of what is answered from the store or being stored
	storing   bool
	unstated  bool // what is being stored has no lifetime, for nobody states one
	status    int  // of the upstream
	sent      int  // in place of it
}

// seenVar marks a request that a cache has taken, so that another one behind
// it, a subrequest or an error route passes it through. Variables have the names that
// anybody gives them: nobody gives this one, and no value that is set has its type.
const seenVar = handlerID + " has taken the request"

type seen struct{}

// begin starts the exchange, unless the request already has one.
func (h *Handler) begin(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) (*exchange, bool) {
	ctx := r.Context()
	if _, taken := caddyhttp.GetVar(ctx, seenVar).(seen); taken {
		return nil, false
	}
	caddyhttp.SetVar(ctx, seenVar, seen{})
	repl := ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	now := time.Now()
	x := &exchange{h: h, w: w, r: r, next: next, repl: repl, began: now, now: now, method: r.Method, warms: subrequest.Warming(r)}
	if x.warms {
		h.disguise(r, repl)
	}
	if x.warms || explanationOf(r) != nil {
		subrequest.Trust(r)
	}
	x.position = h.node.journal.Position()
	x.ended = h.node.flights.Ended()
	x.q = x.keyRequest()
	x.level = h.policy.diagnosticsFor(r)
	repl.Map(x.placeholder)
	return x, true
}

// buildKey makes the key from the request as it came in.
func (x *exchange) buildKey() Reason {
	p := &x.h.policy
	q := x.q
	if p.ByUser != "" {
		identity, err := x.repl.ReplaceOrErr(p.ByUser, true, true)
		if err != nil || identity == "" || x.warms { // as nobody
			return ReasonNoIdentity
		}
		x.user = userHash(x.h.app.secret, identity)
		q.user = x.user
	}
	if p.Key != nil {
		replace := escapeValue
		if p.Key.Exact {
			replace = x.escapeExact
		}
		identifier, err := x.repl.ReplaceFunc(p.Key.Template, replace)
		if err == errNoValue { //nolint:errorlint // it comes back as it was given
			return ReasonNoIdentity
		}
		if err != nil { // an unbalanced brace, which validate has not let pass
			return ReasonKeyTooLong
		}
		q.templated, q.exact, q.identifier = true, p.Key.Exact, identifier
	}
	if isBodyMethod(x.method) && !x.asGet {
		if x.unread {
			return ReasonRequestBody
		}
		q.method, q.body, q.graphql = x.method, x.body, x.operation != graphql.None
	}
	key, err := q.build()
	if err != nil {
		return ReasonKeyTooLong
	}
	x.key = key
	x.answered = key.Key
	x.readDirectives()
	x.userID = userID(x.repl)
	x.credentials = x.h.credentialsOf(x.r, x.userID)
	return ReasonNone
}

func escapeValue(_ string, value any) (any, error) {
	return escape(caddy.ToString(value)), nil
}

var errNoValue = errors.New("a placeholder of an exact key has no value")

// escapeExact is escapeValue for keys that are nothing but their template: without
// one of its values, requests would share a key that have nothing in common.
func (x *exchange) escapeExact(name string, value any) (any, error) {
	text := caddy.ToString(value)
	if text == "" {
		x.detail = name
		return nil, errNoValue
	}
	return escape(text), nil
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
	q.trusted, _ = caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	q.urlScheme = q.scheme
	if q.trusted {
		q.urlScheme = statedScheme(r.Header, q.scheme)
	}
	original := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	q.path, q.query = splitURI(original.URL, original.RequestURI)
	if path := r.URL.EscapedPath(); path != q.path {
		q.rewrittenPath = path
	}
	q.rewrittenQuery = r.URL.RawQuery
	q.opaque = r.URL.Opaque != ""
	return q
}

// statedScheme is the scheme that the client of a proxy has used: that of the
// connection, unless the proxy states another one in X-Forwarded-Proto.
func statedScheme(header http.Header, scheme string) string {
	if lines := header["X-Forwarded-Proto"]; len(lines) == 1 {
		for _, stated := range []string{"http", "https"} {
			if strings.EqualFold(lines[0], stated) {
				return stated
			}
		}
	}
	return scheme
}

// lookup finds a stored response that this request may be answered from, or
// says why there is none.
func (x *exchange) lookup() {
	if !x.h.node.usable(x.r.Context(), x.h.app.Consistency == consistencyStrict) {
		x.forward, x.reason = ReasonUnproven, ReasonUnproven
		return
	}
	look := x.h.node.store.Lookup
	if x.explained {
		look = x.peek(false)
	}
	rec, tier := x.find(func(key store.Key) (*store.Record, store.TierName, bool) {
		return look(x.r.Context(), key, x.now)
	})
	if rec == nil {
		x.reason = x.forward
		return
	}
	x.tier = tier
	f := &rec.Freshness
	accepted := x.requestAccepts(f)
	switch {
	case !x.credentials.allowed(f) || rec.User != x.user:
		x.forward = ReasonCredentials
	case accepted:
		x.rec = rec
		if !f.Fresh(x.now) {
			x.forward = ReasonExpired
		}
	default:
		x.stored = rec
		x.forward = ReasonExpired
		if f.Fresh(x.now) && !x.soft {
			x.forward = ReasonRequestDirective
		}
	}
	x.reason = x.forward
}

// peek looks without an effect.
func (x *exchange) peek(fleet bool) func(context.Context, store.Key, time.Time) (*store.Record, store.TierName, bool) {
	return func(ctx context.Context, key store.Key, now time.Time) (*store.Record, store.TierName, bool) {
		return x.h.node.store.Peek(ctx, key, now, fleet)
	}
}

// find finds what is stored for the URL and, where responses vary, for the
// fields of this request.
func (x *exchange) find(look func(store.Key) (*store.Record, store.TierName, bool)) (*store.Record, store.TierName) {
	rec, tier, soft := look(x.key.Key)
	x.soft = soft
	x.forward = ReasonAbsent
	x.unsuited = false
	var names []string
	if rec != nil && rec.IsBase() {
		x.base, names = rec, rec.Vary
		x.answered, _ = variantKey(x.key, names, x.r.Header)
		x.forward = ReasonVariant
		rec, tier, x.soft = look(x.answered)
	}
	if rec != nil && !x.suits(x.r.Header, rec, names) {
		x.unsuited = tier == store.TierMemory
		x.forward = ReasonVariant
		return nil, tier
	}
	return rec, tier
}

// requestAccepts reports whether the stored response is good enough without the
// upstream: fresh, or what the request's Cache-Control asks for where the route
// honours that, RFC 9111 section 5.2.1. only-if-cached is always obeyed.
func (x *exchange) requestAccepts(f *rfc9111.Freshness) bool {
	if x.soft {
		return false
	}
	if x.directives != nil {
		return rfc9111.RequestAllows(*x.directives, f, x.now)
	}
	return f.Fresh(x.now)
}

// readDirectives reads the request's Cache-Control.
func (x *exchange) readDirectives() {
	lines := x.r.Header["Cache-Control"]
	if len(lines) == 0 {
		return
	}
	d := rfc9111.ParseCacheControl(lines)
	x.onlyIfCached = d.OnlyIfCached
	if x.h.policy.ClientCacheControl == clientHonor {
		x.noStore = d.NoStore
		x.directives = &d
	}
}

// servesStale reports whether what is stored is answered while it is fetched
// anew, RFC 5861 section 3. What cannot be fetched without this client is not.
func (x *exchange) servesStale() bool {
	return x.stored != nil && x.forward == ReasonExpired && x.acceptsStale() && (x.refreshing() || x.deputize())
}

// acceptsStale reports whether the response and the request, where its directives count,
// allow a stale answer.
func (x *exchange) acceptsStale() bool {
	if x.directives != nil {
		return rfc9111.RequestServesStale(*x.directives, &x.stored.Freshness, x.now)
	}
	return x.stored.Freshness.ServeStale(x.now)
}

func (x *exchange) serveStale() error {
	x.refresh()
	x.rec = x.stored
	return x.serve(OutcomeStale, ReasonExpired)
}

// serveNothing answers a request that accepts a stored response only.
func (x *exchange) serveNothing() error {
	x.outcome, x.reason, x.forward = OutcomeMiss, ReasonOnlyIfCached, ReasonOnlyIfCached
	x.sent = http.StatusGatewayTimeout
	x.annotate(x.w.Header())
	return caddyhttp.Error(http.StatusGatewayTimeout, nil)
}

// remember notes the request as it came in, for the handlers behind may change
// it.
func (x *exchange) remember() {
	if x.reqHead != nil {
		return
	}
	x.came = x.r.Clone(x.r.Context())
	x.reqHead = x.came.Header
	x.url = x.q.url()
	x.readTTL()
}

// readTTL finds the configured lifetime for the responses to the request.
func (x *exchange) readTTL() {
	ttl, err := x.requestTTL()
	if err != nil {
		x.h.logger.Error("a ttl matcher failed", zap.Error(err))
	}
	x.ttl = ttl
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
		return x.answeredBy().String(), true
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
