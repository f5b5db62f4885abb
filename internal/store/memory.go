package store

// All methods are safe for concurrent use; otter does the locking. A record is
// replaced or removed as a whole and never changed, so readers need no lock
// after they have it.
//
// What purges say about a record is asked at every lookup. An entry remembers up
// to which purge its record was searched, so that the answer is cheap while
// nothing new has been purged.
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

	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
)

// Memory is the tier in this process, bounded by the weight of its records and
// addressed by full keys.
type Memory struct {
	cache   *otter.Cache[string, *held]
	check   Check
	evicted atomic.Uint64
}

// held is a record in memory with the ID up to which no purge covers it.
type held struct {
	record  Record
	checked atomic.Pointer[journal.ID]
}

// NewMemory returns a tier that holds records of maxBytes in all. check is asked
// at every lookup; it may be nil.
func NewMemory(maxBytes int64, check Check) *Memory {
	m := &Memory{check: check.orValid()}
	m.cache = otter.Must(&otter.Options[string, *held]{
		MaximumWeight:    bound(maxBytes),
		Weigher:          weigh,
		OnAtomicDeletion: m.deleted,
	})
	return m
}

// bound keeps a maximum of 0 from meaning "unbounded", which it does to otter.
func bound(maxBytes int64) uint64 { return uint64(max(maxBytes, 1)) }

func weigh(_ string, e *held) uint32 { return uint32(min(e.record.Weight(), math.MaxUint32)) }

func (m *Memory) deleted(e otter.DeletionEvent[string, *held]) {
	if e.Cause == otter.CauseOverflow {
		m.evicted.Add(1)
	}
}

// Lookup returns the record of a full key, or nil if there is none, it has
// expired at now or a purge covers it. It reports whether a soft purge made it
// stale. It does not allocate while nothing has been purged.
func (m *Memory) Lookup(key string, now time.Time) (r *Record, soft bool) {
	e, ok := m.cache.GetIfPresent(key)
	if !ok {
		return nil, false
	}
	verdict := m.verdict(e)
	if !now.Before(e.record.Expires) || verdict >= journal.Covered {
		m.remove(e)
		return nil, false
	}
	return &e.record, verdict == journal.SoftCovered
}

func (m *Memory) verdict(e *held) journal.Verdict {
	var upTo journal.ID
	if known := e.checked.Load(); known != nil {
		upTo = *known
	}
	verdict, proved := m.check(&e.record, upTo)
	if verdict == journal.Valid && upTo.Before(proved) {
		known := proved // on the heap only here
		e.checked.Store(&known)
	}
	return verdict
}

// remove removes exactly this entry: a newer one of the same key stays.
func (m *Memory) remove(e *held) bool {
	removed := false
	m.cache.ComputeIfPresent(e.record.Key.Full, func(present *held) (*held, otter.ComputeOp) {
		if present != e {
			return present, otter.CancelOp
		}
		removed = true
		return nil, otter.InvalidateOp
	})
	return removed
}

// Get is Lookup at the present time. It never fails.
func (m *Memory) Get(_ context.Context, key Key) (*Record, error) {
	r, _ := m.Lookup(key.Full, time.Now())
	return r, nil
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

// insert stores a record that is compact already. One whose fetch began later
// stays: it has seen more. Without the clean-up, writes that otter has not
// weighed yet, hundreds of them, would come on top of the maximum.
func (m *Memory) insert(r *Record) {
	e := &held{record: *r}
	m.cache.Compute(r.Key.Full, func(present *held, found bool) (*held, otter.ComputeOp) {
		if found && present.record.Position.Epoch == r.Position.Epoch && r.Position.ID.Before(present.record.Position.ID) {
			return present, otter.CancelOp
		}
		return e, otter.WriteOp
	})
	m.cache.CleanUp()
}

// Delete removes every record that matches.
func (m *Memory) Delete(ctx context.Context, match func(*Record) bool) (int, error) {
	n := 0
	for _, e := range m.cache.All() {
		if match(&e.record) && m.remove(e) {
			n++
		}
		if ctx.Err() != nil {
			break
		}
	}
	return n, ctx.Err()
}

// Sweep removes the records that have expired at now, or that a purge covers,
// and returns how many. It calls removed with each; nil means nobody is told.
func (m *Memory) Sweep(now time.Time, removed func(*Record)) int {
	n := 0
	for _, e := range m.cache.All() {
		if (!now.Before(e.record.Expires) || m.verdict(e) >= journal.Covered) && m.remove(e) {
			n++
			if removed != nil {
				removed(&e.record)
			}
		}
	}
	return n
}

// Walk calls f with every record, in no order, until f returns false. A record
// that comes or goes meanwhile may or may not be seen.
func (m *Memory) Walk(f func(*Record) bool) {
	for _, e := range m.cache.All() {
		if !f(&e.record) {
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
