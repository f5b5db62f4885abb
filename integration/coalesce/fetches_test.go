package coalesce

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

const coalesceSite = `
	redis_cache {
		ttl 10m
		jitter 0
	}`

// startFour starts four nodes on one Redis that know of each other.
func startFour(t *testing.T, site string) *harness.Fleet {
	t.Helper()
	f := &harness.Fleet{Redis: harness.StartRedis(t), Web: harness.NewOrigin(t)}
	for range 4 {
		f.Join(t, harness.Layout{Redis: f.Redis, Origin: f.Web, Site: site})
	}
	harness.Eventually(t, "each node knows the others", func() bool {
		return !slices.ContainsFunc(f.Nodes, func(n *harness.Node) bool {
			return len(n.JSON(t, http.StatusOK, http.MethodGet, "/redis_cache/nodes", "")["nodes"].([]any)) != len(f.Nodes)
		})
	})
	// One that has just joined stores before it may serve what is stored; until then
	// each of its requests is fetched for.
	harness.Eventually(t, "each node serves what is stored", func() bool {
		return !slices.ContainsFunc(f.Nodes, func(n *harness.Node) bool { return n.Get(t, "/attached/ready").Outcome() != "HIT" })
	})
	return f
}

// storm sends so many requests to each node at the same time.
func storm(t *testing.T, f *harness.Fleet, each int, path string, fields ...string) (replies []harness.Reply) {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, n := range f.Nodes {
		for range each {
			wg.Go(func() {
				r, err := n.Try(t.Context(), http.MethodGet, path, "", fields...)
				if err != nil || r.Broken != nil {
					t.Errorf("%s: %v, %v", path, err, r.Broken)
				}
				mu.Lock()
				defer mu.Unlock()
				replies = append(replies, r)
			})
		}
	}
	wg.Wait()
	return replies
}

// mostFetches is how many fetches there may be where want are due: a lease that a busy machine
// does not renew ends after a second, and a node that has waited for two goes on its own, which
// pauses may make some do, but not each of four.
func mostFetches(took time.Duration, want int) int {
	if took < time.Second {
		return want
	}
	return want + 2
}

