package rediscache

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/stats"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// walkTimeout bounds the search of Redis for its keys; what was found by then
// is reported as partial.
const walkTimeout = 5 * time.Second

// statistics is the answer of GET /redis_cache/stats.
type statistics struct {
	Requests   map[string]uint64               `json:"requests"` // of this node since it started; total and by outcome
	HitRate    map[string]float64              `json:"hit_rate"` // of the last 1h and 24h
	Keys       int                             `json:"keys"`     // in Redis, or in memory where there is no Redis
	Bytes      int64                           `json:"bytes"`
	Partial    bool                            `json:"partial,omitempty"` // keys and bytes were not all counted
	Namespaces map[string]*namespaceStatistics `json:"namespaces"`
	Memory     *memoryStatistics               `json:"memory,omitempty"`
	Breaker    string                          `json:"breaker"`   // in front of Redis: closed, open or off
	Coalesced  uint64                          `json:"coalesced"` // requests that another request's fetch has answered
	Errors     map[string]uint64               `json:"errors"`
}

type namespaceStatistics struct {
	Requests map[string]uint64 `json:"requests"`
	HitRate  float64           `json:"hit_rate"`
	Keys     int               `json:"keys"`
	Bytes    int64             `json:"bytes"`
	Share    float64           `json:"share"` // of all keys
}

type memoryStatistics struct {
	Keys      int    `json:"keys"`
	Bytes     int64  `json:"bytes"`
	Max       int64  `json:"max"`
	Evictions uint64 `json:"evictions"`
}

func handleStats(app *App, w http.ResponseWriter, r *http.Request) error {
	return writeJSON(w, http.StatusOK, app.node.statistics(r.Context()))
}

func (n *node) statistics(ctx context.Context) *statistics {
	s := &statistics{Namespaces: make(map[string]*namespaceStatistics), Breaker: "off"}
	var total [stats.MaxOutcomes]uint64
	for name, counts := range n.stats.Snapshot() {
		var requests [stats.MaxOutcomes]uint64
		for outcome := range numOutcomes {
			requests[outcome] = counts.Of(uint8(outcome))
			total[outcome] += requests[outcome]
		}
		ns := s.namespace(name)
		ns.Requests, ns.HitRate = byOutcome(requests)
	}
	s.Requests, _ = byOutcome(total)
	now := time.Now()
	s.HitRate = map[string]float64{"1h": n.window.HitRate(now, 60), "24h": n.window.HitRate(now, 24*60)}
	if n.memory != nil {
		s.Memory = &memoryStatistics{
			Keys: n.memory.Len(), Bytes: n.memory.Bytes(), Max: n.memory.Max(), Evictions: n.memory.Evictions(),
		}
	}
	counters := n.store.Stats()
	s.Errors = map[string]uint64{
		"redis": counters.RedisErrors, "dropped_writes": counters.DroppedWrites, "corrupt": counters.Corrupt,
		"other_version": counters.OtherVersion, "dictionary_misses": counters.DictionaryMisses,
	}
	s.Coalesced = n.coalesced.Load()
	if n.client != nil {
		s.Breaker = "open"
		if n.store.Up() {
			s.Breaker = "closed"
		}
	}
	n.countKeys(ctx, s)
	return s
}

// countKeys counts the stored responses of each namespace.
func (n *node) countKeys(ctx context.Context, s *statistics) {
	count := func(name string, size int64) {
		namespace, _, _ := strings.Cut(strings.TrimPrefix(name, n.prefix+":"), ":")
		ns := s.namespace(namespace)
		ns.Keys++
		ns.Bytes += size
		s.Keys++
		s.Bytes += size
	}
	ctx, cancel := context.WithTimeout(ctx, walkTimeout)
	defer cancel()
	s.Partial = n.walk(ctx, func(name string, _ *store.Record, size int64) bool {
		count(name, size)
		return true
	}) != nil
	for _, ns := range s.Namespaces {
		if s.Keys > 0 {
			ns.Share = float64(ns.Keys) / float64(s.Keys)
		}
	}
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

func (s *statistics) namespace(name string) *namespaceStatistics {
	ns := s.Namespaces[name]
	if ns == nil {
		ns = &namespaceStatistics{Requests: map[string]uint64{}}
		s.Namespaces[name] = ns
	}
	return ns
}

// byOutcome names the counts. The hit rate is the share of the requests that
// were answered from the store, among those in which the cache took part.
func byOutcome(counts [stats.MaxOutcomes]uint64) (requests map[string]uint64, hitRate float64) {
	requests = make(map[string]uint64, numOutcomes+1)
	var total uint64
	for outcome := range numOutcomes {
		requests[outcome.String()] = counts[outcome]
		total += counts[outcome]
	}
	requests["total"] = total
	answered := counts[OutcomeHit] + counts[OutcomeStale] + counts[OutcomeRevalidated]
	if taken := total - counts[OutcomeBypass]; taken > 0 {
		hitRate = float64(answered) / float64(taken)
	}
	return requests, hitRate
}
