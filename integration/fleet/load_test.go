package fleet

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// TestPurgeUnderLoad purges while all nodes answer requests as fast as they can.
func TestPurgeUnderLoad(t *testing.T) {
	t.Parallel()
	f := harness.StartFleet(t)
	t.Run("hits", func(t *testing.T) { testLoad(t, f) })
	t.Run("everything lost", func(t *testing.T) { testFlush(t, f) })
}

// testLoad purges again and again while every node answers hits: each purge is
// confirmed by all, and no request that begins after the 200 gets what was there before.
func testLoad(t *testing.T, f *harness.Fleet) {
	everybody := nodeIDs(t, f.Nodes...)
	paths := harness.PickupSeries("load", 5)
	f.Fill(t, paths...)
	f.Fence(t, f.Nodes[0])
	bodies := []string{
		`{"namespace":"pickup"}`, `{"pattern":"pickup:*"}`, `{"prefix":"http://shop.test/api"}`, `{"host":"shop.test"}`,
		`{"tags":["t-load-0","t-load-1","t-load-2","t-load-3","t-load-4"]}`, `{"all":true}`,
	}
	stop := f.Watch(t, paths...)
	for i := range 30 {
		wantNames(t, f.Purge(t, f.Nodes[i%3], bodies[i%len(bodies)]), "confirmed", everybody...)
		f.Check(t, paths[i%5], f.Nodes...)
	}
	stop()
	f.Fill(t, paths...)
}

// TestJoinAndLeave has nodes come and go, politely and not, while others purge.
func TestJoinAndLeave(t *testing.T) {
	t.Parallel()
	f := harness.StartFleet(t)
	guest, stable := f.Nodes[2], f.Nodes[:2]
	paths := harness.PickupSeries("come", 3)
	for turn := range 4 {
		f.Fill(t, paths...)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range 6 {
				next := f.Current.Add(1)
				r, err := f.Nodes[i%2].Try(t.Context(), http.MethodGet, paths[1], "")
				if err := harness.StaleReply(r, err, f.Final.Load()); err != nil {
					t.Errorf("stable node: %v", err)
				}
				if tryPurge(t, f, stable[i%2], `{"namespace":"pickup","wait":"10s"}`) == http.StatusOK {
					f.Final.Store(next)
				}
			}
		}()
		if turn%2 == 0 {
			guest.Stop(t)
		} else {
			guest.Client.CloseIdleConnections()
			guest.Proc.Kill()
		}
		guest.Start(t)
		for _, p := range paths {
			f.Check(t, p, f.Nodes...)
		}
		<-done
		for _, p := range paths {
			f.Check(t, p, f.Nodes...)
		}
	}
	answer := f.Fence(t, guest)
	wantNames(t, answer, "confirmed", nodeIDs(t, f.Nodes...)...)
}

// tryPurge purges outside the test's goroutine and returns the status.
func tryPurge(t *testing.T, f *harness.Fleet, n *harness.Node, body string) int {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+n.Admin+"/redis_cache/purge", strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return 0
	}
	req.Close = true
	r, err := harness.Send(n.Client, req)
	if err != nil {
		t.Error(err)
	}
	return r.Status
}

// TestPurgeInFlight purges while nodes are asking the origin.
func TestPurgeInFlight(t *testing.T) {
	t.Parallel()
	f := harness.StartFleet(t)
	t.Run("revalidation", func(t *testing.T) { testRevalidation(t, f) })
	t.Run("before the header", func(t *testing.T) { testFetch(t, f, false) })
	t.Run("within the body", func(t *testing.T) { testFetch(t, f, true) })
}

