package rediscache

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gplus-recycling/caddy-redis-cache/internal/admin"
	"github.com/gplus-recycling/caddy-redis-cache/internal/coalesce"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
	"github.com/gplus-recycling/caddy-redis-cache/internal/subrequest"
)

// An explained request goes through the handlers of the site. The cache decides
// about it as about any other, and then says what it would do instead of doing it.

// explanation is the answer of GET /redis_cache/explain.
type explanation struct {
	URL       string   `json:"url"`
	Method    string   `json:"method"`
	Namespace string   `json:"namespace,omitempty"`
	Outcome   string   `json:"outcome"`            // as X-Cache would show it; "" if no cache is reached
	Reason    string   `json:"reason"`             // "" for a hit
	Detail    string   `json:"detail,omitempty"`   // what the reason is about
	Forward   string   `json:"forward,omitempty"`  // why it would go upstream
	Possible  []string `json:"possible,omitempty"` // the outcomes that depend on what the origin answers
	Advice    string   `json:"advice"`

	Key         string                `json:"key,omitempty"`
	Identifier  string                `json:"identifier,omitempty"`
	KeyParts    *explainedKey         `json:"key_parts,omitempty"`
	Policy      *explainedPolicy      `json:"policy,omitempty"`
	Credentials *explainedCredentials `json:"credentials,omitempty"`
	Tiers       map[string]tierState  `json:"tiers,omitempty"`
	Variants    []explainedVariant    `json:"variants,omitempty"`
	Freshness   *explainedFreshness   `json:"freshness,omitempty"`
	Purges      []entry               `json:"purges,omitempty"` // that cover what is stored, as far as the journal still tells
	Breaker     string                `json:"breaker,omitempty"`
	Journal     *explainedJournal     `json:"journal,omitempty"`
	HitForMiss  *explainedMiss        `json:"hit_for_miss,omitempty"`
	Failing     bool                  `json:"failing_origin,omitempty"` // it is left alone for a while

	reached bool
}

// explainedKey holds no values of fields or cookies.
type explainedKey struct {
	Scheme        string          `json:"scheme"`
	Host          string          `json:"host"`
	Path          string          `json:"path"`
	RewrittenPath string          `json:"rewritten_path,omitempty"`
	Query         []string        `json:"query"`         // the parameters that count, sorted
	DroppedQuery  []string        `json:"dropped_query"` // names of those that do not
	Headers       map[string]bool `json:"headers"`       // whether the request has them
	Cookies       map[string]bool `json:"cookies"`
	User          string          `json:"user,omitempty"` // hash of the identity
	Body          bool            `json:"body,omitempty"` // the body counts; it is empty here
}

type explainedPolicy struct {
	TTL     *explainedTTL `json:"ttl,omitempty"` // for status 200
	Jitter  float64       `json:"jitter"`        // percent
	SWR     float64       `json:"stale_while_revalidate"`
	SIE     float64       `json:"stale_if_error"`
	Options *Policy       `json:"options"` // of namespace and directive, merged
}

type explainedTTL struct {
	Seconds  float64 `json:"seconds"`
	Override bool    `json:"override,omitempty"`
	From     string  `json:"from"` // the line
}

type explainedCredentials struct {
	Found   []string `json:"found"` // names
	Rule    string   `json:"rule"`  // of the route
	Allowed *bool    `json:"allowed,omitempty"`
}

// tierState is what a tier holds: off, down, absent, fresh, stale, soft, covered, or
// variants where the response to answer with depends on request fields.
type tierState struct {
	State string `json:"state"`
}

type explainedVariant struct {
	Key     string   `json:"key"`
	Fields  []string `json:"fields"`
	Memory  string   `json:"memory"`
	Redis   string   `json:"redis"`
	Answers bool     `json:"answers"`
}

