package stats

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Outcomes are requests by outcome.
type Outcomes [MaxOutcomes]uint64

// Add adds the counts of another.
func (o *Outcomes) Add(other *Outcomes) {
	for i, n := range other {
		o[i] += n
	}
}

// Bucket is what one node, or a fleet, counted in a stretch of time.
type Bucket struct {
	Requests  map[string]*Outcomes `json:"requests,omitempty"` // by namespace
	Hit       Histogram            `json:"hit"`                // what took part in response times of hits
	Miss      Histogram            `json:"miss"`
	Purges    uint64               `json:"purges,omitempty"`    // applied; every node applies every purge
	Coalesced uint64               `json:"coalesced,omitempty"` // requests that another one's fetch has answered
	Errors    map[string]uint64    `json:"errors,omitempty"`    // by kind
	Latest    map[string]Error     `json:"latest_errors,omitempty"`
	State     *State               `json:"state,omitempty"` // of the node when it counted last
}

// Error is the latest one of a kind. It has a field of its own, beside the counts, so
// that nodes that do not know of it read the counts as ever.
type Error struct {
	Text string    `json:"text"`
	At   time.Time `json:"at"`
}

// State is what a node is like, as opposed to what it counted.
type State struct {
	Memory  *Memory `json:"memory,omitempty"` // nil without a memory tier
	Breaker string  `json:"breaker"`
}

// Memory is what a memory tier holds.
type Memory struct {
	Keys      int    `json:"keys"`
	Bytes     int64  `json:"bytes"`
	Max       int64  `json:"max"`
	Evictions uint64 `json:"evictions"`
}

// Total returns the requests of all namespaces.
func (b *Bucket) Total() (total Outcomes) {
	for _, o := range b.Requests {
		if o != nil {
			total.Add(o)
		}
	}
	return total
}

// empty reports whether nothing was counted.
func (b *Bucket) empty() bool {
	for _, n := range b.Errors {
		if n > 0 {
			return false
		}
	}
	return b.Coalesced == 0 && b.Total() == Outcomes{} && b.Hit.Count() == 0 && b.Miss.Count() == 0
}

// add adds the counts of another bucket, but for the purges.
func (b *Bucket) add(other *Bucket) {
	for name, counts := range other.Requests {
		if counts == nil || *counts == (Outcomes{}) {
			continue
		}
		if b.Requests == nil {
			b.Requests = make(map[string]*Outcomes)
		}
		if b.Requests[name] == nil {
			b.Requests[name] = new(Outcomes)
		}
		b.Requests[name].Add(counts)
	}
	b.Hit.Add(&other.Hit)
	b.Miss.Add(&other.Miss)
	b.Coalesced += other.Coalesced
	for name, n := range other.Errors {
		if n == 0 {
			continue
		}
		if b.Errors == nil {
			b.Errors = make(map[string]uint64)
		}
		b.Errors[name] += n
	}
	for name, e := range other.Latest {
		if e.At.Before(b.Latest[name].At) {
			continue
		}
		if b.Latest == nil {
			b.Latest = make(map[string]Error)
		}
		b.Latest[name] = e
	}
	if other.State != nil {
		b.State = other.State
	}
}

// since returns what b counted beyond an earlier count.
func (b *Bucket) since(earlier *Bucket) *Bucket {
	delta := &Bucket{
		Requests: make(map[string]*Outcomes, len(b.Requests)), Hit: b.Hit.since(&earlier.Hit), Miss: b.Miss.since(&earlier.Miss),
		Coalesced: b.Coalesced - earlier.Coalesced, Errors: make(map[string]uint64, len(b.Errors)), Latest: make(map[string]Error), State: b.State,
	}
	for name, counts := range b.Requests {
		d := *counts
		if before := earlier.Requests[name]; before != nil {
			for i := range d {
				d[i] -= before[i]
			}
		}
		delta.Requests[name] = &d
	}
	for name, n := range b.Errors {
		delta.Errors[name] = n - earlier.Errors[name]
		if e, known := b.Latest[name]; known && delta.Errors[name] > 0 {
			delta.Latest[name] = e
		}
	}
	return delta
}

func (h *Histogram) since(earlier *Histogram) Histogram {
	d := Histogram{Sum: h.Sum - earlier.Sum}
	for i, n := range h.Buckets {
		d.Buckets[i] = n - earlier.Buckets[i]
	}
	return d
}

// Mean returns the mean, 0 of nothing.
func (h *Histogram) Mean() time.Duration {
	if n := h.Count(); n > 0 {
		return h.Sum / time.Duration(n)
	}
	return 0
}

// Quantile returns the duration that a share of all was at most: the middle of its
// bucket, which is off by an eighth at most, but for what is shorter than 1 µs; 0 of
// nothing. What the last bucket holds counts as its lower bound.
func (h *Histogram) Quantile(share float64) time.Duration {
	rank := share * float64(h.Count())
	var below time.Duration
	for i, n := range h.Buckets[:NumBuckets-1] {
		bound := Bound(i)
		if n > 0 && rank <= float64(n) {
			return (below + bound) / 2
		}
		rank -= float64(n)
		below = bound
	}
	if h.Buckets[NumBuckets-1] == 0 {
		return 0
	}
	return below
}

// maxEndpoints is how many templates a bucket keeps at most: half of them for
// their requests, half for the time that they cost the origin.
const maxEndpoints = 64

// trim keeps at most so many templates, those that matter.
func trim(endpoints map[string]Endpoint, most int) {
	if len(endpoints) <= most {
		return
	}
	keep := make(map[string]bool, most)
	for _, weight := range []func(Endpoint) int64{
		func(e Endpoint) int64 { return int64(e.Requests) },
		func(e Endpoint) int64 { return int64(e.Origin) },
	} {
		names := slices.SortedFunc(maps.Keys(endpoints), func(a, b string) int {
			return cmp.Or(cmp.Compare(weight(endpoints[b]), weight(endpoints[a])), cmp.Compare(a, b))
		})
		for _, name := range names[:most/2] {
			keep[name] = true
		}
	}
	maps.DeleteFunc(endpoints, func(name string, _ Endpoint) bool { return !keep[name] })
}
