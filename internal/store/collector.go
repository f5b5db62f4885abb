package store

// By default the collector of Go lets the heap grow to twice of what is alive,
// so that a full memory tier would cost the process twice its bound. The more of
// the heap is stored responses, the less it is allowed to grow here: they are
// few allocations without pointers in them, and cheap to collect around. Where
// GOGC is set, or the collector is off, nothing is changed.
//
// The setting belongs to the process, so all memory tiers share one tuner. mu
// guards everything below it.

import (
	"os"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

const (
	tuneEvery = time.Second
	// storedPercent is how much the heap may grow for stored responses.
	storedPercent = 30
	// tuneStep is the change that is worth the pause that a change costs.
	tuneStep = 5
)

var collector tuner

type tuner struct {
	mu    sync.Mutex
	tiers map[*Memory]struct{}
	was   int // percent that the process had before
	set   int
}

func (t *tuner) join(m *Memory) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.tiers) == 0 {
		t.tiers = make(map[*Memory]struct{})
		t.was = 0
		if os.Getenv("GOGC") == "" {
			t.was = debug.SetGCPercent(100)
			debug.SetGCPercent(t.was)
		}
		t.set = t.was
	}
	t.tiers[m] = struct{}{}
}

func (t *tuner) leave(m *Memory) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.tiers, m)
	if len(t.tiers) == 0 && t.set != t.was {
		debug.SetGCPercent(t.was)
		t.set = t.was
	}
}

// adjust follows what is stored now.
func (t *tuner) adjust() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.was <= storedPercent || len(t.tiers) == 0 {
		return
	}
	var stored int64
	for m := range t.tiers {
		stored += m.Bytes()
	}
	percent := percentFor(t.was, stored, liveHeap())
	if percent > t.set-tuneStep && percent < t.set+tuneStep {
		return
	}
	debug.SetGCPercent(percent)
	t.set = percent
}

// percentFor lets the heap grow by percent, but by storedPercent only for the
// part of it that is stored responses.
func percentFor(percent int, stored, live int64) int {
	live = max(live, stored, 1)
	return int((int64(percent)*(live-stored) + storedPercent*stored) / live)
}

// liveHeap is what the last collection left.
func liveHeap() int64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return int64(sample[0].Value.Uint64())
}
