package engine

import (
	"context"
	"net/http"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/coalesce"
	"github.com/gplus-recycling/caddy-redis-cache/internal/reason"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// This file lets one fetch answer many requests. The leader of a flight fetches with a
// context that is not its client's, into memory; its client is served from there by a
// pump, and followers serve theirs. So no client slows another one, the upstream or what
// is stored.
//
// Until the header has shown that others may have the response, followers wait; what they
// may not have ends the flight at that moment. A response that a purge covers by the time
// a follower sees its header is not for this follower.

// flight is a fetch that may have followers.
type flight = coalesce.Flight[share]

// share is what followers get before the body.
type share struct {
	rec    *store.Record // without its body, which the flight brings, unless whole
	whole  bool
	names  []string       // the request fields that select the variant, when it is one
	length int64          // of the body; -1 while unknown
	result Result         // of the leader
	tier   store.TierName // of what the leader has found
}

const (
	// maxJoins is how many flights a request takes part in before it goes alone.
	maxJoins = 2
	// followLimit is how long a follower waits for a header, or for more of the body.
	followLimit = 10 * time.Second
	// strayLimit is how long a fetch goes on for nobody but the store, and strayWait how
	// long one that has yet to bring a header.
	strayLimit = time.Minute
	strayWait  = 10 * time.Second
	// StatusClientGone is the status for a client that has left.
	StatusClientGone = 499
)

// fetch answers from upstream, by a fetch of another request where that will do.
func (a *Answer) fetch() error {
	f := newFetch(a, &a.Request, &a.Found)
	for range maxJoins {
		f.id = f.found.id()
		if !f.mayFollow() {
			break
		}
		flight, leads := f.cache().flights.Join(f.id, f.mayLead())
		if leads {
			return leader{f, flight}.lead()
		}
		if flight == nil {
			break
		}
		next, err := follower{f, flight}.follow()
		if next == stepDone {
			return err
		}
		if next == stepAlone {
			break
		}
	}
	return f.run(nil)
}

// mayFollow reports whether another request's fetch could answer this one.
func (f *fetch) mayFollow() bool {
	f.shares = f.q.mayShare(f.came.Header) && f.found.mayShare()
	if !f.shares {
		return false
	}
	miss, known := f.cache().misses.Get(f.id, f.now())
	return !known || !f.q.holds(miss, &f.found, f.url)
}

// mayShare reports whether a request that came with this header may have the answer to
// another one.
func (q *Request) mayShare(came http.Header) bool {
	return q.Route.Coalesce && q.Method != http.MethodHead && len(came["Range"]) == 0 &&
		q.Directives == nil && !q.NoStore && !acceptsEvents(came)
}

// mayShare reports whether others may lack the same.
func (f *Found) mayShare() bool {
	return f.Why == reason.Absent || f.Why == reason.Variant || f.Why == reason.Expired
}

// mayLead reports whether the answer to this request could be another one's: not if it may
// be about the conditions of this client.
func (f *fetch) mayLead() bool {
	return f.found.validates() || !isConditional(f.came.Header) // or the conditions will be the cache's
}

// leader is a fetch that others may follow.
type leader struct {
	*fetch

	flight *flight
}

// lead fetches for the flight.
func (f leader) lead() error {
	flight := f.flight
	defer func() {
		flight.End(coalesce.Again)
		flight.Land()
		f.releaseLease(nil)
	}()
	c := f.cache()
	if (c.flights.Ended() != f.q.ended || f.found.staleInMemory(c)) && f.lookAgain(false) {
		return f.serveFound(Hit)
	}
	if c.Leases != nil && c.Journal.HasPeers() && c.Store.Answers() {
		switch f.acquire() {
		case coalesce.Found:
			return f.serveFound(Hit)
		case coalesce.Followed:
			f.a.out.Collapsed, f.a.out.Status = true, f.found.Record.Status
			return f.serveFound(Miss)
		case coalesce.Unshared:
			flight.End(coalesce.Alone)
			return f.run(nil)
		case coalesce.Busy:
			if f.background {
				return nil // another node refreshes it
			}
		case coalesce.Granted, coalesce.Moved, coalesce.Unanswered:
		}
	}
	return f.run(flight)
}

// acquire asks for the lease of what will be fetched: where another node has found out
// meanwhile that the URL has variants, that of this request's variant.
func (f leader) acquire() (verdict coalesce.Verdict) {
	looked := 0
	for range maxJoins {
		f.lease, verdict = f.cache().Leases.Acquire(f.r.Context(), coalesce.Query{
			ID: f.id, Patient: !f.background, Holds: f.noteMiss,
			Stored: func() bool { looked++; return f.lookAgain(true) },
			Moved:  func() bool { return f.found.id() != f.id },
		})
		if verdict != coalesce.Moved {
			break
		}
		f.id = f.found.id()
	}
	f.a.out.Waited = verdict != coalesce.Found || looked > 1
	return verdict
}

// noteMiss is holds, and remembers what another node has found out.
func (f leader) noteMiss(m coalesce.Miss) bool {
	if !f.q.holds(m, &f.found, f.url) {
		return false
	}
	f.cache().misses.AddShared(f.id, m, time.Now())
	return true
}

// serveFound ends a flight with what the second look has found.
func (f leader) serveFound(result Result) error {
	var names []string
	if f.found.Base != nil {
		names = f.found.Base.Vary
	}
	f.shareWhole(f.flight, f.found.Record, names, Miss)
	why := reason.None
	if result != Hit {
		why = f.found.Why
	}
	return f.a.serve(f.found.Record, result, why)
}

// shareWhole ends a flight with a response that is complete. names select it, if it is a
// variant.
func (f *fetch) shareWhole(flight *flight, rec *store.Record, names []string, result Result) {
	flight.Share(&share{rec: rec, whole: true, names: names, result: result, tier: f.found.Tier}, 0)
	flight.End(coalesce.Complete)
}

// watch watches the client of a flight, which may leave before the response is there. ctx is
// of the fetch, which cancel ends.
func (f *fetch) watch(flight *flight) func(ctx context.Context, cancel context.CancelFunc) {
	misses, id, miss := f.cache().misses, f.id, f.miss(reason.Incomplete)
	return func(ctx context.Context, cancel context.CancelFunc) {
		if flight.Followers() == 0 {
			misses.Add(id, miss, time.Now())
			defer func() {
				if flight.Ending() == coalesce.Complete {
					misses.Remove(id)
				}
			}()
		}
		for wait := strayWait; ; wait = strayLimit - strayWait {
			timer := time.NewTimer(wait)
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-timer.C:
				if flight.Followers() == 0 && (wait != strayWait || !flight.Shared()) {
					cancel()
					return
				}
			}
		}
	}
}
