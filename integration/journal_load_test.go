package integration

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// TestPurgeUnderLoad purges while all nodes answer requests as fast as they can.
func TestPurgeUnderLoad(t *testing.T) {
	t.Parallel()
	f := startFleet(t)
	t.Run("hits", f.testLoad)
	t.Run("everything lost", f.testFlush)
}

// testLoad purges again and again while every node answers hits: each purge is
// confirmed by all, and no request that begins after the 200 gets what was there before.
func (f *fleet) testLoad(t *testing.T) {
	everybody := nodeIDs(t, f.nodes...)
	paths := pickupSeries("load", 5)
	f.fill(t, paths...)
	f.fence(t, f.nodes[0])
	bodies := []string{
		`{"namespace":"pickup"}`, `{"pattern":"pickup:*"}`, `{"prefix":"http://shop.test/api"}`, `{"host":"shop.test"}`,
		`{"tags":["t-load-0","t-load-1","t-load-2","t-load-3","t-load-4"]}`, `{"all":true}`,
	}
	stop := f.watch(t, paths...)
	for i := range 30 {
		wantNames(t, f.purge(t, f.nodes[i%3], bodies[i%len(bodies)]), "confirmed", everybody...)
		f.check(t, paths[i%5], f.nodes...)
	}
	stop()
	f.fill(t, paths...)
}

// TestJoinAndLeave has nodes come and go, politely and not, while others purge.
func TestJoinAndLeave(t *testing.T) {
	t.Parallel()
	f := startFleet(t)
	guest, stable := f.nodes[2], f.nodes[:2]
	paths := pickupSeries("come", 3)
	for turn := range 4 {
		f.fill(t, paths...)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range 6 {
				next := f.current.Add(1)
				r, err := f.nodes[i%2].try(t.Context(), http.MethodGet, paths[1], "")
				if err := staleReply(r, err, f.final.Load()); err != nil {
					t.Errorf("stable node: %v", err)
				}
				if f.tryPurge(t, stable[i%2], `{"namespace":"pickup","wait":"10s"}`) == http.StatusOK {
					f.final.Store(next)
				}
			}
		}()
		if turn%2 == 0 {
			guest.stop(t)
		} else {
			guest.client.CloseIdleConnections()
			guest.proc.kill()
		}
		guest.start(t)
		for _, p := range paths {
			f.check(t, p, f.nodes...)
		}
		<-done
		for _, p := range paths {
			f.check(t, p, f.nodes...)
		}
	}
	answer := f.fence(t, guest)
	wantNames(t, answer, "confirmed", nodeIDs(t, f.nodes...)...)
}

// tryPurge purges outside the test's goroutine and returns the status.
func (f *fleet) tryPurge(t *testing.T, n *node, body string) int {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+n.admin+"/redis_cache/purge", strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return 0
	}
	req.Close = true
	r, err := send(n.client, req)
	if err != nil {
		t.Error(err)
	}
	return r.status
}

// TestPurgeInFlight purges while nodes are asking the origin.
func TestPurgeInFlight(t *testing.T) {
	t.Parallel()
	f := startFleet(t)
	t.Run("revalidation", f.testRevalidation)
	t.Run("before the header", func(t *testing.T) { f.testFetch(t, false) })
	t.Run("within the body", func(t *testing.T) { f.testFetch(t, true) })
}

