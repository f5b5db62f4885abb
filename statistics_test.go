package rediscache

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/stats"
	"github.com/gplus-recycling/caddy-redis-cache/internal/subrequest"
)

// inventoryAge is for how long a walk through what is stored counts.
const inventoryAge = 3 * time.Second

// TestStatistics counts requests at an origin that takes its time, and looks again
// when the clock has moved on.
func TestStatistics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, `{}`, func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(100 * time.Millisecond)
			w.Header().Set("Cache-Control", r.URL.Query().Get("cc"))
			_, _ = io.WriteString(w, "x")
		})
		node := s.handler.node
		for range 10 {
			s.get("/users/1?cc=max-age=7200") // a miss and nine hits
		}
		for i := range 3 {
			s.get(fmt.Sprintf("/private/%d?cc=no-store", i))
		}
		s.get("/a?cc=max-age=30")
		s.get("/b?cc=max-age=100000")
		s.get("/c?cc=max-age=100")
		got := node.Statistics(t.Context(), api.Hour)
		if got.Requests["total"] != 16 || got.Requests["HIT"] != 9 || got.Requests["MISS"] != 7 ||
			got.Namespaces["general"].Requests["HIT"] != 9 || got.Window != api.Hour {
			t.Errorf("requests: %v %v", got.Requests, got.Namespaces["general"])
		}
		if rate := got.HitRate; rate["1h"] != 9.0/16 || rate["24h"] != 9.0/16 {
			t.Errorf("hit rates: %v", rate)
		}
		if miss := got.DurationMS["miss"]; miss.Mean != 100 || miss.P50 < 90 || miss.P99 > 130 || miss.P50 > miss.P95 || miss.P95 > miss.P99 {
			t.Errorf("durations of misses: %v", miss)
		}
		if hit := got.DurationMS["hit"]; hit.Mean != 0 || hit.P99 > 0.001 {
			t.Errorf("durations of hits: %v", hit)
		}
		want := map[string]int{"<1m": 1, "<5m": 1, "<1h": 0, "<24h": 1, ">=24h": 1, "stale": 0}
		if !maps.Equal(got.TTL, want) || got.Keys != 4 || got.Namespaces["general"].Share != 1 {
			t.Errorf("%d keys, lifetimes %v, want %v", got.Keys, got.TTL, want)
		}
		if len(got.Top) != 1 || got.Top[0] != (api.EndpointStatistics{Endpoint: "/users/{id}", HitRate: 0.9, Requests: 10, OriginMS: 100}) {
			t.Errorf("top: %v", got.Top)
		}
		if len(got.Costly) != 5 || got.Costly[0] != (api.EndpointStatistics{Endpoint: "/private/{id}", Requests: 3, OriginMS: 300}) {
			t.Errorf("costly: %v", got.Costly)
		}
		if !slices.Equal(got.Bottom, got.Top) {
			t.Errorf("bottom: %v", got.Bottom)
		}
		if len(got.Nodes) != 1 || !got.Nodes[0].Self || !got.Nodes[0].Live || got.Nodes[0].Requests["total"] != 16 ||
			got.Nodes[0].Memory.Keys != 4 || got.Memory.Keys != 4 || got.Breaker != "off" {
			t.Errorf("nodes: %+v", got.Nodes)
		}

		time.Sleep(5 * time.Minute)
		if got := node.Statistics(t.Context(), api.Hour); got.TTL["stale"] != 2 || got.TTL["<1m"] != 0 {
			t.Errorf("five minutes later: %v", got.TTL)
		}
		time.Sleep(25 * time.Minute)
		s.get("/users/1?cc=max-age=7200")
		if got := node.Statistics(t.Context(), api.Hour); got.Requests["HIT"] != 10 || got.Requests["total"] != 17 {
			t.Errorf("half an hour later: %v", got.Requests)
		}
		time.Sleep(31 * time.Minute)
		got = node.Statistics(t.Context(), api.Hour)
		if got.Requests["total"] != 1 || got.HitRate["1h"] != 1 || got.HitRate["24h"] != 10.0/17 || len(got.Top) != 0 {
			t.Errorf("an hour later: %v %v %v", got.Requests, got.HitRate, got.Top)
		}
		got = node.Statistics(t.Context(), api.Day)
		if got.Requests["total"] != 17 || len(got.Top) != 1 || got.Top[0].Requests != 11 || got.DurationMS["miss"].Mean != 100 {
			t.Errorf("the last day: %v %v", got.Requests, got.Top)
		}
		time.Sleep(24 * time.Hour)
		if got := node.Statistics(t.Context(), api.Day); got.Requests["total"] != 0 || got.HitRate["24h"] != 0 || len(got.Nodes) != 1 {
			t.Errorf("a day later: %v %v", got.Requests, got.HitRate)
		}
	})
}

