package explain

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/cachekey"
	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/node"
	"github.com/gplus-recycling/caddy-redis-cache/internal/reason"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// An explained request goes through the handlers of the site. The cache decides
// about it as about any other, and then says what it would do instead of doing it.

// Explanation is the answer of GET /redis_cache/explain.
type Explanation struct {
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
	Purges      []node.Entry          `json:"purges,omitempty"` // that cover what is stored, as far as the journal still tells
	Breaker     string                `json:"breaker,omitempty"`
	Journal     *explainedJournal     `json:"journal,omitempty"`
	HitForMiss  *explainedMiss        `json:"hit_for_miss,omitempty"`
	Failing     bool                  `json:"failing_origin,omitempty"` // it is left alone for a while

	Reached bool `json:"-"` // a cache was
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
	Options any           `json:"options"` // of namespace and directive, merged
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

// Site is what surrounds a cache that has taken an explained request.
type Site struct {
	Node    *node.Node
	Off     bool // the configuration switches the cache off
	Options any  // the policy of namespace and directive, merged, as JSON shows it
	// Identities names everything in a request that tells who asks, beside Authorization
	// and cookies.
	Identities func(r *http.Request) []string
}

// Explain says what would be done with the request that was examined.
func (e *Explanation) Explain(site *Site, was *engine.Examination) {
	e.Reached = true
	e.Namespace = was.Request.Route.Key.Namespace
	x := explainer{e: e, n: site.Node, site: site, rt: was.Request.Route, was: was}
	x.setState()
	x.setPolicy()
	if was.Request.Key.Full != "" {
		x.setKey()
		x.setStored()
	}
	e.Outcome, e.Reason, e.Detail = was.Plan.Result.String(), was.Plan.Reason.String(), was.Detail
	if was.Plan.Act == engine.ActBypass || was.Plan.Act == engine.ActFetch {
		e.Forward = was.Forward.String()
	}
	if was.Plan.Act == engine.ActFetch {
		for _, result := range was.Possible() {
			e.Possible = append(e.Possible, result.String())
		}
	}
	e.Advice = x.advice()
}

// explainer fills in an explanation.
type explainer struct {
	e    *Explanation
	n    *node.Node
	site *Site
	rt   *engine.Route
	was  *engine.Examination

	earlier reason.Reason // of an earlier answer, that the key cannot be shared
}

func (x *explainer) setState() {
	e, n := x.e, x.n
	e.Breaker = n.Breaker()
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
	rt := x.rt
	x.e.Policy = &explainedPolicy{
		Jitter: rt.Jitter, SWR: rt.StaleWhileRevalidate.Seconds(), SIE: rt.StaleIfError.Seconds(), Options: x.site.Options,
	}
	if ttl := rt.StatusLifetime(http.StatusOK, x.was.Request.Lifetime()); ttl != nil {
		x.e.Policy.TTL = &explainedTTL{Seconds: ttl.Duration.Seconds(), Override: ttl.Override, From: ttl.From}
	}
}

func (x *explainer) setKey() {
	e, spec, q := x.e, &x.rt.Key, x.was.Request
	t := &q.Target
	e.Key, e.Identifier = x.was.Found.Key.Full, q.Key.Identifier
	kept := spec.Query.Kept(t.Query)
	parts := &explainedKey{
		Scheme: t.Scheme, Host: t.Host, Path: t.Path, RewrittenPath: t.RewrittenPath,
		Query: append([]string{}, kept...), DroppedQuery: []string{}, Headers: map[string]bool{}, Cookies: map[string]bool{},
		User: q.User, Body: engine.IsBodyMethod(q.Method),
	}
	if spec.Exact {
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
	for _, name := range spec.Headers {
		parts.Headers[name] = len(q.HTTP.Header[name]) > 0
	}
	for _, name := range spec.Cookies {
		parts.Cookies[name] = false
		for range cachekey.CookieValues(q.HTTP.Header, name) {
			parts.Cookies[name] = true
		}
	}
	e.KeyParts = parts
	e.Credentials = x.credentials()
}

func (x *explainer) credentials() *explainedCredentials {
	q := x.was.Request
	r := q.HTTP
	c := &explainedCredentials{Found: []string{}}
	if len(r.Header["Authorization"]) > 0 {
		c.Found = append(c.Found, "Authorization")
	}
	if q.UserID != "" {
		c.Found = append(c.Found, "http.auth.user.id")
	}
	c.Found = append(c.Found, x.site.Identities(r)...)
	for name := range cachekey.Cookies(r.Header) {
		if !x.rt.IgnoresCookie(name) {
			c.Found = append(c.Found, engine.CookieName(r.Header, name))
		}
	}
	switch {
	case x.rt.ByUser:
		c.Rule = "by_user: one response for each user"
	case x.rt.Shared:
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
		"memory": {x.stateOf(memory, found.At, n.Memory == nil, nil)},
		"redis":  {x.stateOf(inRedis, found.At, n.Redis == nil, err)},
	}
	if rec := cmp.Or(found.Record, memory, inRedis); rec != nil && !rec.IsBase() {
		e.Freshness = x.freshness(rec)
		allowed := q.Credentials.Allow(&rec.Freshness)
		e.Credentials.Allowed = &allowed
	}
	for _, rec := range []*store.Record{memory, inRedis} {
		if rec != nil && len(e.Purges) == 0 {
			e.Purges = x.coveringPurges(q.HTTP.Context(), rec)
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
		Memory: x.stateOf(memory, found.At, n.Memory == nil, nil), Redis: x.stateOf(inRedis, found.At, n.Redis == nil, err),
	}
}

func (x *explainer) stateOf(rec *store.Record, now time.Time, off bool, err error) string {
	switch {
	case off:
		return "off"
	case err != nil:
		return "down"
	case rec == nil:
		return "absent"
	}
	switch verdict := x.n.Check(rec); {
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
func (x *explainer) coveringPurges(ctx context.Context, rec *store.Record) (covering []node.Entry) {
	n := x.n
	subject := rec.Subject()
	if verdict, _ := n.Journal.Check(&subject, journal.Checked{}); verdict == journal.Valid {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, node.JournalTimeout)
	defer cancel()
	entries, _ := n.Journal.Entries(ctx, explainedEntries)
	for _, e := range entries {
		if !rec.Position.ID.Before(e.ID) {
			break
		}
		if slices.ContainsFunc(n.PurgesOf(&e), func(p journal.Purge) bool {
			matches, err := n.Journal.Matcher(p)
			return err == nil && matches(&subject)
		}) {
			covering = append(covering, node.EntryOf(&e))
		}
	}
	return covering
}
