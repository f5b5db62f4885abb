package node

import (
	"context"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/stats"
)

// statisticsInterval is how often a node shares what it has counted. With what a
// node keeps of the others for a second, statistics are less than 5 s behind.
const statisticsInterval = 3 * time.Second

// Totals are what the node has counted since it started. Durations are of hits,
// answered from the store without waiting for any fetch, and of misses, which
// waited for one, be it another request's: HIT and STALE can be both. A 504 to
// only-if-cached is neither.
func (n *Node) Totals() *stats.Bucket {
	b := &stats.Bucket{Requests: make(map[string]*stats.Outcomes), Coalesced: n.Coalesced.Load(), Errors: n.ErrorCounts(), Latest: n.errors.all()}
	for name, counts := range n.Counters.Snapshot() {
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
	b.State = &stats.State{Breaker: n.Breaker()}
	if n.Memory != nil {
		b.State.Memory = &stats.Memory{
			Keys: n.Memory.Len(), Bytes: n.Memory.Bytes(), Max: n.Memory.Max(), Evictions: n.Memory.Evictions(),
		}
	}
	return b
}

// Breaker is closed, open, or off without Redis.
func (n *Node) Breaker() string {
	switch {
	case n.Client == nil:
		return "off"
	case n.Store.Up():
		return "closed"
	}
	return "open"
}

// CountEndpoint counts a request for its endpoint. Only a fetch of its own costs the
// origin anything, for as long as the header takes: how long the rest takes depends on the
// client, too.
func (n *Node) CountEndpoint(path string, out *engine.Outcome) {
	hit := out.Result == engine.Hit || out.Result == engine.Stale || out.Result == engine.Revalidated
	var origin time.Duration
	if !out.Asked.IsZero() {
		origin = out.Headed.Sub(out.Asked)
	}
	n.Endpoints.Add(path, hit, origin)
}

// countPurge counts an entry of the journal that purges something, at the time of
// the entry, which is the same on every node.
func (n *Node) countPurge(id journal.ID) {
	n.history.Purged(time.UnixMilli(int64(id.Ms)), time.Now())
}

// keepStatistics collects and shares what was counted until the node ends.
func (n *Node) keepStatistics() {
	for n.ctx.Err() == nil {
		pauseFor(n.ctx, statisticsInterval)
		n.shareStatistics(n.ctx)
	}
}

// shareStatistics writes what was counted to Redis, or leaves it for the next time.
func (n *Node) shareStatistics(ctx context.Context) {
	n.history.Collect(time.Now())
	if n.Breaker() != "closed" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, JournalTimeout)
	defer cancel()
	if err := n.fleet.Flush(ctx); err != nil && ctx.Err() == nil {
		n.Log().Debug("statistics could not be written", "error", err)
	}
}
