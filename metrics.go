package rediscache

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddyserver/caddy/v2"

	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
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

// errorKinds are what went wrong, by kind, for the metric and the statistics.
var errorKinds = []struct {
	name, help string
	count      func(*store.Stats, *journal.Stats) uint64
}{
	{string(store.ErrorRedis), "operations of Redis that failed", func(s *store.Stats, _ *journal.Stats) uint64 { return s.RedisErrors }},
	{string(store.ErrorDroppedWrite), "responses not written to Redis", func(s *store.Stats, _ *journal.Stats) uint64 { return s.DroppedWrites }},
	{string(store.ErrorCorrupt), "values in Redis that are no responses", func(s *store.Stats, _ *journal.Stats) uint64 { return s.Corrupt }},
	{string(store.ErrorOtherVersion), "responses stored by another version", func(s *store.Stats, _ *journal.Stats) uint64 { return s.OtherVersion }},
	{string(store.ErrorDictionaryMiss), "responses whose dictionary was not there", func(s *store.Stats, _ *journal.Stats) uint64 { return s.DictionaryMisses }},
	{errorMalformed, "entries of the journal that were skipped", func(_ *store.Stats, j *journal.Stats) uint64 { return j.Malformed }},
	{errorGap, "times at which purges may have been missed", func(_ *store.Stats, j *journal.Stats) uint64 { return j.Gaps }},
}

func helpErrors() string {
	kinds := make([]string, 0, len(errorKinds))
	for _, kind := range errorKinds {
		kinds = append(kinds, kind.name+" ("+kind.help+")")
	}
	return "What went wrong behind the answers: " + strings.Join(kinds, ", ") + "."
}

// errorCounts are the counts since the start, by kind.
func (n *node) errorCounts() map[string]uint64 {
	s, j := n.Store.Stats(), n.Journal.Stats()
	counts := make(map[string]uint64, len(errorKinds))
	for _, kind := range errorKinds {
		counts[kind.name] = kind.count(&s, &j)
	}
	return counts
}

// nodeMetrics are the counters that nobody else keeps.
type nodeMetrics struct {
	purges  [numPurgeKinds]atomic.Uint64
	confirm prometheus.Histogram
	redis   *redisHook
}

func newNodeMetrics() nodeMetrics {
	return nodeMetrics{
		confirm: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: metricPrefix + "purge_confirm_seconds", Help: helpConfirm, Buckets: prometheus.ExponentialBuckets(0.001, 2, 15),
		}),
		redis: newRedisHook(),
	}
}

// The values of the label kind beside those of journal.Kind.
const (
	purgeUnion     = journal.KindAll + 1 + iota // selectors of several kinds
	purgeEvent                                  // an event, which each node expands by its rules
	purgeByRequest                              // by a client's request, whatever its selectors
	numPurgeKinds
)

func purgeKind(kind journal.Kind) string {
	switch kind { //nolint:exhaustive // the others are selectors
	case purgeUnion:
		return "union"
	case purgeEvent:
		return "event"
	case purgeByRequest:
		return "request"
	}
	return kind.String()
}

// countPurge counts an entry that was applied.
func (m *nodeMetrics) countPurge(e *journal.Entry) {
	if e.Op == journal.OpEvent {
		m.purges[purgeEvent].Add(1)
		return
	}
	if (e.Op != journal.OpPurge && e.Op != journal.OpSoftPurge) || len(e.Selectors) == 0 {
		return
	}
	if e.Request {
		m.purges[purgeByRequest].Add(1)
		return
	}
	kind := e.Selectors[0].Kind
	if slices.ContainsFunc(e.Selectors, func(s journal.Selector) bool { return s.Kind != kind }) {
		kind = purgeUnion
	}
	m.purges[kind].Add(1)
}

// collector exports the counters of the node that is active when it is asked.
// A failed reload leaves the admin endpoint with the registry of the
// configuration that failed, so that no node may be tied to a registry.
type collector struct{ node func() *node }

func activeNode() *node {
	if app := started.active(); app != nil {
		return app.node
	}
	return nil
}

// registerMetrics puts the collector into the registry of a configuration.
func registerMetrics(ctx caddy.Context) error {
	registry := ctx.GetMetricsRegistry()
	if registry == nil {
		return nil
	}
	var already prometheus.AlreadyRegisteredError
	if err := registry.Register(collector{activeNode}); err != nil && !errors.As(err, &already) {
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
	n := c.node()
	if n == nil {
		return
	}
	m := metrics{ch}
	for namespace, counts := range n.stats.Snapshot() {
		m.requests(namespace, counts)
	}
	if n.memory != nil {
		m.gauge(descEntries, float64(n.memory.Len()))
		m.gauge(descMemory, float64(n.memory.Bytes()))
	}
	s, j := n.Store.Stats(), n.Journal.Stats()
	for kind := range n.metrics.purges {
		m.count(descPurges, n.metrics.purges[kind].Load(), purgeKind(journal.Kind(kind)))
	}
	m.gauge(descMarks, float64(j.RequestMarks))
	m.count(descForgotten, j.Forgotten)
	n.metrics.confirm.Collect(ch)
	m.count(descCoalesced, n.coalesced.Load())
	m.count(descEvictions, s.Evictions)
	ok, failed := warmJobs.Counts()
	m.count(descWarm, ok, "ok")
	m.count(descWarm, failed, "failed")
	for _, kind := range errorKinds {
		m.count(descErrors, kind.count(&s, &j), kind.name)
	}
	m.gauge(descDisabled, number(!n.app.Load().enabled || n.switches.off(everything)))
	if n.client == nil {
		return
	}
	n.metrics.redis.collect(m)
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
