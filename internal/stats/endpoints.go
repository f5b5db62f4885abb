package stats

// Endpoints counts requests by path template, for the templates that are asked for
// most: the Space-Saving algorithm in each of several shards. A template that is
// tracked costs a request no lock and no memory, only atomic additions.
//
// A published map is never changed. shard.mu serializes those who publish one, and
// guards what an entry has drained and is ahead by. What is counted in the moment
// in which an entry is displaced may be lost.

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
	_       [48]byte // a cache line for each
}

type tracked struct {
	requests, hits atomic.Uint64
	origin         atomic.Int64
	drained        Endpoint
	ahead          int64 // weight beyond the requests, of whom the entry displaced
}

func (t *tracked) weight() int64 { return int64(t.requests.Load()) + t.ahead }

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
			entry.ahead = displace(entries)
		}
		entries[template] = entry
		s.entries.Store(&entries)
	}
	entry.add(hit, origin)
}

// displace removes the template with the least weight, and returns that.
func displace(entries map[string]*tracked) (weight int64) {
	var least string
	for template, entry := range entries {
		if w := entry.weight(); least == "" || w < weight {
			least, weight = template, w
		}
	}
	delete(entries, least)
	return weight
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
	for template, entry := range *s.entries.Load() {
		now := Endpoint{entry.requests.Load(), entry.hits.Load(), time.Duration(entry.origin.Load())}
		if now.Requests > entry.drained.Requests {
			into[template] = Endpoint{
				now.Requests - entry.drained.Requests, now.Hits - entry.drained.Hits, now.Origin - entry.drained.Origin,
			}
			entry.drained = now
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
