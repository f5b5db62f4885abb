package integration

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
)

const coalesceSite = `
	redis_cache {
		ttl 10m
		jitter 0
	}`

// startFour starts four nodes on one Redis that know of each other.
func startFour(t *testing.T, site string) *fleet {
	t.Helper()
	f := &fleet{redis: startRedis(t), web: newOrigin(t)}
	for range 4 {
		f.join(t, layout{redis: f.redis, origin: f.web, site: site})
	}
	eventually(t, "each node knows the others", func() bool {
		return !slices.ContainsFunc(f.nodes, func(n *node) bool {
			return len(n.json(t, http.StatusOK, http.MethodGet, "/redis_cache/nodes", "")["nodes"].([]any)) != len(f.nodes)
		})
	})
	// One that has just joined stores before it may serve what is stored; until then
	// each of its requests is fetched for.
	eventually(t, "each node serves what is stored", func() bool {
		return !slices.ContainsFunc(f.nodes, func(n *node) bool { return n.get(t, "/attached/ready").outcome() != "HIT" })
	})
	return f
}

// storm sends so many requests to each node at the same time.
func (f *fleet) storm(t *testing.T, each int, path string, fields ...string) (replies []reply) {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, n := range f.nodes {
		for range each {
			wg.Go(func() {
				r, err := n.try(t.Context(), http.MethodGet, path, "", fields...)
				if err != nil || r.broken != nil {
					t.Errorf("%s: %v, %v", path, err, r.broken)
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
		f.web.handle("/cold", func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(300 * time.Millisecond)
			fmt.Fprint(w, "for all")
		})
		start := time.Now()
		replies := f.storm(t, 50, "/cold")
		took := time.Since(start)
		collapsed := 0
		for _, r := range replies {
			if r.body != "for all" || r.status != http.StatusOK {
				t.Errorf("%d %q", r.status, r.body)
			}
			if _, ok := r.cacheStatus(t)["collapsed"]; ok {
				collapsed++
			}
		}
		if n := f.web.count("/cold"); n > mostFetches(took, 1) || collapsed == 0 {
			t.Errorf("%d fetches in %s, %d followers", n, took, collapsed)
		}
	})

	t.Run("not for others", func(t *testing.T) {
		const crowd = 20
		var now, total atomic.Int64
		var crowded, known atomic.Bool
		f.web.handle("/private", func(w http.ResponseWriter, _ *http.Request) {
			if now.Add(1) >= crowd {
				crowded.Store(true)
			}
			defer now.Add(-1)
			w.Header().Set("Cache-Control", "no-store")
			time.Sleep(300 * time.Millisecond)
			if known.Load() {
				within(patience/2, crowded.Load)
			}
			fmt.Fprint(w, total.Add(1))
		})
		for _, again := range []bool{false, true} {
			known.Store(again)
			bodies := make(map[string]bool)
			for _, r := range f.storm(t, 10, "/private") {
				bodies[r.body] = true
			}
			if len(bodies) != 40 {
				t.Errorf("%d answers for 40 clients", len(bodies))
			}
		}
		if !crowded.Load() {
			t.Errorf("never %d at a time: want nobody to queue", crowd)
		}
		if len(f.redis.keys(t, "cache::miss:*")) == 0 {
			t.Error("no node told the others")
		}
	})

	t.Run("the holder dies", func(t *testing.T) {
		arrived := make(chan struct{})
		var fetches atomic.Int32
		f.web.handle("/dying", func(w http.ResponseWriter, r *http.Request) {
			if fetches.Add(1) == 1 {
				close(arrived)
				<-r.Context().Done()
				return
			}
			fmt.Fprint(w, "taken over")
		})
		last := f.nodes[3]
		go func() { _, _ = last.try(context.Background(), http.MethodGet, "/dying", "") }()
		<-arrived
		f.nodes = f.nodes[:3]
		var replies []reply
		var wg sync.WaitGroup
		start := time.Now()
		wg.Go(func() { replies = f.storm(t, 5, "/dying") })
		eventually(t, "the others wait", func() bool { return len(f.redis.keys(t, "cache::wait:*")) > 0 })
		last.proc.kill()
		wg.Wait()
		for _, r := range replies {
			if r.body != "taken over" {
				t.Errorf("%q", r.body)
			}
		}
		took := time.Since(start)
		if n := int(fetches.Load()); n < 2 || n > mostFetches(took, 2) {
			t.Errorf("%d fetches in %s, want one by the dead and one by the living", n, took)
		}
	})

	t.Run("redis dies", func(t *testing.T) {
		f.redis.kill()
		f.web.handle("/alone", func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(300 * time.Millisecond)
			fmt.Fprint(w, "for all")
		})
		f.storm(t, 10, "/alone")
		if n := f.web.count("/alone"); n != len(f.nodes) {
			t.Errorf("%d fetches by %d nodes", n, len(f.nodes))
		}
	})
}

// TestHotKey has a response that expires every second, and many clients.
func TestHotKey(t *testing.T) {
	t.Parallel()
	f := startFour(t, "\tredis_cache {\n\tttl 1s\n\tjitter 0\n\tstale_while_revalidate 1m\n\t}")
	f.web.handle("/hot", func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(50 * time.Millisecond)
		fmt.Fprint(w, "hot")
	})
	f.nodes[0].get(t, "/hot")
	begun := time.Now()
	outcomes := make(map[string]int)
	for time.Since(begun) < 4*time.Second {
		for _, r := range f.storm(t, 5, "/hot") {
			outcomes[r.outcome()]++
		}
	}
	// One second each, and at most one fetch begun before the first and after the last.
	took := time.Since(begun)
	if n := f.web.count("/hot"); n > int(took.Seconds())+2 {
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
	web := newOrigin(t)
	// A proxy that knows the length does not flush, so that the end of what has come
	// could wait in a buffer.
	node := startCaddy(t, layout{
		redis: startRedis(t), site: coalesceSite + "\n\treverse_proxy " + web.addr + " {\n\tflush_interval -1\n\t}",
	})
	const size = 4 << 20
	for _, declared := range []bool{true, false} {
		path := fmt.Sprintf("/large/%t", declared)
		release := newGate(t)
		ended := make(chan struct{})
		web.handle(path, func(w http.ResponseWriter, _ *http.Request) {
			defer close(ended)
			if declared {
				w.Header().Set("Content-Length", fmt.Sprint(size))
			}
			for _, n := range []int{size/2 - 1000, 1000} {
				io.WriteString(w, strings.Repeat("x", n))
				http.NewResponseController(w).Flush()
				time.Sleep(10 * time.Millisecond)
			}
			release.wait()
			io.WriteString(w, strings.Repeat("x", size/2))
		})
		for range 3 { // the first one leads
			lazy(t, node, path)
		}
		left, leave := context.WithCancel(t.Context())
		go func() { _, _ = node.try(left, http.MethodGet, path, "") }()
		resp := open(t, node, path)
		half := make([]byte, size/2)
		if _, err := io.ReadFull(resp.Body, half); err != nil {
			t.Fatalf("the body does not come while it arrives: %v", err)
		}
		leave()
		release.open()
		rest, err := io.ReadAll(resp.Body)
		if err != nil || len(rest) != size/2 {
			t.Errorf("%s: %d bytes of the second half, %v", path, len(rest), err)
		}
		resp.Body.Close()
		<-ended
		node.want(t, "HIT", path)
		if n := web.count(path); n != 1 {
			t.Errorf("%s: %d fetches", path, n)
		}
	}
}

// lazy sends a request and waits for the header, but never reads the body.
func lazy(t *testing.T, n *node, path string) {
	t.Helper()
	conn, err := net.Dial("tcp", n.site)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, siteHost)
	if _, err := io.ReadFull(conn, make([]byte, len("HTTP/1.1 200"))); err != nil {
		t.Fatal(err)
	}
}

