package fleet

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// TestFleetStatistics sends a known mix to three nodes; each tells all of it. What
// a node counted that was started again meanwhile is not lost, and without Redis a
// node that knows nothing of the others shows its own, and says so. What another
// application keeps under the prefix is nobody's response.
func TestFleetStatistics(t *testing.T) {
	t.Parallel()
	rds := harness.StartRedis(t)
	l := harness.Layout{Redis: rds, Origin: harness.NewOrigin(t), Cache: harness.GuideCache, Site: harness.GuideSite}
	var (
		nodes   []*harness.Node
		tallies []harness.Tally
	)
	for range 3 {
		nodes = append(nodes, harness.StartCaddy(t, l))
		tallies = append(tallies, make(harness.Tally))
	}
	want := func(i int, outcome, namespace, request string) harness.Reply {
		r := nodes[i].Want(t, outcome, request)
		tallies[i].Count(namespace, outcome, 1)
		return r
	}
	all := func() harness.Tally {
		sum := make(harness.Tally)
		for _, c := range tallies {
			sum.Add(c)
		}
		return sum
	}
	purges := 0.0
	look := func(i int, query string) (map[string]any, string) {
		stats := nodes[i].JSON(t, http.StatusOK, http.MethodGet, "/redis_cache/stats"+query, "")
		what := all().Differs(t, stats)
		minutes := 60.0
		if strings.HasSuffix(query, "24h") {
			minutes = 24 * 60
		}
		if got := math.Round(harness.Number(t, stats, "invalidations_per_minute") * minutes); what == "" && got != purges {
			what = fmt.Sprintf("%v purges, want %v", got, purges)
		}
		return stats, what
	}
	equal := func(when string) {
		t.Helper()
		for i := range nodes {
			for _, query := range []string{"", "?window=1h", "?window=24h"} {
				var what string
				if !harness.Within(harness.Patience, func() bool { _, what = look(i, query); return what == "" }) {
					t.Fatalf("%s, node %d, %q: %s", when, i, query, what)
				}
			}
		}
	}

	rds.Do(t, "SET", "cache:foreign:x", "y", "EX", 600)
	mix := func(round int) {
		for k := range 4 {
			path := fmt.Sprintf("/api/v1/pickups/%d", 10*round+k)
			rds.Await(t, want(k%3, "MISS", "pickup", path).Key())
			for i := range nodes {
				for range k + 1 {
					want(i, "HIT", "pickup", path)
				}
			}
		}
		rds.Await(t, want(1, "MISS", "user", fmt.Sprintf("/api/v1/users/%d", round)).Key())
		want(2, "HIT", "user", fmt.Sprintf("/api/v1/users/%d", round))
	}
	mix(1)
	equal("at first")
	mix(2)
	nodes[1].Restart(t)
	mix(3)
	for _, body := range []string{`{"namespace":"pickup"}`, `{"key":"user:nobody"}`} {
		nodes[0].Purge(t, body)
		purges++
	}
	want(0, "MISS", "pickup", "/api/v1/pickups/10")
	want(2, "BYPASS", "user", "POST /api/v1/users/1")
	purges++ // the answer to a POST purges its URL
	equal("after a restart")

	stats, _ := look(2, "")
	checkParts(t, stats)

	rds.Kill()
	nodes[0].Restart(t)
	tallies[0] = make(harness.Tally)
	want(0, "MISS", "pickup", "/api/v1/pickups/99")
	stats = nodes[0].JSON(t, http.StatusOK, http.MethodGet, "/redis_cache/stats", "")
	if r := nodes[0].JSON(t, http.StatusOK, http.MethodPost, "/redis_cache/purge", `{"all":true,"dry_run":true}`); r["partial"] != true {
		t.Errorf("a dry run without Redis: %v", r)
	}
	if what := tallies[0].Differs(t, stats); what != "" || stats["alone"] != true {
		t.Errorf("without Redis: %s, alone is %v", what, stats["alone"])
	}
}

