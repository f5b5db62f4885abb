package coalesce

import (
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
)

const (
	// maxMemos bounds the keys that are remembered, of each kind.
	maxMemos = 1 << 16
	// MissLifetime is how long a key counts as one that cannot be shared, unless a
	// response is stored under it before, or a purge covers it.
	MissLifetime = time.Minute
	// sharedMissLifetime is how long Redis tells other nodes of it, and each of them
	// remembers it from then on: both together are not longer than MissLifetime.
	sharedMissLifetime = MissLifetime / 2
)

// Miss says that the responses of a key cannot be shared, so that waiting for
// one is of no use: hit-for-miss.
type Miss struct {
	// Credentialed limits it to requests with credentials.
	Credentialed bool
	// Why is a number of the caller's that says why; 0 for unknown. Other nodes are
	// not told.
	Why uint8
	// Position is what the journal had applied before the fetch that found it out.
	Position journal.Position
}

// Misses remembers which keys cannot be shared.
type Misses struct {
	memo *otter.Cache[ID, missed]
}

type missed struct {
	miss  Miss
	until time.Time
}

// NewMisses returns an empty memory of bounded size.
func NewMisses() *Misses { return &Misses{newMemo[missed]()} }

func newMemo[V any]() *otter.Cache[ID, V] {
	return otter.Must(&otter.Options[ID, V]{MaximumSize: maxMemos})
}

// Add remembers a miss. One that concerns everybody is not replaced by one that
// concerns some.
func (m *Misses) Add(id ID, miss Miss, now time.Time) { m.add(id, miss, now, MissLifetime) }

// AddShared is Add for what another node has found out.
func (m *Misses) AddShared(id ID, miss Miss, now time.Time) { m.add(id, miss, now, sharedMissLifetime) }

func (m *Misses) add(id ID, miss Miss, now time.Time, lifetime time.Duration) {
	if known, ok := m.Get(id, now); ok && !known.Credentialed && miss.Credentialed {
		return
	}
	m.memo.Set(id, missed{miss, now.Add(lifetime)})
}

// Get returns what is known of a key.
func (m *Misses) Get(id ID, now time.Time) (Miss, bool) {
	known, ok := m.memo.GetIfPresent(id)
	return known.miss, ok && now.Before(known.until)
}

// Remove forgets a key.
func (m *Misses) Remove(id ID) { m.memo.Invalidate(id) }

const (
	// firstBackOff is how long an origin is left alone after a failure; each
	// further one in a row doubles it, up to lastBackOff.
	firstBackOff = time.Second
	lastBackOff  = 10 * time.Second
)

// Failures remembers the keys whose origin has failed, so that it is left alone
// for a while where a stale response can stand in.
type Failures struct {
	memo *otter.Cache[ID, failure]
}

type failure struct {
	until time.Time
	delay time.Duration
}

// NewFailures returns an empty memory of bounded size.
func NewFailures() *Failures { return &Failures{newMemo[failure]()} }

// Add notes a failure.
func (f *Failures) Add(id ID, now time.Time) {
	f.memo.Compute(id, func(last failure, found bool) (failure, otter.ComputeOp) {
		if found && now.Before(last.until) {
			return last, otter.CancelOp // a fetch that had begun before the last failure
		}
		delay := firstBackOff
		if found {
			delay = min(2*last.delay, lastBackOff)
		}
		return failure{now.Add(delay), delay}, otter.WriteOp
	})
}

// Recent reports whether the origin is to be left alone.
func (f *Failures) Recent(id ID, now time.Time) bool {
	last, ok := f.memo.GetIfPresent(id)
	return ok && now.Before(last.until)
}

// Remove notes that the origin answers.
func (f *Failures) Remove(id ID) { f.memo.Invalidate(id) }
