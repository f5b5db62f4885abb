package rediscache

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/coalesce"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// This file lets one fetch answer many requests. The leader of a flight fetches
// with a context that is not its client's, into memory; its client is served from
// there by a pump, and followers serve theirs. So no client slows another one, the
// upstream or what is stored.
//
// Until the header has shown that others may have the response, followers wait;
// what they may not have ends the flight at that moment. A response that a purge
// covers by the time a follower sees its header is not for this follower.

// flight is a fetch that may have followers.
type flight = coalesce.Flight[share]

// share is what followers get before the body.
type share struct {
	rec     *store.Record // without its body, which the flight brings, unless whole
	whole   bool
	names   []string       // the request fields that select the variant, when it is one
	length  int64          // of the body; -1 while unknown
	outcome Outcome        // of the leader
	tier    store.TierName // of what the leader has found; see answeredBy
}

const (
	// maxJoins is how many flights a request takes part in before it goes alone.
	maxJoins = 2
	// followLimit is how long a follower waits for a header, or for more of the body.
	followLimit = 10 * time.Second
	// strayLimit is how long a fetch goes on for nobody but the store, and
	// strayWait how long one that has yet to bring a header.
	strayLimit = time.Minute
	strayWait  = 10 * time.Second
	// statusClientGone is the status that Caddy notes for a client that has left.
	statusClientGone = 499
)

// fetch answers from upstream, by a fetch of another request where that will do.
func (x *exchange) fetch() error {
	x.outcome = OutcomeMiss
	x.remember()
	for range maxJoins {
		x.id = coalesce.IDOf(x.answered.Full)
		if !x.mayFollow() {
			break
		}
		f, leads := x.h.node.flights.Join(x.id, x.mayLead())
		if leads {
			return x.lead(f)
		}
		if f == nil {
			break
		}
		next, err := x.follow(f)
		if next == stepDone {
			return err
		}
		if next == stepAlone {
			break
		}
	}
	return x.fetchFor(nil)
}

// fetchFor answers from upstream and stores the response if it may be; followers
// of the flight, if there is one, get it, too. What is stored already is
// revalidated, and stands in for an upstream that fails.
func (x *exchange) fetchFor(f *flight) (err error) {
	stored := x.storedHeader()
	w := newCaptureWriter(x, stored)
	defer func() { w.release() }()
	returned := false
	defer func() {
		if !returned || err != nil || x.reason == ReasonIncomplete {
			x.noteIncomplete(w)
		}
	}()
	if f != nil {
		w.flight = f
		defer x.detach(f)()
	}
	conditions, abort := x.addConditions(w, stored), x.abortable(w)
	restore := sync.OnceFunc(func() { abort(); conditions() })
	defer restore() // also where the upstream panics: handlers in front look at the request then
	if f != nil {
		defer func() { w.land(coalesce.Broken) }() // before: whoever writes to the client may read the request
	}
	err = x.callNext(w, x.r)
	if w.pump == nil {
		restore()
	}
	if w.retry {
		// The 304 speaks of a response that is not the stored one. The next answer may be
		// about the conditions of the client, and tells nothing of other requests then.
		x.shares = x.shares && !x.conditional()
		w = newCaptureWriter(x, nil)
		w.flight = f
		err = x.callNext(w, x.again(w))
	}
	err = x.finish(w, err)
	returned = true
	return err
}

// mayFollow reports whether another request's fetch could answer this one.
func (x *exchange) mayFollow() bool {
	x.shares = x.h.policy.Coalesce != optionOff && x.method != http.MethodHead && len(x.reqHead["Range"]) == 0 &&
		x.directives == nil && !x.noStore && !acceptsEvents(x.reqHead) && (x.forward == ReasonAbsent || x.forward == ReasonVariant || x.forward == ReasonExpired)
	if !x.shares {
		return false
	}
	miss, known := x.h.node.misses.Get(x.id, x.now)
	return !known || !x.holds(miss)
}

// mayLead reports whether the answer to this request could be another one's: not
// if it may be about the conditions of this client.
func (x *exchange) mayLead() bool {
	return x.validates() || !x.conditional() // or the conditions will be the cache's
}

// conditional reports whether the client asks for less than the whole response.
func (x *exchange) conditional() bool {
	return slices.ContainsFunc(conditionFields, func(name string) bool { return len(x.reqHead[name]) > 0 })
}

