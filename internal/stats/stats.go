// Package stats counts requests by namespace, outcome and tier, and how long they
// took.
//
// A request only adds to atomic counters, and, where its endpoint is none of those that are
// tracked, takes a place in a buffer of samples by chance (samples.go). Every three seconds
// a node takes the difference to the last time into buckets of a minute and of ten minutes,
// and writes those in which something was counted to Redis: a bucket is a hash in which
// each node has one field, and writes all of it. So a write can be repeated, nothing counts
// twice, and what was counted while Redis was away is written later. A reader merges the
// fields of all nodes, its own from memory. Purges, which every node counts, are counted
// for the time of their entry, and the highest count of a bucket holds.
package stats

import (
	"sync"
	"sync/atomic"
	"time"
)

// MaxOutcomes and MaxTiers bound what a Counter can tell apart.
const (
	MaxOutcomes = 5
	MaxTiers    = 3
)

// Counter counts the requests of one namespace. It may be used from any
// goroutine.
type Counter struct {
	requests       [MaxOutcomes][MaxTiers]atomic.Uint64
	atOnce, waited [MaxOutcomes]histogram
}

// Add counts one request that waited for a fetch, or did not.
func (c *Counter) Add(outcome, tier uint8, waited bool, took time.Duration) {
	c.requests[outcome][tier].Add(1)
	if waited {
		c.waited[outcome].add(took)
	} else {
		c.atOnce[outcome].add(took)
	}
}

// Counts is what a Counter has counted.
type Counts struct {
	Requests [MaxOutcomes][MaxTiers]uint64
	AtOnce   [MaxOutcomes]Histogram // how long those took that waited for no fetch
	Waited   [MaxOutcomes]Histogram // and those that did
	Took     [MaxOutcomes]Histogram // both
}

// Of returns the requests with an outcome.
func (c *Counts) Of(outcome uint8) (sum uint64) {
	for _, n := range c.Requests[outcome] {
		sum += n
	}
	return sum
}

// Counts returns what has been counted so far.
func (c *Counter) Counts() *Counts {
	counts := new(Counts)
	for outcome := range c.requests {
		for tier := range c.requests[outcome] {
			counts.Requests[outcome][tier] = c.requests[outcome][tier].Load()
		}
		counts.AtOnce[outcome] = c.atOnce[outcome].counts()
		counts.Waited[outcome] = c.waited[outcome].counts()
		counts.Took[outcome] = counts.AtOnce[outcome]
		counts.Took[outcome].Add(&counts.Waited[outcome])
	}
	return counts
}

// Registry holds one Counter per namespace. Namespaces come from the
// configuration, so that there are few of them, and they are never removed:
// counts survive a reload that drops a namespace and one that brings it back.
// The zero value is ready for use.
type Registry struct {
	mu       sync.Mutex
	counters map[string]*Counter
}

// Namespace returns the counter of a namespace.
func (r *Registry) Namespace(name string) *Counter {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.counters[name]
	if c == nil {
		if r.counters == nil {
			r.counters = make(map[string]*Counter)
		}
		c = new(Counter)
		r.counters[name] = c
	}
	return c
}

// Snapshot returns the counts of every namespace.
func (r *Registry) Snapshot() map[string]*Counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	counts := make(map[string]*Counts, len(r.counters))
	for name, c := range r.counters {
		counts[name] = c.Counts()
	}
	return counts
}
