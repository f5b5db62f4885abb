package store

// health decides whether requests may use Redis.
//
// state counts the changes; it is odd while Redis is up. Every operation notes
// it before and gives it back when it fails, so only the first failure of an
// operation that began in the present period marks Redis down: one compare and
// swap, one report, and no late failure ends a period that it was no part of.
// Only run marks Redis up, and calls notify: in order, once for each change,
// and never on a request's goroutine. down has room for the one failure that
// each period can end with, so fail never blocks.

import (
	"context"
	"sync/atomic"
	"time"
)

// health is the state of Redis and the probe that finds it up again.
type health struct {
	state    atomic.Uint64
	down     chan error // capacity 1
	ping     func(context.Context) error
	interval time.Duration // between pings
	timeout  time.Duration // of a ping
	notify   func(up bool, err error)
}

// period returns the present state, and whether Redis is up in it.
func (h *health) period() (uint64, bool) {
	s := h.state.Load()
	return s, s%2 == 1
}

// fail ends the period, which must be one in which Redis was up.
func (h *health) fail(period uint64, err error) {
	if h.state.CompareAndSwap(period, period+1) {
		h.down <- err
	}
}

// run pings until ctx ends. Its first failure is reported too, or nobody would
// learn why Redis has never been up.
func (h *health) run(ctx context.Context) {
	reported := false
	for delay := time.Duration(0); sleep(ctx, delay); {
		if err := h.try(ctx); err != nil {
			if !reported && ctx.Err() == nil {
				h.notify(false, err)
			}
			reported = true
			delay = h.interval
			continue
		}
		reported = true
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

// stayUp marks Redis up until a failure, and returns false if ctx ended first.
func (h *health) stayUp(ctx context.Context) bool {
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

// sleep waits for d and returns false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
