// Package stats counts requests by namespace and outcome.
package stats

import (
	"sync"
	"sync/atomic"
)

// MaxOutcomes bounds the outcomes that a Counter can tell apart.
const MaxOutcomes = 8

// Counter counts the requests of one namespace by outcome. It may be used from
// any goroutine.
type Counter struct {
	outcomes [MaxOutcomes]atomic.Uint64
}

// Add counts one request.
func (c *Counter) Add(outcome uint8) { c.outcomes[outcome].Add(1) }

// Counts returns the requests counted so far, by outcome.
func (c *Counter) Counts() (counts [MaxOutcomes]uint64) {
	for i := range c.outcomes {
		counts[i] = c.outcomes[i].Load()
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
func (r *Registry) Snapshot() map[string][MaxOutcomes]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	counts := make(map[string][MaxOutcomes]uint64, len(r.counters))
	for name, c := range r.counters {
		counts[name] = c.Counts()
	}
	return counts
}
