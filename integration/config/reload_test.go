package config

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// TestReload changes the configuration under a warm cache: it stays warm, and a
// change takes effect at once.
func TestReload(t *testing.T) {
	t.Parallel()
	l := harness.Layout{Origin: harness.NewOrigin(t), Cache: harness.GuideCache, Site: harness.GuideSite}
	node := harness.StartCaddy(t, l)
	first := node.Want(t, "MISS", "/api/v1/pickups/1")

	reload := func(t *testing.T, l harness.Layout, status int) {
		t.Helper()
		if r := node.Reload(t, l); r.Status != status {
			t.Fatalf("reload: %d %s, want %d", r.Status, r.Body, status)
		}
	}
	t.Run("same configuration", func(t *testing.T) {
		reload(t, l, http.StatusOK)
		if r := node.Want(t, "HIT", "/api/v1/pickups/1"); r.Body != first.Body {
			t.Errorf("body %q, stored was %q", r.Body, first.Body)
		}
	})
	t.Run("other lifetimes", func(t *testing.T) {
		changed := l
		changed.Cache = strings.ReplaceAll(harness.GuideCache, "ttl 5m", "ttl 10m")
		reload(t, changed, http.StatusOK)
		node.Want(t, "HIT", "/api/v1/pickups/1")
		harness.Between(t, "lifetime", node.Want(t, "MISS", "/api/v1/pickups/2").TTL(), 590, 600)
	})
	t.Run("a new route", func(t *testing.T) {
		changed := l
		changed.Site += "\n\tredis_cache /new/* pickup"
		reload(t, changed, http.StatusOK)
		node.Script(t, `
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
			broken.Site += wrong
			reload(t, broken, http.StatusBadRequest)
		}
		// Everything is fine but that somebody else has the port.
		taken := l
		taken.More = "http://:" + strings.TrimPrefix(l.Origin.Addr, "127.0.0.1:") + " {\n\tbind 127.0.0.1\n\trespond taken\n}"
		taken.Cache = "\tprefix elsewhere\n" + harness.GuideCache
		if r := node.Reload(t, taken); r.Status == http.StatusOK {
			t.Fatal("a port in use is no error")
		}
		node.Script(t, `
			HIT  /api/v1/pickups/1
			MISS /api/v1/points/1`)
		node.Purge(t, `{"namespace":"pickup"}`)
		node.Script(t, `
			MISS /api/v1/pickups/1
			HIT  /api/v1/points/1`)
	})
}

// TestReloadWithRedis also keeps what is in Redis, and moves to another Redis
// when told to.
func TestReloadWithRedis(t *testing.T) {
	t.Parallel()
	one, two := harness.StartRedis(t), harness.StartRedis(t)
	l := harness.Layout{Redis: one, Origin: harness.NewOrigin(t), Cache: "\tmemory off\n" + harness.GuideCache, Site: harness.GuideSite}
	node := harness.StartCaddy(t, l)
	one.Await(t, node.Want(t, "MISS", "/api/v1/users/1").Key())
	node.Reload(t, l)
	node.Want(t, "HIT", "/api/v1/users/1")
	l.Redis = two
	if r := node.Reload(t, l); r.Status != http.StatusOK {
		t.Fatalf("reload: %d %s", r.Status, r.Body)
	}
	node.Attached(t)
	two.Await(t, node.Want(t, "MISS", "/api/v1/users/1").Key())
	node.Want(t, "HIT", "/api/v1/users/1")
}

// TestReloadLimits changes the size of the memory tier: a reload applies it, and one that fails after
// it was applied takes it back. A failed one does not stay at another Redis either.
func TestReloadLimits(t *testing.T) {
	t.Parallel()
	one, two := harness.StartRedis(t), harness.StartRedis(t)
	limited := func(mebibytes int) harness.Layout {
		return harness.Layout{Redis: one, Origin: harness.NewOrigin(t), Cache: fmt.Sprintf("\tmemory %dMiB\n%s", mebibytes, harness.GuideCache), Site: harness.GuideSite}
	}
	node := harness.StartCaddy(t, limited(16))
	check := func(mebibytes float64) {
		t.Helper()
		stats := node.JSON(t, http.StatusOK, http.MethodGet, "/redis_cache/stats", "")
		if got := harness.Number(t, stats, "memory", "max"); got != mebibytes*(1<<20) {
			t.Fatalf("the memory tier is bounded by %.0f bytes, want %.0f MiB", got, mebibytes)
		}
	}
	check(16)
	current := limited(32)
	if r := node.Reload(t, current); r.Status != http.StatusOK {
		t.Fatalf("reload: %d %s", r.Status, r.Body)
	}
	check(32)

	first := node.Want(t, "MISS", "/api/v1/users/1")
	one.Await(t, first.Key())
	// Caddy starts apps in any order: often enough the cache comes before the server that fails.
	for i := range 8 {
		failing := limited(64)
		failing.More = "http://:" + strings.TrimPrefix(current.Origin.Addr, "127.0.0.1:") + " {\n\tbind 127.0.0.1\n\trespond taken\n}"
		if i%2 == 1 {
			failing.Redis = two
		}
		if r := node.Reload(t, failing); r.Status == http.StatusOK {
			t.Fatal("a port in use is no error")
		}
		check(32)
		if r := node.Want(t, "HIT", "/api/v1/users/1"); r.Body != first.Body {
			t.Errorf("body %q, stored was %q", r.Body, first.Body)
		}
	}
	harness.Eventually(t, "the other Redis is left", func() bool { return len(two.Connections(t)) == 1 })
	node.Purge(t, `{"namespace":"user"}`)
	node.Want(t, "MISS", "/api/v1/users/1")
}

const reloads = 200

// TestReloadLeaksNothing reloads again and again under requests, now and then in vain.
func TestReloadLeaksNothing(t *testing.T) {
	t.Parallel()
	rds := harness.StartRedis(t)
	web := harness.NewOrigin(t)
	l := harness.Layout{Redis: rds, Origin: web, Cache: harness.GuideCache, Site: harness.GuideSite}
	node := harness.StartCaddy(t, l)
	failing := l
	failing.More = "http://:" + strings.TrimPrefix(web.Addr, "127.0.0.1:") + " {\n\tbind 127.0.0.1\n\trespond taken\n}"
	const paths = 50
	path := func(i int64) string { return fmt.Sprintf("/api/v1/users/%d", i%paths) }
	load := func(times int) {
		t.Helper()
		clients := harness.StartVisitors(t, node, path)
		clients.Some(t, 2*paths)
		warm := web.Requests()
		for i := range times {
			next, failed := l, i%10 == 9
			if failed {
				next = failing
			}
			if r := node.Load(t, next); (r.Status == http.StatusOK) == failed {
				t.Errorf("reload: %d %s", r.Status, r.Body)
			}
		}
		for _, failure := range clients.Stop() {
			t.Error(failure)
		}
		// A node that had no turn for seconds fetches anew, once.
		if fetched := web.Requests() - warm; fetched > paths {
			t.Errorf("%d requests have reached the origin, though everything is stored", fetched)
		}
	}
	load(5)
	before := resourcesOf(t, node, rds)
	load(reloads)
	// A few come and go; a leak of one per reload would not.
	const slack = 10
	var after resources
	if !harness.Within(harness.Patience, func() bool {
		after = resourcesOf(t, node, rds)
		return after.goroutines <= before.goroutines+slack && after.connections <= before.connections+slack &&
			after.descriptors <= before.descriptors+slack
	}) {
		t.Errorf("after %d reloads: %+v, before: %+v", reloads, after, before)
	}
	node.Want(t, "HIT", path(1))
}

// resources are what a reload could leak.
type resources struct{ goroutines, connections, descriptors int }

// resourcesOf counts those of a node without requests; rds is its Redis.
func resourcesOf(t *testing.T, n *harness.Node, rds *harness.Redis) resources {
	t.Helper()
	n.Client.CloseIdleConnections()
	descriptors, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", n.Proc.Cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return resources{n.Goroutines(t), len(rds.Connections(t)), len(descriptors)}
}

// TestReloadInFlight reloads while a response is on its way: it arrives whole,
// and is stored.
func TestReloadInFlight(t *testing.T) {
	t.Parallel()
	web := harness.NewOrigin(t)
	l := harness.Layout{Origin: web, Cache: harness.GuideCache, Site: harness.GuideSite}
	node := harness.StartCaddy(t, l)
	hold := harness.NewGate(t)
	web.Handle("/api/v1/pickups/slow", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "first ")
		http.NewResponseController(w).Flush()
		hold.Wait()
		io.WriteString(w, "second")
	})
	req, err := node.Request(t.Context(), http.MethodGet, "/api/v1/pickups/slow", "")
	if err != nil {
		t.Fatal(err)
	}
	resp, err := node.Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	io.ReadFull(resp.Body, make([]byte, 6))
	if r := node.Reload(t, l); r.Status != http.StatusOK {
		t.Fatalf("reload: %d %s", r.Status, r.Body)
	}
	hold.Open()
	if rest, err := io.ReadAll(resp.Body); err != nil || string(rest) != "second" {
		t.Errorf("the rest is %q, %v", rest, err)
	}
	harness.Eventually(t, "the response is stored", func() bool {
		return node.Get(t, "/api/v1/pickups/slow").Outcome() == "HIT"
	})
}
