package node

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
	"github.com/gplus-recycling/caddy-redis-cache/internal/stats"
)

const (
	// Bounds of the lists in an answer.
	maxListedEndpoints = 20
	maxListedNodes     = 100
	// minRequests is how often an endpoint must have been asked for to be one of
	// the best or the worst.
	minRequests = 10
)

var windowMinutes = map[api.Window]float64{api.Hour: 60, api.Day: 24 * 60}

// Statistics are those of the fleet in a window, as far as Redis tells.
func (n *Node) Statistics(ctx context.Context, window api.Window) *api.Statistics {
	now := time.Now()
	n.history.Collect(now)
	s := &api.Statistics{Window: window, Breaker: n.Breaker(), Waiting: n.Waiting(), Namespaces: make(map[string]*api.NamespaceStatistics)}
	readCtx, cancel := context.WithTimeout(ctx, JournalTimeout)
	defer cancel()
	hour, day, err := n.fleet.Report(readCtx, now, stats.Window(window), s.Breaker == "closed")
	if err != nil {
		n.Log().Debug("statistics of other nodes could not be read", "error", err)
	}
	_, hourRate := byOutcome(hour.Total.Total())
	_, dayRate := byOutcome(day.Total.Total())
	s.HitRate = map[string]float64{"1h": hourRate, "24h": dayRate}
	report := hour
	if window == api.Day {
		report = day
	}
	addCounts(s, &report.Total)
	s.PurgeRate = float64(report.Total.Purges) / windowMinutes[window]
	s.Errors = make(map[string]api.ErrorStatistics, len(ErrorKinds))
	for _, kind := range ErrorKinds {
		e := api.ErrorStatistics{Count: report.Total.Errors[kind.Name]}
		if last, known := report.Total.Latest[kind.Name]; known {
			e.Last, e.At = last.Text, &last.At
		}
		s.Errors[kind.Name] = e
	}
	s.Top, s.Bottom, s.Costly = listEndpoints(report.Endpoints)
	s.Nodes = listNodes(report.Nodes, hour.Nodes, n.Journal.NodeID())
	if own := hour.Nodes[n.Journal.NodeID()]; own != nil && own.State != nil {
		s.Memory = (*api.Memory)(own.State.Memory)
	}
	held := n.holdings(ctx)
	addHoldings(s, held)
	s.Alone = hour.Alone || held.alone
	return s
}

func addCounts(s *api.Statistics, total *stats.Bucket) {
	s.Requests, _ = byOutcome(total.Total())
	for name, requests := range total.Requests {
		ns := namespaceOf(s, name)
		ns.Requests, ns.HitRate = byOutcome(*requests)
	}
	s.DurationMS = map[string]api.Durations{"hit": durationsOf(&total.Hit), "miss": durationsOf(&total.Miss)}
	s.Coalesced = total.Coalesced
}

func durationsOf(h *stats.Histogram) api.Durations {
	return api.Durations{
		Mean: milliseconds(h.Mean()), P50: milliseconds(h.Quantile(0.5)),
		P95: milliseconds(h.Quantile(0.95)), P99: milliseconds(h.Quantile(0.99)),
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / 1e6 }

func addHoldings(s *api.Statistics, h *holdings) {
	s.Keys, s.Bytes, s.Partial, s.TTL = h.keys, h.bytes, h.partial, h.ttl
	for name, held := range h.namespaces {
		ns := namespaceOf(s, name)
		ns.Keys, ns.Bytes, ns.Share = held.keys, held.bytes, float64(held.keys)/float64(h.keys)
	}
}

func namespaceOf(s *api.Statistics, name string) *api.NamespaceStatistics {
	ns := s.Namespaces[name]
	if ns == nil {
		ns = new(api.NamespaceStatistics)
		ns.Requests, _ = byOutcome(stats.Outcomes{})
		s.Namespaces[name] = ns
	}
	return ns
}

// listEndpoints returns the endpoints with the highest and with the lowest hit
// rates, and those that cost the origin the most time.
func listEndpoints(endpoints map[string]stats.Endpoint) (top, bottom, costly []api.EndpointStatistics) {
	top, bottom, costly = []api.EndpointStatistics{}, []api.EndpointStatistics{}, []api.EndpointStatistics{}
	for _, template := range slices.Sorted(maps.Keys(endpoints)) {
		e := endpoints[template]
		line := api.EndpointStatistics{
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
	first := func(lines []api.EndpointStatistics, compare func(a, b api.EndpointStatistics) int) []api.EndpointStatistics {
		slices.SortStableFunc(lines, compare)
		return lines[:min(len(lines), maxListedEndpoints)]
	}
	byRequests := func(a, b api.EndpointStatistics) int { return cmp.Compare(b.Requests, a.Requests) }
	top = first(top, func(a, b api.EndpointStatistics) int {
		return cmp.Or(cmp.Compare(b.HitRate, a.HitRate), byRequests(a, b))
	})
	bottom = first(bottom, func(a, b api.EndpointStatistics) int {
		return cmp.Or(cmp.Compare(a.HitRate, b.HitRate), byRequests(a, b))
	})
	costly = first(costly, func(a, b api.EndpointStatistics) int { return cmp.Compare(b.OriginMS, a.OriginMS) })
	return top, bottom, costly
}

// listNodes lists the nodes that counted something or are there, by ID. When there
// are too many, those that are gone are left out first, and those with few
// requests. What a node is like is known from the last minutes.
func listNodes(counted, recent map[string]*stats.Bucket, self string) []api.NodeStatistics {
	lines := make([]api.NodeStatistics, 0, len(counted))
	for id, b := range counted {
		line := api.NodeStatistics{ID: id, Self: id == self}
		line.Requests, line.HitRate = byOutcome(b.Total())
		if r := recent[id]; r != nil && r.State != nil {
			line.Live, line.Breaker, line.Memory = true, r.State.Breaker, (*api.Memory)(r.State.Memory)
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
	slices.SortFunc(lines, func(a, b api.NodeStatistics) int {
		return cmp.Or(first(a.Self)-first(b.Self), first(a.Live)-first(b.Live),
			cmp.Compare(b.Requests["total"], a.Requests["total"]), cmp.Compare(a.ID, b.ID))
	})
	lines = lines[:min(len(lines), maxListedNodes)]
	slices.SortFunc(lines, func(a, b api.NodeStatistics) int { return cmp.Compare(a.ID, b.ID) })
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
