package store

// All methods are safe for concurrent use; otter does the locking. A record is
// replaced or removed as a whole and never changed, so readers need no lock
// after they have it.
//
// Records are kept packed, which halves what the metadata of a small response
// cost. A lookup unpacks them without touching the body; the result is shared by
// all lookups until the collector takes it, so that what is in demand is
// unpacked about once in a cycle of the collector.
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
	"unsafe"
	"weak"

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

// held is a record in memory: packed, and unpacked while it is in use.
type held struct {
	packed
	expires int64  // Unix time in milliseconds, as records keep it
	local   uint64 // of the position, which is packed without it
	seen    atomic.Pointer[seen]
}

// seen is what lookups of a record found out. It is replaced, never changed.
type seen struct {
	upTo journal.Checked      // no purge up to there covers the record
	view weak.Pointer[Record] // nil once the collector has taken it
}

// record returns the record, or nil for one that cannot be read.
func (e *held) record() *Record {
	if s := e.seen.Load(); s != nil {
		if r := s.view.Value(); r != nil {
			return r
		}
	}
	return e.unpack()
}

func (e *held) unpack() *Record {
	r, err := e.packed.record()
	if err != nil {
		return nil
	}
	r.Position.Local = e.local
	return r
}

// view is record, and remembers what it returns.
func (e *held) view() *Record {
	var s seen
	if known := e.seen.Load(); known != nil {
		s = *known
	}
	if r := s.view.Value(); r != nil {
		return r
	}
	r := e.unpack()
	if r != nil {
		e.seen.Store(&seen{s.upTo, weak.Make(r)})
	}
	return r
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

func weigh(_ string, e *held) uint32 {
	return uint32(min(weightOf(len(e.meta), len(e.body)), math.MaxUint32))
}

// entryOverhead is what an entry costs beyond metadata and body: itself, what
// its lookups found out, otter's node and its share of the hash table and the
// frequency sketch. TestWeight compares it with the real heap.
const entryOverhead = int64(unsafe.Sizeof(held{})+unsafe.Sizeof(seen{})) + 100

// weightOf is what a record costs in this tier.
func weightOf(meta, body int) int64 {
	size := int64(meta + body)
	// The allocator rounds sizes up to classes that lie at most an eighth apart.
	return size + size/16 + entryOverhead
}

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
	r = e.view()
	if r == nil || now.UnixMilli() >= e.expires {
		m.remove(e)
		return nil, false
	}
	verdict := m.verdict(e, r)
	if verdict >= journal.Covered {
		m.remove(e)
		return nil, false
	}
	return r, verdict == journal.SoftCovered
}

// peek is Lookup without any effect on what is kept. It returns the record
// whatever purges say about it.
func (m *Memory) peek(key string, now time.Time) *Record {
	entry, ok := m.cache.GetEntryQuietly(key)
	if !ok || now.UnixMilli() >= entry.Value.expires {
		return nil
	}
	return entry.Value.record()
}

// verdict asks about the record of an entry. What two lookups find out at once
// only one of them remembers.
func (m *Memory) verdict(e *held, r *Record) journal.Verdict {
	var s seen
	if known := e.seen.Load(); known != nil {
		s = *known
	}
	verdict, proved := m.check(r, s.upTo)
	if verdict == journal.Valid && proved.Beyond(s.upTo) {
		e.seen.Store(&seen{proved, s.view})
	}
	return verdict
}

// remove removes exactly this entry: a newer one of the same key stays.
func (m *Memory) remove(e *held) bool {
	removed := false
	m.cache.ComputeIfPresent(e.key(), func(present *held) (*held, otter.ComputeOp) {
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
// It never fails.
func (m *Memory) Put(_ context.Context, records ...*Record) error {
	for _, r := range records {
		m.insert(r, holding(r, pack(r)))
	}
	return nil
}

// putDecoded stores a record that was decoded from p.
func (m *Memory) putDecoded(r *Record, p packed) {
	e := holding(r, p)
	e.seen.Store(&seen{view: weak.Make(r)})
	m.insert(r, e)
}

// holding is an entry that nobody has looked up yet.
func holding(r *Record, p packed) *held {
	return &held{packed: p, expires: r.Expires.UnixMilli(), local: r.Position.Local}
}

// insert stores the entry of a record. One whose fetch began later stays: it has
// seen more. Without the clean-up, writes that otter has not weighed yet,
// hundreds of them, would come on top of the maximum.
func (m *Memory) insert(r *Record, e *held) {
	m.cache.Compute(e.key(), func(present *held, found bool) (*held, otter.ComputeOp) {
		if found && present.fetchedAfter(r.Position) {
			return present, otter.CancelOp
		}
		return e, otter.WriteOp
	})
	m.cache.CleanUp()
}

func (e *held) fetchedAfter(position journal.Position) bool {
	r := e.record()
	return r != nil && position.Before(r.Position)
}

// Sweep removes the records that have expired at now, or that a purge covers,
// and returns how many. It calls removed with each; nil means nobody is told.
func (m *Memory) Sweep(now time.Time, removed func(*Record)) int {
	n := 0
	for _, e := range m.cache.All() {
		if m.useless(e, now) && m.remove(e) {
			n++
			if r := e.record(); r != nil && removed != nil {
				removed(r)
			}
		}
	}
	return n
}

func (m *Memory) useless(e *held, now time.Time) bool {
	if now.UnixMilli() >= e.expires {
		return true
	}
	r := e.record()
	return r == nil || m.verdict(e, r) >= journal.Covered
}

// Walk calls f with every record, in no order, until f returns false. A record
// that comes or goes meanwhile may or may not be seen.
func (m *Memory) Walk(f func(*Record) bool) {
	for _, e := range m.cache.All() {
		if r := e.record(); r != nil && !f(r) {
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