// holds reports whether a key that could not be shared still cannot, as far as
// this request is concerned.
func (x *exchange) holds(m coalesce.Miss) bool {
	if m.Credentialed && x.credentials == (credentials{}) {
		return false
	}
	verdict, _ := x.h.node.journal.Check(&journal.Subject{
		Position: m.Position, Namespace: x.h.Namespace, Identifier: x.key.identifier, Key: x.answered.Full,
		BaseKey: x.key.Full, URL: x.url, User: x.user,
	}, journal.Checked{})
	return verdict == journal.Valid
}

// noteMiss is holds, and remembers what another node has found out.
func (x *exchange) noteMiss(m coalesce.Miss) bool {
	if !x.holds(m) {
		return false
	}
	x.h.node.misses.AddShared(x.id, m, time.Now())
	return true
}

// copyBody writes the body of a flight as it comes, until the flight has ended, the
// client is gone, or nothing has come for as long as limit. It returns how much it
// has written.
func copyBody(ctx context.Context, w http.ResponseWriter, r *coalesce.Reader[share], limit time.Duration) (size int, how coalesce.Ending, err error) {
	for {
		var body []byte
		var flush bool
		body, flush, how, err = r.Next(ctx, limit)
		if err == nil && len(body) > 0 {
			_, err = w.Write(body) //nolint:gosec // it is the response of the upstream
			size += len(body)
		}
		if err == nil && flush {
			// A writer that cannot flush has passed everything on.
			//nolint:bodyclose // there is no body
			_ = http.NewResponseController(w).Flush()
		}
		if err != nil || how != coalesce.Flying {
			return size, how, err
		}
	}
}

// pump writes a flight to the client of its leader.
type pump struct {
	done     chan struct{}
	err      error
	panicked any
}

func startPump(x *exchange, f *flight) *pump {
	p := &pump{done: make(chan struct{})}
	go func() {
		defer close(p.done)
		defer func() {
			p.panicked = recover()
			logPanic(x.h.logger, "a handler in front that writes to the client", p.panicked) // wait has another stack
		}()
		_, _, p.err = copyBody(context.Background(), x.w, f.Reader(), 0)
	}()
	return p
}

// wait returns when everything has been written, or the client is gone. It throws
// what the writer threw.
func (p *pump) wait() error {
	<-p.done
	if p.panicked != nil {
		panic(p.panicked)
	}
	return p.err
}

// lead fetches for a flight.
func (x *exchange) lead(f *flight) error {
	defer func() {
		f.End(coalesce.Again)
		f.Land()
		x.releaseLease(nil)
	}()
	n := x.h.node
	if (n.flights.Ended() != x.ended || x.staleInMemory()) && x.lookAgain(false) {
		return x.serveFound(f, OutcomeHit)
	}
	if n.leases != nil && n.journal.HasPeers() && n.store.Answers() {
		switch x.acquire() {
		case coalesce.Found:
			return x.serveFound(f, OutcomeHit)
		case coalesce.Followed:
			x.collapsed, x.status = true, x.rec.Status
			return x.serveFound(f, OutcomeMiss)
		case coalesce.Unshared:
			f.End(coalesce.Alone)
			return x.fetchFor(nil)
		case coalesce.Busy:
			if x.background {
				return nil // another node refreshes it
			}
		case coalesce.Granted, coalesce.Moved, coalesce.Unanswered:
		}
	}
	return x.fetchFor(f)
}

// acquire asks for the lease of what will be fetched: where another node has found
// out meanwhile that the URL has variants, that of this request's variant.
func (x *exchange) acquire() (verdict coalesce.Verdict) {
	looked := 0
	for range maxJoins {
		x.lease, verdict = x.h.node.leases.Acquire(x.r.Context(), coalesce.Query{
			ID: x.id, Patient: !x.background, Holds: x.noteMiss,
			Stored: func() bool { looked++; return x.lookAgain(true) },
			Moved:  func() bool { return coalesce.IDOf(x.answered.Full) != x.id },
		})
		if verdict != coalesce.Moved {
			break
		}
		x.id = coalesce.IDOf(x.answered.Full)
	}
	x.waited = verdict != coalesce.Found || looked > 1
	return verdict
}

