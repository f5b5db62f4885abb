package rediscache

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
	"github.com/gplus-recycling/caddy-redis-cache/internal/config"
	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/redisconn"
	"github.com/gplus-recycling/caddy-redis-cache/internal/stats"
)

// gather collects through a registry that checks what it is given.
func gather(t *testing.T, app *App) []*dto.MetricFamily {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(collector{func() *App { return app }})
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// samples are the values by name and label values, those of histograms their
// counts.
func samples(t *testing.T, n *process) map[string]float64 {
	t.Helper()
	return samplesOf(t, &App{node: n})
}

func samplesOf(t *testing.T, app *App) map[string]float64 {
	t.Helper()
	values := make(map[string]float64)
	for _, family := range gather(t, app) {
		for _, m := range family.GetMetric() {
			name := strings.TrimPrefix(family.GetName(), metricPrefix)
			for _, label := range m.GetLabel() {
				name += " " + label.GetValue()
			}
			values[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return values
}

func TestMetrics(t *testing.T) {
	s := newSite(t, `{"ttl":{"duration":3600000000000}}`, answer("body"))
	for range 3 {
		s.get("/a")
	}
	s.get("/b")
	s.do(http.MethodDelete, "/a")
	countPurge(s.handler.node, journal.OpPurge, journal.KindTag, journal.KindTag)
	countPurge(s.handler.node, journal.OpSoftPurge, journal.KindTag, journal.KindHost)
	countPurge(s.handler.node, journal.OpEvent)
	countPurge(s.handler.node, journal.OpEnable, journal.KindAll)
	got := samples(t, s.handler.node)
	for name, want := range map[string]float64{
		"requests_total general HIT memory": 2, "requests_total general MISS none": 2, "requests_total general BYPASS none": 1,
		"requests_total general STALE memory": 0, "request_duration_seconds general HIT": 2, "request_duration_seconds general MISS": 2,
		"entries": 2, "purges_total request": 1, "purges_total url": 0, "purges_total tag": 1, "purges_total union": 1, "purges_total event": 1,
		"purges_total all": 0, "coalesced_total": 0, "purge_confirm_seconds": 0, "errors_total corrupt": 0,
	} {
		if value, exported := got[name]; !exported || value != want {
			t.Errorf("%s is %v (%t), want %v", name, value, exported, want)
		}
	}
	if got["memory_bytes"] <= 0 {
		t.Error("memory has no size")
	}
	for _, absent := range []string{"breaker_state", "journal_lag_seconds", "waiting_purges", "stored_bytes_total raw"} {
		if _, exported := got[absent]; exported {
			t.Errorf("%s is exported without Redis", absent)
		}
	}
}

// TestErrorKinds finds what the metric counts in the statistics, under the same
// names.
func TestErrorKinds(t *testing.T) {
	n := newSite(t, `{}`, answer("x")).handler.node
	var exported []string
	for name := range samples(t, n) {
		if kind, ok := strings.CutPrefix(name, "errors_total "); ok {
			exported = append(exported, kind)
		}
	}
	slices.Sort(exported)
	counted := slices.Sorted(maps.Keys(n.Statistics(t.Context(), api.Hour).Errors))
	if !slices.Equal(exported, counted) || !slices.Contains(counted, "journal_gap") {
		t.Errorf("the metric has %q, statistics have %q", exported, counted)
	}
	wantSame(t, "kinds of errors", readPage(t, "docs/operations.md").section(t, "### Errors").firstColumn(), exported)
}

// TestDisabledMetric is about everything, whoever switched it off.
func TestDisabledMetric(t *testing.T) {
	s := newSite(t, `{}`, answer("x"))
	n := s.handler.node
	want := func(when string, value float64) {
		t.Helper()
		if got, exported := samplesOf(t, s.handler.app)["disabled"]; got != value || !exported {
			t.Errorf("%s: disabled is %v (%t), want %v", when, got, exported, value)
		}
	}
	turn := func(enable bool, namespace string) {
		t.Helper()
		if _, err := n.Journal.Switch(t.Context(), enable, namespace, "", "", 0); err != nil {
			t.Fatal(err)
		}
	}
	want("from the start", 0)
	turn(false, "general")
	want("without a namespace", 0)
	turn(false, "")
	want("switched off", 1)
	turn(true, "")
	want("switched on", 0)
	s.handler.app.Enabled = new(false)
	want("off by configuration", 1)
}

func countPurge(n *process, op journal.Op, kinds ...journal.Kind) {
	e := journal.Entry{}
	e.Op = op
	for _, kind := range kinds {
		e.Selectors = append(e.Selectors, journal.Selector{Kind: kind, Value: "x"})
	}
	n.Purges.Count(&e)
}

// TestMetricNames holds every metric to Prometheus's rules, with everything that
// a node can have.
func TestMetricNames(t *testing.T) {
	n := redisNode(t)
	n.Counters.Namespace("general").Add(uint8(engine.Hit), 1, false, time.Millisecond)
	n.Counters.Namespace("general").Add(uint8(engine.Hit), 1, false, time.Millisecond)
	families := gather(t, &App{node: n})
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	exported := make([]string, 0, len(families))
	for _, family := range families {
		exported = append(exported, family.GetName())
	}
	want := slices.Sorted(slices.Values(metricNames))
	if !slices.Equal(exported, want) {
		t.Errorf("exported are %q, described %q", exported, want)
	}
	if got := samples(t, n)["breaker_state"]; got != 1 {
		t.Errorf("breaker_state is %v before Redis has answered", got)
	}
}

// redisNode is a node that is not started, on a Redis that is not there.
func redisNode(t *testing.T) *process {
	t.Helper()
	app := &App{Global: config.Global{Prefix: "cache", Memory: config.DefaultMemory}, logger: zap.NewNop()}
	conn, err := redisconn.Resolve(&redisconn.Config{URL: "redis://127.0.0.1:1"}, redisconn.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	n := newProcess(conn, app)
	t.Cleanup(func() {
		n.Memory.Close()
		n.Client.Close()
		n.Slow.Close()
	})
	return n
}

func TestMetricsOfAnyConfiguration(t *testing.T) {
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	defer cancel()
	for range 2 { // by the admin API and by the app
		if err := registerMetrics(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if n := (collector{func() *App { return nil }}); true {
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(n)
		if families, err := registry.Gather(); err != nil || len(families) > 0 {
			t.Errorf("without a node there are %v %v", families, err)
		}
	}
}

func TestCumulative(t *testing.T) {
	var c stats.Counter
	for _, took := range []time.Duration{time.Microsecond, 100 * time.Microsecond, time.Millisecond, time.Hour} {
		c.Add(0, 0, false, took)
	}
	took := &c.Counts().Took[0]
	buckets := cumulative(took)
	if len(buckets) != 25 {
		t.Errorf("%d buckets", len(buckets))
	}
	for bound, want := range map[float64]uint64{1e-6: 0, 2e-6: 1, 64e-6: 1, 128e-6: 2, 1024e-6: 3, 16.777216: 3} {
		if got, ok := buckets[bound]; !ok || got != want {
			t.Errorf("%d (%t) below %v, want %d", got, ok, bound, want)
		}
	}
}

func TestRedisHook(t *testing.T) {
	n := redisNode(t)
	ctx := t.Context()
	replies := map[string]error{"get": redis.Nil, "set": nil, "ping": refusedError("ERR no"), "xadd": fmt.Errorf("no reply")}
	process := n.redis.ProcessHook(func(_ context.Context, cmd redis.Cmder) error { return replies[cmd.Name()] })
	for name := range replies {
		_ = process(ctx, redis.NewCmd(ctx, name))
	}
	_ = process(ctx, redis.NewCmd(ctx, "xread"))
	replies["evalsha"] = refusedError("NOSCRIPT No matching script")
	_ = process(ctx, redis.NewCmd(ctx, "evalsha"))
	pipeline := n.redis.ProcessPipelineHook(func(context.Context, []redis.Cmder) error { return nil })
	_ = pipeline(ctx, []redis.Cmder{redis.NewCmd(ctx, "set"), redis.NewCmd(ctx, "set")})
	_ = pipeline(ctx, []redis.Cmder{redis.NewCmd(ctx, "set"), redis.NewCmd(ctx, "get"), redis.NewCmd(ctx, "set")})
	lost := n.redis.ProcessPipelineHook(func(_ context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			cmd.SetErr(redis.TxFailedErr)
		}
		return redis.TxFailedErr
	})
	_ = lost(ctx, []redis.Cmder{redis.NewCmd(ctx, "hset"), redis.NewCmd(ctx, "exec")})
	got := samples(t, n)
	for name, want := range map[string]float64{
		"redis_operations_total hset absent": 1, "redis_operations_total hset refused": 0, "redis_operations_total other absent": 1,
		"redis_operations_total evalsha absent": 1, "redis_operations_total evalsha refused": 0,
		"redis_operations_total get absent": 1, "redis_operations_total get ok": 1, "redis_operations_total set ok": 5,
		"redis_operations_total other refused": 1, "redis_operations_total xadd failed": 1, "redis_operations_total xread ok": 1,
		"redis_duration_seconds get": 1, "redis_duration_seconds set": 2, "redis_duration_seconds pipeline": 2,
		"redis_duration_seconds xread": 0,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
}

type refusedError string

func (e refusedError) Error() string { return string(e) }
func (refusedError) RedisError()     {}