// TestEndpointsThatCannotBeCached leaves out what no configuration could cache, and
// what this one keeps out. What needs credentials could be.
func TestEndpointsThatCannotBeCached(t *testing.T) {
	s := newSite(t, `{"bypass":[{"match":[{"path":["/excluded"]}]}]}`, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	s.get("/a", "Upgrade", "websocket")
	s.get("/b", "X-Http-Method-Override", "DELETE")
	s.get("/excluded")
	s.get("/c")
	s.get("/c", "Authorization", "Bearer x")
	if got := s.handler.node.Endpoints.Drain(); len(got) != 1 || got["/c"].Requests != 2 {
		t.Errorf("endpoints: %v", got)
	}
}

// TestWhatIsTimed sends requests one after another; each is timed until the header
// of its response, as a hit if it waited for no fetch, and else as a miss.
func TestWhatIsTimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fails := false
		s := newSite(t, `{"stale_if_error":"1h"}`, func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			switch {
			case r.URL.Path == "/down" && fails:
				w.WriteHeader(http.StatusGatewayTimeout)
				return
			case r.URL.Path == "/events":
				w.Header().Set("Content-Type", "text/event-stream")
			case r.URL.Path != "/private":
				w.Header().Set("Cache-Control", "max-age=60")
			}
			_, _ = io.WriteString(w, "x")
			_ = http.NewResponseController(w).Flush()
			time.Sleep(time.Minute)
		})
		var before stats.Bucket
		cost := make(map[string]float64)
		expect := func(what string, hits, misses []time.Duration, path string, origin time.Duration) {
			t.Helper()
			node := s.handler.node
			for name, h := range map[string]struct {
				now, before *stats.Histogram
				want        []time.Duration
			}{"hits": {&node.Totals().Hit, &before.Hit, hits}, "misses": {&node.Totals().Miss, &before.Miss, misses}} {
				var sum time.Duration
				for _, took := range h.want {
					sum += took
				}
				if n, took := h.now.Count()-h.before.Count(), h.now.Sum-h.before.Sum; n != uint64(len(h.want)) || took != sum {
					t.Errorf("%s: %d %s of %s in all, want %v", what, n, name, took, h.want)
				}
			}
			cost[path] += origin.Seconds() * 1000
			for _, line := range node.Statistics(t.Context(), api.Day).Costly {
				if line.OriginMS != cost[line.Endpoint] {
					t.Errorf("%s: %s cost the origin %v ms, want %v", what, line.Endpoint, line.OriginMS, cost[line.Endpoint])
				}
			}
			before = *node.Totals()
		}
		none, second := []time.Duration(nil), []time.Duration{time.Second}

		s.get("/events")
		expect("a long response", none, second, "/events", time.Second)
		s.get("/private")
		expect("one that is not stored", none, second, "/private", time.Second)
		go s.get("/shared")
		time.Sleep(time.Second / 4)
		go s.get("/shared")
		time.Sleep(time.Hour)
		expect("a follower", none, []time.Duration{time.Second, time.Second * 3 / 4}, "/shared", time.Second)
		s.get("/down")
		expect("a miss", none, second, "/down", time.Second)
		fails = true
		time.Sleep(2 * time.Minute)
		if got := s.get("/down").Header().Get("X-Cache"); got != "STALE" {
			t.Errorf("%s", got)
		}
		expect("in place of one that fails", none, second, "/down", time.Second)
		if got := s.get("/down").Header().Get("X-Cache"); got != "STALE" {
			t.Errorf("%s", got)
		}
		expect("in place of one that has failed", []time.Duration{0}, nil, "/down", 0)
	})
}