// staleInMemory reports whether what was found is stale, or not for this Origin, and
// Redis was not asked, where another node may have stored a newer response.
func (x *exchange) staleInMemory() bool {
	return x.h.node.redis != nil && (x.unsuited || x.stored != nil && x.tier == store.TierMemory)
}

// lookAgain is the second lookup: a fetch that was quick has ended since the first
// one. It reports whether there is an answer now. With fleet, another node may
// have stored it.
func (x *exchange) lookAgain(fleet bool) bool {
	n := x.h.node
	ctx := context.WithoutCancel(x.r.Context())
	if !n.usable(ctx, x.h.app.Consistency == consistencyStrict) {
		return false
	}
	forward := x.forward
	x.position = n.journal.Position()
	now := time.Now()
	fleet = fleet || x.staleInMemory()
	look := func(ctx context.Context, key store.Key, now time.Time) (*store.Record, store.TierName, bool) {
		return n.store.Recheck(ctx, key, now, fleet)
	}
	if x.explained {
		look = x.peek(fleet)
	}
	rec, tier := x.find(func(key store.Key) (*store.Record, store.TierName, bool) { return look(ctx, key, now) })
	x.forward = forward
	if x.stored != nil {
		if verdict, _ := n.check(x.stored, journal.Checked{}); verdict >= journal.Covered {
			x.stored, x.forward = nil, ReasonAbsent
		}
	}
	if rec == nil || x.soft || !rec.Freshness.Fresh(now) || rec.User != x.user || !x.credentials.allowed(&rec.Freshness) ||
		(x.stored != nil && !rec.Freshness.ResponseTime.After(x.stored.Freshness.ResponseTime)) {
		return false
	}
	x.rec, x.tier, x.now = rec, tier, now
	return true
}

// serveFound ends a flight with what the second lookup has found.
func (x *exchange) serveFound(f *flight, outcome Outcome) error {
	var names []string
	if x.base != nil {
		names = x.base.Vary
	}
	x.shareWhole(f, names, OutcomeMiss)
	reason := ReasonNone
	if outcome != OutcomeHit {
		reason = x.forward
	}
	return x.serve(outcome, reason)
}

// shareWhole ends a flight with x.rec, which is complete. names select it, if it
// is a variant.
func (x *exchange) shareWhole(f *flight, names []string, outcome Outcome) {
	f.Share(&share{rec: x.rec, whole: true, names: names, outcome: outcome, tier: x.tier}, 0)
	f.End(coalesce.Complete)
}

