package integration

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

const metricsCache = "namespace watched {\n\tttl 1h\n}"

// metrics scrapes the admin endpoint: values by name and labels, of this module
// only.
func (n *node) metrics(t *testing.T) map[string]float64 {
	t.Helper()
	r := n.api(t, http.MethodGet, "/metrics", "")
	if r.status != http.StatusOK {
		t.Fatalf("metrics: %d %s", r.status, r.body)
	}
	values := make(map[string]float64)
	for line := range strings.Lines(r.body) {
		rest, ours := strings.CutPrefix(line, "caddy_redis_cache_")
		if !ours {
			continue
		}
		space := strings.LastIndexByte(rest, ' ')
		value, err := strconv.ParseFloat(strings.TrimSpace(rest[space:]), 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		values[rest[:space]] = value
	}
	return values
}

func watched(outcome, tier string) string {
	return fmt.Sprintf(`requests_total{namespace="watched",outcome=%q,tier=%q}`, outcome, tier)
}

// TestMetrics scrapes before and after reloads, those that fail included.
func TestMetrics(t *testing.T) {
	t.Parallel()
	l := layout{redis: startRedis(t), origin: newOrigin(t), cache: metricsCache, site: "\tredis_cache /w/* watched"}
	node := startCaddy(t, l)
	node.script(t, `
		MISS /w/1
		HIT  /w/1
		HIT  /w/1
		MISS /w/2`)
	node.do(t, http.MethodDelete, "/w/2", "")
	node.purge(t, `{"tag":"x"}`)
	node.purge(t, `{"tag":"x","namespace":"y"}`)
	want := map[string]float64{
		watched("MISS", "none"): 2, watched("HIT", "memory"): 2, watched("BYPASS", "none"): 1, watched("HIT", "redis"): 0,
		`request_duration_seconds_count{namespace="watched",outcome="HIT"}`:  2,
		`request_duration_seconds_count{namespace="watched",outcome="MISS"}`: 2,
		`purges_total{kind="tag"}`: 1, `purges_total{kind="union"}`: 1, `purges_total{kind="request"}`: 1, `purges_total{kind="url"}`: 0,
		"purge_confirm_seconds_count": 2, "breaker_state": 0, "coalesced_total": 0, `errors_total{kind="redis"}`: 0,
	}
	check := func(t *testing.T) {
		t.Helper()
		got := node.metrics(t)
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
	eventually(t, "the purges are counted", func() bool { return node.metrics(t)[`purges_total{kind="request"}`] == 1 })
	t.Run("before", check)
	t.Run("after a reload", func(t *testing.T) {
		if r := node.reload(t, l); r.status != http.StatusOK {
			t.Fatalf("reload: %d %s", r.status, r.body)
		}
		check(t)
	})
	t.Run("after failed reloads", func(t *testing.T) {
		broken, taken := l, l
		broken.site += "\n\t@bad path_regexp (\n\trespond @bad never"
		taken.cache = "\tprefix elsewhere\n" + l.cache
		taken.more = "http://:" + strings.TrimPrefix(l.origin.addr, "127.0.0.1:") + " {\n\tbind 127.0.0.1\n\trespond taken\n}"
		for _, wrong := range []layout{broken, taken} {
			if r := node.load(t, wrong); r.status == http.StatusOK {
				t.Fatal("the configuration is no error")
			}
			check(t)
		}
	})
	t.Run("and goes on", func(t *testing.T) {
		node.want(t, "HIT", "/w/1")
		want[watched("HIT", "memory")]++
		want[`request_duration_seconds_count{namespace="watched",outcome="HIT"}`]++
		check(t)
	})
}

// TestMetricsCoalesced compares with what the answers say.
func TestMetricsCoalesced(t *testing.T) {
	t.Parallel()
	origin := newOrigin(t)
	asked, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	origin.handle("/w/slow", func(w http.ResponseWriter, _ *http.Request) {
		once.Do(func() { close(asked) })
		<-release
		w.Header().Set("Cache-Control", "max-age=60")
		fmt.Fprint(w, "slow")
	})
	node := startCaddy(t, layout{origin: origin, cache: metricsCache, site: "\tredis_cache /w/* watched"})
	var mu sync.Mutex
	collapsed := 0
	var clients sync.WaitGroup
	for i := range 10 {
		if i == 1 {
			<-asked
		}
		clients.Go(func() {
			r, err := node.try(t.Context(), http.MethodGet, "/w/slow", "")
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			} else if strings.Contains(r.header.Get("Cache-Status"), "collapsed") {
				collapsed++
			}
		})
	}
	close(release)
	clients.Wait()
	got := node.metrics(t)
	if got["coalesced_total"] != float64(collapsed) || got[watched("MISS", "none")]+got[watched("HIT", "memory")] != 10 {
		t.Errorf("%d answers are collapsed, metrics say %v; %v misses, %v hits", collapsed, got["coalesced_total"],
			got[watched("MISS", "none")], got[watched("HIT", "memory")])
	}
}

// TestPerformanceLog runs the access log that README shows.
func TestPerformanceLog(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var snippet strings.Builder
	_, rest, _ := strings.Cut(string(readme), "An access log of its own")
	for line := range strings.Lines(rest[strings.Index(rest, "\n\n")+2:]) {
		if !strings.HasPrefix(line, "    ") {
			break
		}
		snippet.WriteString(line[4:])
	}
	file := filepath.Join(t.TempDir(), "logs", "cache_performance.log")
	site := strings.Replace(snippet.String(), "logs/cache_performance.log", file, 1)
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	node := startCaddy(t, layout{
		origin: newOrigin(t), cache: metricsCache,
		site: site + "\tbasic_auth {\n\tsecret-user " + string(hash) + "\n\t}\n\tredis_cache /w/* watched {\n\tshared\n\t}",
	})
	login := "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("secret-user:secret"))
	for range 2 {
		node.get(t, "/w/1?token=secret-query", login, "Cookie: _ga=secret-cookie", "X-Api-Key: secret-field")
	}
	type line struct {
		Request   struct{ Method, URI string }
		Status    int
		Outcome   string `json:"cache_status"`
		Reason    string `json:"cache_reason"`
		Namespace string `json:"cache_namespace"`
		Tier      string `json:"cache_tier"`
		TTL       string `json:"cache_ttl"`
	}
	var lines []line
	eventually(t, "the requests are logged", func() bool {
		content, _ := os.ReadFile(file)
		if strings.Contains(string(content), "secret") {
			t.Fatalf("a secret is logged:\n%s", content)
		}
		lines = nil
		for text := range strings.Lines(string(content)) {
			var l line
			if json.Unmarshal([]byte(text), &l) == nil && strings.HasPrefix(l.Request.URI, "/w/") {
				lines = append(lines, l)
			}
		}
		return len(lines) == 2
	})
	for i, l := range lines {
		ttl, err := strconv.Atoi(l.TTL)
		if err != nil || ttl < 3000 || l.Namespace != "watched" || l.Request.URI != "/w/1" || l.Status != http.StatusOK || l.Request.Method != http.MethodGet {
			t.Errorf("%+v", l)
		}
		want := [2][3]string{{"MISS", "absent", ""}, {"HIT", "", "memory"}}[i]
		if got := [3]string{l.Outcome, l.Reason, l.Tier}; got != want {
			t.Errorf("line %d: %q, want %q", i, got, want)
		}
	}
}

// TestLogsHoldNoSecrets looks at every line of the cache at debug.
func TestLogsHoldNoSecrets(t *testing.T) {
	t.Parallel()
	rds := startRedis(t)
	node := startCaddy(t, layout{
		redis: rds, origin: newOrigin(t), global: "\tdebug", cache: metricsCache,
		site: "\tredis_cache /w/* watched {\n\tshared\n\tkey \"{query.token}:{cookie.sid}\"\n\tinvalidate key \"watched:{query.token}:*\"\n\tinvalidate tag \"{header.Authorization}\"\n\t}",
	})
	fields := []string{"Cookie: sid=secret-cookie", "Authorization: Bearer secret-auth"}
	node.get(t, "/w/1?token=secret-query", fields...)
	key := node.get(t, "/w/1?token=secret-query", fields...).header.Get("X-Cache-Key")
	node.purge(t, fmt.Sprintf(`{"key":%q,"by":"by key"}`, key))
	node.purge(t, `{"pattern":"watched:secret-query:*","by":"by pattern"}`)
	node.do(t, http.MethodPost, "/w/1?token=secret-query", "secret-body", fields...)
	rds.do(t, "XADD", "cache::journal", "*", "op", "purge", "url", "ftp://shop.test/?token=secret-query")
	events := make(map[string]bool)
	eventually(t, "everything is logged", func() bool {
		for text := range strings.Lines(node.proc.log.String()) {
			var line struct{ Logger, Msg, By, Name string }
			if json.Unmarshal([]byte(text), &line) != nil {
				continue
			}
			ours := line.Logger == "http.handlers.redis_cache"
			event := line.Logger == "events" && strings.HasPrefix(line.Name, "redis_cache.")
			if !ours && !event {
				if strings.Contains(line.Logger, "redis_cache") {
					t.Errorf("logger %s: %s", line.Logger, text)
				}
				continue
			}
			if strings.Contains(text, "secret") {
				t.Fatalf("a secret is logged: %s", text)
			}
			events[line.Msg], events[line.By], events[line.Name] = true, true, true
		}
		for _, event := range []string{"cache_miss", "cache_hit", "cache_bypass", "cache_invalidate", "by key", "by pattern", "redis_cache.purged", "a malformed journal entry is skipped"} {
			if !events[event] {
				return false
			}
		}
		return true
	})
}

// TestTracing reads the spans of Caddy's directive.
func TestTracing(t *testing.T) {
	t.Parallel()
	node := startCaddy(t, layout{
		origin: newOrigin(t), cache: metricsCache, site: "\ttracing {\n\tspan request\n\t}\n\tredis_cache /w/* watched",
		environ: []string{"OTEL_TRACES_EXPORTER=console", "OTEL_BSP_SCHEDULE_DELAY=10"},
	})
	node.want(t, "MISS", "/w/1")
	node.want(t, "HIT", "/w/1")
	var spans []map[string]any
	eventually(t, "both spans are exported", func() bool {
		spans = nil
		for text := range strings.Lines(node.proc.log.String()) {
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

// TestTail follows a node over a reload, which ends the stream and does not wait
// for it.
func TestTail(t *testing.T) {
	t.Parallel()
	l := layout{origin: newOrigin(t), cache: metricsCache, site: "\tredis_cache /w/* watched"}
	node := startCaddy(t, l)
	if r := node.api(t, http.MethodGet, "/redis_cache/tail?outcome=NEVER", ""); r.status != http.StatusBadRequest {
		t.Errorf("an unknown outcome: %d", r.status)
	}
	resp, err := http.Get("http://" + node.admin + "/redis_cache/tail?namespace=watched")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	ended := time.AfterFunc(patience, func() { resp.Body.Close() }) // or a failure would be a hanging test
	defer ended.Stop()
	lines := bufio.NewScanner(resp.Body)
	for _, want := range []string{"MISS", "HIT"} {
		node.want(t, want, "/w/1?token=1")
		if !lines.Scan() {
			t.Fatalf("the stream ended: %v", lines.Err())
		}
		var line struct {
			Outcome, Path, Namespace string
			Status                   int
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		if line.Outcome != want || line.Path != "/w/1" || line.Namespace != "watched" || line.Status != http.StatusOK {
			t.Errorf("%s, want %s", lines.Bytes(), want)
		}
	}
	if r := node.reload(t, l); r.status != http.StatusOK {
		t.Fatalf("reload: %d %s", r.status, r.body)
	}
	if lines.Scan() || lines.Err() != nil {
		t.Errorf("after the reload: %q, %v", lines.Text(), lines.Err())
	}
}

// TestDeployedCaddyfile checks what deploy/docker-compose.yml mounts.
func TestDeployedCaddyfile(t *testing.T) {
	t.Parallel()
	const file = "../deploy/Caddyfile"
	for _, args := range [][]string{
		{"validate", "--adapter", "caddyfile", "--config", file},
		{"fmt", "--diff", file},
	} {
		if out, err := command(t, args...); err != nil {
			t.Errorf("caddy %s: %v\n%s", args[0], err, out)
		}
	}
}
