package admin

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

const metricsCache = "namespace watched {\n\tttl 1h\n}"

func watched(outcome, tier string) string {
	return fmt.Sprintf(`requests_total{namespace="watched",outcome=%q,tier=%q}`, outcome, tier)
}

// TestMetrics scrapes before and after reloads, those that fail included.
func TestMetrics(t *testing.T) {
	t.Parallel()
	l := harness.Layout{Redis: harness.StartRedis(t), Origin: harness.NewOrigin(t), Cache: metricsCache, Site: "\tredis_cache /w/* watched"}
	node := harness.StartCaddy(t, l)
	node.Script(t, `
		MISS /w/1
		HIT  /w/1
		HIT  /w/1
		MISS /w/2`)
	node.Do(t, http.MethodDelete, "/w/2", "")
	node.Purge(t, `{"tag":"x"}`)
	node.Purge(t, `{"tag":"x","namespace":"y"}`)
	want := map[string]float64{
		watched("MISS", "none"): 2, watched("HIT", "memory"): 2, watched("BYPASS", "none"): 1, watched("HIT", "redis"): 0,
		`request_duration_seconds_count{namespace="watched",outcome="HIT"}`:  2,
		`request_duration_seconds_count{namespace="watched",outcome="MISS"}`: 2,
		`purges_total{kind="tag"}`: 1, `purges_total{kind="union"}`: 1, `purges_total{kind="request"}`: 1, `purges_total{kind="url"}`: 0,
		"purge_confirm_seconds_count": 2, "breaker_state": 0, "coalesced_total": 0, `errors_total{kind="redis"}`: 0,
	}
	check := func(t *testing.T) {
		t.Helper()
		got := node.Metrics(t)
		for name, value := range want {
			if v, exported := got[name]; !exported || v != value {
				t.Errorf("%s is %v (%t), want %v", name, v, exported, value)
			}
		}
		for _, name := range []string{
			"memory_bytes", "entries", `stored_bytes_total{stage="raw"}`, `stored_bytes_total{stage="encoded"}`,
			`redis_operations_total{op="get",result="absent"}`, `redis_operations_total{op="xadd",result="ok"}`,
			`redis_duration_seconds_count{op="get"}`,
		} {
			if got[name] <= 0 {
				t.Errorf("%s is %v", name, got[name])
			}
		}
	}
	harness.Eventually(t, "the purges are counted", func() bool { return node.Metrics(t)[`purges_total{kind="request"}`] == 1 })
	t.Run("before", check)
	t.Run("after a reload", func(t *testing.T) {
		if r := node.Reload(t, l); r.Status != http.StatusOK {
			t.Fatalf("reload: %d %s", r.Status, r.Body)
		}
		check(t)
	})
	t.Run("after failed reloads", func(t *testing.T) {
		broken, taken := l, l
		broken.Site += "\n\t@bad path_regexp (\n\trespond @bad never"
		taken.Cache = "\tprefix elsewhere\n" + l.Cache
		taken.More = "http://:" + strings.TrimPrefix(l.Origin.Addr, "127.0.0.1:") + " {\n\tbind 127.0.0.1\n\trespond taken\n}"
		for _, wrong := range []harness.Layout{broken, taken} {
			if r := node.Load(t, wrong); r.Status == http.StatusOK {
				t.Fatal("the configuration is no error")
			}
			check(t)
		}
	})
	t.Run("and goes on", func(t *testing.T) {
		node.Want(t, "HIT", "/w/1")
		want[watched("HIT", "memory")]++
		want[`request_duration_seconds_count{namespace="watched",outcome="HIT"}`]++
		check(t)
	})
}

// TestMetricsCoalesced compares with what the answers say.
func TestMetricsCoalesced(t *testing.T) {
	t.Parallel()
	origin := harness.NewOrigin(t)
	asked, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	origin.Handle("/w/slow", func(w http.ResponseWriter, _ *http.Request) {
		once.Do(func() { close(asked) })
		<-release
		w.Header().Set("Cache-Control", "max-age=60")
		fmt.Fprint(w, "slow")
	})
	node := harness.StartCaddy(t, harness.Layout{Origin: origin, Cache: metricsCache, Site: "\tredis_cache /w/* watched"})
	var mu sync.Mutex
	collapsed := 0
	var clients sync.WaitGroup
	for i := range 10 {
		if i == 1 {
			<-asked
		}
		clients.Go(func() {
			r, err := node.Try(t.Context(), http.MethodGet, "/w/slow", "")
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			} else if strings.Contains(r.Header.Get("Cache-Status"), "collapsed") {
				collapsed++
			}
		})
	}
	close(release)
	clients.Wait()
	got := node.Metrics(t)
	if got["coalesced_total"] != float64(collapsed) || got[watched("MISS", "none")]+got[watched("HIT", "memory")] != 10 {
		t.Errorf("%d answers are collapsed, metrics say %v; %v misses, %v hits", collapsed, got["coalesced_total"],
			got[watched("MISS", "none")], got[watched("HIT", "memory")])
	}
}

// TestTracing reads the spans of Caddy's directive.
func TestTracing(t *testing.T) {
	t.Parallel()
	node := harness.StartCaddy(t, harness.Layout{
		Origin: harness.NewOrigin(t), Cache: metricsCache, Site: "\ttracing {\n\tspan request\n\t}\n\tredis_cache /w/* watched",
		Environ: []string{"OTEL_TRACES_EXPORTER=console", "OTEL_BSP_SCHEDULE_DELAY=10"},
	})
	node.Want(t, "MISS", "/w/1")
	node.Want(t, "HIT", "/w/1")
	var spans []map[string]any
	harness.Eventually(t, "both spans are exported", func() bool {
		spans = nil
		for text := range strings.Lines(node.Proc.Log.String()) {
			var span struct {
				Name       string
				Attributes []struct {
					Key   string
					Value struct{ Value any }
				}
			}
			if json.Unmarshal([]byte(text), &span) != nil || span.Name != "request" {
				continue
			}
			attributes := make(map[string]any)
			for _, a := range span.Attributes {
				if name, ours := strings.CutPrefix(a.Key, "redis_cache."); ours {
					attributes[name] = a.Value.Value
				}
			}
			spans = append(spans, attributes)
		}
		return len(spans) == 2
	})
	for i, want := range []map[string]any{
		{"outcome": "MISS", "reason": "absent", "tier": "", "namespace": "watched"},
		{"outcome": "HIT", "reason": "", "tier": "memory", "namespace": "watched"},
	} {
		if !maps.Equal(spans[i], want) {
			t.Errorf("span %d has %v, want %v", i, spans[i], want)
		}
	}
}
