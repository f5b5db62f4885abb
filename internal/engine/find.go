package engine

import (
	"context"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/cachekey"
	"github.com/gplus-recycling/caddy-redis-cache/internal/coalesce"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/reason"
	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// Found is what a look into the store has found for a request. It is never changed after;
// a second look makes another one.
type Found struct {
	// What the journal had applied before the look.
	Position journal.Position

	Key  store.Key     // under which a response to the request lies, or would lie by what is known
	Base *store.Record // the list of variants, where responses to the URL vary
	Tier store.TierName
	At   time.Time

	// Record is the stored response for the request, or nil. Answers tells whether it is
	// good as an answer without the upstream; if not, it may be revalidated, or stand in.
	Record  *store.Record
	Answers bool
	// Why is the reason why there is no answer, or only a stale one.
	Why reason.Reason

	Soft     bool // a soft purge made what lies under Key stale
	Unsuited bool // memory has a response that is not for this Origin
}

// look asks the store for one key.
type look func(store.Key) (rec *store.Record, tier store.TierName, soft bool)

// id names a key among flights, leases and memos.
func (f *Found) id() coalesce.ID { return coalesce.IDOf(f.Key.Full) }

// stored is what is stored and needs the upstream.
func (f *Found) stored() *store.Record {
	if f.Answers {
		return nil
	}
	return f.Record
}

// find looks for a stored response that the request may be answered from, or says why there is none.
func (f *Found) find(ctx context.Context, q *Request, now time.Time, at look) {
	f.Position, f.Key, f.At = q.Position, q.Key.Key, now
	if !q.Route.Cache.Usable(ctx, q.Route.Strict) {
		f.Why = reason.Unproven
		return
	}
	rec := f.search(q, at)
	if rec == nil {
		return
	}
	fresh := rec.Freshness.Fresh(now)
	switch {
	case !q.Credentials.Allow(&rec.Freshness) || rec.User != q.User:
		f.Why = reason.Credentials
		return
	case f.accepted(q, &rec.Freshness):
		f.Answers = true
		if f.Why = reason.None; !fresh {
			f.Why = reason.Expired
		}
	case fresh && !f.Soft:
		f.Why = reason.RequestDirective
	default:
		f.Why = reason.Expired
	}
	f.Record = rec
}

// search finds what is stored for the URL and, where responses vary, for the fields of the
// request.
func (f *Found) search(q *Request, at look) *store.Record {
	rec, tier, soft := at(q.Key.Key)
	f.Soft, f.Why = soft, reason.Absent
	var names []string
	if rec != nil && rec.IsBase() {
		f.Base, names = rec, rec.Vary
		f.Key, _ = cachekey.Variant(q.Key.Key, names, q.HTTP.Header)
		f.Why = reason.Variant
		rec, tier, f.Soft = at(f.Key)
	}
	if rec != nil && !suits(q, q.HTTP.Header, rec, names) {
		f.Unsuited = tier == store.TierMemory
		f.Why = reason.Variant
		return nil
	}
	if rec != nil {
		f.Tier = tier
	}
	return rec
}

// accepted reports whether the stored response is good enough without the upstream: fresh,
// or what the request's Cache-Control asks for where the route honours that, RFC 9111
// section 5.2.1.
func (f *Found) accepted(q *Request, freshness *rfc9111.Freshness) bool {
	if f.Soft {
		return false
	}
	if q.Directives != nil {
		return rfc9111.RequestAllows(*q.Directives, freshness, f.At)
	}
	return freshness.Fresh(f.At)
}

// again is the second look: a fetch that was quick has ended since the first one. It
// reports whether there is an answer now, and returns what is known now either way. With
// fleet, another node may have stored it.
func (f *Found) again(ctx context.Context, q *Request, fleet bool, at func(key store.Key, now time.Time, fleet bool) (*store.Record, store.TierName, bool)) (now Found, answers bool) {
	c := q.Route.Cache
	ctx = context.WithoutCancel(ctx)
	if !c.Usable(ctx, q.Route.Strict) {
		return *f, false
	}
	fleet = fleet || f.staleInMemory(c)
	now = *f
	now.Position, now.At, now.Unsuited = c.Journal.Position(), time.Now(), false
	rec := now.search(q, func(key store.Key) (*store.Record, store.TierName, bool) { return at(key, now.At, fleet) })
	tier := now.Tier
	now.Why, now.Tier = f.Why, f.Tier // of what was found first, which stays what the request is about
	if f.stored() != nil && c.Check(f.Record) >= journal.Covered {
		now.Record, now.Why = nil, reason.Absent
	}
	if rec == nil || now.Soft || !rec.Freshness.Fresh(now.At) || rec.User != q.User || !q.Credentials.Allow(&rec.Freshness) ||
		now.Record != nil && !rec.Freshness.ResponseTime.After(now.Record.Freshness.ResponseTime) {
		return now, false
	}
	now.Record, now.Answers, now.Tier = rec, true, tier
	return now, true
}

// staleInMemory reports whether what was found is stale, or not for this Origin, and
// Redis was not asked, where another node may have stored a newer response.
func (f *Found) staleInMemory(c *Cache) bool {
	return c.Leases != nil && (f.Unsuited || f.stored() != nil && f.Tier == store.TierMemory)
}

// mayServeOnError reports whether a stored response may stand in for an upstream that
// fails, RFC 5861 section 4.
func mayServeOnError(q *Request, stored *store.Record, now time.Time) bool {
	if stored == nil || stored.Status >= 500 {
		return false
	}
	if q.Directives != nil {
		return rfc9111.RequestServesOnError(*q.Directives, &stored.Freshness, now)
	}
	return stored.Freshness.ServeOnError(now)
}
