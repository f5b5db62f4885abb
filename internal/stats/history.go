package stats

// History is what one node counted in the last hour by minute, and in the last day
// by ten minutes. Fleet writes the same buckets to Redis and merges those of all
// nodes.
//
// mu guards everything. A bucket's counts only grow, and each change numbers it
// anew, so that whoever has written it knows whether it has changed meanwhile. A
// bucket after the current one has only purges, of a journal whose clock is ahead.

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"
)

// series is a sequence of buckets of one width.
type series struct {
	name   string // in keys of Redis
	width  time.Duration
	window int64 // buckets in the window that it serves, the current one included
}

// The series: counts by minute for the last hour, counts by ten minutes for the
// last day, and endpoints, which take more room, by ten minutes for both.
var (
	byMinute   = series{"1m", time.Minute, 60}
	byTen      = series{"10m", 10 * time.Minute, 144}
	ofEndpoint = series{"endpoints", 10 * time.Minute, 144}
)

func (s *series) number(at time.Time) int64 { return at.Unix() / int64(s.width/time.Second) }

// History is ready for use when it comes from NewHistory, by any goroutine.
type History struct {
	totals    func() *Bucket
	endpoints *Endpoints

	mu      sync.Mutex
	last    *Bucket // totals at the last Collect
	aged    int64   // number of the ten minutes in which endpoints have aged
	minutes map[int64]*kept
	tens    map[int64]*kept
}

// kept is a bucket that grows. endpoints is nil in those of a minute.
type kept struct {
	Bucket
	endpoints        map[string]Endpoint
	changed, written uint64
}

// NewHistory returns an empty one. totals returns what has been counted since the
// start of the node; it is called by one goroutine at a time. Purges in it do not
// count, see Purged.
func NewHistory(totals func() *Bucket, endpoints *Endpoints) *History {
	return &History{
		totals: totals, endpoints: endpoints, last: new(Bucket),
		minutes: make(map[int64]*kept), tens: make(map[int64]*kept),
	}
}

// Collect takes in what has been counted since the last call, all of it for now.
func (h *History) Collect(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	total := h.totals()
	delta := total.since(h.last)
	h.last = total
	endpoints := h.endpoints.Drain()
	counted := !delta.empty() || len(endpoints) > 0
	minute, ten := h.at(h.minutes, &byMinute, now), h.at(h.tens, &byTen, now)
	for _, b := range []*kept{minute, ten} {
		if counted || b.State == nil { // of an idle node the state is written once
			b.changed++
		}
		b.add(delta)
	}
	for template, counts := range endpoints {
		sum := ten.endpoints[template]
		sum.Add(counts)
		ten.endpoints[template] = sum
	}
	if len(ten.endpoints) > 2*maxTracked { // while it grows, light ones may become heavy
		trim(ten.endpoints, maxTracked)
	}
	if number := byTen.number(now); h.aged != number {
		h.aged = number
		h.endpoints.Age()
	}
	h.forget(h.minutes, &byMinute, now)
	h.forget(h.tens, &byTen, now)
}

// Purged counts a purge that was recorded at a time, which is the same for every
// node, also where the clock of this one is behind that time. One outside the history,
// or as far ahead, is not counted.
func (h *History) Purged(at, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s, buckets := range map[*series]map[int64]*kept{&byMinute: h.minutes, &byTen: h.tens} {
		if n, current := s.number(at), s.number(now); n > current-s.window && n < current+s.window {
			b := h.at(buckets, s, at)
			b.Purges++
			b.changed++
		}
	}
}

// at returns the bucket of a time.
func (h *History) at(buckets map[int64]*kept, s *series, at time.Time) *kept {
	number := s.number(at)
	b := buckets[number]
	if b == nil {
		b = &kept{endpoints: make(map[string]Endpoint)}
		buckets[number] = b
	}
	return b
}

// forget drops buckets that have left every window, and trims those that will not
// grow any more.
func (h *History) forget(buckets map[int64]*kept, s *series, now time.Time) {
	current := s.number(now)
	for number, b := range buckets {
		switch {
		case number < current-s.window:
			delete(buckets, number)
		case number < current:
			trim(b.endpoints, maxEndpoints)
		}
	}
}

// WriteAgain has all buckets written anew: Redis may have lost what it had.
func (h *History) WriteAgain() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, buckets := range []map[int64]*kept{h.minutes, h.tens} {
		for _, b := range buckets {
			b.changed++
		}
	}
}

// blob is a bucket as it is written.
type blob struct {
	series *series
	number int64
	text   []byte
	done   func()
}

// unwritten returns what has changed since it was written, oldest first.
func (h *History) unwritten() []blob {
	h.mu.Lock()
	defer h.mu.Unlock()
	var blobs []blob
	for _, part := range []struct {
		series  *series
		buckets map[int64]*kept
	}{{&byTen, h.tens}, {&byMinute, h.minutes}} {
		for _, number := range slices.Sorted(maps.Keys(part.buckets)) {
			b := part.buckets[number]
			if b.written == b.changed {
				continue
			}
			version := b.changed
			done := func() {
				h.mu.Lock()
				defer h.mu.Unlock()
				b.written = version
			}
			if len(b.endpoints) > 0 {
				most := maps.Clone(b.endpoints)
				trim(most, maxEndpoints)
				blobs = append(blobs, blob{&ofEndpoint, number, encode(most), func() {}})
			}
			blobs = append(blobs, blob{part.series, number, encode(&b.Bucket), done})
		}
	}
	return blobs
}

// encode cannot fail: there are only numbers and names.
func encode(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}

// own returns the node's own buckets under its name.
func (h *History) own(node string) *buckets {
	h.mu.Lock()
	defer h.mu.Unlock()
	own := newBuckets()
	for number, b := range h.minutes {
		own.minutes.put(number, node, clone(&b.Bucket))
	}
	for number, b := range h.tens {
		own.tens.put(number, node, clone(&b.Bucket))
		own.endpoints.put(number, node, maps.Clone(b.endpoints))
	}
	return own
}

func clone(b *Bucket) *Bucket {
	c := new(Bucket)
	c.add(b)
	c.Purges = b.Purges
	return c
}

func (s *series) key(prefix string, number int64) string {
	return prefix + "::stats:v2:" + s.name + ":" + strconv.FormatInt(number, 10)
}
