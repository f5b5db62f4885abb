package rediscache

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

const (
	// walkTimeout bounds the search of Redis for its keys; what was found by then
	// is reported as partial.
	walkTimeout = 5 * time.Second
	// inventoryAge is how long the result of a walk is good enough.
	inventoryAge = 3 * time.Second
)

// inventory is what a walk found. mu is held during a walk, so that all who ask
// meanwhile share it; what current points to is not changed any more.
type inventory struct {
	mu      sync.Mutex
	at      time.Time // of the end of the walk
	current *holdings
}

// holdings are the stored responses.
type holdings struct {
	partial    bool // not all were seen
	keys       int
	bytes      int64
	namespaces map[string]*holding
	ttl        map[string]int // by remaining freshness lifetime
}

type holding struct {
	keys  int
	bytes int64
}

// lifetimes are the classes of remaining freshness lifetimes; each holds what is
// below its bound and in no class before it.
var lifetimes = []struct {
	name  string
	below time.Duration
}{{"<1m", time.Minute}, {"<5m", 5 * time.Minute}, {"<1h", time.Hour}, {"<24h", 24 * time.Hour}}

const (
	lifetimeLongest = ">=24h"
	lifetimeStale   = "stale"
)

func lifetimeOf(rec *store.Record, now time.Time) string {
	if !rec.Freshness.Fresh(now) {
		return lifetimeStale
	}
	remaining := rec.Freshness.Remaining(now)
	for _, class := range lifetimes {
		if remaining < class.below {
			return class.name
		}
	}
	return lifetimeLongest
}

// holdings counts the stored responses, unless that was done a moment ago.
func (n *node) holdings(ctx context.Context) *holdings {
	i := &n.inventory
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.current == nil || time.Since(i.at) >= inventoryAge {
		// Others wait for the walk, too, so that it does not end with the first who asked.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), walkTimeout)
		defer cancel()
		i.current = n.takeInventory(ctx)
		i.at = time.Now()
	}
	return i.current
}

func (n *node) takeInventory(ctx context.Context) *holdings {
	h := &holdings{namespaces: make(map[string]*holding), ttl: map[string]int{lifetimeLongest: 0, lifetimeStale: 0}}
	for _, class := range lifetimes {
		h.ttl[class.name] = 0
	}
	now := time.Now()
	h.partial = n.walk(ctx, func(name string, rec *store.Record, size int64) bool {
		namespace, _, _ := strings.Cut(strings.TrimPrefix(name, n.prefix+":"), ":")
		ns := h.namespaces[namespace]
		if ns == nil {
			ns = new(holding)
			h.namespaces[namespace] = ns
		}
		ns.keys++
		ns.bytes += size
		h.keys++
		h.bytes += size
		if rec != nil && !rec.IsBase() {
			h.ttl[lifetimeOf(rec, now)]++
		}
		return true
	}) != nil
	return h
}

// walk calls f with the key, the metadata and the size of every stored response:
// those in Redis, which every node shares, or without Redis those in memory.
func (n *node) walk(ctx context.Context, f func(name string, rec *store.Record, size int64) bool) error {
	if n.redis != nil && n.store.Up() {
		return n.redis.Walk(ctx, f)
	}
	if n.memory != nil {
		n.memory.Walk(func(rec *store.Record) bool { return f(rec.Key.Full, rec, rec.Weight()) })
	}
	return nil
}
