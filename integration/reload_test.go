package integration

import (
	"fmt"
	"io"
	"net/http"
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
		between(t, "lifetime", node.want(t, "MISS", "/api/v1/pickups/2").ttl(), 599, 600)
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

// TestReloadLeaksNothing reloads again and again under requests.
func TestReloadLeaksNothing(t *testing.T) {
	t.Parallel()
	rds := startRedis(t)
	l := layout{redis: rds, origin: newOrigin(t), cache: guide, site: guideSite}
	node := startCaddy(t, l)
	clients := startVisitors(t, node, func(i int64) string { return fmt.Sprintf("/api/v1/users/%d", i%50) })
	clients.some(t, 200)
	reload := func() {
		if r := node.reload(t, l); r.status != http.StatusOK {
			t.Errorf("reload: %d %s", r.status, r.body)
		}
	}
	for range 3 {
		reload()
	}
	idle := func() int {
		node.client.CloseIdleConnections()
		return node.goroutines(t)
	}
	before, connections := idle(), len(rds.connections(t))
	for range 20 {
		reload()
		clients.some(t, 5)
	}
	for _, failure := range clients.stop() {
		t.Error(failure)
	}
	// Requests in flight come and go; a leak of one per reload would not.
	eventually(t, fmt.Sprintf("goroutines fall back to about %d", before), func() bool { return idle() < before+15 })
	eventually(t, "connections to Redis fall back", func() bool { return len(rds.connections(t)) < connections+10 })
	if got := node.want(t, "HIT", "/api/v1/users/1"); got.status != http.StatusOK {
		t.Errorf("status %d", got.status)
	}
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
