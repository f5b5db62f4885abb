package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// TestStatisticsCommands prints the statistics of a known mix of requests.
func TestStatisticsCommands(t *testing.T) {
	t.Parallel()
	rds := harness.StartRedis(t)
	web := harness.NewOrigin(t)
	held := hold(t, web, "/api/v1/pickups/7")
	// The layout has no redis, so that nobody else sends requests to be attached.
	node := harness.StartCaddy(t, harness.Layout{
		Connect: rds.URL() + " {\n\tdial_timeout 5s\n\tread_timeout 5s\n\twrite_timeout 5s\n\t}",
		Origin:  web, Cache: harness.GuideCache, Site: harness.GuideSite,
	})
	mix := make(harness.Tally)
	want := func(outcome, namespace, request string) {
		t.Helper()
		r := node.Want(t, outcome, request)
		if mix.Count(namespace, outcome, 1); outcome == "MISS" {
			rds.Await(t, r.Key())
		}
	}
	complete := func(keys, purges, listed float64) {
		t.Helper()
		harness.Eventually(t, "the statistics are those of the mix", func() bool {
			stats := node.JSON(t, http.StatusOK, http.MethodGet, "/redis_cache/stats", "")
			requests := 0.0
			for _, line := range stats["top_endpoints"].([]any) {
				requests += harness.Number(t, line, "requests")
			}
			return mix.Differs(t, stats) == "" && harness.Number(t, stats, "keys") == keys && harness.Number(t, stats, "memory", "keys") == keys &&
				math.Round(60*harness.Number(t, stats, "invalidations_per_minute")) == purges && requests == listed
		})
	}
	harness.Eventually(t, "the node has joined", func() bool {
		return node.API(t, http.MethodGet, "/redis_cache/nodes", "").Status == http.StatusOK &&
			node.JSON(t, http.StatusOK, http.MethodGet, "/redis_cache/stats", "")["breaker"] == "closed"
	})
	node.Purge(t, `{"key":"user:nobody"}`)

	// The first pickup takes the origin longer than all users together.
	slow := make(chan string)
	go func() {
		r, err := node.Try(t.Context(), http.MethodGet, "/api/v1/pickups/7", "")
		if err != nil {
			r.Body = err.Error()
		}
		slow <- r.Key()
	}()
	held.await(t)
	for id := range 5 {
		want("MISS", "user", fmt.Sprintf("/api/v1/users/%d", id))
	}
	complete(5, 1, 0)
	held.release()
	rds.Await(t, <-slow)
	mix.Count("pickup", "MISS", 1)
	for range 11 {
		want("HIT", "pickup", "/api/v1/pickups/7")
	}
	for id := range 6 {
		want("HIT", "user", fmt.Sprintf("/api/v1/users/%d", id%5))
	}
	want("BYPASS", "points", "POST /api/v1/points/1") // and purges it
	complete(6, 2, 23)

	for name, args := range map[string]string{"stats": "stats", "top": "top --count 1", "stats_json": "stats --json"} {
		out, errOut, ok := node.RedisCache(t, strings.Fields(args)...)
		if !ok || errOut != "" {
			t.Errorf("%s: success %t, error output %q", args, ok, errOut)
		}
		if name == "stats_json" {
			var indented bytes.Buffer
			if err := json.Indent(&indented, []byte(out), "", "  "); err != nil {
				t.Fatal(err)
			}
			out = indented.String()
		}
		golden(t, name, out)
	}
}