// open sends a request and returns with the header.
func open(t *testing.T, n *node, path string) *http.Response {
	t.Helper()
	req, err := n.request(t.Context(), http.MethodGet, path, "")
	if err != nil {
		t.Fatal(err)
	}
	resp, err := n.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// TestCancelled has clients that leave at random moments: nothing of them is left.
func TestCancelled(t *testing.T) {
	t.Parallel()
	web := newOrigin(t)
	rds := startRedis(t)
	l := layout{redis: rds, origin: web, site: coalesceSite}
	one, two := startCaddy(t, l), startCaddy(t, l)
	web.handle("/random/", func(w http.ResponseWriter, r *http.Request) {
		if rand.IntN(3) == 0 {
			w.Header().Set("Cache-Control", "private")
		}
		time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
		io.WriteString(w, strings.Repeat("x", 1<<rand.IntN(16)))
		http.NewResponseController(w).Flush()
		time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
		io.WriteString(w, "end")
	})
	before := []int{one.goroutines(t), two.goroutines(t)}
	var wg sync.WaitGroup
	const requests, clients = 10_000, 50
	for client := range clients {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(7, uint64(client)))
			for range requests / clients {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rng.IntN(60))*time.Millisecond)
				n := []*node{one, two}[rng.IntN(2)]
				r, err := n.try(ctx, http.MethodGet, fmt.Sprintf("/random/%d", rng.IntN(500)), "")
				if err == nil && r.broken == nil && !strings.HasSuffix(r.body, "end") {
					t.Errorf("a client that stayed got %d bytes", len(r.body))
				}
				cancel()
			}
		})
	}
	wg.Wait()
	for i, n := range []*node{one, two} {
		eventually(t, "the goroutines are gone", func() bool {
			n.client.CloseIdleConnections()
			return n.goroutines(t) <= before[i]+10
		})
	}
	eventually(t, "the keys are gone", func() bool {
		return len(rds.keys(t, "cache::lease:*"))+len(rds.keys(t, "cache::wait:*")) == 0
	})
	for _, key := range rds.keys(t, "cache::miss:*") {
		if rds.ttl(t, key) == -1 {
			t.Errorf("%s has no lifetime", key)
		}
	}
}