type explainedFreshness struct {
	Source    string    `json:"source"`
	Lifetime  float64   `json:"lifetime"`
	Age       float64   `json:"age"`
	Remaining float64   `json:"remaining"`
	SWR       float64   `json:"stale_while_revalidate"`
	SIE       float64   `json:"stale_if_error"`
	StoredAt  time.Time `json:"stored_at"`
	Jitter    *float64  `json:"jitter,omitempty"` // seconds that were taken off a configured lifetime
}

type explainedJournal struct {
	State    string `json:"state"` // leased, cut-off or unproven
	Position string `json:"position"`
}

type explainedMiss struct {
	Credentialed bool   `json:"credentialed"` // only for requests with credentials
	Reason       string `json:"reason"`       // "" if another node found it out
}

// explanationOf is what is to be said of an explained request, or nil.
func explanationOf(r *http.Request) *explanation {
	e, _ := subrequest.Explaining(r).(*explanation)
	return e
}

func handleExplain(app *App, w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	server, u, err := subrequest.ServerOf(app.ctx, query.Get("url"))
	if err != nil {
		return admin.Error(http.StatusBadRequest, err)
	}
	request := subrequest.New(u, nil)
	if method := query.Get("method"); method != "" {
		if !rfc9111.IsToken(method) {
			return admin.Error(http.StatusBadRequest, errors.New("method is not a token"))
		}
		if !rfc9111.SafeMethod(method) && !app.caches(method) {
			return admin.Error(http.StatusBadRequest, fmt.Errorf("method: no response to %s is ever stored or answered from the cache,"+
				" and the request might change something on its way", method))
		}
		request.Method = method
	}
	for _, line := range query["header"] {
		if err := subrequest.AddField(request, line); err != nil {
			return admin.Error(http.StatusBadRequest, err)
		}
	}
	if isBodyMethod(request.Method) && request.ContentLength != 0 {
		return admin.Error(http.StatusBadRequest, errors.New("header: an explained request has no body"))
	}
	e := &explanation{URL: query.Get("url"), Method: request.Method}
	status := e.send(r.Context(), app.logger, server, request)
	if !e.reached {
		e.Reason = "no redis_cache was reached: another handler took the request, or none did"
		if status != 0 && status != statusClientGone { // which a handler answers that would have asked another server
			e.Reason = fmt.Sprintf("no redis_cache was reached: another handler or route answered with status %d", status)
		}
		e.Advice = "Route the request through a redis_cache directive, and mind the order of directives."
	}
	return admin.WriteJSON(w, http.StatusOK, e)
}

// caches reports whether a route caches responses to a method.
func (a *App) caches(method string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.ContainsFunc(a.policies, func(p *Policy) bool { return p.cachesMethod(method) })
}

// send runs the request until a cache takes it, and returns the status if another
// handler did.
func (e *explanation) send(ctx context.Context, logger *zap.Logger, server http.Handler, r *http.Request) (status int) {
	return subrequest.Explain(ctx, server, r, e, func(recovered any) {
		logPanic(logger, "a handler that an explained request has met", recovered)
	})
}

// explain says what would be done with the request.
func (x *exchange) explain(e *explanation) {
	e.reached, x.explained = true, true
	caddyhttp.SetVar(x.r.Context(), caddyhttp.LogSkipVar, true) // it is no request of a client
	// What is cancelled is only what the request might have met before.
	x.r = x.r.WithContext(context.WithoutCancel(x.r.Context()))
	e.Namespace = x.h.Namespace
	what := x.choose()
	if what == actFetch {
		x.remember()
		x.id = coalesce.IDOf(x.answered.Full)
		if x.mayFollow() && x.mayLead() && x.staleInMemory() && x.lookAgain(true) {
			what = actHit // another node has fetched it
		}
	}
	if x.reason == ReasonMethod && x.method == http.MethodPost { // as bypass
		x.asGet = true
		_ = x.buildKey()
	}
	e.setState(x)
	e.setPolicy(x)
	if x.key.Full != "" {
		e.setKey(x)
		e.setStored(x)
	}
	x.expect(what)
	e.Outcome, e.Reason, e.Detail = x.outcome.String(), x.reason.String(), x.detail
	if what != actHit && what != actStale && what != actAccepted && what != actFailed && what != actNothing {
		e.Forward = x.forward.String()
	}
	if what == actFetch {
		e.Possible = x.possible()
	}
	e.Advice = x.advice(what)
}