// TestFourNodes has one fetch for all clients of all nodes, if the response is
// for everybody, and one for each client else.
func TestFourNodes(t *testing.T) {
	t.Parallel()
	f := startFour(t, coalesceSite)

	t.Run("one fetch", func(t *testing.T) {
		f.Web.Handle("/cold", func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(300 * time.Millisecond)
			fmt.Fprint(w, "for all")
		})
		start := time.Now()
		replies := storm(t, f, 50, "/cold")
		took := time.Since(start)
		collapsed := 0
		for _, r := range replies {
			if r.Body != "for all" || r.Status != http.StatusOK {
				t.Errorf("%d %q", r.Status, r.Body)
			}
			if _, ok := r.CacheStatus(t)["collapsed"]; ok {
				collapsed++
			}
		}
		if n := f.Web.Count("/cold"); n > mostFetches(took, 1) || collapsed == 0 {
			t.Errorf("%d fetches in %s, %d followers", n, took, collapsed)
		}
	})

	t.Run("not for others", func(t *testing.T) {
		const crowd = 20
		var now, total atomic.Int64
		var crowded, known atomic.Bool
		f.Web.Handle("/private", func(w http.ResponseWriter, _ *http.Request) {
			if now.Add(1) >= crowd {
				crowded.Store(true)
			}
			defer now.Add(-1)
			w.Header().Set("Cache-Control", "no-store")
			time.Sleep(300 * time.Millisecond)
			if known.Load() {
				harness.Within(harness.Patience/2, crowded.Load)
			}
			fmt.Fprint(w, total.Add(1))
		})
		for _, again := range []bool{false, true} {
			known.Store(again)
			bodies := make(map[string]bool)
			for _, r := range storm(t, f, 10, "/private") {
				bodies[r.Body] = true
			}
			if len(bodies) != 40 {
				t.Errorf("%d answers for 40 clients", len(bodies))
			}
		}
		if !crowded.Load() {
			t.Errorf("never %d at a time: want nobody to queue", crowd)
		}
		if len(f.Redis.Keys(t, "cache::miss:*")) == 0 {
			t.Error("no node told the others")
		}
	})

	t.Run("the holder dies", func(t *testing.T) {
		arrived := make(chan struct{})
		var fetches atomic.Int32
		f.Web.Handle("/dying", func(w http.ResponseWriter, r *http.Request) {
			if fetches.Add(1) == 1 {
				close(arrived)
				<-r.Context().Done()
				return
			}
			fmt.Fprint(w, "taken over")
		})
		last := f.Nodes[3]
		go func() { _, _ = last.Try(context.Background(), http.MethodGet, "/dying", "") }()
		<-arrived
		f.Nodes = f.Nodes[:3]
		var replies []harness.Reply
		var wg sync.WaitGroup
		start := time.Now()
		wg.Go(func() { replies = storm(t, f, 5, "/dying") })
		harness.Eventually(t, "the others wait", func() bool { return len(f.Redis.Keys(t, "cache::wait:*")) > 0 })
		last.Proc.Kill()
		wg.Wait()
		for _, r := range replies {
			if r.Body != "taken over" {
				t.Errorf("%q", r.Body)
			}
		}
		took := time.Since(start)
		if n := int(fetches.Load()); n < 2 || n > mostFetches(took, 2) {
			t.Errorf("%d fetches in %s, want one by the dead and one by the living", n, took)
		}
	})

	t.Run("redis dies", func(t *testing.T) {
		f.Redis.Kill()
		f.Web.Handle("/alone", func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(300 * time.Millisecond)
			fmt.Fprint(w, "for all")
		})
		storm(t, f, 10, "/alone")
		if n := f.Web.Count("/alone"); n != len(f.Nodes) {
			t.Errorf("%d fetches by %d nodes", n, len(f.Nodes))
		}
	})
}

// TestHotKey has a response that expires every second, and many clients.
func TestHotKey(t *testing.T) {
	t.Parallel()
	f := startFour(t, "\tredis_cache {\n\tttl 1s\n\tjitter 0\n\tstale_while_revalidate 1m\n\t}")
	f.Web.Handle("/hot", func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(50 * time.Millisecond)
		fmt.Fprint(w, "hot")
	})
	f.Nodes[0].Get(t, "/hot")
	begun := time.Now()
	outcomes := make(map[string]int)
	for time.Since(begun) < 4*time.Second {
		for _, r := range storm(t, f, 5, "/hot") {
			outcomes[r.Outcome()]++
		}
	}
	// One second each, and at most one fetch begun before the first and after the last.
	took := time.Since(begun)
	if n := f.Web.Count("/hot"); n > int(took.Seconds())+2 {
		t.Errorf("%d fetches in %s; %v", n, took, outcomes)
	}
	if outcomes["HIT"] == 0 || outcomes["STALE"] == 0 {
		t.Errorf("%v", outcomes)
	}
}

