package fleet

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// TestTwoNodes has two processes on one Redis: what one stored the other
// serves, what one purges is gone from both, memory included.
func TestTwoNodes(t *testing.T) {
	t.Parallel()
	rds := harness.StartRedis(t)
	l := harness.Layout{Redis: rds, Origin: harness.NewOrigin(t), Cache: harness.GuideCache, Site: harness.GuideSite}
	one, two := harness.StartCaddy(t, l), harness.StartCaddy(t, l)

	var stored, hit harness.Reply
	harness.Eventually(t, "the other node may answer from its store", func() bool {
		path := fmt.Sprintf("/api/v1/pickups/first-%d", harness.Probes.Add(1))
		stored = one.Want(t, "MISS", path)
		rds.Await(t, stored.Key())
		hit = two.Get(t, path)
		return !hit.Unproven()
	})
	if got := hit.CacheStatus(t)["detail"]; hit.Outcome() != "HIT" || got != "redis" || hit.Body != stored.Body {
		t.Errorf("the other node answers %s %q from %q, stored was %q", hit.Outcome(), hit.Body, got, stored.Body)
	}

	for _, body := range []string{
		`{"namespace":"pickup"}`,
		`{"key":"pickup:shop.test/api/v1/pickups/1"}`,
		`{"pattern":"pickup:*"}`,
		`{"url":"http://shop.test/api/v1/pickups/1"}`,
		`{"all":true}`,
	} {
		t.Run(body, func(t *testing.T) {
			for _, path := range []string{"/api/v1/pickups/1", "/api/v1/users/1"} {
				for _, n := range []*harness.Node{one, two} {
					n.Get(t, path)
					n.Want(t, "HIT", path)
				}
			}
			before := l.Origin.Count("/api/v1/pickups/1")
			one.Purge(t, body)
			two.Want(t, "MISS", "/api/v1/pickups/1")
			if got := l.Origin.Count("/api/v1/pickups/1"); got != before+1 {
				t.Errorf("%d requests at the origin, want %d", got, before+1)
			}
			if body != `{"all":true}` {
				two.Want(t, "HIT", "/api/v1/users/1")
			}
		})
	}
}

// TestTenants shares a Redis with strangers, and with a cache of another prefix.
func TestTenants(t *testing.T) {
	t.Parallel()
	rds := harness.StartRedis(t)
	strangers := map[string]string{
		"other:pickup:1":      "theirs",
		"cached:pickup:1":     "looks like ours",
		"cache":               "the prefix alone",
		"xcache:pickup:1":     "ends like ours",
		"session:cache:user:": "contains ours",
	}
	for key, value := range strangers {
		rds.Do(t, "SET", key, value)
	}
	web := harness.NewOrigin(t)
	ours := harness.StartCaddy(t, harness.Layout{Redis: rds, Origin: web, Cache: harness.GuideCache, Site: harness.GuideSite})
	theirs := harness.StartCaddy(t, harness.Layout{Redis: rds, Origin: web, Cache: "\tprefix shop-2\n" + harness.GuideCache, Site: harness.GuideSite})

	a := ours.Want(t, "MISS", "/api/v1/users/1")
	b := theirs.Want(t, "MISS", "/api/v1/users/1")
	if b.Key() != "shop-2"+a.Key()[len("cache"):] {
		t.Errorf("keys %q and %q", a.Key(), b.Key())
	}
	rds.Await(t, a.Key())
	rds.Await(t, b.Key())
	ours.Purge(t, `{"all":true}`)
	ours.Purge(t, `{"pattern":"*"}`)
	ours.Want(t, "MISS", "/api/v1/users/1")
	theirs.Want(t, "HIT", "/api/v1/users/1")
	theirs.Restart(t)
	theirs.Want(t, "HIT", "/api/v1/users/1")

	for _, key := range slices.Sorted(maps.Keys(strangers)) {
		if got := rds.Client.Get(t.Context(), key).Val(); got != strangers[key] {
			t.Errorf("%q is %q now, want %q", key, got, strangers[key])
		}
		if d := rds.TTL(t, key); d >= 0 {
			t.Errorf("%q got a lifetime of %s", key, d)
		}
	}
}

