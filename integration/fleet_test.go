package integration

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// TestTwoNodes has two processes on one Redis: what one stored the other
// serves, what one purges is gone from both, memory included.
func TestTwoNodes(t *testing.T) {
	t.Parallel()
	rds := startRedis(t)
	l := layout{redis: rds, origin: newOrigin(t), cache: guide, site: guideSite}
	one, two := startCaddy(t, l), startCaddy(t, l)

	var stored, hit reply
	eventually(t, "the other node may answer from its store", func() bool {
		path := fmt.Sprintf("/api/v1/pickups/first-%d", probes.Add(1))
		stored = one.want(t, "MISS", path)
		rds.await(t, stored.key())
		hit = two.get(t, path)
		return !hit.unproven()
	})
	if got := hit.cacheStatus(t)["detail"]; hit.outcome() != "HIT" || got != "redis" || hit.body != stored.body {
		t.Errorf("the other node answers %s %q from %q, stored was %q", hit.outcome(), hit.body, got, stored.body)
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
				for _, n := range []*node{one, two} {
					n.get(t, path)
					n.want(t, "HIT", path)
				}
			}
			before := l.origin.count("/api/v1/pickups/1")
			one.purge(t, body)
			two.want(t, "MISS", "/api/v1/pickups/1")
			if got := l.origin.count("/api/v1/pickups/1"); got != before+1 {
				t.Errorf("%d requests at the origin, want %d", got, before+1)
			}
			if body != `{"all":true}` {
				two.want(t, "HIT", "/api/v1/users/1")
			}
		})
	}
}

// TestTenants shares a Redis with strangers, and with a cache of another prefix.
func TestTenants(t *testing.T) {
	t.Parallel()
	rds := startRedis(t)
	strangers := map[string]string{
		"other:pickup:1":      "theirs",
		"cached:pickup:1":     "looks like ours",
		"cache":               "the prefix alone",
		"xcache:pickup:1":     "ends like ours",
		"session:cache:user:": "contains ours",
	}
	for key, value := range strangers {
		rds.do(t, "SET", key, value)
	}
	web := newOrigin(t)
	ours := startCaddy(t, layout{redis: rds, origin: web, cache: guide, site: guideSite})
	theirs := startCaddy(t, layout{redis: rds, origin: web, cache: "\tprefix shop-2\n" + guide, site: guideSite})

	a := ours.want(t, "MISS", "/api/v1/users/1")
	b := theirs.want(t, "MISS", "/api/v1/users/1")
	if b.key() != "shop-2"+a.key()[len("cache"):] {
		t.Errorf("keys %q and %q", a.key(), b.key())
	}
	rds.await(t, a.key())
	rds.await(t, b.key())
	ours.purge(t, `{"all":true}`)
	ours.purge(t, `{"pattern":"*"}`)
	ours.want(t, "MISS", "/api/v1/users/1")
	theirs.want(t, "HIT", "/api/v1/users/1")
	theirs.restart(t)
	theirs.want(t, "HIT", "/api/v1/users/1")

	for _, key := range slices.Sorted(maps.Keys(strangers)) {
		if got := rds.client.Get(t.Context(), key).Val(); got != strangers[key] {
			t.Errorf("%q is %q now, want %q", key, got, strangers[key])
		}
		if d := rds.ttl(t, key); d >= 0 {
			t.Errorf("%q got a lifetime of %s", key, d)
		}
	}
}

// TestDatabases has two nodes on two databases of one Redis, with the same site and prefix: nothing
// crosses.
func TestDatabases(t *testing.T) {
	t.Parallel()
	rds := startRedis(t)
	web := newOrigin(t)
	const path, key = "/api/v1/users/1", "user:shop.test/api/v1/users/1"
	var (
		nodes  []*node
		stored []reply
	)
	for db := 1; db <= 2; db++ {
		d := rds.database(t, db)
		n := startCaddy(t, layout{redis: d, origin: web, cache: guide, site: guideSite})
		miss := n.want(t, "MISS", path)
		d.await(t, miss.key())
		nodes, stored = append(nodes, n), append(stored, miss)
	}
	if stored[0].key() != stored[1].key() || stored[0].body == stored[1].body {
		t.Errorf("keys %q and %q, bodies %q and %q", stored[0].key(), stored[1].key(), stored[0].body, stored[1].body)
	}
	if keys := rds.keys(t, "*"); len(keys) > 0 {
		t.Errorf("in a database that nobody uses: %q", keys)
	}
	for _, n := range nodes {
		if list := n.json(t, http.StatusOK, http.MethodGet, "/redis_cache/nodes", "")["nodes"].([]any); len(list) != 1 {
			t.Errorf("%d nodes on a database with one: %v", len(list), list)
		}
	}

	for _, selector := range []string{`{"key":"` + key + `"}`, `{"namespace":"user"}`, `{"pattern":"*"}`, `{"all":true}`} {
		nodes[0].purge(t, selector)
		nodes[0].want(t, "MISS", path)
		if hit := nodes[1].want(t, "HIT", path); hit.body != stored[1].body {
			t.Errorf("%s: body %q, stored was %q", selector, hit.body, stored[1].body)
		}
	}
	nodes[1].restart(t)
	if hit := nodes[1].want(t, "HIT", path); hit.body != stored[1].body || hit.cacheStatus(t)["detail"] != "redis" {
		t.Errorf("after a restart: body %q, stored was %q", hit.body, stored[1].body)
	}
}

// TestCorrupted finds damaged records in Redis: each is a miss, whatever broke.
func TestCorrupted(t *testing.T) {
	t.Parallel()
	rds := startRedis(t)
	node := startCaddy(t, layout{redis: rds, origin: newOrigin(t), cache: "\tmemory off\n" + guide, site: guideSite})
	intact := func(t *testing.T, path string) (string, []byte) {
		t.Helper()
		key := node.want(t, "MISS", path).key()
		rds.await(t, key)
		node.want(t, "HIT", path)
		value, err := rds.client.Get(t.Context(), key).Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return key, value
	}
	missed := func(t *testing.T, path string) {
		t.Helper()
		// The node may still have it among its writes that Redis has answered.
		eventually(t, "the damage is noticed", func() bool { return node.get(t, path).outcome() == "MISS" })
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
			rds.do(t, "SET", key, damage(slices.Clone(value)), "KEEPTTL")
			missed(t, path)
		})
	}
	t.Run("of another key", func(t *testing.T) {
		key, _ := intact(t, "/api/v1/users/mine")
		_, value := intact(t, "/api/v1/users/yours")
		rds.do(t, "SET", key, value, "KEEPTTL")
		missed(t, "/api/v1/users/mine")
	})
	t.Run("of another type", func(t *testing.T) {
		key, _ := intact(t, "/api/v1/users/list")
		rds.do(t, "DEL", key)
		rds.do(t, "LPUSH", key, "x")
		missed(t, "/api/v1/users/list")
	})
}
