package node

import (
	"slices"
	"sync/atomic"

	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
)

// The kinds of purges beside those of journal.Kind.
const (
	purgeUnion     = journal.KindAll + 1 + iota // selectors of several kinds
	purgeEvent                                  // an event, which each node expands by its rules
	purgeByRequest                              // by a client's request, whatever its selectors
	numPurgeKinds
)

// PurgeCounts are how many purges a node has applied, by kind.
type PurgeCounts struct{ counts [numPurgeKinds]atomic.Uint64 }

// Each calls f with every kind and its count.
func (p *PurgeCounts) Each(f func(kind string, count uint64)) {
	for kind := range p.counts {
		f(purgeKind(journal.Kind(kind)), p.counts[kind].Load())
	}
}

func purgeKind(kind journal.Kind) string {
	switch kind { //nolint:exhaustive // the others are selectors
	case purgeUnion:
		return "union"
	case purgeEvent:
		return "event"
	case purgeByRequest:
		return "request"
	}
	return kind.String()
}

// Count counts an entry that was applied.
func (p *PurgeCounts) Count(e *journal.Entry) {
	if e.Op == journal.OpEvent {
		p.counts[purgeEvent].Add(1)
		return
	}
	if (e.Op != journal.OpPurge && e.Op != journal.OpSoftPurge) || len(e.Selectors) == 0 {
		return
	}
	if e.Request {
		p.counts[purgeByRequest].Add(1)
		return
	}
	kind := e.Selectors[0].Kind
	if slices.ContainsFunc(e.Selectors, func(s journal.Selector) bool { return s.Kind != kind }) {
		kind = purgeUnion
	}
	p.counts[kind].Add(1)
}
