package integration

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestWarm fills the cache before the first client comes, through the site's
// own handlers.
func TestWarm(t *testing.T) {
	t.Parallel()
	web := newOrigin(t)
	web.answer("/api/v1/users/gone", 404, "")
	node := startCaddy(t, layout{origin: web, cache: guide, site: guideSite})
	// A URL to warm names the port of the site, so clients have to, too.
	host := "Host: " + node.site
	urls := func(paths ...string) string {
		for i, path := range paths {
			paths[i] = fmt.Sprintf("%q", node.url(path))
		}
		return `"urls":[` + strings.Join(paths, ",") + `]`
	}

	t.Run("in the background", func(t *testing.T) {
		body := "{" + urls("/api/v1/users/1", "/api/v1/pickups/1?page=2", "/api/v1/points/1") + "}"
		started := node.json(t, http.StatusAccepted, http.MethodPost, "/redis_cache/warm", body)
		id, _ := started["id"].(string)
		if id == "" {
			t.Fatalf("no id in %v", started)
		}
		var progress map[string]any
		eventually(t, "the job is done", func() bool {
			progress = node.json(t, http.StatusOK, http.MethodGet, "/redis_cache/warm?id="+id, "")
			return progress["running"] == false
		})
		if progress["id"] != id || progress["total"] != 3.0 || progress["done"] != 3.0 || progress["failed"] != 0.0 {
			t.Errorf("progress %v", progress)
		}
		node.want(t, "HIT", "/api/v1/users/1", host)
		node.want(t, "HIT", "/api/v1/pickups/1?page=2", host)
		node.want(t, "MISS", "/api/v1/pickups/1?page=3", host)
	})
	t.Run("awaited", func(t *testing.T) {
		done := node.json(t, http.StatusOK, http.MethodPost, "/redis_cache/warm",
			"{"+urls("/api/v1/users/2", "/api/v1/users/gone")+`,"wait":true}`)
		results, _ := done["results"].([]any)
		if len(results) != 2 || done["failed"] != 1.0 {
			t.Errorf("answer %v", done)
		}
		node.want(t, "HIT", "/api/v1/users/2", host)
	})
	t.Run("what is stored already", func(t *testing.T) {
		before := web.count("/api/v1/users/2")
		node.json(t, http.StatusOK, http.MethodPost, "/redis_cache/warm", "{"+urls("/api/v1/users/2")+`,"wait":true}`)
		between(t, "requests at the origin", web.count("/api/v1/users/2"), before, before+1)
		node.want(t, "HIT", "/api/v1/users/2", host)
	})
	t.Run("unknown id", func(t *testing.T) {
		node.json(t, http.StatusNotFound, http.MethodGet, "/redis_cache/warm?id=nothing", "")
	})
}

// number follows names into a decoded JSON object.
func number(t *testing.T, v any, path ...string) float64 {
	t.Helper()
	for _, name := range path {
		m, ok := v.(map[string]any)
		if !ok {
			t.Fatalf("%v: no object on the way to %v", v, path)
		}
		v = m[name]
	}
	n, ok := v.(float64)
	if !ok {
		t.Fatalf("%v is %v, want a number", path, v)
	}
	return n
}

// TestStats counts on two nodes what clients did.
func TestStats(t *testing.T) {
	t.Parallel()
	for name, rds := range map[string]*redisServer{"memory": nil, "redis": startRedis(t)} {
		t.Run(name, func(t *testing.T) {
			node := startCaddy(t, layout{redis: rds, origin: newOrigin(t), cache: guide, site: guideSite})
			hits := 12.0
			if rds != nil {
				hits++ // by which the harness knew that the node is attached
			}
			var keys []string
			for i := range 4 {
				path := fmt.Sprintf("/api/v1/pickups/%d", i)
				keys = append(keys, node.want(t, "MISS", path).key())
				for range 3 {
					node.want(t, "HIT", path)
				}
			}
			keys = append(keys, node.want(t, "MISS", "/api/v1/users/1").key())
			node.want(t, "BYPASS", "POST /api/v1/users/2")
			if rds != nil {
				for _, key := range keys {
					rds.await(t, key)
				}
			}

			var stats map[string]any
			eventually(t, "the statistics catch up", func() bool {
				stats = node.json(t, http.StatusOK, http.MethodGet, "/redis_cache/stats", "")
				return number(t, stats, "namespaces", "pickup", "keys") == 4
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
				if got := number(t, stats, strings.Fields(tt.path)...); got != tt.want {
					t.Errorf("%s is %v, want %v", tt.path, got, tt.want)
				}
			}
			if rds == nil { // or the probes of the harness are among them
				if got := number(t, stats, "keys"); got != 5 {
					t.Errorf("keys is %v, want 5", got)
				}
				if got := number(t, stats, "hit_rate", "1h"); got < 0.7 || got > 0.71 {
					t.Errorf("hit rate is %v, want 12 of 17", got)
				}
			}
			for _, path := range []string{"bytes", "namespaces pickup bytes", "namespaces pickup share"} {
				if got := number(t, stats, strings.Fields(path)...); got <= 0 {
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
	node := startCaddy(t, layout{origin: newOrigin(t), cache: guide, site: guideSite})
	node.want(t, "MISS", "/api/v1/pickups/1")
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
		{"POST", "/redis_cache/warm", `{"urls":["http://` + node.site + `/"],"colour":"red"}`, 400},
		{"DELETE", "/redis_cache/warm", ``, 405},
		{"POST", "/redis_cache/stats", `{}`, 405},
		{"GET", "/redis_cache/stats?window=2h", ``, 400},
	} {
		name := tt.method + " " + tt.path + " " + tt.body[:min(len(tt.body), 60)]
		t.Run(name, func(t *testing.T) {
			answer := node.json(t, tt.status, tt.method, tt.path, tt.body)
			if text, ok := answer["error"].(string); !ok || text == "" {
				t.Errorf("answer %v, want an error", answer)
			}
		})
	}
	if r := node.api(t, http.MethodPost, "/redis_cache/nothing", ""); r.status != http.StatusNotFound {
		t.Errorf("an unknown route answers %d", r.status)
	}
	node.want(t, "HIT", "/api/v1/pickups/1")
}