// expect sets the outcome as doing it would.
func (x *exchange) expect(what act) {
	switch what {
	case actBypass:
		x.outcome, x.forward = OutcomeBypass, x.reason
	case actHit:
		x.outcome, x.reason = OutcomeHit, ReasonNone
	case actAccepted:
		x.outcome, x.reason = OutcomeStale, x.forward
	case actStale:
		x.outcome, x.reason = OutcomeStale, ReasonExpired
	case actFailed:
		x.outcome, x.reason = OutcomeStale, ReasonError
	case actNothing:
		x.outcome, x.reason, x.forward = OutcomeMiss, ReasonOnlyIfCached, ReasonOnlyIfCached
	case actFetch:
		x.outcome, x.reason = OutcomeMiss, x.forward
		if x.forward == ReasonCredentials {
			x.detail = x.credentials.name
		}
		if never := x.unstored(); never != ReasonNone && x.credentials.count() {
			x.outcome, x.reason, x.detail = OutcomeBypass, never, ""
		}
	}
}

// unstored says what about the request keeps its response from being stored.
func (x *exchange) unstored() Reason {
	if x.noStore {
		return ReasonRequestDirective
	}
	return x.neverStored(x.validates())
}

// possible are the outcomes of a fetch.
func (x *exchange) possible() []string {
	var names []string
	if !x.credentials.count() || x.unstored() == ReasonNone {
		names = append(names, OutcomeMiss.String())
	}
	if x.method != http.MethodHead && x.validates() {
		names = append(names, OutcomeRevalidated.String())
	}
	if x.mayServeOnError() {
		names = append(names, OutcomeStale.String())
	}
	if x.credentials.count() {
		names = append(names, OutcomeBypass.String())
	}
	return names
}

func (e *explanation) setState(x *exchange) {
	n := x.h.node
	e.Breaker = n.breakerState()
	stats := n.journal.Stats()
	e.Journal = &explainedJournal{Position: stats.Position.ID.String()}
	switch stats.Standing {
	case journal.Leased:
		e.Journal.State = "leased"
	case journal.Unproven:
		e.Journal.State = "unproven"
	case journal.CutOff:
		e.Journal.State = "cut-off"
	}
}

func (e *explanation) setPolicy(x *exchange) {
	p := &x.h.policy
	x.remember()
	e.Policy = &explainedPolicy{
		Jitter: defaultJitter, SWR: p.staleWhileRevalidate().Seconds(), SIE: p.staleIfError().Seconds(), Options: p,
	}
	if p.Jitter != nil {
		e.Policy.Jitter = *p.Jitter
	}
	if ttl := p.statusTTL(http.StatusOK, x.ttl); ttl != nil {
		e.Policy.TTL = &explainedTTL{time.Duration(ttl.Duration).Seconds(), ttl.Override, x.h.ttlFrom(ttl)}
	}
}

// ttlFrom names the line that a lifetime comes from.
func (h *Handler) ttlFrom(ttl *TTL) string {
	for i, rule := range h.policy.TTLRules {
		if ttl == &rule.TTL {
			return fmt.Sprintf("directive, ttl line %d with a matcher", i+1)
		}
	}
	for i, rule := range h.policy.TTLStatus {
		if ttl == &rule.TTL {
			where := "namespace"
			if len(h.Policy.TTLStatus) > 0 {
				where = "directive"
			}
			return fmt.Sprintf("%s, ttl status line %d", where, i+1)
		}
	}
	if ttl == h.Policy.TTL {
		return "directive, ttl"
	}
	return "namespace, ttl"
}

