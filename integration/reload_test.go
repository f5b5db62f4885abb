package integration

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
)

// TestReload changes the configuration under a warm cache: it stays warm, and a
// change takes effect at once.
func TestReload(t *testing.T) {
	t.Parallel()
	l := layout{origin: newOrigin(t), cache: guide, site: guideSite}
	node := startCaddy(t, l)
	first := node.want(t, "MISS", "/api/v1/pickups/1")

	reload := func(t *testing.T, l layout, status int) {
		t.Helper()
		if r := node.reload(t, l); r.status != status {
			t.Fatalf("reload: %d %s, want %d", r.status, r.body, status)
		}
	}
	t.Run("same configuration", func(t *testing.T) {
		reload(t, l, http.StatusOK)
		if r := node.want(t, "HIT", "/api/v1/pickups/1"); r.body != first.body {
			t.Errorf("body %q, stored was %q", r.body, first.body)
		}
	})
	t.Run("other lifetimes", func(t *testing.T) {
		changed := l
		changed.cache = strings.ReplaceAll(guide, "ttl 5m", "ttl 10m")
		reload(t, changed, http.StatusOK)
		node.want(t, "HIT", "/api/v1/pickups/1")
		between(t, "lifetime", node.want(t, "MISS", "/api/v1/pickups/2").ttl(), 590, 600)
	})
	t.Run("a new route", func(t *testing.T) {
		changed := l
		changed.site += "\n\tredis_cache /new/* pickup"
		reload(t, changed, http.StatusOK)
		node.script(t, `
			HIT  /api/v1/pickups/1
			MISS /new/1
			HIT  /new/1`)
	})
	t.Run("a failed reload", func(t *testing.T) {
		for _, wrong := range []string{
			"\n\tredis_cache /x/* nowhere",                 // found when it is adapted
			"\n\t@bad path_regexp (\n\trespond @bad never", // found in another module when it is provisioned
		} {
			broken := l
			broken.site += wrong
			reload(t, broken, http.StatusBadRequest)
		}
		// Everything is fine but that somebody else has the port.
		taken := l
		taken.more = "http://:" + strings.TrimPrefix(l.origin.addr, "127.0.0.1:") + " {\n\tbind 127.0.0.1\n\trespond taken\n}"
		taken.cache = "\tprefix elsewhere\n" + guide
		if r := node.reload(t, taken); r.status == http.StatusOK {
			t.Fatal("a port in use is no error")
		}
		node.script(t, `
			HIT  /api/v1/pickups/1
			MISS /api/v1/points/1`)
		node.purge(t, `{"namespace":"pickup"}`)
		node.script(t, `
			MISS /api/v1/pickups/1
			HIT  /api/v1/points/1`)
	})
}

// TestReloadWithRedis also keeps what is in Redis, and moves to another Redis
// when told to.
func TestReloadWithRedis(t *testing.T) {
	t.Parallel()
	one, two := startRedis(t), startRedis(t)
	l := layout{redis: one, origin: newOrigin(t), cache: "\tmemory off\n" + guide, site: guideSite}
	node := startCaddy(t, l)
	one.await(t, node.want(t, "MISS", "/api/v1/users/1").key())
	node.reload(t, l)
	node.want(t, "HIT", "/api/v1/users/1")
	l.redis = two
	if r := node.reload(t, l); r.status != http.StatusOK {
		t.Fatalf("reload: %d %s", r.status, r.body)
	}
	node.attached(t)
	two.await(t, node.want(t, "MISS", "/api/v1/users/1").key())
	node.want(t, "HIT", "/api/v1/users/1")
}

