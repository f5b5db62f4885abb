package node

import (
	"context"
	"sync"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

const (
	// walkTimeout bounds the search of Redis for its keys; what was found by then
	// is reported as partial.
	walkTimeout = 5 * time.Second
	// A walk begins inventoryAge after the last one, or after walkRest times as long as
	// that one took: this node may keep Redis busy for a tenth of the time at most.
	inventoryAge = 3 * time.Second
	walkRest     = 10
	// inventoryKept is how long the last complete walk stands in for one that was not.
	inventoryKept = 5 * time.Minute
)

// inventory is what a walk found. mu is held during a walk, so that all who ask
// meanwhile share it; what is pointed to is not changed any more.
type inventory struct {
	mu         sync.Mutex
	next       time.Time // a walk may begin
	current    *holdings
	complete   *holdings // of the last walk that saw everything
	completeAt time.Time
}

// holdings are the stored responses that requests may be answered from.
type holdings struct {
	partial    bool // not all were seen
	alone      bool // those in the memory of this node, while Redis is away
	keys       int
	bytes      int64
	namespaces map[string]*holding
	ttl        map[string]int // by remaining freshness lifetime
}

type holding struct {
	keys  int
	bytes int64
}

// lifetimes are the classes of remaining freshness lifetimes; each holds what is below its
// bound and in no class before it.
var lifetimes = []struct {
	name  string
	below time.Duration
}{
	{api.LifetimeMinute, time.Minute}, {api.LifetimeFiveMinutes, 5 * time.Minute}, {api.LifetimeHour, time.Hour}, {api.LifetimeDay, 24 * time.Hour},
}

func lifetimeOf(rec *store.Record, now time.Time) string {
	if !rec.Freshness.Fresh(now) {
		return api.LifetimeStale
	}
	remaining := rec.Freshness.Remaining(now)
	for _, class := range lifetimes {
		if remaining < class.below {
			return class.name
		}
	}
	return api.LifetimeLongest
}

// holdings counts the stored responses, unless that was done a moment ago.
func (n *Node) holdings(ctx context.Context) *holdings {
	return n.inventory.get(func() *holdings {
		// Others wait for the walk, too, so that it does not end with the first who asked.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), walkTimeout)
		defer cancel()
		return n.takeInventory(ctx)
	})
}

// get returns what walk found, now or before.
func (i *inventory) get(walk func() *holdings) *holdings {
	i.mu.Lock()
	defer i.mu.Unlock()
	began := time.Now()
	if began.Before(i.next) {
		return i.current
	}
	i.current = walk()
	ended := time.Now()
	i.next = ended.Add(max(inventoryAge, walkRest*ended.Sub(began)))
	switch {
	case !i.current.partial && !i.current.alone:
		i.complete, i.completeAt = i.current, ended
	case i.complete != nil && ended.Sub(i.completeAt) < inventoryKept:
		i.current = i.complete
	}
	return i.current
}

// takeInventory counts what may be of use: not what a purge covers, which the sweep
// has yet to remove, no base records, whose variants count, and nothing that others
// keep under the prefix.
func (n *Node) takeInventory(ctx context.Context) *holdings {
	h := &holdings{
		alone: n.Redis != nil && !n.Store.Up(), namespaces: make(map[string]*holding),
		ttl: map[string]int{api.LifetimeLongest: 0, api.LifetimeStale: 0},
	}
	for _, class := range lifetimes {
		h.ttl[class.name] = 0
	}
	now := time.Now()
	h.partial = n.Walk(ctx, func(_ string, rec *store.Record, size int64) bool {
		n.hold(h, rec, size, now)
		return true
	}) != nil
	return h
}

// hold counts a record, nil for what is none, if it may be of use.
func (n *Node) hold(h *holdings, rec *store.Record, size int64, now time.Time) {
	if rec == nil || rec.IsBase() || !now.Before(rec.Expires) {
		return
	}
	verdict := n.Check(rec)
	if verdict >= journal.Covered {
		return
	}
	lifetime := api.LifetimeStale
	if verdict != journal.SoftCovered {
		lifetime = lifetimeOf(rec, now)
	}
	ns := h.namespaces[rec.Namespace]
	if ns == nil {
		ns = new(holding)
		h.namespaces[rec.Namespace] = ns
	}
	ns.keys++
	ns.bytes += size
	h.keys++
	h.bytes += size
	h.ttl[lifetime]++
}

// Walk calls f with the key, the metadata and the size of every stored response:
// those in Redis, which every node shares, or without Redis those in memory.
func (n *Node) Walk(ctx context.Context, f func(name string, rec *store.Record, size int64) bool) error {
	if n.Redis != nil && n.Store.Up() {
		return n.Redis.Walk(ctx, f)
	}
	if n.Memory != nil {
		n.Memory.Walk(func(rec *store.Record) bool { return f(rec.Key.Full, rec, rec.Weight()) })
	}
	return nil
}