func (e *explanation) setKey(x *exchange) {
	p := &x.h.policy
	e.Key, e.Identifier = x.answered.Full, x.key.identifier
	kept := p.VaryQuery.kept(x.q.query)
	parts := &explainedKey{
		Scheme: x.q.scheme, Host: x.q.host, Path: x.q.path, RewrittenPath: x.q.rewrittenPath,
		Query: list(kept), DroppedQuery: []string{}, Headers: map[string]bool{}, Cookies: map[string]bool{},
		User: x.user, Body: isBodyMethod(x.method),
	}
	if p.Key != nil && p.Key.Exact {
		parts.Query, kept = []string{}, nil
	}
	counts := make(map[string]bool, len(kept))
	for _, pair := range kept {
		counts[pair] = true
	}
	for pair := range strings.SplitSeq(x.q.query, "&") {
		if pair != "" && !counts[pair] {
			parts.DroppedQuery = append(parts.DroppedQuery, paramName(pair))
		}
	}
	for _, name := range p.VaryHeader {
		parts.Headers[name] = len(x.r.Header[name]) > 0
	}
	for _, name := range p.VaryCookie {
		parts.Cookies[name] = false
		for range cookieValues(x.r.Header, name) {
			parts.Cookies[name] = true
		}
	}
	e.KeyParts = parts
	e.Credentials = x.explainCredentials()
}

func (x *exchange) explainCredentials() *explainedCredentials {
	p := &x.h.policy
	c := &explainedCredentials{Found: []string{}}
	if len(x.r.Header["Authorization"]) > 0 {
		c.Found = append(c.Found, "Authorization")
	}
	if x.userID != "" {
		c.Found = append(c.Found, "http.auth.user.id")
	}
	c.Found = append(c.Found, x.h.inFront(x.r).Identities(x.r)...)
	for name := range cookies(x.r.Header) {
		if !matchesAny(analyticsCookies, name) && !matchesAny(p.IgnoreCookies, name) {
			c.Found = append(c.Found, cookieCredential(x.r.Header, name))
		}
	}
	switch {
	case p.ByUser != "":
		c.Rule = "by_user: one response for each user"
	case p.Shared:
		c.Rule = "shared: credentials do not matter"
	case x.credentials == (credentials{}) && len(c.Found) > 0:
		c.Rule = "the key covers the credentials"
	case x.credentials == (credentials{}):
		c.Rule = "there are none that count"
	default:
		c.Rule = "only what its origin allows to share"
	}
	return c
}

// maxExplainedVariants bounds how many variants are looked at.
const maxExplainedVariants = 16

func (e *explanation) setStored(x *exchange) {
	n := x.h.node
	x.id = coalesce.IDOf(x.answered.Full)
	memory, inRedis, err := n.store.Inspect(x.r.Context(), x.answered, x.now)
	e.Tiers = map[string]tierState{
		"memory": {n.stateOf(memory, x.now, n.memory == nil, nil)},
		"redis":  {n.stateOf(inRedis, x.now, n.redis == nil, err)},
	}
	rec := x.rec
	for _, other := range []*store.Record{x.stored, memory, inRedis} {
		if rec == nil {
			rec = other
		}
	}
	if rec != nil && !rec.IsBase() {
		e.Freshness = x.explainFreshness(rec)
		allowed := x.credentials.allowed(&rec.Freshness)
		e.Credentials.Allowed = &allowed
	}
	for _, found := range []*store.Record{memory, inRedis} {
		if found != nil && len(e.Purges) == 0 {
			e.Purges = n.coveringPurges(x.r.Context(), found)
		}
	}
	if x.base != nil {
		for _, v := range x.base.Variants[:min(len(x.base.Variants), maxExplainedVariants)] {
			e.Variants = append(e.Variants, x.explainVariant(v.Hash))
		}
	}
	if miss, known := n.misses.Get(x.id, x.now); known && x.holds(miss) {
		x.why = Reason(miss.Why)
		e.HitForMiss = &explainedMiss{miss.Credentialed, x.why.String()}
	}
	e.Failing = n.failures.Recent(x.id, x.now)
}

