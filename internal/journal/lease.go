package journal

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// lease is until when the node may answer from its store. Requests read its atomic fields
// without a lock. A cycle grants it; the catch-up of requests, of which there is one at a
// time, is a cycle that flightMu guards the beginning of.
type lease struct {
	*shared

	view  *view
	cycle *cycle
	tail  *tail

	proof  atomic.Pointer[time.Time] // when the last proof began; nil without one
	read   atomic.Pointer[time.Time] // when the last read began that came to the end
	began  atomic.Pointer[time.Time] // when Start was called
	phase  atomic.Uint32
	closed atomic.Bool
	heard  atomic.Bool // Redis has answered something

	flightMu sync.Mutex
	flight   chan struct{} // closed when the catch-up of requests has ended
	running  *sync.WaitGroup

	ready   chan struct{}
	readied sync.Once
}

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
func (l *lease) term() time.Duration { return l.opts.Lease * 2 / 3 }

// A node whose lines follow each other within five sixths of a lease has not
// lapsed for anybody.
func (l *lease) unbroken() time.Duration { return l.opts.Lease * 5 / 6 }

// leased reports whether the last proof still holds.
func (l *lease) holds() bool {
	proof := l.proof.Load()
	return proof != nil && elapsed(*proof, time.Now()) < l.term() && !l.view.outdated()
}

// elapsed is the time since then by the clock that says more. One of them stands
// still while a machine sleeps, and the other may be set back.
func elapsed(then, now time.Time) time.Duration {
	return max(now.Sub(then), now.Round(0).Sub(then.Round(0)))
}

// trust is Trust.
func (l *lease) trust(ctx context.Context) Standing {
	if l.client == nil {
		if l.closed.Load() {
			return Unproven
		}
		return Leased
	}
	if l.holds() {
		return Leased
	}
	if l.phase.Load() == phaseProved && !l.closed.Load() {
		l.catchUp(ctx)
	}
	return l.standing()
}

func (l *lease) standing() Standing {
	switch {
	case l.holds():
		return Leased
	case l.closed.Load() || l.phase.Load() != phaseAway || l.view.outdated():
		return Unproven
	default:
		return CutOff
	}
}

// catchUp waits for a cycle. If none ends in time and Redis gives no answer, it
// counts as away until the tail has heard of it; where this node is what takes the
// time, it has yet to prove what it holds.
func (l *lease) catchUp(ctx context.Context) {
	since := time.Now()
	timer := time.NewTimer(l.opts.ReadTimeout)
	defer timer.Stop()
	select {
	case <-l.joinFlight():
	case <-ctx.Done():
	case <-timer.C:
		next := phaseProving
		if l.cycle.silent(since) {
			next = phaseAway
		}
		l.phase.CompareAndSwap(phaseProved, next)
	}
}

// joinFlight returns a channel that is closed when a cycle for requests has
// ended, and begins one if none is under way.
func (l *lease) joinFlight() <-chan struct{} {
	l.flightMu.Lock()
	defer l.flightMu.Unlock()
	if l.flight != nil {
		return l.flight
	}
	flight := make(chan struct{})
	if l.closed.Load() {
		close(flight)
		return flight
	}
	l.flight = flight
	l.running.Go(func() {
		l.tail.turn(context.Background(), l.opts.ReadTimeout)
		l.flightMu.Lock()
		l.flight = nil
		l.flightMu.Unlock()
		close(flight)
	})
	return flight
}

// close ends the lease for good: no catch-up begins from here on.
func (l *lease) close() {
	l.flightMu.Lock()
	l.closed.Store(true)
	l.flightMu.Unlock()
	l.proof.Store(nil)
}
