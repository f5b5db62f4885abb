package stats

import (
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// maxSamples is how many requests can wait for the next drain.
const maxSamples = 2048

// samples are requests for templates that are not tracked: all of them while there
// are few, and of many a sample, in which each stands for as many as its chance was
// small. This is Poisson sampling with a threshold: a request that weighs more than
// the threshold is taken for certain, any other one with the chance of its share of
// it. The threshold rises as the buffer fills up, so that one burst does not fill it,
// and follows from one drain to the next what is offered.
//
// A slot belongs to whoever changed its state: from free to busy to write it, from
// full to busy to read it. Nobody waits for one.
type samples struct {
	base atomic.Uint64 // of the threshold, less 1
	next atomic.Uint64 // the slot to take, if there is one
	slot [maxSamples]sample
}

type sample struct {
	state    atomic.Uint32
	size     uint8 // of template
	hit      bool
	origin   time.Duration
	scale    float64 // how many requests it stands for
	template [MaxTemplate]byte
}

const (
	slotFree uint32 = iota
	slotBusy
	slotFull
)

// offer takes in one request, or lets it go.
func (s *samples) offer(template []byte, hit bool, origin time.Duration) {
	taken := s.next.Load()
	if taken >= maxSamples {
		return
	}
	one := Endpoint{Requests: 1, Origin: origin}
	weight, scale := one.weight(), 1.0
	if threshold := s.threshold(taken); weight < threshold {
		if rand.Uint64N(threshold) >= weight {
			return
		}
		scale = float64(threshold) / float64(weight)
	}
	if taken = s.next.Add(1) - 1; taken >= maxSamples {
		return
	}
	slot := &s.slot[taken]
	if !slot.state.CompareAndSwap(slotFree, slotBusy) {
		return // somebody who is slow has it since before the last drain
	}
	slot.size = uint8(copy(slot.template[:], template))
	slot.hit, slot.origin, slot.scale = hit, max(origin, 0), scale
	slot.state.Store(slotFull)
}

// threshold grows with the square of how scarce free slots are.
func (s *samples) threshold(taken uint64) uint64 {
	free := maxSamples - taken
	return (s.base.Load() + 1) * maxSamples * maxSamples / (free * free)
}

// maxBase keeps the threshold from overflowing.
const maxBase = 1 << 32

// drain calls f with each sample and how many requests it stands for, and empties the
// buffer. It is not called concurrently.
func (s *samples) drain(f func(template []byte, one Endpoint, scale float64)) {
	taken := min(s.next.Load(), maxSamples)
	for i := range s.slot {
		slot := &s.slot[i]
		if !slot.state.CompareAndSwap(slotFull, slotBusy) {
			continue
		}
		one := Endpoint{Requests: 1, Origin: slot.origin}
		if slot.hit {
			one.Hits = 1
		}
		f(slot.template[:slot.size], one, slot.scale)
		slot.state.Store(slotFree)
	}
	// Half of the slots would have been taken with this one. It falls slowly, so that
	// a pause between two bursts does not help the second.
	base := s.base.Load() + 1
	fitting := base * taken / max(maxSamples-taken, 1)
	s.base.Store(min(max(fitting, base/2, 1), maxBase) - 1)
	s.next.Store(0)
}