// detach lets the fetch of a flight go on without the client that triggered it.
// The request is changed in place, because its placeholders are bound to it; the
// result puts it back.
func (x *exchange) detach(f *flight) (restore func()) {
	if x.background {
		return func() {} // it has no client
	}
	client := x.r.Context()
	ctx, cancel := context.WithCancel(context.WithoutCancel(client))
	*x.r = *x.r.WithContext(ctx)
	misses, id, miss := x.h.node.misses, x.id, x.miss(ReasonIncomplete)
	unwatch := context.AfterFunc(client, func() {
		if f.Followers() == 0 {
			misses.Add(id, miss, time.Now())
			defer func() {
				if f.Ending() == coalesce.Complete {
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
				if f.Followers() == 0 && (wait != strayWait || !f.Shared()) {
					cancel()
					return
				}
			}
		}
	})
	attached := func() bool { return true }
	x.attach = func() { attached = context.AfterFunc(client, cancel) }
	return func() {
		*x.r = *x.r.WithContext(client)
		x.attach = nil
		unwatch()
		attached()
		cancel()
	}
}

// shareable reports whether followers may have the response, at its header. If
// not, nobody waits any longer.
func (c *captureWriter) shareable() bool {
	x := c.x
	if c.rec != nil && c.rec.Freshness.Fresh(x.now) {
		return c.flight != nil
	}
	if x.storing || x.reason.is(notShared) {
		x.noteUnshared(c.status, x.reason)
	}
	x.releaseLease(nil)
	if c.flight != nil {
		how := coalesce.Alone
		if x.credentials != (credentials{}) {
			how = coalesce.Again // to other requests the answer may be another one
		}
		c.flight.End(how)
		c.ground()
	}
	return false
}

// ground ties the fetch to its client again.
func (c *captureWriter) ground() {
	c.flight = nil
	if c.x.attach != nil {
		c.x.attach()
	}
}

// noteUnshared remembers that nobody needs to wait for responses of this key. One to
// a request with credentials says nothing about requests without.
func (x *exchange) noteUnshared(status int, why Reason) {
	if !x.shares || !x.mayLead() || status >= http.StatusInternalServerError {
		return
	}
	if x.background && !replaces(status) { // others may get more
		x.releaseLease(nil)
		return
	}
	miss := x.miss(why)
	x.h.node.misses.Add(x.id, miss, x.now)
	x.releaseLease(&miss)
}

// noteIncomplete remembers that the response broke off, or that the client gave it
// up before there was one: it may be polling for something that happens some day,
// which nobody else would learn of who waits for it in a queue.
func (x *exchange) noteIncomplete(w *captureWriter) {
	if (w.status != 0 && !w.withheld) || (!x.background && x.came.Context().Err() != nil) {
		x.noteUnshared(w.status, ReasonIncomplete)
	}
}

func (x *exchange) miss(why Reason) coalesce.Miss {
	return coalesce.Miss{Credentialed: x.credentials != (credentials{}), Why: uint8(why), Position: x.position}
}

// releaseLease tells other nodes that they need not wait.
func (x *exchange) releaseLease(miss *coalesce.Miss) {
	x.lease.Release(miss)
	x.lease = nil
}

// takeOff shares the header and starts to serve the client from the flight. The
// header is passed on here, not by the pump; but a handler in front, such as encode,
// may keep it until there is a body. Placeholders are evaluated then, so that what
// they read of the request and of the exchange is left alone until the pump has
// ended. No header is sent before the body, so that no client holds this up.
func (c *captureWriter) takeOff() {
	x := c.x
	c.ready = false
	rec := *c.rec
	rec.Fields = slices.Clip(rec.Fields)
	x.identify(&rec)
	size := c.declared
	if size > 0 && !c.flight.Room(int(size), c.maxHeld(int(size))) {
		size = 0
	}
	c.flight.Share(&share{rec: &rec, names: c.varyNames, length: c.declared, outcome: OutcomeMiss}, size)
	c.sendHeader()
	c.pump = startPump(x, c.flight)
}

// stayGrounded lets a response go to its client only. In the air already, it leaves
// the flight, so that nobody else writes to the client any more.
func (c *captureWriter) stayGrounded() {
	c.passPending()
	c.x.releaseLease(nil)
	switch {
	case c.pump != nil:
		c.drop(ReasonUpgrade)
		_ = c.leave() // who takes the connection finds out that the client has left
	case c.flight != nil:
		c.flight.End(coalesce.Alone)
		c.ground()
	}
	if c.ready {
		c.ready = false
		c.sendHeader()
	}
}

// fly takes a piece of the body into the flight. When it grows too large to be
// kept, the flight ends: what is left goes to the client as it comes.
func (c *captureWriter) fly(p []byte) (int, error) {
	switch {
	case int64(c.flight.Len()+len(p)) > c.x.h.policy.maxBody():
		c.drop(ReasonTooLarge)
	case !c.flight.Room(len(p), c.maxHeld(c.flight.Len()+len(p))):
		c.drop(ReasonOverload)
	default:
		c.flight.Write(p)
		return len(p), nil
	}
	if err := c.leave(); err != nil {
		return 0, err
	}
	return c.ResponseWriter.Write(p)
}

// leave ends a flight that has taken off, and returns when its client has what is in
// it: the rest is for this client alone. Followers fetch for themselves.
func (c *captureWriter) leave() error {
	c.flight.End(coalesce.TooLarge)
	c.ground()
	pump := c.pump
	c.pump = nil
	err := pump.wait()
	c.settle()
	return err
}

// settle notes why the response was dropped while the pump was at work.
func (c *captureWriter) settle() {
	if c.dropped != ReasonNone {
		c.x.refuse(c.dropped)
		if c.dropped == ReasonGraphQL {
			c.x.detail = "errors"
		}
		c.dropped = ReasonNone
	}
}

// land ends a flight that has taken off, and waits for the client.
func (c *captureWriter) land(how coalesce.Ending) {
	if c.pump == nil {
		return
	}
	pump := c.pump
	c.pump = nil
	c.flight.End(how)
	_ = pump.wait() // a client that has left is no error
	c.settle()
}
