package purge

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// purgePaths are the responses that every purge case starts with.
var purgePaths = []string{
	"/api/v1/users/123",
	"/api/v1/users/456",
	"/api/v1/pickups/1",
	"/api/v1/pickups/1?status=open",
	"/api/v1/pickups/2",
	"/api/v1/points/123",
}

// TestPurge purges by every selector, with Redis and in memory alone. What is
// named must go, and what is not must stay.
func TestPurge(t *testing.T) {
	t.Parallel()
	for name, rds := range map[string]*harness.Redis{"redis": harness.StartRedis(t), "memory": nil} {
		t.Run(name, func(t *testing.T) {
			node := harness.StartCaddy(t, harness.Layout{Redis: rds, Origin: harness.NewOrigin(t), Cache: harness.GuideCache, Site: harness.GuideSite})
			for _, tt := range []struct {
				name, body string
				gone       string // the purged paths, by their place in purgePaths
			}{
				{"namespace", `{"namespace":"pickup"}`, "2 3 4"},
				{"namespaces", `{"namespaces":["user","points"]}`, "0 1 5"},
				{"key", `{"key":"pickup:shop.test/api/v1/pickups/1"}`, "2 3"},
				{"key with prefix", `{"key":"cache:pickup:shop.test/api/v1/pickups/2"}`, "4"},
				{"keys", `{"keys":["user:shop.test/api/v1/users/123","points:shop.test/api/v1/points/123"]}`, "0 5"},
				{"whole key", `{"key":"{key 3}"}`, "3"},
				{"pattern", `{"pattern":"user:*"}`, "0 1"},
				{"pattern with prefix", `{"pattern":"cache:user:*/123*"}`, "0"},
				{"pattern over namespaces", `{"pattern":"*/123*"}`, "0 5"},
				{"pattern of one letter", `{"pattern":"user:shop.test/api/v1/users/?23"}`, "0"},
				{"pattern of whole keys", `{"pattern":"{key 2}"}`, "2"},
				{"url", `{"url":"http://shop.test/api/v1/pickups/1"}`, "2 3"},
				{"url with query", `{"url":"http://shop.test/api/v1/pickups/1?status=open"}`, "3"},
				{"urls", `{"urls":["http://shop.test/api/v1/pickups/2","http://shop.test/api/v1/users/456"]}`, "1 4"},
				{"a union", `{"namespace":"points","key":"user:shop.test/api/v1/users/123"}`, "0 5"},
				{"all", `{"all":true}`, "0 1 2 3 4 5"},
				// Names of nothing, and of nearly something.
				{"unknown namespace", `{"namespace":"nothing"}`, ""},
				{"half a namespace", `{"namespace":"pick"}`, ""},
				{"half a key", `{"key":"pickup:shop.test/api/v1/pickups"}`, ""},
				{"pattern is anchored", `{"pattern":"pickup"}`, ""},
				{"other host", `{"url":"http://other.test/api/v1/pickups/1"}`, ""},
				{"other scheme", `{"url":"https://shop.test/api/v1/pickups/1"}`, ""},
			} {
				t.Run(tt.name, func(t *testing.T) {
					keys := fill(t, node)
					body := tt.body
					for i, path := range purgePaths {
						body = strings.ReplaceAll(body, fmt.Sprintf("{key %d}", i), keys[path])
					}
					node.Purge(t, body)
					for i, path := range purgePaths {
						outcome := "HIT"
						if slices.Contains(strings.Fields(tt.gone), fmt.Sprint(i)) {
							outcome = "MISS"
						}
						node.Want(t, outcome, path)
					}
				})
			}
		})
	}
}

// fill stores every path, in all tiers, and returns the keys.
func fill(t *testing.T, n *harness.Node) map[string]string {
	t.Helper()
	keys := make(map[string]string)
	for _, path := range purgePaths {
		n.Get(t, path)
		keys[path] = n.Want(t, "HIT", path).Key()
	}
	if n.Layout.Redis != nil {
		for key := range maps.Values(keys) {
			n.Layout.Redis.Await(t, key)
		}
	}
	return keys
}