// TestDatabases has two nodes on two databases of one Redis, with the same site and prefix: nothing
// crosses.
func TestDatabases(t *testing.T) {
	t.Parallel()
	rds := harness.StartRedis(t)
	web := harness.NewOrigin(t)
	const path, key = "/api/v1/users/1", "user:shop.test/api/v1/users/1"
	var (
		nodes  []*harness.Node
		stored []harness.Reply
	)
	for db := 1; db <= 2; db++ {
		d := rds.Database(t, db)
		n := harness.StartCaddy(t, harness.Layout{Redis: d, Origin: web, Cache: harness.GuideCache, Site: harness.GuideSite})
		miss := n.Want(t, "MISS", path)
		d.Await(t, miss.Key())
		nodes, stored = append(nodes, n), append(stored, miss)
	}
	if stored[0].Key() != stored[1].Key() || stored[0].Body == stored[1].Body {
		t.Errorf("keys %q and %q, bodies %q and %q", stored[0].Key(), stored[1].Key(), stored[0].Body, stored[1].Body)
	}
	if keys := rds.Keys(t, "*"); len(keys) > 0 {
		t.Errorf("in a database that nobody uses: %q", keys)
	}
	for _, n := range nodes {
		if list := n.JSON(t, http.StatusOK, http.MethodGet, "/redis_cache/nodes", "")["nodes"].([]any); len(list) != 1 {
			t.Errorf("%d nodes on a database with one: %v", len(list), list)
		}
	}

	for _, selector := range []string{`{"key":"` + key + `"}`, `{"namespace":"user"}`, `{"pattern":"*"}`, `{"all":true}`} {
		nodes[0].Purge(t, selector)
		nodes[0].Want(t, "MISS", path)
		if hit := nodes[1].Want(t, "HIT", path); hit.Body != stored[1].Body {
			t.Errorf("%s: body %q, stored was %q", selector, hit.Body, stored[1].Body)
		}
	}
	nodes[1].Restart(t)
	if hit := nodes[1].Want(t, "HIT", path); hit.Body != stored[1].Body || hit.CacheStatus(t)["detail"] != "redis" {
		t.Errorf("after a restart: body %q, stored was %q", hit.Body, stored[1].Body)
	}
}

// TestCorrupted finds damaged records in Redis: each is a miss, whatever broke.
func TestCorrupted(t *testing.T) {
	t.Parallel()
	rds := harness.StartRedis(t)
	node := harness.StartCaddy(t, harness.Layout{Redis: rds, Origin: harness.NewOrigin(t), Cache: "\tmemory off\n" + harness.GuideCache, Site: harness.GuideSite})
	intact := func(t *testing.T, path string) (string, []byte) {
		t.Helper()
		key := node.Want(t, "MISS", path).Key()
		rds.Await(t, key)
		node.Want(t, "HIT", path)
		value, err := rds.Client.Get(t.Context(), key).Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return key, value
	}
	missed := func(t *testing.T, path string) {
		t.Helper()
		// The node may still have it among its writes that Redis has answered.
		harness.Eventually(t, "the damage is noticed", func() bool { return node.Get(t, path).Outcome() == "MISS" })
	}
	for name, damage := range map[string]func([]byte) []byte{
		"empty":      func([]byte) []byte { return nil },
		"cut":        func(b []byte) []byte { return b[:len(b)/2] },
		"cut by one": func(b []byte) []byte { return b[:len(b)-1] },
		"longer":     func(b []byte) []byte { return append(b, 'x') },
		"head":       func(b []byte) []byte { b[0] ^= 0xff; return b },
		"middle":     func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"end":        func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"text":       func([]byte) []byte { return []byte("null") },
	} {
		t.Run(name, func(t *testing.T) {
			path := "/api/v1/users/" + strings.ReplaceAll(name, " ", "-")
			key, value := intact(t, path)
			rds.Do(t, "SET", key, damage(slices.Clone(value)), "KEEPTTL")
			missed(t, path)
		})
	}
	t.Run("of another key", func(t *testing.T) {
		key, _ := intact(t, "/api/v1/users/mine")
		_, value := intact(t, "/api/v1/users/yours")
		rds.Do(t, "SET", key, value, "KEEPTTL")
		missed(t, "/api/v1/users/mine")
	})
	t.Run("of another type", func(t *testing.T) {
		key, _ := intact(t, "/api/v1/users/list")
		rds.Do(t, "DEL", key)
		rds.Do(t, "LPUSH", key, "x")
		missed(t, "/api/v1/users/list")
	})
}
