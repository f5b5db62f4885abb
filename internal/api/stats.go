package api

import (
	"encoding/json"
	"time"
)

// Waiting are the purges of a node that are not recorded yet.
type Waiting struct {
	Purges int       `json:"purges"` // entries of the journal
	Since  time.Time `json:"since"`
}

// Window is the time that statistics are about.
type Window string

// The windows of statistics.
const (
	Hour Window = "1h"
	Day  Window = "24h"
)

// Memory is how full the memory tier of a node is.
type Memory struct {
	Keys      int    `json:"keys"`
	Bytes     int64  `json:"bytes"`
	Max       int64  `json:"max"`
	Evictions uint64 `json:"evictions"`
}

// The classes of remaining freshness lifetimes in ttl_distribution.
const (
	LifetimeMinute      = "<1m"
	LifetimeFiveMinutes = "<5m"
	LifetimeHour        = "<1h"
	LifetimeDay         = "<24h"
	LifetimeLongest     = ">=24h"
	LifetimeStale       = "stale"
)

// Lifetimes are those classes, the shortest first.
var Lifetimes = []string{LifetimeMinute, LifetimeFiveMinutes, LifetimeHour, LifetimeDay, LifetimeLongest, LifetimeStale}

// The outcomes of requests, as X-Cache shows them, and their sum.
const (
	Hit         = "HIT"
	Stale       = "STALE"
	Revalidated = "REVALIDATED"
	Miss        = "MISS"
	Bypass      = "BYPASS"
	Total       = "total"
)

// Statistics are the answer of GET /redis_cache/stats: of all nodes in the window,
// unless it says otherwise.
type Statistics struct {
	Window     Window                          `json:"window"`
	Alone      bool                            `json:"alone,omitempty"` // Redis gives no answer: some of it is this node's own only
	Requests   map[string]uint64               `json:"requests"`        // total and by outcome
	HitRate    map[string]float64              `json:"hit_rate"`        // of both windows
	DurationMS map[string]Durations            `json:"duration_ms"`     // until the header; of hits and misses, see totals
	Keys       int                             `json:"keys"`            // in Redis, or in memory where there is no Redis
	Bytes      int64                           `json:"bytes"`
	Partial    bool                            `json:"partial,omitempty"` // keys and bytes were not all counted
	Namespaces map[string]*NamespaceStatistics `json:"namespaces"`
	TTL        map[string]int                  `json:"ttl_distribution"`
	PurgeRate  float64                         `json:"invalidations_per_minute"`
	Top        []EndpointStatistics            `json:"top_endpoints"`     // with the highest hit rates
	Bottom     []EndpointStatistics            `json:"bottom_endpoints"`  // with the lowest
	Costly     []EndpointStatistics            `json:"costly_endpoints"`  // by the time that caching would save
	Breaker    string                          `json:"breaker"`           // of this node, in front of Redis: closed, open or off
	Waiting    *Waiting                        `json:"waiting,omitempty"` // of this node
	Nodes      []NodeStatistics                `json:"nodes"`
	Memory     *Memory                         `json:"memory,omitempty"` // of this node
	Coalesced  uint64                          `json:"coalesced"`        // requests that another request's fetch has answered
	Errors     map[string]ErrorStatistics      `json:"errors"`           // by kind
}

// ErrorStatistics are the errors of a kind.
type ErrorStatistics struct {
	Count uint64     `json:"count"`
	Last  string     `json:"last,omitempty"` // the text of the latest one, if it is known
	At    *time.Time `json:"at,omitempty"`   // when that was
}

// UnmarshalJSON reads what older versions answer, too: the count alone.
func (e *ErrorStatistics) UnmarshalJSON(text []byte) error {
	if json.Unmarshal(text, &e.Count) == nil {
		return nil
	}
	type plain ErrorStatistics
	return json.Unmarshal(text, (*plain)(e))
}

// Durations are in milliseconds.
type Durations struct {
	Mean float64 `json:"mean"`
	P50  float64 `json:"p50"`
	P95  float64 `json:"p95"`
	P99  float64 `json:"p99"`
}

// NamespaceStatistics are those of a namespace.
type NamespaceStatistics struct {
	Requests map[string]uint64 `json:"requests"`
	HitRate  float64           `json:"hit_rate"`
	Keys     int               `json:"keys"`
	Bytes    int64             `json:"bytes"`
	Share    float64           `json:"share"` // of all keys
}

// EndpointStatistics are those of the paths that fit a template.
type EndpointStatistics struct {
	Endpoint string  `json:"endpoint"` // a path template
	HitRate  float64 `json:"hit_rate"`
	Requests uint64  `json:"requests"`
	OriginMS float64 `json:"origin_ms"` // for which requests waited for the origin, in all
}

// NodeStatistics are those of a node.
type NodeStatistics struct {
	ID       string            `json:"id"`
	Self     bool              `json:"self"`
	Live     bool              `json:"live"` // has shared its numbers within the last two minutes
	Requests map[string]uint64 `json:"requests"`
	HitRate  float64           `json:"hit_rate"`
	Breaker  string            `json:"breaker,omitempty"`
	Memory   *Memory           `json:"memory,omitempty"`
}

// Matched is what the memory of a node held of what a purge covers. Memory that is off is
// not counted.
type Matched struct {
	// Stored responses that the purge covers and no earlier one did. Absent if purges
	// come so fast that they are not counted.
	Memory *int `json:"matched_memory,omitempty"`
	// Whether counting ended early, so that there may be more.
	Partial bool `json:"matched_memory_partial,omitempty"`
}
