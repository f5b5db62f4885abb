package engine

import (
	"net/http"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/coalesce"
	"github.com/gplus-recycling/caddy-redis-cache/internal/reason"
	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// Examination is what would be done with a request, and why.
type Examination struct {
	Request *Request // a POST that may answer GET has the key of that
	Found   Found
	Plan    Plan
	Forward reason.Reason // why it would go upstream
	Detail  string

	never reason.Reason // what about the request keeps its response from being stored
}

// Examine finds out what Serve would do, without doing it.
func (a *Answer) Examine() *Examination {
	q := &a.Request
	peek := func(key store.Key, now time.Time, fleet bool) (*store.Record, store.TierName, bool) {
		return q.Route.Cache.Store.Peek(q.HTTP.Context(), key, now, fleet)
	}
	a.choose(func(key store.Key) (*store.Record, store.TierName, bool) { return peek(key, q.Began, false) })
	e := &Examination{Request: q, Found: a.Found, Plan: a.Plan, Forward: a.out.Forward, Detail: q.Detail}
	c := q.Route.Cache
	switch e.Plan.Act {
	case ActBypass:
		e.Found.At = q.Began
		if e.Plan.Reason == reason.Method && q.Method == http.MethodPost {
			e.Request = q.answeringGet()
			e.Found.Key = e.Request.Key.Key
		}
	case ActFetch:
		f := newFetch(a, q, &a.Found)
		f.id = a.Found.id()
		if f.mayFollow() && f.mayLead() && f.found.staleInMemory(c) {
			found, answers := f.found.again(q.HTTP.Context(), q, true, peek)
			if e.Found = found; answers { // another node has fetched it
				e.Plan = Plan{Act: ActHit, Record: found.Record, Result: Hit}
				break
			}
		}
		e.Plan.Reason, e.Forward = e.Found.Why, e.Found.Why
		if e.Forward == reason.Credentials {
			e.Detail = q.Credentials.Name
		}
		e.never = q.neverStored(q.HTTP.Header, e.Found.validates())
		if q.NoStore {
			e.never = reason.RequestDirective
		}
		if e.never != reason.None && q.Credentials.Any() {
			e.Plan.Result, e.Plan.Reason, e.Detail = Bypass, e.never, ""
		}
	case ActHit, ActAccept, ActStale, ActNothing, ActFailed:
	}
	return e
}

// NeverStored says what about a request that would be fetched keeps its response from being
// stored.
func (e *Examination) NeverStored() reason.Reason { return e.never }

// Possible are the results that a fetch may have, as the upstream answers.
func (e *Examination) Possible() (results []Result) {
	q := e.Request
	credentials := q.Credentials.Any()
	if !credentials || e.never == reason.None {
		results = append(results, Miss)
	}
	if q.Method != http.MethodHead && e.Found.validates() {
		results = append(results, Revalidated)
	}
	if mayServeOnError(q, e.Found.stored(), e.Found.At) {
		results = append(results, Stale)
	}
	if credentials {
		results = append(results, Bypass)
	}
	return results
}

// Lifetime is the configured lifetime for the responses to a request, or nil.
func (q *Request) Lifetime() *TTL { return q.Route.lifetime(q.HTTP, q.hasParams()) }

// Rejudge derives where the lifetime of a stored response comes from, which records do not
// say, from the response and the configuration of today.
func (q *Request) Rejudge(rec *store.Record) rfc9111.Decision {
	j := judge{q: q, came: q.HTTP, ttl: q.Lifetime()}
	header := rec.Header()
	rules, _ := j.rulesFor(rec.Status, header)
	at := rec.Freshness.ResponseTime
	return rfc9111.Decide(rfc9111.Response{Status: rec.Status, Header: header, RequestTime: at, ResponseTime: at}, rules)
}

// HitForMiss is what is remembered of an earlier answer under the key: that it cannot be
// shared.
func (e *Examination) HitForMiss() (miss coalesce.Miss, known bool) {
	q := e.Request
	miss, known = q.Route.Cache.misses.Get(e.Found.id(), e.Found.At)
	return miss, known && q.holds(miss, &e.Found, q.Target.URL(&q.Route.Key))
}

// Failing reports whether the upstream has failed lately, and is left alone for a while.
func (e *Examination) Failing() bool {
	return e.Request.Route.Cache.failures.Recent(e.Found.id(), e.Found.At)
}
