package integration

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// tally is what clients got from a node, by namespace and outcome.
type tally map[string]map[string]float64

func (c tally) add(other tally) {
	for namespace, outcomes := range other {
		for outcome, n := range outcomes {
			if outcome != "total" {
				c.count(namespace, outcome, n)
			}
		}
	}
}

func (c tally) count(namespace, outcome string, n float64) {
	if c[namespace] == nil {
		c[namespace] = make(map[string]float64)
	}
	c[namespace][outcome] += n
	c[namespace]["total"] += n
}

// differs compares with what statistics say of the same namespaces.
func (c tally) differs(t *testing.T, stats map[string]any) (what string) {
	t.Helper()
	for namespace, outcomes := range c {
		if _, known := stats["namespaces"].(map[string]any)[namespace]; !known {
			return "nothing of " + namespace
		}
		for _, outcome := range []string{"total", "HIT", "MISS", "BYPASS", "STALE", "REVALIDATED"} {
			if got := number(t, stats, "namespaces", namespace, "requests", outcome); got != outcomes[outcome] {
				return fmt.Sprintf("%s %s: %v, want %v", namespace, outcome, got, outcomes[outcome])
			}
		}
	}
	return ""
}

// TestFleetStatistics sends a known mix to three nodes; each tells all of it. What
// a node counted that was started again meanwhile is not lost, and without Redis a
// node that knows nothing of the others shows its own, and says so. What another
// application keeps under the prefix is nobody's response.
func TestFleetStatistics(t *testing.T) {
	t.Parallel()
	rds := startRedis(t)
	l := layout{redis: rds, origin: newOrigin(t), cache: guide, site: guideSite}
	var (
		nodes   []*node
		tallies []tally
	)
	for range 3 {
		nodes = append(nodes, startCaddy(t, l))
		tallies = append(tallies, make(tally))
	}
	want := func(i int, outcome, namespace, request string) reply {
		r := nodes[i].want(t, outcome, request)
		tallies[i].count(namespace, outcome, 1)
		return r
	}
	all := func() tally {
		sum := make(tally)
		for _, c := range tallies {
			sum.add(c)
		}
		return sum
	}
	purges := 0.0
	look := func(i int, query string) (map[string]any, string) {
		stats := nodes[i].json(t, http.StatusOK, http.MethodGet, "/redis_cache/stats"+query, "")
		what := all().differs(t, stats)
		minutes := 60.0
		if strings.HasSuffix(query, "24h") {
			minutes = 24 * 60
		}
		if got := math.Round(number(t, stats, "invalidations_per_minute") * minutes); what == "" && got != purges {
			what = fmt.Sprintf("%v purges, want %v", got, purges)
		}
		return stats, what
	}
	equal := func(when string) {
		t.Helper()
		for i := range nodes {
			for _, query := range []string{"", "?window=1h", "?window=24h"} {
				var what string
				if !within(patience, func() bool { _, what = look(i, query); return what == "" }) {
					t.Fatalf("%s, node %d, %q: %s", when, i, query, what)
				}
			}
		}
	}

	rds.do(t, "SET", "cache:foreign:x", "y", "EX", 600)
	mix := func(round int) {
		for k := range 4 {
			path := fmt.Sprintf("/api/v1/pickups/%d", 10*round+k)
			rds.await(t, want(k%3, "MISS", "pickup", path).key())
			for i := range nodes {
				for range k + 1 {
					want(i, "HIT", "pickup", path)
				}
			}
		}
		rds.await(t, want(1, "MISS", "user", fmt.Sprintf("/api/v1/users/%d", round)).key())
		want(2, "HIT", "user", fmt.Sprintf("/api/v1/users/%d", round))
	}
	mix(1)
	equal("at first")
	mix(2)
	nodes[1].restart(t)
	mix(3)
	for _, body := range []string{`{"namespace":"pickup"}`, `{"key":"user:nobody"}`} {
		nodes[0].purge(t, body)
		purges++
	}
	want(0, "MISS", "pickup", "/api/v1/pickups/10")
	want(2, "BYPASS", "user", "POST /api/v1/users/1")
	purges++ // the answer to a POST purges its URL
	equal("after a restart")

	stats, _ := look(2, "")
	checkParts(t, stats)

	rds.kill()
	nodes[0].restart(t)
	tallies[0] = make(tally)
	want(0, "MISS", "pickup", "/api/v1/pickups/99")
	stats = nodes[0].json(t, http.StatusOK, http.MethodGet, "/redis_cache/stats", "")
	if r := nodes[0].json(t, http.StatusOK, http.MethodPost, "/redis_cache/purge", `{"all":true,"dry_run":true}`); r["partial"] != true {
		t.Errorf("a dry run without Redis: %v", r)
	}
	if what := tallies[0].differs(t, stats); what != "" || stats["alone"] != true {
		t.Errorf("without Redis: %s, alone is %v", what, stats["alone"])
	}
}

