package admin

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// TestEntries lists a few hundred stored responses by pages, each of them once.
func TestEntries(t *testing.T) {
	t.Parallel()
	for name, rds := range map[string]*harness.Redis{"redis": harness.StartRedis(t), "memory": nil} {
		t.Run(name, func(t *testing.T) {
			web := harness.NewOrigin(t)
			web.Answer("/api/v1/users/binary", 200, "\xff\x00")
			node := harness.StartCaddy(t, harness.Layout{Redis: rds, Origin: web, Cache: harness.GuideCache, Site: harness.GuideSite})
			if rds != nil {
				node.Attached(t)
			}
			want := make(map[string]bool)
			for i := range 300 {
				path := fmt.Sprintf("/api/v1/users/%d", i)
				if i%3 == 0 {
					path = fmt.Sprintf("/api/v1/pickups/%d", i)
				}
				key := node.Want(t, "MISS", path).Key()
				if want[key] = true; rds != nil {
					rds.Await(t, key)
				}
			}
			for _, limit := range []int{7, 100, 1000} {
				got := node.Entries(t, "", limit)
				for key := range want {
					if !got[key] {
						t.Fatalf("limit %d: %s is missing among %d", limit, key, len(got))
					}
				}
			}
			if got := node.Entries(t, "namespace=pickup", 30); len(got) != 100 {
				t.Errorf("%d of namespace pickup, want 100", len(got))
			}
			if got := node.Entries(t, "pattern="+url.QueryEscape("user:*/users/1?"), 30); len(got) != 7 {
				t.Errorf("%d of the pattern, want 7", len(got)) // 10 to 19, without 12, 15 and 18
			}

			miss := node.Want(t, "MISS", "/api/v1/users/binary")
			one := "/redis_cache/entry?key=" + url.QueryEscape(miss.Key())
			e := node.JSON(t, http.StatusOK, http.MethodGet, one+"&body=1", "")
			if e["body"] != "/wA=" || e["body_encoding"] != "base64" || e["status"] != 200.0 || e["namespace"] != "user" ||
				!strings.Contains(fmt.Sprint(e["tiers"]), "memory") || e["content_type"] != "application/json" {
				t.Errorf("entry %v", e)
			}
			long := node.Want(t, "MISS", "/api/v1/users/"+strings.Repeat("long", 100))
			tiers := "[memory]"
			if rds != nil {
				tiers = "[memory redis]"
			}
			harness.Eventually(t, "what has a long key is in "+tiers, func() bool {
				e := node.JSON(t, http.StatusOK, http.MethodGet, "/redis_cache/entry?key="+url.QueryEscape(long.Key()), "")
				return fmt.Sprint(e["tiers"]) == tiers
			})
			if r := node.API(t, http.MethodDelete, one+"&wait=10s", ""); r.Status != http.StatusOK {
				t.Errorf("DELETE: %d %s", r.Status, r.Body)
			}
			node.JSON(t, http.StatusNotFound, http.MethodGet, one, "")
			if node.Entries(t, "", 1000)[miss.Key()] {
				t.Error("what is purged is listed")
			}
			for _, query := range []string{"entries?limit=0", "entries?limit=1001", "entries?cursor=x", "entries?namespce=user", "entry", "entry?key=user:1&bdy=1"} {
				if r := node.API(t, http.MethodGet, "/redis_cache/"+query, ""); r.Status != http.StatusBadRequest {
					t.Errorf("%s: %d", query, r.Status)
				}
			}
		})
	}
}
