package stats

// Endpoints counts requests by path template, for the templates that are asked for
// most: the Space-Saving algorithm in each of several shards. A template that is
// tracked costs a request no lock and no memory, only atomic additions.
//
// A published map is never changed. shard.mu serializes those who publish one, and
// guards what an entry has drained and is ahead by, and what displaced entries have
// left. What is counted in the moment in which an entry is displaced may be lost.

import (
	"hash/maphash"
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

const (
	numShards = 16
	shardSize = 64 // templates, 1,024 in all
	// maxLeft is how many displaced templates a shard keeps until they are drained.
	maxLeft = 512
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

// Endpoints is ready for use when it comes from NewEndpoints, by any goroutine.
type Endpoints struct {
	seed   maphash.Seed
	shards [numShards]shard
}

type shard struct {
	mu      sync.Mutex
	entries atomic.Pointer[map[string]*tracked]
	left    map[string]Endpoint // not drained, of templates that are no longer tracked
	_       [40]byte            // a cache line for each
}

type tracked struct {
	requests, hits atomic.Uint64
	origin         atomic.Int64
	drained        Endpoint
	ahead          int64 // weight beyond its own, of whom the entry displaced
}

// weight is that of both lists, of those who ask most and of those who cost most.
func (t *tracked) weight() int64 {
	return int64(t.requests.Load()) + t.origin.Load()/int64(costUnit) + t.ahead
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
	e := &Endpoints{seed: maphash.MakeSeed()}
	for i := range e.shards {
		e.shards[i].entries.Store(new(map[string]*tracked))
	}
	return e
}

// Add counts one request for a path. origin is how long it waited for the
// origin.
func (e *Endpoints) Add(path string, hit bool, origin time.Duration) {
	var buf [MaxTemplate]byte
	template := AppendTemplate(buf[:0], path)
	s := &e.shards[maphash.Bytes(e.seed, template)%numShards]
	if entry := (*s.entries.Load())[string(template)]; entry != nil {
		entry.add(hit, origin)
		return
	}
	s.insert(string(template), hit, origin)
}

// insert tracks a template, if need be in place of the one with the least weight,
// which it inherits: so one that is often asked for gets ahead of those that are
// not, however many there are.
func (s *shard) insert(template string, hit bool, origin time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	entry := (*s.entries.Load())[template]
	if entry == nil {
		entry = new(tracked)
		entries := maps.Clone(*s.entries.Load())
		if entries == nil {
			entries = make(map[string]*tracked)
		}
		if len(entries) >= shardSize {
			entry.ahead = s.displace(entries)
		}
		entries[template] = entry
		s.entries.Store(&entries)
	}
	entry.add(hit, origin)
}

// displace removes the template with the least weight, and returns that. What it
// has counted is kept for the next drain.
func (s *shard) displace(entries map[string]*tracked) (weight int64) {
	var least string
	for template, entry := range entries {
		if w := entry.weight(); least == "" || w < weight {
			least, weight = template, w
		}
	}
	if counts := entries[least].drain(); counts != (Endpoint{}) {
		s.leave(least, counts)
	}
	delete(entries, least)
	return weight
}

// leave keeps the counts of a template that is no longer tracked. Where there are
// too many, those that count least are lost.
func (s *shard) leave(template string, counts Endpoint) {
	if s.left == nil {
		s.left = make(map[string]Endpoint)
	}
	counts.Add(s.left[template])
	s.left[template] = counts
	if len(s.left) > maxLeft {
		trim(s.left, maxLeft/2)
	}
}

// Drain returns what was counted since the last call.
func (e *Endpoints) Drain() map[string]Endpoint {
	counts := make(map[string]Endpoint)
	for i := range e.shards {
		e.shards[i].drain(counts)
	}
	return counts
}

func (s *shard) drain(into map[string]Endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.Copy(into, s.left)
	s.left = nil
	for template, entry := range *s.entries.Load() {
		if counts := entry.drain(); counts != (Endpoint{}) {
			counts.Add(into[template])
			into[template] = counts
		}
	}
}

// Age halves all weights, so that what was asked for long ago makes room.
func (e *Endpoints) Age() {
	for i := range e.shards {
		s := &e.shards[i]
		s.mu.Lock()
		for _, entry := range *s.entries.Load() {
			entry.ahead -= (entry.weight() + 1) / 2
		}
		s.mu.Unlock()
	}
}