// TestReloadLimits changes the size of the memory tier: a reload applies it, and one that fails after
// it was applied takes it back. A failed one does not stay at another Redis either.
func TestReloadLimits(t *testing.T) {
	t.Parallel()
	one, two := startRedis(t), startRedis(t)
	limited := func(mebibytes int) layout {
		return layout{redis: one, origin: newOrigin(t), cache: fmt.Sprintf("\tmemory %dMiB\n%s", mebibytes, guide), site: guideSite}
	}
	node := startCaddy(t, limited(16))
	check := func(mebibytes float64) {
		t.Helper()
		stats := node.json(t, http.StatusOK, http.MethodGet, "/redis_cache/stats", "")
		if got := number(t, stats, "memory", "max"); got != mebibytes*(1<<20) {
			t.Fatalf("the memory tier is bounded by %.0f bytes, want %.0f MiB", got, mebibytes)
		}
	}
	check(16)
	current := limited(32)
	if r := node.reload(t, current); r.status != http.StatusOK {
		t.Fatalf("reload: %d %s", r.status, r.body)
	}
	check(32)

	first := node.want(t, "MISS", "/api/v1/users/1")
	one.await(t, first.key())
	// Caddy starts apps in any order: often enough the cache comes before the server that fails.
	for i := range 8 {
		failing := limited(64)
		failing.more = "http://:" + strings.TrimPrefix(current.origin.addr, "127.0.0.1:") + " {\n\tbind 127.0.0.1\n\trespond taken\n}"
		if i%2 == 1 {
			failing.redis = two
		}
		if r := node.reload(t, failing); r.status == http.StatusOK {
			t.Fatal("a port in use is no error")
		}
		check(32)
		if r := node.want(t, "HIT", "/api/v1/users/1"); r.body != first.body {
			t.Errorf("body %q, stored was %q", r.body, first.body)
		}
	}
	eventually(t, "the other Redis is left", func() bool { return len(two.connections(t)) == 1 })
	node.purge(t, `{"namespace":"user"}`)
	node.want(t, "MISS", "/api/v1/users/1")
}

const reloads = 200

// TestReloadLeaksNothing reloads again and again under requests, now and then in vain.
func TestReloadLeaksNothing(t *testing.T) {
	t.Parallel()
	rds := startRedis(t)
	web := newOrigin(t)
	l := layout{redis: rds, origin: web, cache: guide, site: guideSite}
	node := startCaddy(t, l)
	failing := l
	failing.more = "http://:" + strings.TrimPrefix(web.addr, "127.0.0.1:") + " {\n\tbind 127.0.0.1\n\trespond taken\n}"
	const paths = 50
	path := func(i int64) string { return fmt.Sprintf("/api/v1/users/%d", i%paths) }
	load := func(times int) {
		t.Helper()
		clients := startVisitors(t, node, path)
		clients.some(t, 2*paths)
		warm := web.requests()
		for i := range times {
			next, failed := l, i%10 == 9
			if failed {
				next = failing
			}
			if r := node.load(t, next); (r.status == http.StatusOK) == failed {
				t.Errorf("reload: %d %s", r.status, r.body)
			}
		}
		for _, failure := range clients.stop() {
			t.Error(failure)
		}
		// A node that had no turn for seconds fetches anew, once.
		if fetched := web.requests() - warm; fetched > paths {
			t.Errorf("%d requests have reached the origin, though everything is stored", fetched)
		}
	}
	load(5)
	before := node.resources(t, rds)
	load(reloads)
	// A few come and go; a leak of one per reload would not.
	const slack = 10
	var after resources
	if !within(patience, func() bool {
		after = node.resources(t, rds)
		return after.goroutines <= before.goroutines+slack && after.connections <= before.connections+slack &&
			after.descriptors <= before.descriptors+slack
	}) {
		t.Errorf("after %d reloads: %+v, before: %+v", reloads, after, before)
	}
	node.want(t, "HIT", path(1))
}

// resources are what a reload could leak.
type resources struct{ goroutines, connections, descriptors int }

// resources counts those of a node without requests; rds is its Redis.
func (n *node) resources(t *testing.T, rds *redisServer) resources {
	t.Helper()
	n.client.CloseIdleConnections()
	descriptors, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", n.proc.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return resources{n.goroutines(t), len(rds.connections(t)), len(descriptors)}
}

// TestReloadInFlight reloads while a response is on its way: it arrives whole,
// and is stored.
func TestReloadInFlight(t *testing.T) {
	t.Parallel()
	web := newOrigin(t)
	l := layout{origin: web, cache: guide, site: guideSite}
	node := startCaddy(t, l)
	hold := newGate(t)
	web.handle("/api/v1/pickups/slow", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "first ")
		http.NewResponseController(w).Flush()
		hold.wait()
		io.WriteString(w, "second")
	})
	req, err := node.request(t.Context(), http.MethodGet, "/api/v1/pickups/slow", "")
	if err != nil {
		t.Fatal(err)
	}
	resp, err := node.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	io.ReadFull(resp.Body, make([]byte, 6))
	if r := node.reload(t, l); r.status != http.StatusOK {
		t.Fatalf("reload: %d %s", r.status, r.body)
	}
	hold.open()
	if rest, err := io.ReadAll(resp.Body); err != nil || string(rest) != "second" {
		t.Errorf("the rest is %q, %v", rest, err)
	}
	eventually(t, "the response is stored", func() bool {
		return node.get(t, "/api/v1/pickups/slow").outcome() == "HIT"
	})
}
