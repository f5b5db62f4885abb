package rediscache

import (
	"errors"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddyserver/caddy/v2"

	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
	"github.com/gplus-recycling/caddy-redis-cache/internal/node"
	"github.com/gplus-recycling/caddy-redis-cache/internal/stats"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// Metrics are read from the counters of the node when they are scraped. Each
// configuration has a registry of its own while the node outlives them, so that
// counts survive reloads. No label has a value that clients control.

// metricNames are the names of all metrics, filled by newDesc.
var metricNames []string

func newDesc(name, help string, labels ...string) *prometheus.Desc {
	name = metricPrefix + name
	metricNames = append(metricNames, name)
	return prometheus.NewDesc(name, help, labels, nil)
}

const (
	metricPrefix = "caddy_redis_cache_"

	helpConfirm  = "Time until every live node had confirmed a purge of the admin API."
	helpDuration = "Time until Redis had answered a command or a pipeline, without commands that wait."
)

var (
	descRequests = newDesc("requests_total", "Requests by outcome, and for those answered from the cache by tier.",
		"namespace", "outcome", "tier")
	descTook = newDesc("request_duration_seconds", "Time from a request's arrival at the cache until the header of the response.",
		"namespace", "outcome")
	descEntries    = newDesc("entries", "Stored responses in the memory of this node.")
	descMemory     = newDesc("memory_bytes", "Size of the stored responses in the memory of this node.")
	descOperations = newDesc("redis_operations_total",
		"Redis commands by result: ok, absent, refused (an error reply) or failed (no reply).", "op", "result")
	descRedisTook = newDesc("redis_duration_seconds", helpDuration, "op")
	descPurges    = newDesc("purges_total", "Purges applied by this node: by selector, and as request those that requests of clients made.", "kind")
	descMarks     = newDesc("request_marks", "What requests of clients have purged and this node remembers.")
	descForgotten = newDesc("request_marks_overflows_total",
		"Times at which requests of clients had purged too much to remember, so that what was stored before was dropped for the hosts with the most of it.")
	descConfirm   = newDesc("purge_confirm_seconds", helpConfirm)
	descCoalesced = newDesc("coalesced_total", "Requests that were answered by the fetch of another request.")
	descEvictions = newDesc("evictions_total", "Stored responses that made room for others in memory.")
	descStored    = newDesc("stored_bytes_total", "Size of the responses written to Redis, before and after compression.", "stage")
	descBreaker   = newDesc("breaker_state", "Circuit breaker in front of Redis: 0 closed, 1 open.")
	descLag       = newDesc("journal_lag_seconds", "Time since the node last knew that it had read the whole journal, or since it started.")
	descWaiting   = newDesc("waiting_purges", "Purges of this node that are not recorded yet, because Redis takes none.")
	descWarm      = newDesc("warm_total", "Requests sent for warming, by result.", "result")
	descErrors    = newDesc("errors_total", helpErrors(), "kind")
	descDisabled  = newDesc("disabled", "Whether the cache is switched off for everything on this node, by configuration or at run time.")

	descs = []*prometheus.Desc{
		descRequests, descTook, descEntries, descMemory, descOperations, descRedisTook, descPurges, descMarks, descForgotten, descConfirm,
		descCoalesced, descEvictions, descStored, descBreaker, descLag, descWaiting, descWarm, descErrors, descDisabled,
	}
)

func helpErrors() string {
	kinds := make([]string, 0, len(node.ErrorKinds))
	for _, kind := range node.ErrorKinds {
		kinds = append(kinds, kind.Name+" ("+kind.Help+")")
	}
	return "What went wrong behind the answers: " + strings.Join(kinds, ", ") + "."
}

// newConfirm makes the histogram of how long purges took to be confirmed.
func newConfirm() prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: metricPrefix + "purge_confirm_seconds", Help: helpConfirm, Buckets: prometheus.ExponentialBuckets(0.001, 2, 15),
	})
}

// collector exports the counters of the node that is active when it is asked.
// A failed reload leaves the admin endpoint with the registry of the
// configuration that failed, so that no node may be tied to a registry.
type collector struct{ app func() *App }