func (x *exchange) explainVariant(hash string) explainedVariant {
	n := x.h.node
	key := store.Key{Full: x.key.Full + ":" + hash, Name: x.key.Name + ":" + hash}
	memory, inRedis, err := n.store.Inspect(x.r.Context(), key, x.now)
	return explainedVariant{
		Key: key.Full, Fields: x.base.Vary, Answers: key.Full == x.answered.Full,
		Memory: n.stateOf(memory, x.now, n.memory == nil, nil), Redis: n.stateOf(inRedis, x.now, n.redis == nil, err),
	}
}

func (n *node) stateOf(rec *store.Record, now time.Time, off bool, err error) string {
	switch {
	case off:
		return "off"
	case err != nil:
		return "down"
	case rec == nil:
		return "absent"
	}
	switch verdict, _ := n.check(rec, journal.Checked{}); {
	case verdict >= journal.Covered:
		return "covered"
	case rec.IsBase():
		return "variants"
	case verdict == journal.SoftCovered:
		return "soft"
	case rec.Freshness.Fresh(now):
		return "fresh"
	}
	return "stale"
}

// explainFreshness derives where the lifetime comes from, which records do not
// say, from the stored response and the configuration of today.
func (x *exchange) explainFreshness(rec *store.Record) *explainedFreshness {
	f := &rec.Freshness
	header := rec.Header()
	c := &captureWriter{x: x}
	rules, _ := c.rulesFor(rec.Status, header)
	decision := rfc9111.Decide(rfc9111.Response{
		Status: rec.Status, Header: header, RequestTime: f.ResponseTime, ResponseTime: f.ResponseTime,
	}, rules)
	e := &explainedFreshness{
		Source: decision.Source, Lifetime: f.Lifetime.Seconds(), Age: f.CurrentAge(x.now).Seconds(),
		Remaining: f.Remaining(x.now).Seconds(), SWR: f.StaleWhileRevalidate.Seconds(), SIE: f.StaleIfError.Seconds(),
		StoredAt: f.ResponseTime.UTC(),
	}
	switch decision.Source {
	case "":
		e.Source = "unknown: today's configuration gives it none"
	case "ttl":
		if ttl := x.h.policy.statusTTL(rec.Status, x.ttl); ttl != nil {
			off := (time.Duration(ttl.Duration) + f.InitialAge - f.Lifetime).Seconds()
			e.Source, e.Jitter = x.h.ttlFrom(ttl), &off
		}
	}
	return e
}

// explainedEntries is how far back the journal is searched.
const explainedEntries = 1000

// coveringPurges are the purges since a response was fetched that concern it.
func (n *node) coveringPurges(ctx context.Context, rec *store.Record) (covering []entry) {
	subject := subjectOf(rec)
	if verdict, _ := n.journal.Check(&subject, journal.Checked{}); verdict == journal.Valid {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, journalTimeout)
	defer cancel()
	entries, _ := n.journal.Entries(ctx, explainedEntries)
	for _, e := range entries {
		if !rec.Position.ID.Before(e.ID) {
			break
		}
		purges := []journal.Purge{{Selectors: e.Selectors}}
		switch e.Op {
		case journal.OpPurge, journal.OpSoftPurge:
		case journal.OpEvent:
			purges = n.expandEvent(e.Event, e.Data)
		case journal.OpEnable, journal.OpDisable, journal.OpEpoch:
			continue
		}
		if slices.ContainsFunc(purges, func(p journal.Purge) bool {
			matches, err := n.journal.Matcher(p)
			return err == nil && matches(&subject)
		}) {
			covering = append(covering, lineOf(&e))
		}
	}
	return covering
}
