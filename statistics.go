package rediscache

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/gplus-recycling/caddy-redis-cache/internal/admin"
	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
	"github.com/gplus-recycling/caddy-redis-cache/internal/stats"
)

// statistics is the answer of GET /redis_cache/stats: of all nodes in the window,
// unless it says otherwise.
type statistics struct {
	Window     stats.Window                    `json:"window"`
	Alone      bool                            `json:"alone,omitempty"` // Redis gives no answer: some of it is this node's own only
	Requests   map[string]uint64               `json:"requests"`        // total and by outcome
	HitRate    map[string]float64              `json:"hit_rate"`        // of both windows
	DurationMS map[string]durationStatistics   `json:"duration_ms"`     // until the header; of hits and misses, see totals
	Keys       int                             `json:"keys"`            // in Redis, or in memory where there is no Redis
	Bytes      int64                           `json:"bytes"`
	Partial    bool                            `json:"partial,omitempty"` // keys and bytes were not all counted
	Namespaces map[string]*namespaceStatistics `json:"namespaces"`
	TTL        map[string]int                  `json:"ttl_distribution"`
	PurgeRate  float64                         `json:"invalidations_per_minute"`
	Top        []endpointStatistics            `json:"top_endpoints"`     // with the highest hit rates
	Bottom     []endpointStatistics            `json:"bottom_endpoints"`  // with the lowest
	Costly     []endpointStatistics            `json:"costly_endpoints"`  // by the time that caching would save
	Breaker    string                          `json:"breaker"`           // of this node, in front of Redis: closed, open or off
	Waiting    *api.Waiting                    `json:"waiting,omitempty"` // of this node
	Nodes      []nodeStatistics                `json:"nodes"`
	Memory     *stats.Memory                   `json:"memory,omitempty"` // of this node
	Coalesced  uint64                          `json:"coalesced"`        // requests that another request's fetch has answered
	Errors     map[string]errorStatistics      `json:"errors"`           // by kind
}

// errorStatistics are the errors of a kind.
type errorStatistics struct {
	Count uint64     `json:"count"`
	Last  string     `json:"last,omitempty"` // the text of the latest one, if it is known
	At    *time.Time `json:"at,omitempty"`   // when that was
}

// UnmarshalJSON reads what older versions answer, too: the count alone.
func (e *errorStatistics) UnmarshalJSON(text []byte) error {
	if json.Unmarshal(text, &e.Count) == nil {
		return nil
	}
	type plain errorStatistics
	return json.Unmarshal(text, (*plain)(e))
}

type durationStatistics struct {
	Mean float64 `json:"mean"`
	P50  float64 `json:"p50"`
	P95  float64 `json:"p95"`
	P99  float64 `json:"p99"`
}

type namespaceStatistics struct {
	Requests map[string]uint64 `json:"requests"`
	HitRate  float64           `json:"hit_rate"`
	Keys     int               `json:"keys"`
	Bytes    int64             `json:"bytes"`
	Share    float64           `json:"share"` // of all keys
}

type endpointStatistics struct {
	Endpoint string  `json:"endpoint"` // a path template
	HitRate  float64 `json:"hit_rate"`
	Requests uint64  `json:"requests"`
	OriginMS float64 `json:"origin_ms"` // for which requests waited for the origin, in all
}

type nodeStatistics struct {
	ID       string            `json:"id"`
	Self     bool              `json:"self"`
	Live     bool              `json:"live"` // has shared its numbers within the last two minutes
	Requests map[string]uint64 `json:"requests"`
	HitRate  float64           `json:"hit_rate"`
	Breaker  string            `json:"breaker,omitempty"`
	Memory   *stats.Memory     `json:"memory,omitempty"`
}

const (
	// Bounds of the lists in an answer.
	maxListedEndpoints = 20
	maxListedNodes     = 100
	// minRequests is how often an endpoint must have been asked for to be one of
	// the best or the worst.
	minRequests = 10
)

var windowMinutes = map[stats.Window]float64{stats.Hour: 60, stats.Day: 24 * 60}

func handleStats(app *App, w http.ResponseWriter, r *http.Request) error {
	window := stats.Window(cmp.Or(r.URL.Query().Get("window"), string(stats.Hour)))
	if windowMinutes[window] == 0 {
		return admin.Error(http.StatusBadRequest, fmt.Errorf("window: %q is neither %s nor %s", string(window), stats.Hour, stats.Day))
	}
	return admin.WriteJSON(w, http.StatusOK, app.node.statistics(r.Context(), window))
}

func (n *node) statistics(ctx context.Context, window stats.Window) *statistics {
	now := time.Now()
	n.history.Collect(now)
	s := &statistics{Window: window, Breaker: n.breakerState(), Waiting: admin.WaitingOf(n.Journal), Namespaces: make(map[string]*namespaceStatistics)}
	readCtx, cancel := context.WithTimeout(ctx, journalTimeout)
	defer cancel()
	hour, day, err := n.fleet.Report(readCtx, now, window, s.Breaker == "closed")
	if err != nil {
		n.logger().Debug("statistics of other nodes could not be read", zap.Error(err))
	}
	_, hourRate := byOutcome(hour.Total.Total())
	_, dayRate := byOutcome(day.Total.Total())
	s.HitRate = map[string]float64{"1h": hourRate, "24h": dayRate}
	report := hour
	if window == stats.Day {
		report = day
	}
	s.addCounts(&report.Total)
	s.PurgeRate = float64(report.Total.Purges) / windowMinutes[window]
	s.Errors = make(map[string]errorStatistics, len(errorKinds))
	for _, kind := range errorKinds {
		e := errorStatistics{Count: report.Total.Errors[kind.name]}
		if last, known := report.Total.Latest[kind.name]; known {
			e.Last, e.At = last.Text, &last.At
		}
		s.Errors[kind.name] = e
	}
	s.Top, s.Bottom, s.Costly = listEndpoints(report.Endpoints)
	s.Nodes = listNodes(report.Nodes, hour.Nodes, n.Journal.NodeID())
	if own := hour.Nodes[n.Journal.NodeID()]; own != nil && own.State != nil {
		s.Memory = own.State.Memory
	}
	held := n.holdings(ctx)
	s.addHoldings(held)
	s.Alone = hour.Alone || held.alone
	return s
}