// registerMetrics puts the collector into the registry of a configuration.
func registerMetrics(ctx caddy.Context) error {
	registry := ctx.GetMetricsRegistry()
	if registry == nil {
		return nil
	}
	var already prometheus.AlreadyRegisteredError
	if err := registry.Register(collector{started.active}); err != nil && !errors.As(err, &already) {
		return err
	}
	return nil
}

// Describe implements prometheus.Collector.
func (collector) Describe(ch chan<- *prometheus.Desc) {
	for _, desc := range descs {
		ch <- desc
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	app := c.app()
	if app == nil {
		return
	}
	n := app.node
	m := metrics{ch}
	for namespace, counts := range n.Counters.Snapshot() {
		m.requests(namespace, counts)
	}
	if n.Memory != nil {
		m.gauge(descEntries, float64(n.Memory.Len()))
		m.gauge(descMemory, float64(n.Memory.Bytes()))
	}
	s, j := n.Store.Stats(), n.Journal.Stats()
	n.Purges.Each(func(kind string, count uint64) { m.count(descPurges, count, kind) })
	m.gauge(descMarks, float64(j.RequestMarks))
	m.count(descForgotten, j.Forgotten)
	n.confirm.Collect(ch)
	m.count(descCoalesced, n.Coalesced.Load())
	m.count(descEvictions, s.Evictions)
	ok, failed := warmJobs.Counts()
	m.count(descWarm, ok, "ok")
	m.count(descWarm, failed, "failed")
	for _, kind := range node.ErrorKinds {
		m.count(descErrors, kind.Count(&s, &j), kind.Name)
	}
	m.gauge(descDisabled, number(!app.IsEnabled() || n.IsOff(node.Everything)))
	if n.Client == nil {
		return
	}
	n.redis.collect(m)
	m.count(descStored, s.RawBytes, "raw")
	m.count(descStored, s.EncodedBytes, "encoded")
	m.gauge(descBreaker, number(!n.Store.Up()))
	m.gauge(descLag, j.Lag.Seconds())
	waiting, _ := n.Journal.Waiting()
	m.gauge(descWaiting, float64(waiting))
}

// metrics sends what is collected. What it is told fits the descriptions, which
// a test holds it to.
type metrics struct{ ch chan<- prometheus.Metric }

func (m metrics) gauge(desc *prometheus.Desc, value float64, labels ...string) {
	m.ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
}

func (m metrics) count(desc *prometheus.Desc, value uint64, labels ...string) {
	m.ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(value), labels...)
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// requests sends what a namespace has counted.
func (m metrics) requests(namespace string, counts *stats.Counts) {
	for outcome := range engine.NumResults {
		for tier, n := range counts.Requests[outcome] {
			own := (store.TierName(tier) == store.TierNone) == (outcome == engine.Bypass || outcome == engine.Miss)
			if n > 0 || own {
				m.count(descRequests, n, namespace, outcome.String(), tierLabel(store.TierName(tier)))
			}
		}
		took := &counts.Took[outcome]
		if n := took.Count(); n > 0 {
			m.ch <- prometheus.MustNewConstHistogram(descTook, n, took.Sum.Seconds(), cumulative(took), namespace, outcome.String())
		}
	}
}

func tierLabel(tier store.TierName) string {
	if tier == store.TierNone {
		return "none"
	}
	return tier.String()
}

// maxBound is the longest duration that has a bucket of its own.
const maxBound = 20 * time.Second

// cumulative returns how many durations lie below each power of two. The finer
// buckets would be four times as many series.
func cumulative(h *stats.Histogram) map[float64]uint64 {
	buckets := make(map[float64]uint64)
	var sum uint64
	for i := range stats.NumBuckets - 1 {
		sum += h.Buckets[i]
		if bound := stats.Bound(i); i%4 == 0 && bound <= maxBound {
			buckets[bound.Seconds()] = sum
		}
	}
	return buckets
}

// Interface guards
var _ prometheus.Collector = collector{}
