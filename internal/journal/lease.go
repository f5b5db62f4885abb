package journal

import (
	"context"
	"time"
)

// Standing says what a node may answer from its store.
type Standing uint8

const (
	// Leased: the node has seen every purge that was confirmed to anybody.
	Leased Standing = iota
	// Unproven: Redis answers, but the node has yet to prove what it holds.
	// Responses must come from the origin.
	Unproven
	// CutOff: Redis does not answer. The option consistency decides.
	CutOff
)

// String returns the name of the standing.
func (s Standing) String() string { return [...]string{"leased", "unproven", "cut_off"}[s] }

// The phases of a node. They decide what happens to requests once the lease has
// run out.
const (
	phaseProving uint32 = iota // joining, replaying, or returning after a lapse
	phaseProved                // only the lease has run out: catching up will do
	phaseAway                  // Redis did not answer
)

// A lease is good for two thirds of the time after which peers call the node
// lapsed: clocks need not run equally fast.
func (j *Journal) ownLease() time.Duration { return j.opts.Lease * 2 / 3 }

// A node whose lines follow each other within five sixths of a lease has not
// lapsed for anybody.
func (j *Journal) unbroken() time.Duration { return j.opts.Lease * 5 / 6 }

// leased reports whether the last proof still holds.
func (j *Journal) leased() bool {
	proof := j.lease.Load()
	return proof != nil && elapsed(*proof, time.Now()) < j.ownLease() && !j.outdated()
}

// elapsed is the time since then by the clock that says more. One of them stands
// still while a machine sleeps, and the other may be set back.
func elapsed(then, now time.Time) time.Duration {
	return max(now.Sub(then), now.Round(0).Sub(then.Round(0)))
}

// Trust says whether a request may be answered from the store. Every lookup
// asks it, before Check. Within the lease that takes a look at the clock;
// past it the node catches up first, once for all who wait, and nobody waits
// longer than the read timeout. While Redis is known not to answer, nobody waits.
func (j *Journal) Trust(ctx context.Context) Standing {
	if j.client == nil {
		if j.closed.Load() {
			return Unproven
		}
		return Leased
	}
	if j.leased() {
		return Leased
	}
	if j.phase.Load() == phaseProved && !j.closed.Load() {
		j.catchUp(ctx)
	}
	return j.standing()
}

func (j *Journal) standing() Standing {
	switch {
	case j.leased():
		return Leased
	case j.closed.Load() || j.phase.Load() != phaseAway || j.outdated():
		return Unproven
	default:
		return CutOff
	}
}

// catchUp waits for a cycle. If none ends in time and Redis gives no answer, it
// counts as away until the tail has heard of it; where this node is what takes the
// time, it has yet to prove what it holds.
func (j *Journal) catchUp(ctx context.Context) {
	since := time.Now()
	timer := time.NewTimer(j.opts.ReadTimeout)
	defer timer.Stop()
	select {
	case <-j.joinFlight():
	case <-ctx.Done():
	case <-timer.C:
		next := phaseProving
		if j.silent(since) {
			next = phaseAway
		}
		j.phase.CompareAndSwap(phaseProved, next)
	}
}

// joinFlight returns a channel that is closed when a cycle for requests has
// ended, and begins one if none is under way.
func (j *Journal) joinFlight() <-chan struct{} {
	j.flightMu.Lock()
	defer j.flightMu.Unlock()
	if j.flight != nil {
		return j.flight
	}
	flight := make(chan struct{})
	if j.closed.Load() {
		close(flight)
		return flight
	}
	j.flight = flight
	j.running.Go(func() {
		j.turn(context.Background(), j.opts.ReadTimeout)
		j.flightMu.Lock()
		j.flight = nil
		j.flightMu.Unlock()
		close(flight)
	})
	return flight
}
