package rediscache

import (
	"cmp"
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
	"github.com/gplus-recycling/caddy-redis-cache/internal/cachekey"
	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/reason"
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
	Purges      []admin.Entry         `json:"purges,omitempty"` // that cover what is stored, as far as the journal still tells
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
	if engine.IsBodyMethod(request.Method) && request.ContentLength != 0 {
		return admin.Error(http.StatusBadRequest, errors.New("header: an explained request has no body"))
	}
	e := &explanation{URL: query.Get("url"), Method: request.Method}
	status := e.send(r.Context(), app.logger, server, request)
	if !e.reached {
		e.Reason = "no redis_cache was reached: another handler took the request, or none did"
		if status != 0 && status != engine.StatusClientGone { // which a handler answers that would have asked another server
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
	return slices.ContainsFunc(a.policies, func(p *Policy) bool { return slices.Contains(p.methods(), method) })
}

// send runs the request until a cache takes it, and returns the status if another
// handler did.
func (e *explanation) send(ctx context.Context, logger *zap.Logger, server http.Handler, r *http.Request) (status int) {
	return subrequest.Explain(ctx, server, r, e, func(recovered any) {
		logPanic(logger, "a handler that an explained request has met", recovered)
	})
}

// prepareExplain makes the request one that is looked at only.
func (c *call) prepareExplain() {
	caddyhttp.SetVar(c.r.Context(), caddyhttp.LogSkipVar, true) // it is no request of a client
	// What is cancelled is only what the request might have met before.
	c.r = c.r.WithContext(context.WithoutCancel(c.r.Context()))
}

// explain says what would be done with the request.
func (c *call) explain(e *explanation) {
	e.reached = true
	e.Namespace = c.h.Namespace
	x := explainer{e: e, h: c.h, n: c.h.node, was: c.answer.Examine()}
	x.setState()
	x.setPolicy()
	if x.was.Request.Key.Full != "" {
		x.setKey()
		x.setStored()
	}
	plan := &x.was.Plan
	e.Outcome, e.Reason, e.Detail = plan.Result.String(), plan.Reason.String(), x.was.Detail
	if plan.Act == engine.ActBypass || plan.Act == engine.ActFetch {
		e.Forward = x.was.Forward.String()
	}
	if plan.Act == engine.ActFetch {
		for _, result := range x.was.Possible() {
			e.Possible = append(e.Possible, result.String())
		}
	}
	e.Advice = x.advice()
}

// explainer fills in an explanation.
type explainer struct {
	e   *explanation
	h   *Handler
	n   *node
	was *engine.Examination

	earlier reason.Reason // of an earlier answer, that the key cannot be shared
}

func (x *explainer) setState() {
	e, n := x.e, x.n
	e.Breaker = n.breakerState()
	stats := n.Journal.Stats()
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

func (x *explainer) setPolicy() {
	rt := x.h.route
	x.e.Policy = &explainedPolicy{
		Jitter: rt.Jitter, SWR: rt.StaleWhileRevalidate.Seconds(), SIE: rt.StaleIfError.Seconds(), Options: &x.h.policy,
	}
	if ttl := rt.StatusLifetime(http.StatusOK, x.was.Request.Lifetime()); ttl != nil {
		x.e.Policy.TTL = &explainedTTL{Seconds: ttl.Duration.Seconds(), Override: ttl.Override, From: ttl.From}
	}
}

func (x *explainer) setKey() {
	e, p, q := x.e, &x.h.policy, x.was.Request
	t := &q.Target
	e.Key, e.Identifier = x.was.Found.Key.Full, q.Key.Identifier
	kept := p.VaryQuery.Kept(t.Query)
	parts := &explainedKey{
		Scheme: t.Scheme, Host: t.Host, Path: t.Path, RewrittenPath: t.RewrittenPath,
		Query: append([]string{}, kept...), DroppedQuery: []string{}, Headers: map[string]bool{}, Cookies: map[string]bool{},
		User: q.User, Body: engine.IsBodyMethod(q.Method),
	}
	if p.Key != nil && p.Key.Exact {
		parts.Query, kept = []string{}, nil
	}
	counts := make(map[string]bool, len(kept))
	for _, pair := range kept {
		counts[pair] = true
	}
	for pair := range strings.SplitSeq(t.Query, "&") {
		if pair != "" && !counts[pair] {
			parts.DroppedQuery = append(parts.DroppedQuery, cachekey.ParamName(pair))
		}
	}
	for _, name := range p.VaryHeader {
		parts.Headers[name] = len(q.HTTP.Header[name]) > 0
	}
	for _, name := range p.VaryCookie {
		parts.Cookies[name] = false
		for range cachekey.CookieValues(q.HTTP.Header, name) {
			parts.Cookies[name] = true
		}
	}
	e.KeyParts = parts
	e.Credentials = x.credentials()
}

func (x *explainer) credentials() *explainedCredentials {
	p, q := &x.h.policy, x.was.Request
	r := q.HTTP
	c := &explainedCredentials{Found: []string{}}
	if len(r.Header["Authorization"]) > 0 {
		c.Found = append(c.Found, "Authorization")
	}
	if q.UserID != "" {
		c.Found = append(c.Found, "http.auth.user.id")
	}
	c.Found = append(c.Found, x.h.inFront(r).Identities(r)...)
	for name := range cachekey.Cookies(r.Header) {
		if !p.ignoresCookie(name) {
			c.Found = append(c.Found, engine.CookieName(r.Header, name))
		}
	}
	switch {
	case p.ByUser != "":
		c.Rule = "by_user: one response for each user"
	case p.Shared:
		c.Rule = "shared: credentials do not matter"
	case !q.Credentials.Any() && len(c.Found) > 0:
		c.Rule = "the key covers the credentials"
	case !q.Credentials.Any():
		c.Rule = "there are none that count"
	default:
		c.Rule = "only what its origin allows to share"
	}
	return c
}

// maxExplainedVariants bounds how many variants are looked at.
const maxExplainedVariants = 16

func (x *explainer) setStored() {
	e, n, q, found := x.e, x.n, x.was.Request, &x.was.Found
	memory, inRedis, err := n.Store.Inspect(q.HTTP.Context(), found.Key, found.At)
	e.Tiers = map[string]tierState{
		"memory": {n.stateOf(memory, found.At, n.memory == nil, nil)},
		"redis":  {n.stateOf(inRedis, found.At, n.redis == nil, err)},
	}
	if rec := cmp.Or(found.Record, memory, inRedis); rec != nil && !rec.IsBase() {
		e.Freshness = x.freshness(rec)
		allowed := q.Credentials.Allow(&rec.Freshness)
		e.Credentials.Allowed = &allowed
	}
	for _, rec := range []*store.Record{memory, inRedis} {
		if rec != nil && len(e.Purges) == 0 {
			e.Purges = n.coveringPurges(q.HTTP.Context(), rec)
		}
	}
	if base := found.Base; base != nil {
		for _, v := range base.Variants[:min(len(base.Variants), maxExplainedVariants)] {
			e.Variants = append(e.Variants, x.variant(v.Hash))
		}
	}
	if miss, known := x.was.HitForMiss(); known {
		x.earlier = reason.Reason(miss.Why)
		e.HitForMiss = &explainedMiss{miss.Credentialed, x.earlier.String()}
	}
	e.Failing = x.was.Failing()
}

func (x *explainer) variant(hash string) explainedVariant {
	n, found := x.n, &x.was.Found
	key := cachekey.VariantOf(x.was.Request.Key.Key, hash)
	memory, inRedis, err := n.Store.Inspect(x.was.Request.HTTP.Context(), key, found.At)
	return explainedVariant{
		Key: key.Full, Fields: found.Base.Vary, Answers: key.Full == found.Key.Full,
		Memory: n.stateOf(memory, found.At, n.memory == nil, nil), Redis: n.stateOf(inRedis, found.At, n.redis == nil, err),
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
	switch verdict := n.Check(rec); {
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

// freshness is that of a stored response, and where its lifetime comes from by the
// configuration of today.
func (x *explainer) freshness(rec *store.Record) *explainedFreshness {
	f, q, now := &rec.Freshness, x.was.Request, x.was.Found.At
	e := &explainedFreshness{
		Source: q.Rejudge(rec).Source, Lifetime: f.Lifetime.Seconds(), Age: f.CurrentAge(now).Seconds(),
		Remaining: f.Remaining(now).Seconds(), SWR: f.StaleWhileRevalidate.Seconds(), SIE: f.StaleIfError.Seconds(),
		StoredAt: f.ResponseTime.UTC(),
	}
	switch e.Source {
	case "":
		e.Source = "unknown: today's configuration gives it none"
	case "ttl":
		if ttl := q.Route.StatusLifetime(rec.Status, q.Lifetime()); ttl != nil {
			off := (ttl.Duration + f.InitialAge - f.Lifetime).Seconds()
			e.Source, e.Jitter = ttl.From, &off
		}
	}
	return e
}

// explainedEntries is how far back the journal is searched.
const explainedEntries = 1000

// coveringPurges are the purges since a response was fetched that concern it.
func (n *node) coveringPurges(ctx context.Context, rec *store.Record) (covering []admin.Entry) {
	subject := rec.Subject()
	if verdict, _ := n.Journal.Check(&subject, journal.Checked{}); verdict == journal.Valid {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, journalTimeout)
	defer cancel()
	entries, _ := n.Journal.Entries(ctx, explainedEntries)
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
			matches, err := n.Journal.Matcher(p)
			return err == nil && matches(&subject)
		}) {
			covering = append(covering, admin.EntryOf(&e))
		}
	}
	return covering
}
