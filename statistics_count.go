package rediscache

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/stats"
)

// statisticsInterval is how often a node shares what it has counted. With what a
// node keeps of the others for a second, statistics are less than 5 s behind.
const statisticsInterval = 3 * time.Second

// totals are what the node has counted since it started. Durations are of hits,
// answered from the store without waiting for any fetch, and of misses, which
// waited for one, be it another request's: HIT and STALE can be both. A 504 to
// only-if-cached is neither.
func (n *node) totals() *stats.Bucket {
	b := &stats.Bucket{Requests: make(map[string]*stats.Outcomes), Coalesced: n.coalesced.Load(), Errors: n.errorCounts(), Latest: n.errors.all()}
	for name, counts := range n.stats.Snapshot() {
		requests := new(stats.Outcomes)
		for outcome := range engine.NumResults {
			requests[outcome] = counts.Of(uint8(outcome))
		}
		b.Requests[name] = requests
		for _, outcome := range []engine.Result{engine.Hit, engine.Stale} {
			b.Hit.Add(&counts.AtOnce[outcome])
		}
		for _, outcome := range []engine.Result{engine.Miss, engine.Hit, engine.Stale, engine.Revalidated} {
			b.Miss.Add(&counts.Waited[outcome])
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
	case n.Store.Up():
		return "closed"
	}
	return "open"
}

// countEndpoint counts a request for its endpoint. Only a fetch of its own costs the
// origin anything, for as long as the header takes: how long the rest takes depends on the
// client, too.
func (n *node) countEndpoint(path string, out *engine.Outcome) {
	hit := out.Result == engine.Hit || out.Result == engine.Stale || out.Result == engine.Revalidated
	var origin time.Duration
	if !out.Asked.IsZero() {
		origin = out.Headed.Sub(out.Asked)
	}
	n.endpoints.Add(path, hit, origin)
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