// checkParts holds the parts of an answer against each other.
func checkParts(t *testing.T, stats map[string]any) {
	t.Helper()
	list := stats["nodes"].([]any)
	live, sum := 0, 0.0
	for _, line := range list {
		sum += harness.Number(t, line, "requests", "total")
		if line.(map[string]any)["live"] == true {
			live++
		}
	}
	if len(list) != 4 || live < 3 || sum != harness.Number(t, stats, "requests", "total") {
		t.Errorf("%d nodes, %d live, with %v of %v requests, want 4 and 3 or more: %v",
			len(list), live, sum, harness.Number(t, stats, "requests", "total"), list)
	}
	for _, path := range []string{"hit mean", "hit p50", "hit p95", "hit p99", "miss mean", "miss p50", "miss p95", "miss p99"} {
		if got := harness.Number(t, stats, append([]string{"duration_ms"}, strings.Fields(path)...)...); got <= 0 {
			t.Errorf("%s is %v", path, got)
		}
	}
	classes := 0.0
	for class := range stats["ttl_distribution"].(map[string]any) {
		classes += harness.Number(t, stats, "ttl_distribution", class)
	}
	if got := harness.Number(t, stats, "keys"); classes != got || got == 0 {
		t.Errorf("%v keys, %v in the distribution of lifetimes", got, classes)
	}
	if _, there := stats["namespaces"].(map[string]any)["foreign"]; there || stats["alone"] != nil {
		t.Errorf("namespaces %v, alone is %v", stats["namespaces"], stats["alone"])
	}
	top := stats["top_endpoints"].([]any)
	if len(top) == 0 || top[0].(map[string]any)["endpoint"] != "/api/v1/pickups/{id}" {
		t.Errorf("top endpoints: %v", top)
	}
	for _, line := range stats["costly_endpoints"].([]any) {
		if harness.Number(t, line, "origin_ms") <= 0 || harness.Number(t, line, "requests") <= 0 {
			t.Errorf("costly endpoint: %v", line)
		}
	}
	for _, line := range stats["bottom_endpoints"].([]any) {
		if harness.Number(t, line, "requests") < 10 {
			t.Errorf("bottom endpoint: %v", line)
		}
	}
}

// TestStatisticsMoveOutOfWindows ages what three nodes have counted, as if they had
// been down for some time: it leaves the last hour, then the last day.
func TestStatisticsMoveOutOfWindows(t *testing.T) {
	t.Parallel()
	rds := harness.StartRedis(t)
	l := harness.Layout{Redis: rds, Origin: harness.NewOrigin(t), Cache: harness.GuideCache, Site: harness.GuideSite}
	nodes := []*harness.Node{harness.StartCaddy(t, l), harness.StartCaddy(t, l), harness.StartCaddy(t, l)}
	visit := func(path string) {
		rds.Await(t, nodes[0].Want(t, "MISS", path).Key())
		for _, n := range nodes {
			n.Want(t, "HIT", path)
		}
	}
	// in returns what a node tells of a window: requests to the namespace, their hit
	// rate, and the rate of all requests, which must be that of the window.
	in := func(n *harness.Node, window string) (requests, rate float64) {
		s := n.JSON(t, http.StatusOK, http.MethodGet, "/redis_cache/stats?window="+window, "")
		if _, known := s["namespaces"].(map[string]any)["pickup"]; !known {
			return 0, 0
		}
		of := func(outcome string) float64 { return harness.Number(t, s, "requests", outcome) }
		all := (of("HIT") + of("STALE") + of("REVALIDATED")) / (of("total") - of("BYPASS"))
		if got := harness.Number(t, s, "hit_rate", window); got != all {
			t.Errorf("hit rate of %s is %v, by its requests %v", window, got, all)
		}
		return harness.Number(t, s, "namespaces", "pickup", "requests", "total"), harness.Number(t, s, "namespaces", "pickup", "hit_rate")
	}
	type seen struct{ hour, day, hourRate, dayRate float64 }
	want := func(when string, want seen) {
		t.Helper()
		for i, n := range nodes {
			var got seen
			if !harness.Within(harness.Patience, func() bool {
				got.hour, got.hourRate = in(n, "1h")
				got.day, got.dayRate = in(n, "24h")
				return got == want
			}) {
				t.Fatalf("%s, node %d: %+v, want %+v", when, i, got, want)
			}
		}
	}
	// Buckets are numbered by minutes and by ten minutes since 1970.
	age := func(tens int64) {
		for _, n := range nodes {
			n.Stop(t)
		}
		for _, key := range rds.Keys(t, "cache::stats:v2:*") { // in any order: nothing is as old as what has moved
			colon := strings.LastIndex(key, ":")
			old, err := strconv.ParseInt(key[colon+1:], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			by := tens
			if strings.Contains(key, ":1m:") {
				by *= 10
			}
			rds.Do(t, "RENAME", key, fmt.Sprintf("%s:%d", key[:colon], old-by))
		}
		for _, n := range nodes {
			n.Start(t)
		}
	}

	visit("/api/v1/pickups/1")
	want("at first", seen{4, 4, 3. / 4, 3. / 4})
	age(7)
	for _, n := range nodes {
		n.Want(t, "HIT", "/api/v1/pickups/1")
	}
	want("70 minutes later", seen{3, 7, 1, 6. / 7})
	age(145)
	visit("/api/v1/pickups/2")
	want("a day and 10 minutes later", seen{4, 4, 3. / 4, 3. / 4})
}
