package rediscache

import (
	"context"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/stats"
)

// statisticsInterval is how often a node shares what it has counted. With what a
// node keeps of the others for a second, statistics are less than 5 s behind.
const statisticsInterval = 3 * time.Second

// totals are what the node has counted since it started. Hits are what needed no
// upstream: HIT and STALE; MISS and REVALIDATED waited for it.
func (n *node) totals() *stats.Bucket {
	b := &stats.Bucket{Requests: make(map[string]*stats.Outcomes), Coalesced: n.coalesced.Load(), Errors: n.errorCounts()}
	for name, counts := range n.stats.Snapshot() {
		requests := new(stats.Outcomes)
		for outcome := range numOutcomes {
			requests[outcome] = counts.Of(uint8(outcome))
		}
		b.Requests[name] = requests
		for _, outcome := range []Outcome{OutcomeHit, OutcomeStale} {
			b.Hit.Add(&counts.Took[outcome])
		}
		for _, outcome := range []Outcome{OutcomeMiss, OutcomeRevalidated} {
			b.Miss.Add(&counts.Took[outcome])
		}
	}
	b.State = &stats.State{Breaker: n.breakerState()}
	if n.memory != nil {
		b.State.Memory = &stats.Memory{
			Keys: n.memory.Len(), Bytes: n.memory.Bytes(), Max: n.memory.Max(), Evictions: n.memory.Evictions(),
		}
	}
	return b
}

// breakerState is closed, open, or off without Redis.
func (n *node) breakerState() string {
	switch {
	case n.client == nil:
		return "off"
	case n.store.Up():
		return "closed"
	}
	return "open"
}

// uncacheableReasons are about requests that no configuration lets be cached.
var uncacheableReasons = []Reason{ReasonMethod, ReasonRequestBody, ReasonUpgrade, ReasonOverrideField}

// cacheable reports whether some configuration could have cached the request.
func (x *exchange) cacheable() bool {
	return x.outcome != OutcomeBypass || !slices.Contains(uncacheableReasons, x.reason)
}

// countEndpoint counts the request for its endpoint. A follower did not cost the
// origin anything.
func (x *exchange) countEndpoint(took time.Duration) {
	hit := x.outcome == OutcomeHit || x.outcome == OutcomeStale || x.outcome == OutcomeRevalidated
	if x.outcome == OutcomeHit || x.outcome == OutcomeStale || x.collapsed {
		took = 0
	}
	x.h.node.endpoints.Add(x.q.path, hit, took)
}

// countPurge counts an entry of the journal that purges something, at the time of
// the entry, which is the same on every node.
func (n *node) countPurge(id journal.ID) {
	n.history.Purged(time.UnixMilli(int64(id.Ms)), time.Now())
}

// keepStatistics collects and shares what was counted until the node ends.
func (n *node) keepStatistics() {
	for n.ctx.Err() == nil {
		pauseFor(n.ctx, statisticsInterval)
		n.shareStatistics(n.ctx)
	}
}

// shareStatistics writes what was counted to Redis, or leaves it for the next time.
func (n *node) shareStatistics(ctx context.Context) {
	n.history.Collect(time.Now())
	if n.breakerState() != "closed" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, journalTimeout)
	defer cancel()
	if err := n.fleet.Flush(ctx); err != nil && ctx.Err() == nil {
		n.logger().Debug("statistics could not be written", zap.Error(err))
	}
}