// TestPurgeAnswer reads what the admin API says about a purge.
func TestPurgeAnswer(t *testing.T) {
	t.Parallel()
	rds := harness.StartRedis(t)
	node := harness.StartCaddy(t, harness.Layout{Redis: rds, Origin: harness.NewOrigin(t), Cache: harness.GuideCache, Site: harness.GuideSite})
	answer := node.Purge(t, `{"namespace":"pickup","keys":["user:x"]}`)
	if answer["id"] == nil || answer["id"] == "" {
		t.Errorf("no id in %v", answer)
	}
	if b, _ := json.Marshal(answer["selectors"]); !strings.Contains(string(b), "pickup") || !strings.Contains(string(b), "user:x") {
		t.Errorf("selectors %s", b)
	}

	// Redis away: other nodes cannot be told, so nothing is claimed.
	rds.Kill()
	r := node.API(t, http.MethodPost, "/redis_cache/purge", `{"namespace":"pickup","require":"recorded"}`)
	if r.Status != http.StatusServiceUnavailable || !strings.Contains(r.Body, `"error"`) {
		t.Errorf("without Redis: %d %s, want 503", r.Status, r.Body)
	}
	node.PurgeWaits(t, `{"namespace":"pickup"}`)
	rds.Start(t)
	harness.Eventually(t, "purges work again", func() bool {
		return node.API(t, http.MethodPost, "/redis_cache/purge", `{"namespace":"pickup"}`).Status == http.StatusOK
	})
	node.Want(t, "MISS", "/api/v1/pickups/1")
}

// TestPurgeEscaped purges keys that hold what patterns are made of: such a key
// matches itself, and no more.
func TestPurgeEscaped(t *testing.T) {
	t.Parallel()
	node := harness.StartCaddy(t, harness.Layout{Origin: harness.NewOrigin(t), Cache: harness.GuideCache, Site: `
		redis_cache /s/* pickup {
			key q:{query.q}
			vary_query q
		}`})
	paths := []string{"/s/x?q=%2A", "/s/x?q=a", "/s/x?q=%5Ba%5D", "/s/x?q=a%3Ab"}
	for _, tt := range []struct {
		body string
		gone int
	}{
		{`{"key":"pickup:q:%2A"}`, 0},
		{`{"key":"pickup:q:*"}`, -1},
		{`{"pattern":"pickup:q:%2A"}`, 0},
		{`{"pattern":"pickup:q:[ab]"}`, 1},
		{`{"pattern":"pickup:q:%5B*"}`, 2},
		{`{"pattern":"pickup:q:*:b"}`, -1},
		{`{"pattern":"pickup:q:a%3A?"}`, 3},
	} {
		t.Run(tt.body, func(t *testing.T) {
			for _, path := range paths {
				node.Get(t, path)
				node.Want(t, "HIT", path)
			}
			node.Purge(t, tt.body)
			for i, path := range paths {
				outcome := "HIT"
				if i == tt.gone {
					outcome = "MISS"
				}
				node.Want(t, outcome, path)
			}
		})
	}
}

// TestPurgeVariants purges a URL whose responses differ by user and by Vary.
func TestPurgeVariants(t *testing.T) {
	t.Parallel()
	rds := harness.StartRedis(t)
	web := harness.NewOrigin(t)
	web.With("/mine/x", "Vary: Accept-Language")
	node := harness.StartCaddy(t, harness.Layout{Redis: rds, Origin: web, Cache: harness.GuideCache, Site: `
		redis_cache /mine/* user {
			by_user {http.request.cookie.uid}
		}`})
	asks := [][]string{
		{"Cookie: uid=alice", "Accept-Language: de"},
		{"Cookie: uid=alice", "Accept-Language: en"},
		{"Cookie: uid=bob", "Accept-Language: de"},
	}
	for _, body := range []string{
		`{"url":"http://shop.test/mine/x"}`,
		`{"key":"user:shop.test/mine/x"}`,
		`{"pattern":"user:*/x"}`,
	} {
		for _, fields := range asks {
			node.Get(t, "/mine/x", fields...)
			rds.Await(t, node.Want(t, "HIT", "/mine/x", fields...).Key())
		}
		node.Purge(t, body)
		for _, fields := range asks {
			node.Want(t, "MISS", "/mine/x", fields...)
		}
	}
}

// TestPurgeDuringFetch purges what is on its way: the fetch began before, so
// what it brings is already out of date.
func TestPurgeDuringFetch(t *testing.T) {
	t.Parallel()
	rds := harness.StartRedis(t)
	web := harness.NewOrigin(t)
	node := harness.StartCaddy(t, harness.Layout{Redis: rds, Origin: web, Cache: harness.GuideCache, Site: harness.GuideSite})
	hold, arrived := harness.NewGate(t), harness.NewGate(t)
	web.Handle("/api/v1/pickups/slow", func(w http.ResponseWriter, _ *http.Request) {
		arrived.Open()
		hold.Wait()
		fmt.Fprint(w, "old")
	})
	done := make(chan error, 1)
	go func() {
		_, err := node.Try(t.Context(), http.MethodGet, "/api/v1/pickups/slow", "")
		done <- err
	}()
	arrived.Wait()
	node.Purge(t, `{"namespace":"pickup"}`)
	hold.Open()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	web.Answer("/api/v1/pickups/slow", 200, "new")
	if r := node.Want(t, "MISS", "/api/v1/pickups/slow"); r.Body != "new" {
		t.Errorf("body %q", r.Body)
	}
	node.Want(t, "HIT", "/api/v1/pickups/slow")
}
