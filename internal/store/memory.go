package store

// All methods are safe for concurrent use; otter does the locking. A record is
// replaced or removed as a whole and never changed, so readers need no lock
// after they have it.
//
// otter evicts by frequency and recency (W-TinyLFU): a scan of URLs that are
// asked for once does not displace those in use. It is used without expiry
// calculator: records expire by the time that the caller passes, the one clock
// of a request, and neither a second clock nor a goroutine is needed. Expired
// records that nobody asks for are removed by Sweep.

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
)

// Memory is the tier in this process, bounded by the weight of its records and
// addressed by full keys.
type Memory struct {
	cache   *otter.Cache[string, *Record]
	evicted atomic.Uint64
}

// NewMemory returns a tier that holds records of maxBytes in all.
func NewMemory(maxBytes int64) *Memory {
	m := &Memory{}
	m.cache = otter.Must(&otter.Options[string, *Record]{
		MaximumWeight:    bound(maxBytes),
		Weigher:          weigh,
		OnAtomicDeletion: m.deleted,
	})
	return m
}

// bound keeps a maximum of 0 from meaning "unbounded", which it does to otter.
func bound(maxBytes int64) uint64 { return uint64(max(maxBytes, 1)) }

func weigh(_ string, r *Record) uint32 { return uint32(min(r.Weight(), math.MaxUint32)) }

func (m *Memory) deleted(e otter.DeletionEvent[string, *Record]) {
	if e.Cause == otter.CauseOverflow {
		m.evicted.Add(1)
	}
}

// Lookup returns the record of a full key, or nil if there is none or it has
// expired at now. It does not allocate.
func (m *Memory) Lookup(key string, now time.Time) *Record {
	r, ok := m.cache.GetIfPresent(key)
	if !ok {
		return nil
	}
	if !now.Before(r.Expires) {
		m.remove(r)
		return nil
	}
	return r
}

// remove removes exactly this record: a newer one of the same key stays.
func (m *Memory) remove(r *Record) bool {
	removed := false
	m.cache.ComputeIfPresent(r.Key.Full, func(present *Record) (*Record, otter.ComputeOp) {
		if present != r {
			return present, otter.CancelOp
		}
		removed = true
		return nil, otter.InvalidateOp
	})
	return removed
}

// Remove removes the record of a full key.
func (m *Memory) Remove(key string) { m.cache.Invalidate(key) }

// Get is Lookup at the present time. It never fails.
func (m *Memory) Get(_ context.Context, key Key) (*Record, error) {
	return m.Lookup(key.Full, time.Now()), nil
}

// Put stores copies of the records, so that what they weigh is what they cost:
// a header value may be a small part of a large buffer. Large bodies are shared.
// It fails only for a record that could not be read again.
func (m *Memory) Put(_ context.Context, records ...*Record) error {
	for _, r := range records {
		c, err := compact(r)
		if err != nil {
			return err
		}
		m.insert(c)
	}
	return nil
}

// insert stores a record that is compact already. Without the clean-up, writes
// that otter has not weighed yet, hundreds of them, would come on top of the
// maximum.
func (m *Memory) insert(r *Record) {
	m.cache.Set(r.Key.Full, r)
	m.cache.CleanUp()
}

// Delete removes every record that matches.
func (m *Memory) Delete(ctx context.Context, match func(*Record) bool) (int, error) {
	n := 0
	m.Walk(func(r *Record) bool {
		if match(r) && m.remove(r) {
			n++
		}
		return ctx.Err() == nil
	})
	return n, ctx.Err()
}

// Sweep removes the records that have expired at now and returns how many.
func (m *Memory) Sweep(now time.Time) int {
	n := 0
	m.Walk(func(r *Record) bool {
		if !now.Before(r.Expires) && m.remove(r) {
			n++
		}
		return true
	})
	return n
}

// Walk calls f with every record, in no order, until f returns false. A record
// that comes or goes meanwhile may or may not be seen.
func (m *Memory) Walk(f func(*Record) bool) {
	for _, r := range m.cache.All() {
		if !f(r) {
			return
		}
	}
}

// SetMax changes the bound; what lies above it is evicted.
func (m *Memory) SetMax(maxBytes int64) { m.cache.SetMaximum(bound(maxBytes)) }

// Max returns the bound in bytes.
func (m *Memory) Max() int64 { return int64(m.cache.GetMaximum()) }

// Len returns the number of records, expired ones included.
func (m *Memory) Len() int { return m.cache.EstimatedSize() }

// Bytes returns the weight of all records.
func (m *Memory) Bytes() int64 { return int64(m.cache.WeightedSize()) }

// Evictions returns how many records made room for others.
func (m *Memory) Evictions() uint64 { return m.evicted.Load() }

// Clear removes every record.
func (m *Memory) Clear() { m.cache.InvalidateAll() }

// Close lets go of every record.
func (m *Memory) Close() {
	m.cache.InvalidateAll()
	m.cache.StopAllGoroutines()
}
