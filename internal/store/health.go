package store

// health is the circuit breaker in front of Redis: it decides whether requests
// may use it. A library's breaker would let a request find out whether Redis is
// back; here no request ever waits for that, a probe in the background does.
//
// state counts the changes; it is odd while Redis is up. Every operation notes
// it before and gives it back with its result. Failures in a row of operations
// that began in the present period mark Redis down when there are limit of them:
// one compare and swap, one report, and no late failure counts for a period that
// it was no part of. A write that succeeds does not make up for reads that fail, which
// Redis may refuse alone; a read, which is what requests wait for, makes up for both.
// Only run marks Redis up, and calls notify: in order, once
// for each change, and never on a request's goroutine. down has room for the one
// failure that each period can end with, so fail never blocks.

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	// defaultFailures and defaultRecovery are what a breaker has unless it is set.
	defaultFailures = 5
	defaultRecovery = 30 * time.Second
)

// health is the state of Redis and the probe that finds it up again.
type health struct {
	state    atomic.Uint64
	reads    atomic.Int64 // that failed in a row
	writes   atomic.Int64 // that failed since a read or a write has succeeded
	limit    atomic.Int64
	recovery atomic.Int64 // nanoseconds; the longest time between pings

	down     chan error    // capacity 1
	nudged   chan struct{} // capacity 1; ping at once
	ping     func(context.Context) error
	interval time.Duration // between the first pings
	timeout  time.Duration // of a ping
	notify   func(up bool, err error)
}

// tune says when Redis counts as down, and how seldom it is tried then.
func (h *health) tune(failures int, recovery time.Duration) {
	h.limit.Store(int64(failures))
	h.recovery.Store(int64(recovery))
}

// period returns the present state, and whether Redis is up in it.
func (h *health) period() (uint64, bool) {
	s := h.state.Load()
	return s, s%2 == 1
}

// failures is how many operations have failed in a row.
func (h *health) failures() int64 { return h.reads.Load() + h.writes.Load() }

// succeed notes that Redis answered a read or a write of the period.
func (h *health) succeed(period uint64, read bool) {
	if h.failures() == 0 || h.state.Load() != period {
		return
	}
	h.writes.Store(0)
	if read {
		h.reads.Store(0)
	}
}

// fail notes that Redis did not answer a read or a write of the period, which must
// be one in which Redis was up, and ends the period if that was once too often.
func (h *health) fail(period uint64, err error, read bool) {
	if h.state.Load() != period {
		return
	}
	failed := &h.writes
	if read {
		failed = &h.reads
	}
	failed.Add(1)
	if h.failures() >= h.limit.Load() && h.state.CompareAndSwap(period, period+1) {
		h.down <- err
	}
}

// nudge makes the probe ping at once.
func (h *health) nudge() {
	select {
	case h.nudged <- struct{}{}:
	default:
	}
}

// run pings until ctx ends, less and less often. Its first failure is reported
// too, or nobody would learn why Redis has never been up.
func (h *health) run(ctx context.Context) {
	reported := false
	wait := h.interval
	for delay := time.Duration(0); h.sleep(ctx, delay); {
		if err := h.try(ctx); err != nil {
			if !reported && ctx.Err() == nil {
				h.notify(false, err)
			}
			reported = true
			delay = wait
			wait = min(2*wait, max(time.Duration(h.recovery.Load()), h.interval))
			continue
		}
		reported = true
		wait = h.interval
		since := time.Now()
		if !h.stayUp(ctx) {
			return
		}
		// At once, as a connection that broke says little about the next one; but
		// where pings succeed and reads do not, at the pace of an outage.
		delay = 0
		if time.Since(since) < h.interval {
			delay = h.interval
		}
	}
}

func (h *health) try(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, h.timeout)
	defer cancel()
	return h.ping(ctx)
}

// stayUp marks Redis up until it fails, and returns false if ctx ended first.
func (h *health) stayUp(ctx context.Context) bool {
	h.reads.Store(0)
	h.writes.Store(0)
	period := h.state.Add(1)
	h.notify(true, nil)
	select {
	case err := <-h.down:
		h.notify(false, err)
		return true
	case <-ctx.Done():
		h.state.CompareAndSwap(period, period+1)
		return false
	}
}

// sleep waits for d, or for a nudge, and returns false if ctx ended first.
func (h *health) sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-h.nudged:
		return true
	case <-ctx.Done():
		return false
	}
}

// sleep waits for d and returns false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	var h health // which nobody nudges
	return h.sleep(ctx, d)
}
