package admin

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// TestStats counts on two nodes what clients did.
func TestStats(t *testing.T) {
	t.Parallel()
	for name, rds := range map[string]*harness.Redis{"memory": nil, "redis": harness.StartRedis(t)} {
		t.Run(name, func(t *testing.T) {
			node := harness.StartCaddy(t, harness.Layout{Redis: rds, Origin: harness.NewOrigin(t), Cache: harness.GuideCache, Site: harness.GuideSite})
			hits := 12.0
			if rds != nil {
				hits++ // by which the harness knew that the node is attached
			}
			var keys []string
			for i := range 4 {
				path := fmt.Sprintf("/api/v1/pickups/%d", i)
				keys = append(keys, node.Want(t, "MISS", path).Key())
				for range 3 {
					node.Want(t, "HIT", path)
				}
			}
			keys = append(keys, node.Want(t, "MISS", "/api/v1/users/1").Key())
			node.Want(t, "BYPASS", "POST /api/v1/users/2")
			if rds != nil {
				for _, key := range keys {
					rds.Await(t, key)
				}
			}

			var stats map[string]any
			harness.Eventually(t, "the statistics catch up", func() bool {
				stats = node.JSON(t, http.StatusOK, http.MethodGet, "/redis_cache/stats", "")
				return harness.Number(t, stats, "namespaces", "pickup", "keys") == 4
			})
			for _, tt := range []struct {
				path string
				want float64
			}{
				{"namespaces pickup requests total", 16},
				{"namespaces pickup requests HIT", 12},
				{"namespaces pickup requests MISS", 4},
				{"namespaces user requests total", 2},
				{"namespaces user requests MISS", 1},
				{"namespaces user requests BYPASS", 1},
				{"namespaces user keys", 1},
				{"requests HIT", hits},
				{"requests BYPASS", 1},
			} {
				if got := harness.Number(t, stats, strings.Fields(tt.path)...); got != tt.want {
					t.Errorf("%s is %v, want %v", tt.path, got, tt.want)
				}
			}
			if rds == nil { // or the probes of the harness are among them
				if got := harness.Number(t, stats, "keys"); got != 5 {
					t.Errorf("keys is %v, want 5", got)
				}
				if got := harness.Number(t, stats, "hit_rate", "1h"); got < 0.7 || got > 0.71 {
					t.Errorf("hit rate is %v, want 12 of 17", got)
				}
			}
			for _, path := range []string{"bytes", "namespaces pickup bytes", "namespaces pickup share"} {
				if got := harness.Number(t, stats, strings.Fields(path)...); got <= 0 {
					t.Errorf("%s is %v", path, got)
				}
			}
		})
	}
}

// TestAdminBadInput sends the admin API what it cannot mean. Each answer is a
// Caddy API error that says what is wrong, and changes nothing.
func TestAdminBadInput(t *testing.T) {
	t.Parallel()
	node := harness.StartCaddy(t, harness.Layout{Origin: harness.NewOrigin(t), Cache: harness.GuideCache, Site: harness.GuideSite})
	node.Want(t, "MISS", "/api/v1/pickups/1")
	for _, tt := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "/redis_cache/purge", ``, 400},
		{"POST", "/redis_cache/purge", `{`, 400},
		{"POST", "/redis_cache/purge", `null`, 400},
		{"POST", "/redis_cache/purge", `[]`, 400},
		{"POST", "/redis_cache/purge", `"all"`, 400},
		{"POST", "/redis_cache/purge", `{}`, 400},
		{"POST", "/redis_cache/purge", `{"all":false}`, 400},
		{"POST", "/redis_cache/purge", `{"namespaces":[]}`, 400},
		{"POST", "/redis_cache/purge", `{"namespaces":["pickup",""]}`, 400},
		{"POST", "/redis_cache/purge", `{"namespace":""}`, 400},
		{"POST", "/redis_cache/purge", `{"namespace":7}`, 400},
		{"POST", "/redis_cache/purge", `{"namespace":"pickup","colour":"red"}`, 400},
		{"POST", "/redis_cache/purge", `{"namespace":"pickup"} {"all":true}`, 400},
		{"POST", "/redis_cache/purge", `{"url":"/api/v1/pickups/1"}`, 400},
		{"POST", "/redis_cache/purge", `{"url":"http://shop.test:port/"}`, 400},
		{"POST", "/redis_cache/purge", `{"key":"` + strings.Repeat("x", 2<<20) + `"}`, 413},
		{"GET", "/redis_cache/purge", ``, 405},
		{"DELETE", "/redis_cache/purge", `{"all":true}`, 405},
		{"POST", "/redis_cache/warm", `{`, 400},
		{"POST", "/redis_cache/warm", `{}`, 400},
		{"POST", "/redis_cache/warm", `{"urls":[]}`, 400},
		{"POST", "/redis_cache/warm", `{"urls":["/api/v1/pickups/1"]}`, 400},
		{"POST", "/redis_cache/warm", `{"urls":["ftp://shop.test/"]}`, 400},
		{"POST", "/redis_cache/warm", `{"urls":["http://127.0.0.1:1/"]}`, 400}, // nobody listens there
		{"POST", "/redis_cache/warm", `{"urls":["http://` + node.Site + `/"],"colour":"red"}`, 400},
		{"DELETE", "/redis_cache/warm", ``, 405},
		{"POST", "/redis_cache/stats", `{}`, 405},
		{"GET", "/redis_cache/stats?window=2h", ``, 400},
	} {
		name := tt.method + " " + tt.path + " " + tt.body[:min(len(tt.body), 60)]
		t.Run(name, func(t *testing.T) {
			answer := node.JSON(t, tt.status, tt.method, tt.path, tt.body)
			if text, ok := answer["error"].(string); !ok || text == "" {
				t.Errorf("answer %v, want an error", answer)
			}
		})
	}
	if r := node.API(t, http.MethodPost, "/redis_cache/nothing", ""); r.Status != http.StatusNotFound {
		t.Errorf("an unknown route answers %d", r.Status)
	}
	node.Want(t, "HIT", "/api/v1/pickups/1")
}