// testFetch purges on one node what another, and itself, is fetching.
// What the fetch brings is out of date before it arrives, however late it is stored.
func testFetch(t *testing.T, f *harness.Fleet, afterHeader bool) {
	p := fmt.Sprintf("/api/v1/pickups/slow-%t", afterHeader)
	hold := harness.NewGate(t)
	arrived := make(chan struct{}, len(f.Nodes))
	f.Web.Handle(p, func(w http.ResponseWriter, r *http.Request) {
		version := f.Current.Load()
		if afterHeader {
			fmt.Fprintf(w, "v%d ", version)
			http.NewResponseController(w).Flush()
		}
		arrived <- struct{}{}
		hold.Wait()
		if afterHeader {
			io.WriteString(w, "rest")
		} else {
			fmt.Fprintf(w, "v%d", version)
		}
	})
	answers := make(chan error, len(f.Nodes))
	for _, n := range f.Nodes {
		go func() {
			_, err := n.Try(t.Context(), http.MethodGet, p, "")
			answers <- err
		}()
	}
	for range f.Nodes {
		<-arrived
	}
	f.Purge(t, f.Nodes[0], `{"namespace":"pickup"}`)
	f.Web.Handle(p, f.Answer)
	// Others begin while the old fetches are still under way, and get new responses.
	f.Check(t, p, f.Nodes...)
	hold.Open()
	for range f.Nodes {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
	for range 5 {
		f.Check(t, p, f.Nodes...)
	}
}

// testRevalidation purges while nodes ask the origin whether what they have is still
// good. The 304 that comes then speaks of the past: it must not bring the response back.
func testRevalidation(t *testing.T, f *harness.Fleet) {
	const p = "/api/v1/pickups/validated"
	var hold atomic.Pointer[harness.Gate]
	arrived := make(chan struct{}, len(f.Nodes))
	f.Web.Handle(p, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-cache")
		if r.Header.Get("If-None-Match") == "" {
			w.Header().Set("Etag", `"same"`)
			fmt.Fprintf(w, "v%d", f.Current.Load())
			return
		}
		if g := hold.Load(); g != nil {
			arrived <- struct{}{}
			g.Wait()
		}
		w.Header().Set("Etag", `"same"`)
		w.WriteHeader(http.StatusNotModified)
	})
	f.Nodes[0].Want(t, "MISS", p)
	for _, n := range f.Nodes {
		harness.Eventually(t, "the node revalidates", func() bool { return n.Get(t, p).Outcome() == "REVALIDATED" })
	}
	g := harness.NewGate(t)
	hold.Store(g)
	answers := make(chan error, len(f.Nodes))
	for _, n := range f.Nodes {
		go func() {
			_, err := n.Try(t.Context(), http.MethodGet, p, "")
			answers <- err
		}()
	}
	for range f.Nodes {
		<-arrived
	}
	f.Purge(t, f.Nodes[1], `{"tag":"nothing","key":"pickup:shop.test`+p+`"}`)
	hold.Store(nil)
	g.Open()
	for range f.Nodes {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
	// What a purge covers is no base for a condition either, or the 304 would bring it back.
	for range 4 {
		f.Check(t, p, f.Nodes...)
	}
}

// TestFleetTenants purges everything, in every way there is, beside other users of the database.
func TestFleetTenants(t *testing.T) {
	t.Parallel()
	f := harness.NewFleet(t, harness.StartRedis(t))
	theirs := map[string]string{
		"cache": "x", "cache2:pickup:1": "x", "Cache:pickup:1": "x", "sessions:cache:1": "x", ":cache:": "x",
		"other::journal": "x", "{cache::journal}": "x", "shop:user:1": "x",
	}
	for key, value := range theirs {
		f.Redis.Do(t, "SET", key, value)
	}
	f.Redis.Do(t, "RPUSH", "queue:cache", "a", "b")
	f.Join(t, f.Layout())
	other := f.Layout()
	other.Cache = "\tprefix cache-2\n" + other.Cache
	neighbour := harness.StartCaddy(t, other)
	const p = "/api/v1/pickups/1"
	neighbour.Get(t, p)
	f.Redis.Await(t, neighbour.Want(t, "HIT", p).Key())
	for _, body := range []string{
		`{"all":true}`, `{"all":true,"soft":true}`, `{"pattern":"*"}`, `{"host":"shop.test"}`, `{"prefix":"http://"}`,
		`{"pattern":"cache-2:*"}`, `{"key":"cache-2:pickup:shop.test/api/v1/pickups/1"}`, `{"namespace":"pickup"}`,
	} {
		f.Fill(t, p)
		f.Purge(t, f.Nodes[0], body)
	}
	f.Redis.Do(t, "XADD", harness.JournalKey, "*", "op", "purge", "all", "1")
	f.Fence(t, f.Nodes[0])
	neighbour.Want(t, "HIT", p)
	neighbour.Restart(t)
	neighbour.Want(t, "HIT", p)
	for _, key := range slices.Sorted(maps.Keys(theirs)) {
		if got := f.Redis.Client.Get(t.Context(), key).Val(); got != theirs[key] {
			t.Errorf("%q is %q now", key, got)
		}
	}
	if got := f.Redis.Client.LRange(t.Context(), "queue:cache", 0, -1).Val(); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("the list is %q now", got)
	}
}