// testFetch purges on one node what another, and itself, is fetching.
// What the fetch brings is out of date before it arrives, however late it is stored.
func (f *fleet) testFetch(t *testing.T, afterHeader bool) {
	p := fmt.Sprintf("/api/v1/pickups/slow-%t", afterHeader)
	hold := newGate(t)
	arrived := make(chan struct{}, len(f.nodes))
	f.web.handle(p, func(w http.ResponseWriter, r *http.Request) {
		version := f.current.Load()
		if afterHeader {
			fmt.Fprintf(w, "v%d ", version)
			http.NewResponseController(w).Flush()
		}
		arrived <- struct{}{}
		hold.wait()
		if afterHeader {
			io.WriteString(w, "rest")
		} else {
			fmt.Fprintf(w, "v%d", version)
		}
	})
	answers := make(chan error, len(f.nodes))
	for _, n := range f.nodes {
		go func() {
			_, err := n.try(t.Context(), http.MethodGet, p, "")
			answers <- err
		}()
	}
	for range f.nodes {
		<-arrived
	}
	f.purge(t, f.nodes[0], `{"namespace":"pickup"}`)
	f.web.handle(p, f.answer)
	// Others begin while the old fetches are still under way, and get new responses.
	f.check(t, p, f.nodes...)
	hold.open()
	for range f.nodes {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
	for range 5 {
		f.check(t, p, f.nodes...)
	}
}

// testRevalidation purges while nodes ask the origin whether what they have is still
// good. The 304 that comes then speaks of the past: it must not bring the response back.
func (f *fleet) testRevalidation(t *testing.T) {
	const p = "/api/v1/pickups/validated"
	var hold atomic.Pointer[gate]
	arrived := make(chan struct{}, len(f.nodes))
	f.web.handle(p, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-cache")
		if r.Header.Get("If-None-Match") == "" {
			w.Header().Set("Etag", `"same"`)
			fmt.Fprintf(w, "v%d", f.current.Load())
			return
		}
		if g := hold.Load(); g != nil {
			arrived <- struct{}{}
			g.wait()
		}
		w.Header().Set("Etag", `"same"`)
		w.WriteHeader(http.StatusNotModified)
	})
	f.nodes[0].want(t, "MISS", p)
	for _, n := range f.nodes {
		eventually(t, "the node revalidates", func() bool { return n.get(t, p).outcome() == "REVALIDATED" })
	}
	g := newGate(t)
	hold.Store(g)
	answers := make(chan error, len(f.nodes))
	for _, n := range f.nodes {
		go func() {
			_, err := n.try(t.Context(), http.MethodGet, p, "")
			answers <- err
		}()
	}
	for range f.nodes {
		<-arrived
	}
	f.purge(t, f.nodes[1], `{"tag":"nothing","key":"pickup:shop.test`+p+`"}`)
	hold.Store(nil)
	g.open()
	for range f.nodes {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
	// What a purge covers is no base for a condition either, or the 304 would bring it back.
	for range 4 {
		f.check(t, p, f.nodes...)
	}
}

// TestFleetTenants purges everything, in every way there is, beside other users of the database.
func TestFleetTenants(t *testing.T) {
	t.Parallel()
	f := newFleet(t, startRedis(t))
	theirs := map[string]string{
		"cache": "x", "cache2:pickup:1": "x", "Cache:pickup:1": "x", "sessions:cache:1": "x", ":cache:": "x",
		"other::journal": "x", "{cache::journal}": "x", "shop:user:1": "x",
	}
	for key, value := range theirs {
		f.redis.do(t, "SET", key, value)
	}
	f.redis.do(t, "RPUSH", "queue:cache", "a", "b")
	f.join(t, f.layout())
	other := f.layout()
	other.cache = "\tprefix cache-2\n" + other.cache
	neighbour := startCaddy(t, other)
	const p = "/api/v1/pickups/1"
	neighbour.get(t, p)
	f.redis.await(t, neighbour.want(t, "HIT", p).key())
	for _, body := range []string{
		`{"all":true}`, `{"all":true,"soft":true}`, `{"pattern":"*"}`, `{"host":"shop.test"}`, `{"prefix":"http://"}`,
		`{"pattern":"cache-2:*"}`, `{"key":"cache-2:pickup:shop.test/api/v1/pickups/1"}`, `{"namespace":"pickup"}`,
	} {
		f.fill(t, p)
		f.purge(t, f.nodes[0], body)
	}
	f.redis.do(t, "XADD", journalKey, "*", "op", "purge", "all", "1")
	f.fence(t, f.nodes[0])
	neighbour.want(t, "HIT", p)
	neighbour.restart(t)
	neighbour.want(t, "HIT", p)
	for _, key := range slices.Sorted(maps.Keys(theirs)) {
		if got := f.redis.client.Get(t.Context(), key).Val(); got != theirs[key] {
			t.Errorf("%q is %q now", key, got)
		}
	}
	if got := f.redis.client.LRange(t.Context(), "queue:cache", 0, -1).Val(); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("the list is %q now", got)
	}
}