// TestWarmIsNoTraffic warms what a client asks for then.
func TestWarmIsNoTraffic(t *testing.T) {
	s := newSite(t, `{"ttl":{"duration":3600000000000}}`, answer("body"))
	u, _ := url.Parse("http://example.com/a")
	_, header := subrequest.Warm(t.Context(), s, subrequest.New(u, nil), func(recovered any) { t.Error(recovered) })
	if header.Get("X-Cache") != "MISS" {
		t.Errorf("warmed: %v", header)
	}
	if got := s.get("http://example.com/a").Header().Get("X-Cache"); got != "HIT" {
		t.Errorf("a client gets %s", got)
	}
	got := s.handler.node.Statistics(t.Context(), api.Hour)
	if got.Requests["HIT"] != 1 || got.Requests["total"] != 1 || len(got.Costly) != 0 {
		t.Errorf("requests %v, endpoints %v", got.Requests, got.Costly)
	}
	values := samples(t, s.handler.node)
	if values["requests_total general MISS none"] != 0 || values["requests_total general HIT memory"] != 1 ||
		values["request_duration_seconds general MISS"] != 0 {
		t.Errorf("metrics: %v", values)
	}
}

// TestHoldings counts what requests may be answered from, and nothing else.
func TestHoldings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, `{"stale_if_error":"1m"}`, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age="+r.URL.Query().Get("age"))
			w.Header().Set("Vary", r.URL.Query().Get("vary"))
			_, _ = io.WriteString(w, "x")
		})
		expectKeys := func(what string, want map[string]int) {
			t.Helper()
			time.Sleep(inventoryAge)
			got := s.handler.node.Statistics(t.Context(), api.Hour)
			sum := 0
			for lifetime, n := range got.TTL {
				if sum += n; n != want[lifetime] {
					t.Errorf("%s: %d responses are %s, want %d", what, n, lifetime, want[lifetime])
				}
			}
			namespace := got.Namespaces["general"]
			if got.Keys != sum || namespace.Keys != sum || (sum > 0) != (got.Bytes > 0) || namespace.Bytes != got.Bytes || got.Alone {
				t.Errorf("%s: %d keys, %+v in the namespace, %d bytes", what, got.Keys, namespace, got.Bytes)
			}
		}
		s.get("/a?age=30")
		s.get("/b?age=3000&vary=X", "X", "1")
		s.get("/b?age=3000&vary=X", "X", "2")
		s.get("/c?age=3000")
		expectKeys("at first", map[string]int{"<1m": 1, "<1h": 3})
		s.purge(hard(journal.KindURL, "http://example.com/c"))
		expectKeys("after a purge", map[string]int{"<1m": 1, "<1h": 2})
		soft := hard(journal.KindURL, "http://example.com/b")
		soft.Soft = true
		s.purge(soft)
		expectKeys("after a soft purge", map[string]int{"<1m": 1, "stale": 2})
		time.Sleep(30 * time.Second)
		expectKeys("after the lifetime", map[string]int{"stale": 3})
		time.Sleep(2 * time.Minute)
		expectKeys("after every use", map[string]int{"stale": 2})
		s.purge(hard(journal.KindAll, ""))
		time.Sleep(inventoryAge)
		if got := s.handler.node.Statistics(t.Context(), api.Hour); got.Keys != 0 || got.Namespaces["general"].Keys != 0 {
			t.Errorf("%d keys are left", got.Keys)
		}
	})
}

// TestAlone says that Redis, which is not there, is missing.
func TestAlone(t *testing.T) {
	n := redisNode(t)
	if got := n.Statistics(t.Context(), api.Hour); !got.Alone {
		t.Errorf("what one node counted is shown as that of all: %+v", got)
	}
}