func (s *statistics) addCounts(total *stats.Bucket) {
	s.Requests, _ = byOutcome(total.Total())
	for name, requests := range total.Requests {
		ns := s.namespace(name)
		ns.Requests, ns.HitRate = byOutcome(*requests)
	}
	s.DurationMS = map[string]durationStatistics{"hit": durationsOf(&total.Hit), "miss": durationsOf(&total.Miss)}
	s.Coalesced = total.Coalesced
}

func durationsOf(h *stats.Histogram) durationStatistics {
	return durationStatistics{
		Mean: milliseconds(h.Mean()), P50: milliseconds(h.Quantile(0.5)),
		P95: milliseconds(h.Quantile(0.95)), P99: milliseconds(h.Quantile(0.99)),
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / 1e6 }

func (s *statistics) addHoldings(h *holdings) {
	s.Keys, s.Bytes, s.Partial, s.TTL = h.keys, h.bytes, h.partial, h.ttl
	for name, held := range h.namespaces {
		ns := s.namespace(name)
		ns.Keys, ns.Bytes, ns.Share = held.keys, held.bytes, float64(held.keys)/float64(h.keys)
	}
}

func (s *statistics) namespace(name string) *namespaceStatistics {
	ns := s.Namespaces[name]
	if ns == nil {
		ns = new(namespaceStatistics)
		ns.Requests, _ = byOutcome(stats.Outcomes{})
		s.Namespaces[name] = ns
	}
	return ns
}

// listEndpoints returns the endpoints with the highest and with the lowest hit
// rates, and those that cost the origin the most time.
func listEndpoints(endpoints map[string]stats.Endpoint) (top, bottom, costly []endpointStatistics) {
	top, bottom, costly = []endpointStatistics{}, []endpointStatistics{}, []endpointStatistics{}
	for _, template := range slices.Sorted(maps.Keys(endpoints)) {
		e := endpoints[template]
		line := endpointStatistics{
			Endpoint: template, HitRate: float64(e.Hits) / float64(max(e.Requests, 1)), Requests: e.Requests, OriginMS: milliseconds(e.Origin),
		}
		if e.Requests >= minRequests && e.Hits > 0 {
			top = append(top, line)
		}
		if e.Requests >= minRequests {
			bottom = append(bottom, line)
		}
		if line.OriginMS > 0 {
			costly = append(costly, line)
		}
	}
	first := func(lines []endpointStatistics, compare func(a, b endpointStatistics) int) []endpointStatistics {
		slices.SortStableFunc(lines, compare)
		return lines[:min(len(lines), maxListedEndpoints)]
	}
	byRequests := func(a, b endpointStatistics) int { return cmp.Compare(b.Requests, a.Requests) }
	top = first(top, func(a, b endpointStatistics) int { return cmp.Or(cmp.Compare(b.HitRate, a.HitRate), byRequests(a, b)) })
	bottom = first(bottom, func(a, b endpointStatistics) int { return cmp.Or(cmp.Compare(a.HitRate, b.HitRate), byRequests(a, b)) })
	costly = first(costly, func(a, b endpointStatistics) int { return cmp.Compare(b.OriginMS, a.OriginMS) })
	return top, bottom, costly
}

// listNodes lists the nodes that counted something or are there, by ID. When there
// are too many, those that are gone are left out first, and those with few
// requests. What a node is like is known from the last minutes.
func listNodes(counted, recent map[string]*stats.Bucket, self string) []nodeStatistics {
	lines := make([]nodeStatistics, 0, len(counted))
	for id, b := range counted {
		line := nodeStatistics{ID: id, Self: id == self}
		line.Requests, line.HitRate = byOutcome(b.Total())
		if r := recent[id]; r != nil && r.State != nil {
			line.Live, line.Breaker, line.Memory = true, r.State.Breaker, r.State.Memory
		}
		if line.Live || line.Requests["total"] > 0 {
			lines = append(lines, line)
		}
	}
	first := func(wanted bool) int {
		if wanted {
			return 0
		}
		return 1
	}
	slices.SortFunc(lines, func(a, b nodeStatistics) int {
		return cmp.Or(first(a.Self)-first(b.Self), first(a.Live)-first(b.Live),
			cmp.Compare(b.Requests["total"], a.Requests["total"]), cmp.Compare(a.ID, b.ID))
	})
	lines = lines[:min(len(lines), maxListedNodes)]
	slices.SortFunc(lines, func(a, b nodeStatistics) int { return cmp.Compare(a.ID, b.ID) })
	return lines
}

// byOutcome names the counts. The hit rate is the share of the requests that
// were answered from the store, among those in which the cache took part.
func byOutcome(counts stats.Outcomes) (requests map[string]uint64, hitRate float64) {
	requests = make(map[string]uint64, engine.NumResults+1)
	var total uint64
	for outcome := range engine.NumResults {
		requests[outcome.String()] = counts[outcome]
		total += counts[outcome]
	}
	requests["total"] = total
	answered := counts[engine.Hit] + counts[engine.Stale] + counts[engine.Revalidated]
	if taken := total - counts[engine.Bypass]; taken > 0 {
		hitRate = float64(answered) / float64(taken)
	}
	return requests, hitRate
}
