package node

// The sweep removes what purges cover, for economy only: every answer is the
// same without it, and with two at a time. On the way it learns how many stored
// responses each purge removed. Redis is swept by one node, the live one with
// the lowest ID; memory without Redis by its own. The memory tier in front of
// Redis is not counted: its responses lie in Redis, too.
//
// sweeper.mu guards recent and counts.

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

const (
	// sweepInterval is the longest time between two sweeps.
	sweepInterval = 5 * time.Minute
	// sweepQuiet is how long no purge must have come before one is swept,
	// sweepLatest how long a sweep waits for that.
	sweepQuiet  = 2 * time.Second
	sweepLatest = 30 * time.Second
	// sweepRest is the rest after a sweep, in times of what it took: a storm of
	// purges costs a fifth of a scanner.
	sweepRest    = 4
	sweepTimeout = time.Hour
	// Of a purge that is older than recentPurge it does not become known that it
	// removed nothing: a node that is gone may have swept it.
	recentPurge     = 10 * time.Minute
	maxRecentPurges = 1000
)

// sweeper is what a node knows of the purges that are to be swept.
type sweeper struct {
	wake   chan struct{} // holds a token when a purge has come
	mu     sync.Mutex
	recent []journal.ID         // hard purges, oldest first
	counts map[journal.ID]int64 // responses removed that are not in the journal's count yet
}

func newSweeper() sweeper {
	return sweeper{wake: make(chan struct{}, 1), counts: make(map[journal.ID]int64)}
}

// note takes in an entry that may cover something.
func (s *sweeper) note(e *journal.Entry) {
	if e.Op != journal.OpPurge && e.Op != journal.OpEvent ||
		time.Since(time.UnixMilli(int64(e.ID.Ms))) > recentPurge {
		return
	}
	s.mu.Lock()
	if s.recent = append(s.recent, e.ID); len(s.recent) > 2*maxRecentPurges {
		s.recent = slices.Clone(s.recent[maxRecentPurges:])
	}
	s.mu.Unlock()
	s.again()
}

// again makes a sweep due.
func (s *sweeper) again() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// due returns the recent purges, which a sweep that begins now covers.
func (s *sweeper) due() []journal.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	oldest := uint64(time.Now().Add(-recentPurge).UnixMilli())
	s.recent = slices.DeleteFunc(s.recent, func(id journal.ID) bool { return id.Ms < oldest })
	return slices.Clone(s.recent)
}

// settle ends a sweep to the end: those purges are counted.
func (s *sweeper) settle(swept []journal.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recent = slices.DeleteFunc(s.recent, func(id journal.ID) bool { return slices.Contains(swept, id) })
	for _, id := range swept {
		s.counts[id] += 0
	}
}

// take returns the counts that are to be added to the journal's.
func (s *sweeper) take() map[journal.ID]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := s.counts
	s.counts = make(map[journal.ID]int64)
	return counts
}

// giveBack takes counts in again that could not be added.
func (s *sweeper) giveBack(counts map[journal.ID]int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, count := range counts {
		s.counts[id] += count
	}
}

// sweep sweeps soon after purges, and now and then.
func (n *Node) sweep() {
	for n.awaitSweep() {
		begun := time.Now()
		if n.Journal.Trust(n.ctx) != journal.Leased {
			n.sweeper.again()
		} else if n.sweepsRedis() {
			n.sweepOnce()
		}
		pauseFor(n.ctx, sweepRest*time.Since(begun))
	}
}

// awaitSweep waits until a sweep is due. It reports false when the node ends.
func (n *Node) awaitSweep() bool {
	if !n.purgedWithin(sweepInterval) {
		return n.ctx.Err() == nil
	}
	for latest := time.Now().Add(sweepLatest); time.Now().Before(latest) && n.purgedWithin(sweepQuiet); {
	}
	return n.ctx.Err() == nil
}

func (n *Node) purgedWithin(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-n.sweeper.wake:
		return true
	case <-timer.C:
	case <-n.ctx.Done():
	}
	return false
}

func pauseFor(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// sweepsRedis reports whether this node is the one that sweeps.
func (n *Node) sweepsRedis() bool {
	list, err := n.Journal.Nodes(n.ctx)
	if err != nil {
		return false
	}
	for _, node := range list {
		if node.State == "live" {
			return node.Self
		}
	}
	return false
}

func (n *Node) sweepOnce() {
	ctx, cancel := context.WithTimeout(n.ctx, sweepTimeout)
	defer cancel()
	swept := n.sweeper.due()
	if err := n.sweepStore(ctx); err == nil {
		n.sweeper.settle(swept)
	} else if n.ctx.Err() == nil {
		n.Log().Debug("a sweep ended early", "error", err)
		n.sweeper.again()
	}
	counts := n.sweeper.take()
	if err := n.Journal.AddRemoved(ctx, counts); err != nil {
		n.Log().Debug("what purges removed could not be recorded", "error", err)
		n.sweeper.giveBack(counts)
		n.sweeper.again()
		return
	}
	for _, id := range slices.SortedFunc(maps.Keys(counts), journal.ID.Compare) {
		if counts[id] > 0 {
			n.Log().Info("cache_invalidate_swept", "id", id.String(), "removed", counts[id])
		}
	}
}

func (n *Node) sweepStore(ctx context.Context) error {
	if n.Redis == nil {
		n.Memory.Sweep(time.Now(), n.onSwept)
		return nil
	}
	covered := func(r *store.Record) bool {
		s := r.Subject()
		verdict, _ := n.Journal.CoveredBy(&s)
		return verdict >= journal.Covered
	}
	return n.Redis.Sweep(ctx, covered, n.onSwept)
}

// onSwept counts a response that was removed for the purge that covers it.
func (n *Node) onSwept(r *store.Record) {
	s := r.Subject()
	_, by := n.Journal.CoveredBy(&s)
	if by.IsZero() || r.IsBase() {
		return
	}
	n.sweeper.mu.Lock()
	defer n.sweeper.mu.Unlock()
	n.sweeper.counts[by]++
}
