package stats

// Endpoints counts requests by path template, for the templates that weigh most.
// One that is tracked costs a request atomic additions, any other one a place in a
// buffer of samples at the most: neither a lock nor memory, however many there are.
//
// Drain finds out which templates weigh most. It remembers those that it has seen
// lately. What is seen for the first time counts for one request, and weighs next to
// nothing; only after that it counts for all that a sample stands for. So whoever asks
// for a new name each time displaces nothing that is asked for again.
//
// A published map is never changed. mu serializes those who publish one, and guards
// all but the counters of requests. What is counted in the moment in which a template
// ceases to be tracked may be lost.

import (
	"cmp"
	"maps"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxTracked = 1024
	// maxKnown is how many templates are remembered, those that are tracked included.
	maxKnown = 3 * maxTracked
	// costUnit is how long the origin takes for what weighs as much as one request.
	costUnit = 10 * time.Millisecond
)

// Endpoint is what was counted of one path template.
type Endpoint struct {
	Requests uint64        `json:"r"`
	Hits     uint64        `json:"h,omitempty"`
	Origin   time.Duration `json:"o,omitempty"` // for which requests waited for the origin
}

// Add adds the counts of another.
func (e *Endpoint) Add(other Endpoint) {
	e.Requests += other.Requests
	e.Hits += other.Hits
	e.Origin += other.Origin
}

// weight is that of both lists, of those who ask most and of those who cost most.
func (e *Endpoint) weight() uint64 { return e.Requests + uint64(max(e.Origin, 0)/costUnit) }

// Endpoints is ready for use when it comes from NewEndpoints, by any goroutine.
type Endpoints struct {
	tracked atomic.Pointer[map[string]*tracked]
	samples samples

	mu    sync.Mutex
	known map[string]uint64 // weights, of those that are tracked as of the last Drain
}

type tracked struct {
	requests, hits atomic.Uint64
	origin         atomic.Int64
	drained        Endpoint
}

// drain returns what was counted since the last call. A request is counted before
// its hit, and read after it; a hit whose request the last call has returned already
// waits for the next one, so that there are never more hits than requests.
func (t *tracked) drain() Endpoint {
	hits, origin := t.hits.Load(), time.Duration(t.origin.Load())
	before := t.drained
	since := Endpoint{Requests: t.requests.Load() - before.Requests, Origin: origin - before.Origin}
	since.Hits = min(hits-before.Hits, since.Requests)
	t.drained.Add(since)
	return since
}

func (t *tracked) add(hit bool, origin time.Duration) {
	t.requests.Add(1)
	if hit {
		t.hits.Add(1)
	}
	if origin > 0 {
		t.origin.Add(int64(origin))
	}
}

// NewEndpoints returns an empty one.
func NewEndpoints() *Endpoints {
	e := &Endpoints{known: make(map[string]uint64)}
	e.tracked.Store(new(map[string]*tracked))
	return e
}

// Add counts one request for a path. origin is how long it waited for the
// origin.
func (e *Endpoints) Add(path string, hit bool, origin time.Duration) {
	var buf [MaxTemplate]byte
	template := AppendTemplate(buf[:0], path)
	if entry := (*e.tracked.Load())[string(template)]; entry != nil {
		entry.add(hit, origin)
		return
	}
	e.samples.offer(template, hit, origin)
}

// Drain returns what was counted since the last call of the templates that are
// tracked from now on, and decides which ones these are.
func (e *Endpoints) Drain() map[string]Endpoint {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := *e.tracked.Load()
	counts := make(map[string]Endpoint)
	for template, entry := range now {
		if c := entry.drain(); c != (Endpoint{}) {
			e.known[template] += c.weight()
			counts[template] = c
		}
	}
	e.samples.drain(func(template []byte, one Endpoint, scale float64) {
		if before, seen := e.known[string(template)]; seen {
			one.scale(scale)
			e.known[string(template)] = before + one.weight()
		} else {
			// More if it is slow, so that it may be seen again before it is forgotten.
			e.known[string(template)] = uint64(bits.Len64(one.weight()))
		}
		one.Add(counts[string(template)])
		counts[string(template)] = one
	})
	e.choose(now)
	next := *e.tracked.Load()
	maps.DeleteFunc(counts, func(template string, _ Endpoint) bool { return next[template] == nil && now[template] == nil })
	return counts
}

// scale makes one request those that it stands for.
func (e *Endpoint) scale(by float64) {
	e.Requests = uint64(float64(e.Requests)*by + 0.5)
	e.Hits = uint64(float64(e.Hits)*by + 0.5)
	e.Origin = time.Duration(float64(e.Origin) * by)
}

// choose tracks the heaviest of the templates that are known, and forgets the
// lightest. Where weights are equal, those that are tracked already go first, and the
// others in an order that nobody can choose.
func (e *Endpoints) choose(now map[string]*tracked) {
	if len(e.known) == len(now) { // nothing new has been seen
		return
	}
	type candidate struct {
		template string
		weight   uint64
		entry    *tracked // nil if it is not tracked
	}
	candidates := make([]candidate, 0, len(e.known))
	for template, weight := range e.known {
		candidates = append(candidates, candidate{template, weight, now[template]})
	}
	slices.SortFunc(candidates, func(a, b candidate) int {
		if a.weight == b.weight && (a.entry == nil) != (b.entry == nil) {
			if a.entry != nil {
				return -1
			}
			return 1
		}
		return cmp.Compare(b.weight, a.weight)
	})
	for _, c := range candidates[min(len(candidates), maxKnown):] {
		delete(e.known, c.template)
	}
	next := make(map[string]*tracked, maxTracked)
	for _, c := range candidates[:min(len(candidates), maxTracked)] {
		next[c.template] = c.entry
		if c.entry == nil {
			next[c.template] = new(tracked)
		}
	}
	e.tracked.Store(&next)
}

// Age halves all weights, so that what was asked for long ago makes room.
func (e *Endpoints) Age() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for template := range e.known {
		e.known[template] /= 2
	}
}