// checkParts holds the parts of an answer against each other.
func checkParts(t *testing.T, stats map[string]any) {
	t.Helper()
	list := stats["nodes"].([]any)
	live, sum := 0, 0.0
	for _, line := range list {
		sum += number(t, line, "requests", "total")
		if line.(map[string]any)["live"] == true {
			live++
		}
	}
	if len(list) != 4 || live < 3 || sum != number(t, stats, "requests", "total") {
		t.Errorf("%d nodes, %d live, with %v of %v requests, want 4 and 3 or more: %v",
			len(list), live, sum, number(t, stats, "requests", "total"), list)
	}
	for _, path := range []string{"hit mean", "hit p50", "hit p95", "hit p99", "miss mean", "miss p50", "miss p95", "miss p99"} {
		if got := number(t, stats, append([]string{"duration_ms"}, strings.Fields(path)...)...); got <= 0 {
			t.Errorf("%s is %v", path, got)
		}
	}
	classes := 0.0
	for class := range stats["ttl_distribution"].(map[string]any) {
		classes += number(t, stats, "ttl_distribution", class)
	}
	if got := number(t, stats, "keys"); classes != got || got == 0 {
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
		if number(t, line, "origin_ms") <= 0 || number(t, line, "requests") <= 0 {
			t.Errorf("costly endpoint: %v", line)
		}
	}
	for _, line := range stats["bottom_endpoints"].([]any) {
		if number(t, line, "requests") < 10 {
			t.Errorf("bottom endpoint: %v", line)
		}
	}
}

// TestStatisticsMoveOutOfWindows ages what three nodes have counted, as if they had
// been down for some time: it leaves the last hour, then the last day.
func TestStatisticsMoveOutOfWindows(t *testing.T) {
	t.Parallel()
	rds := startRedis(t)
	l := layout{redis: rds, origin: newOrigin(t), cache: guide, site: guideSite}
	nodes := []*node{startCaddy(t, l), startCaddy(t, l), startCaddy(t, l)}
	visit := func(path string) {
		rds.await(t, nodes[0].want(t, "MISS", path).key())
		for _, n := range nodes {
			n.want(t, "HIT", path)
		}
	}
	// in returns what a node tells of a window: requests to the namespace, their hit
	// rate, and the rate of all requests, which must be that of the window.
	in := func(n *node, window string) (requests, rate float64) {
		s := n.json(t, http.StatusOK, http.MethodGet, "/redis_cache/stats?window="+window, "")
		if _, known := s["namespaces"].(map[string]any)["pickup"]; !known {
			return 0, 0
		}
		of := func(outcome string) float64 { return number(t, s, "requests", outcome) }
		all := (of("HIT") + of("STALE") + of("REVALIDATED")) / (of("total") - of("BYPASS"))
		if got := number(t, s, "hit_rate", window); got != all {
			t.Errorf("hit rate of %s is %v, by its requests %v", window, got, all)
		}
		return number(t, s, "namespaces", "pickup", "requests", "total"), number(t, s, "namespaces", "pickup", "hit_rate")
	}
	type seen struct{ hour, day, hourRate, dayRate float64 }
	want := func(when string, want seen) {
		t.Helper()
		for i, n := range nodes {
			var got seen
			if !within(patience, func() bool {
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
			n.stop(t)
		}
		for _, key := range rds.keys(t, "cache::stats:v2:*") { // in any order: nothing is as old as what has moved
			colon := strings.LastIndex(key, ":")
			old, err := strconv.ParseInt(key[colon+1:], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			by := tens
			if strings.Contains(key, ":1m:") {
				by *= 10
			}
			rds.do(t, "RENAME", key, fmt.Sprintf("%s:%d", key[:colon], old-by))
		}
		for _, n := range nodes {
			n.start(t)
		}
	}

	visit("/api/v1/pickups/1")
	want("at first", seen{4, 4, 3. / 4, 3. / 4})
	age(7)
	for _, n := range nodes {
		n.want(t, "HIT", "/api/v1/pickups/1")
	}
	want("70 minutes later", seen{3, 7, 1, 6. / 7})
	age(145)
	visit("/api/v1/pickups/2")
	want("a day and 10 minutes later", seen{4, 4, 3. / 4, 3. / 4})
}
