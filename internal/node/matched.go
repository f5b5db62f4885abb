package node

import (
	"sync"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

const (
	// maxMatching bounds a count, and maxMatchingCredit what a node counts at a stretch.
	maxMatching       = 250 * time.Millisecond
	maxMatchingCredit = time.Second
	// matchingShare is the share of the time that may go into counting: one part in it.
	matchingShare = 10
)

// matching bounds the time that counting takes: thousands of purges a second of a
// large memory must not be slowed down by it. It allows one at a time.
type matching struct {
	mu    sync.Mutex // held while counting
	spent time.Duration
	last  time.Time // when spent was right
}

// begin returns how long a count may take, or false for none at all. Whoever gets
// true ends it.
func (m *matching) begin(now time.Time) (time.Duration, bool) {
	if !m.mu.TryLock() {
		return 0, false
	}
	m.spent = max(0, m.spent-now.Sub(m.last)/matchingShare)
	m.last = now
	if m.spent >= maxMatchingCredit {
		m.mu.Unlock()
		return 0, false
	}
	return min(maxMatching, maxMatchingCredit-m.spent), true
}

func (m *matching) end(took time.Duration) {
	m.spent += took
	m.mu.Unlock()
}

// MatchedMemory counts what purges are about to cover. It is called before they are
// appended, and off the path of requests.
func (n *Node) MatchedMemory(selectors []journal.Selector) (answer api.Matched) {
	if n.Memory == nil {
		return answer
	}
	matches, err := n.Journal.Matcher(journal.Purge{Selectors: selectors})
	began := time.Now()
	allowed, ok := n.matching.begin(began)
	if !ok {
		return answer
	}
	defer func() { n.matching.end(time.Since(began)) }()
	if err != nil {
		return answer // appending them tells
	}
	count := 0
	n.Memory.Walk(func(rec *store.Record) bool {
		subject := rec.Subject()
		if !rec.IsBase() && began.Before(rec.Expires) && matches(&subject) {
			if verdict, _ := n.Journal.Check(&subject, journal.Checked{}); verdict < journal.Covered {
				count++
			}
		}
		answer.Partial = time.Since(began) > allowed
		return !answer.Partial
	})
	answer.Memory = &count
	return answer
}
