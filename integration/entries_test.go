package integration

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// entries pages through what is listed, and returns the keys.
func (n *node) entries(t *testing.T, query string, limit int) map[string]bool {
	t.Helper()
	keys := make(map[string]bool)
	for cursor := ""; ; {
		page := n.json(t, http.StatusOK, http.MethodGet,
			fmt.Sprintf("/redis_cache/entries?limit=%d&cursor=%s&%s", limit, url.QueryEscape(cursor), query), "")
		list := page["entries"].([]any)
		inMemory := n.layout.redis == nil && n.layout.connect == ""
		if len(list) > limit && (inMemory || len(list) > limit+50) { // a step of SCAN may have a few more
			t.Fatalf("%d entries on a page of %d", len(list), limit)
		}
		for _, line := range list {
			key := line.(map[string]any)["key"].(string)
			if keys[key] && inMemory { // SCAN may return a key twice
				t.Errorf("%s twice", key)
			}
			keys[key] = true
		}
		if cursor = page["cursor"].(string); cursor == "" {
			return keys
		}
	}
}

// TestEntries lists a few hundred stored responses by pages, each of them once.
func TestEntries(t *testing.T) {
	t.Parallel()
	for name, rds := range map[string]*redisServer{"redis": startRedis(t), "memory": nil} {
		t.Run(name, func(t *testing.T) {
			web := newOrigin(t)
			web.answer("/api/v1/users/binary", 200, "\xff\x00")
			node := startCaddy(t, layout{redis: rds, origin: web, cache: guide, site: guideSite})
			if rds != nil {
				node.attached(t)
			}
			want := make(map[string]bool)
			for i := range 300 {
				path := fmt.Sprintf("/api/v1/users/%d", i)
				if i%3 == 0 {
					path = fmt.Sprintf("/api/v1/pickups/%d", i)
				}
				key := node.want(t, "MISS", path).key()
				if want[key] = true; rds != nil {
					rds.await(t, key)
				}
			}
			for _, limit := range []int{7, 100, 1000} {
				got := node.entries(t, "", limit)
				for key := range want {
					if !got[key] {
						t.Fatalf("limit %d: %s is missing among %d", limit, key, len(got))
					}
				}
			}
			if got := node.entries(t, "namespace=pickup", 30); len(got) != 100 {
				t.Errorf("%d of namespace pickup, want 100", len(got))
			}
			if got := node.entries(t, "pattern="+url.QueryEscape("user:*/users/1?"), 30); len(got) != 7 {
				t.Errorf("%d of the pattern, want 7", len(got)) // 10 to 19, without 12, 15 and 18
			}

			miss := node.want(t, "MISS", "/api/v1/users/binary")
			one := "/redis_cache/entry?key=" + url.QueryEscape(miss.key())
			e := node.json(t, http.StatusOK, http.MethodGet, one+"&body=1", "")
			if e["body"] != "/wA=" || e["body_encoding"] != "base64" || e["status"] != 200.0 || e["namespace"] != "user" ||
				!strings.Contains(fmt.Sprint(e["tiers"]), "memory") || e["content_type"] != "application/json" {
				t.Errorf("entry %v", e)
			}
			long := node.want(t, "MISS", "/api/v1/users/"+strings.Repeat("long", 100))
			tiers := "[memory]"
			if rds != nil {
				tiers = "[memory redis]"
			}
			eventually(t, "what has a long key is in "+tiers, func() bool {
				e := node.json(t, http.StatusOK, http.MethodGet, "/redis_cache/entry?key="+url.QueryEscape(long.key()), "")
				return fmt.Sprint(e["tiers"]) == tiers
			})
			if r := node.api(t, http.MethodDelete, one+"&wait=10s", ""); r.status != http.StatusOK {
				t.Errorf("DELETE: %d %s", r.status, r.body)
			}
			node.json(t, http.StatusNotFound, http.MethodGet, one, "")
			if node.entries(t, "", 1000)[miss.key()] {
				t.Error("what is purged is listed")
			}
			for _, query := range []string{"entries?limit=0", "entries?limit=1001", "entries?cursor=x", "entries?namespce=user", "entry", "entry?key=user:1&bdy=1"} {
				if r := node.api(t, http.MethodGet, "/redis_cache/"+query, ""); r.status != http.StatusBadRequest {
					t.Errorf("%s: %d", query, r.status)
				}
			}
		})
	}
}