// TestLazyClients has clients that do not read, or leave, which is nobody else's
// business.
func TestLazyClients(t *testing.T) {
	t.Parallel()
	web := harness.NewOrigin(t)
	// A proxy that knows the length does not flush, so that the end of what has come
	// could wait in a buffer.
	node := harness.StartCaddy(t, harness.Layout{
		Redis: harness.StartRedis(t), Site: coalesceSite + "\n\treverse_proxy " + web.Addr + " {\n\tflush_interval -1\n\t}",
	})
	const size = 4 << 20
	for _, declared := range []bool{true, false} {
		path := fmt.Sprintf("/large/%t", declared)
		release := harness.NewGate(t)
		ended := make(chan struct{})
		web.Handle(path, func(w http.ResponseWriter, _ *http.Request) {
			defer close(ended)
			if declared {
				w.Header().Set("Content-Length", fmt.Sprint(size))
			}
			for _, n := range []int{size/2 - 1000, 1000} {
				io.WriteString(w, strings.Repeat("x", n))
				http.NewResponseController(w).Flush()
				time.Sleep(10 * time.Millisecond)
			}
			release.Wait()
			io.WriteString(w, strings.Repeat("x", size/2))
		})
		for range 3 { // the first one leads
			lazy(t, node, path)
		}
		left, leave := context.WithCancel(t.Context())
		go func() { _, _ = node.Try(left, http.MethodGet, path, "") }()
		resp := open(t, node, path)
		half := make([]byte, size/2)
		if _, err := io.ReadFull(resp.Body, half); err != nil {
			t.Fatalf("the body does not come while it arrives: %v", err)
		}
		leave()
		release.Open()
		rest, err := io.ReadAll(resp.Body)
		if err != nil || len(rest) != size/2 {
			t.Errorf("%s: %d bytes of the second half, %v", path, len(rest), err)
		}
		resp.Body.Close()
		<-ended
		node.Want(t, "HIT", path)
		if n := web.Count(path); n != 1 {
			t.Errorf("%s: %d fetches", path, n)
		}
	}
}

// lazy sends a request and waits for the header, but never reads the body.
func lazy(t *testing.T, n *harness.Node, path string) {
	t.Helper()
	conn, err := net.Dial("tcp", n.Site)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, harness.SiteHost)
	if _, err := io.ReadFull(conn, make([]byte, len("HTTP/1.1 200"))); err != nil {
		t.Fatal(err)
	}
}

// open sends a request and returns with the header.
func open(t *testing.T, n *harness.Node, path string) *http.Response {
	t.Helper()
	req, err := n.Request(t.Context(), http.MethodGet, path, "")
	if err != nil {
		t.Fatal(err)
	}
	resp, err := n.Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// TestCancelled has clients that leave at random moments: nothing of them is left.
func TestCancelled(t *testing.T) {
	t.Parallel()
	web := harness.NewOrigin(t)
	rds := harness.StartRedis(t)
	l := harness.Layout{Redis: rds, Origin: web, Site: coalesceSite}
	one, two := harness.StartCaddy(t, l), harness.StartCaddy(t, l)
	web.Handle("/random/", func(w http.ResponseWriter, r *http.Request) {
		if rand.IntN(3) == 0 {
			w.Header().Set("Cache-Control", "private")
		}
		time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
		io.WriteString(w, strings.Repeat("x", 1<<rand.IntN(16)))
		http.NewResponseController(w).Flush()
		time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
		io.WriteString(w, "end")
	})
	before := []int{one.Goroutines(t), two.Goroutines(t)}
	var wg sync.WaitGroup
	const requests, clients = 10_000, 50
	for client := range clients {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(7, uint64(client)))
			for range requests / clients {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rng.IntN(60))*time.Millisecond)
				n := []*harness.Node{one, two}[rng.IntN(2)]
				r, err := n.Try(ctx, http.MethodGet, fmt.Sprintf("/random/%d", rng.IntN(500)), "")
				if err == nil && r.Broken == nil && !strings.HasSuffix(r.Body, "end") {
					t.Errorf("a client that stayed got %d bytes", len(r.Body))
				}
				cancel()
			}
		})
	}
	wg.Wait()
	for i, n := range []*harness.Node{one, two} {
		harness.Eventually(t, "the goroutines are gone", func() bool {
			n.Client.CloseIdleConnections()
			return n.Goroutines(t) <= before[i]+10
		})
	}
	harness.Eventually(t, "the keys are gone", func() bool {
		return len(rds.Keys(t, "cache::lease:*"))+len(rds.Keys(t, "cache::wait:*")) == 0
	})
	for _, key := range rds.Keys(t, "cache::miss:*") {
		if rds.TTL(t, key) == -1 {
			t.Errorf("%s has no lifetime", key)
		}
	}
}
