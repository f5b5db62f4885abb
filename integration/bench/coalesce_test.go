//go:build bench

package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// benchNodes is nodes without the race detector on one Redis, with one origin.
type benchNodes struct {
	nodes []*loadedCaddy
	web   *harness.Origin
}

// startBenchNodes starts nodes that know of each other and store in Redis. The
// site has %s in place of the origin's address.
func startBenchNodes(b *testing.B, count int, site string) *benchNodes {
	b.Helper()
	f := &benchNodes{web: harness.NewOrigin(b)}
	redisAddr, bin := startBenchRedis(b), buildCaddy(b)
	client := redis.NewClient(&redis.Options{Addr: redisAddr})
	defer client.Close()
	for range count {
		f.nodes = append(f.nodes, runLoadedCaddy(b, bin, "redis redis://"+redisAddr+" {\n read_timeout 5s\n}",
			strings.ReplaceAll(site, "%s", f.web.Addr)))
	}
	f.web.With("/probe/", "Cache-Control: max-age=3600")
	for i, n := range f.nodes {
		conn := dialBench(b, n)
		// A node that has just joined stores before it may serve what is stored.
		benchAwait(b, "the node serves what it has stored, and knows the others", func() bool {
			path := fmt.Sprintf("/probe/%d/%d", i, harness.Probes.Add(1))
			key := conn.get(b, path).Key()
			return harness.Within(300*time.Millisecond, func() bool { return client.Exists(b.Context(), key).Val() == 1 }) &&
				conn.get(b, path).Outcome() == "HIT" && n.peers(b) == count
		})
	}
	return f
}

// peers is how many nodes a node knows, itself included.
func (c *loadedCaddy) peers(b *testing.B) int {
	b.Helper()
	resp, err := http.Get("http://" + c.admin + "/redis_cache/nodes")
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		Nodes []json.RawMessage `json:"nodes"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		b.Fatal(err)
	}
	return len(answer.Nodes)
}

// benchConn is a connection of a client.
type benchConn struct {
	net.Conn
	in *bufio.Reader
}

func dialBench(b *testing.B, n *loadedCaddy) *benchConn {
	b.Helper()
	conn, err := net.Dial("tcp", n.addr)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	return &benchConn{conn, bufio.NewReaderSize(conn, 64<<10)}
}

// open sends a request and returns with the header.
func (c *benchConn) open(path string) (*http.Response, error) {
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, harness.SiteHost); err != nil {
		return nil, err
	}
	return http.ReadResponse(c.in, nil)
}

// get sends a request whose answer has to be complete.
func (c *benchConn) get(b *testing.B, path string) harness.Reply {
	b.Helper()
	resp, err := c.open(path)
	if err != nil {
		b.Error(err)
		return harness.Reply{}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		b.Errorf("%s: status %d, %v", path, resp.StatusCode, err)
	}
	return harness.Reply{Status: resp.StatusCode, Header: resp.Header, Body: string(body)}
}

// storm sends so many requests to each node at the same time, over connections
// that there are already, and returns when all are answered.
func (f *benchNodes) storm(b *testing.B, each int, path string) (replies []harness.Reply, took time.Duration) {
	b.Helper()
	var conns []*benchConn
	for range each {
		for _, n := range f.nodes {
			conns = append(conns, dialBench(b, n))
		}
	}
	replies = make([]harness.Reply, len(conns))
	begun := time.Now()
	var clients sync.WaitGroup
	for i, c := range conns {
		clients.Go(func() { replies[i] = c.get(b, path) })
	}
	clients.Wait()
	took = time.Since(begun)
	for _, c := range conns {
		c.Close()
	}
	return replies, took
}

const (
	stormOrigin = 300 * time.Millisecond
	stormEach   = 200 // requests to each node
)

// BenchmarkColdKey asks for what nobody has stored, on all connections at the same
// time. The time until all are answered is compared with the origin's. A page that
// may not be stored is fetched for each client: at first they wait for its header,
// then everybody knows, and the time is compared with reverse_proxy alone.
func BenchmarkColdKey(b *testing.B) {
	const site = "handle /plain/* {\nreverse_proxy %s\n}\nhandle {\nredis_cache\nreverse_proxy %s\n}"
	for _, count := range []int{1, 4} {
		b.Run(fmt.Sprintf("nodes=%d", count), func(b *testing.B) {
			f := startBenchNodes(b, count, site)
			f.web.Handle("/cold/", func(w http.ResponseWriter, _ *http.Request) {
				time.Sleep(stormOrigin)
				w.Header().Set("Cache-Control", "max-age=3600")
				io.WriteString(w, strings.Repeat("x", 1<<10))
			})
			var own atomic.Int64
			private := func(w http.ResponseWriter, _ *http.Request) {
				time.Sleep(stormOrigin)
				w.Header().Set("Cache-Control", "no-store")
				fmt.Fprint(w, own.Add(1))
			}
			f.web.Handle("/private/", private)
			f.web.Handle("/plain/", private)
			f.storm(b, stormEach, "/probe/warm")
			for b.Loop() {
				var took []float64
				fetches := 0
				for range benchRounds {
					path := fmt.Sprintf("/cold/%d", harness.Probes.Add(1))
					_, d := f.storm(b, stormEach, path)
					took = append(took, float64(d)/float64(stormOrigin))
					fetches = max(fetches, f.web.Count(path))
				}
				if fetches != 1 {
					b.Fatalf("%d fetches for one cold key", fetches)
				}
				b.ReportMetric(float64(fetches), "fetches")
				b.ReportMetric(slices.Max(took), "×origin-most")
				b.ReportMetric(median(took), "×origin")

				path := fmt.Sprintf("/private/%d", harness.Probes.Add(1))
				b.ReportMetric(f.own(b, path), "no-store-first-×origin")
				var through, plain []float64
				for range benchRounds {
					through = append(through, f.own(b, path))
					plain = append(plain, f.own(b, fmt.Sprintf("/plain/%d", harness.Probes.Add(1))))
				}
				b.ReportMetric(median(through), "no-store-×origin")
				b.ReportMetric(median(through)/median(plain), "no-store-×plain")
				b.ReportMetric(0, "ns/op")
			}
		})
	}
}

// own is a storm on a page that each client has to get an answer of its own from.
// It returns the time in multiples of the origin's.
func (f *benchNodes) own(b *testing.B, path string) float64 {
	b.Helper()
	replies, took := f.storm(b, stormEach, path)
	bodies := make(map[string]bool)
	for _, r := range replies {
		bodies[r.Body] = true
	}
	if len(bodies) != len(replies) {
		b.Fatalf("%d answers for %d clients of %s", len(bodies), len(replies), path)
	}
	return float64(took) / float64(stormOrigin)
}

const (
	hotConnections = 100
	hotInterval    = 20 * time.Millisecond // between two requests of a connection
	hotDuration    = 10 * time.Second
)

// BenchmarkHotKey asks for a response that expires every second and may be served
// stale while it is fetched anew, which takes 50 ms. Each connection asks for one
// that does not expire in turn, so that the two see the same load.
func BenchmarkHotKey(b *testing.B) {
	for _, count := range []int{2, 4} {
		b.Run(fmt.Sprintf("nodes=%d", count), func(b *testing.B) {
			f := startBenchNodes(b, count, `
				redis_cache /hot/* {
					ttl 1s
					jitter 0
					stale_while_revalidate 1m
				}
				redis_cache {
					ttl 1h
				}
				reverse_proxy %s`)
			f.web.Handle("/hot/", func(w http.ResponseWriter, _ *http.Request) {
				time.Sleep(50 * time.Millisecond)
				io.WriteString(w, strings.Repeat("x", 1<<10))
			})
			for b.Loop() {
				hot := fmt.Sprintf("/hot/%d", harness.Probes.Add(1))
				paths := [...]string{hot, "/probe" + hot}
				filled := f.fillHot(b, paths[:])
				took, outcomes := f.askHot(b, paths)
				expiries := int(time.Since(filled) / time.Second)
				fetches := f.web.Count(hot)
				if fetches > expiries+1 {
					b.Fatalf("%d fetches for %d expiries", fetches, expiries)
				}
				if outcomes["HIT"] == 0 || outcomes["STALE"] == 0 || len(outcomes) != 2 {
					b.Fatalf("answers after the first one: %v", outcomes)
				}
				b.ReportMetric(float64(fetches), "fetches")
				b.ReportMetric(float64(expiries), "expiries")
				b.ReportMetric(float64(len(took[0])+len(took[1]))/hotDuration.Seconds(), "requests/s")
				b.ReportMetric(float64(outcomes["STALE"])*100/float64(len(took[0])), "%stale")
				for name, p := range map[string]float64{"p50": 0.5, "p99": 0.99, "slowest": 1} {
					b.ReportMetric(benchPercentile(took[0], p)/benchPercentile(took[1], p), name+"-×hit")
				}
				b.ReportMetric(benchPercentile(took[1], 1), "slowest-hit-ms")
				b.ReportMetric(0, "ns/op")
			}
		})
	}
}

// fillHot lets each node have the responses, and returns when the first one came.
func (f *benchNodes) fillHot(b *testing.B, paths []string) (filled time.Time) {
	b.Helper()
	for _, n := range f.nodes {
		conn := dialBench(b, n)
		for _, path := range paths {
			benchAwait(b, "the node has the response", func() bool {
				outcome := conn.get(b, path).Outcome()
				if filled.IsZero() {
					filled = time.Now()
				}
				return outcome != "MISS"
			})
		}
	}
	return filled
}

// askHot asks for the two in turn, on all connections, and returns the times of
// each, and the outcomes of the first.
func (f *benchNodes) askHot(b *testing.B, paths [2]string) (took [2][]time.Duration, outcomes map[string]int) {
	b.Helper()
	var mu sync.Mutex
	outcomes = make(map[string]int)
	begun := time.Now()
	var clients sync.WaitGroup
	for c := range hotConnections {
		conn := dialBench(b, f.nodes[c%len(f.nodes)])
		clients.Go(func() {
			var mine [2][]time.Duration
			seen := make(map[string]int)
			next := begun.Add(hotInterval * time.Duration(c) / hotConnections) // not all at once
			for i := c / len(f.nodes); ; i++ {
				benchPause(b.Context(), time.Until(next))
				sent := time.Now()
				if sent.Sub(begun) >= hotDuration {
					break
				}
				outcome := conn.get(b, paths[i%2]).Outcome()
				mine[i%2] = append(mine[i%2], time.Since(sent))
				if i%2 == 0 {
					seen[outcome]++
				}
				next = next.Add(hotInterval)
			}
			mu.Lock()
			defer mu.Unlock()
			for i := range took {
				took[i] = append(took[i], mine[i]...)
			}
			for outcome, n := range seen {
				outcomes[outcome] += n
			}
		})
	}
	clients.Wait()
	return took, outcomes
}

const (
	slowSize = 16 << 20
	slowRate = 2 << 20 // bytes a second
)

// BenchmarkSlowReader has a client ask for what another one is being sent that
// leads the fetch: one that reads slowly, and, for comparison, one that does not.
// The origin takes half a second for the body.
func BenchmarkSlowReader(b *testing.B) {
	f := startBenchNodes(b, 1, "redis_cache {\n max_body 32MiB\n}\nreverse_proxy %s")
	f.web.Handle("/large/", func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(100 * time.Millisecond)
		w.Header().Set("Cache-Control", "max-age=3600")
		w.Header().Set("Content-Length", fmt.Sprint(slowSize))
		const pieces = 16
		for range pieces {
			io.WriteString(w, strings.Repeat("x", slowSize/pieces))
			http.NewResponseController(w).Flush()
			time.Sleep(500 * time.Millisecond / pieces)
		}
	})
	f.beside(b, slowSize) // the first one pays for connections and memory
	for b.Loop() {
		var first, last [2][]float64
		for range 3 {
			for i, rate := range []int{slowSize, slowRate} {
				begin, end := f.beside(b, rate)
				first[i] = append(first[i], begin.Seconds())
				last[i] = append(last[i], end.Seconds())
			}
		}
		b.ReportMetric(median(first[1])/median(first[0]), "first-byte-×alone")
		b.ReportMetric(median(last[1])/median(last[0]), "last-byte-×alone")
		b.ReportMetric(median(last[0])*1000, "last-byte-alone-ms")
		b.ReportMetric(0, "ns/op")
	}
}

// beside returns the time to the first and last byte of a client that asks while
// another one leads and reads so many bytes a second.
func (f *benchNodes) beside(b *testing.B, rate int) (first, last time.Duration) {
	b.Helper()
	path := fmt.Sprintf("/large/%d", harness.Probes.Add(1))
	leader := dialBench(b, f.nodes[0])
	// What the kernel takes for a client has been read as far as the server can see.
	if err := leader.Conn.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		b.Fatal(err)
	}
	ctx, leave := context.WithCancel(b.Context())
	var reading sync.WaitGroup
	defer reading.Wait()
	defer leave()
	reading.Go(func() {
		defer leader.Close()
		resp, err := leader.open(path)
		if err != nil {
			b.Error(err)
			return
		}
		defer resp.Body.Close()
		const ticks = 50 // a second
		for ctx.Err() == nil {
			if _, err := io.CopyN(io.Discard, resp.Body, int64(rate/ticks)); err != nil {
				return
			}
			benchPause(ctx, time.Second/ticks)
		}
	})
	benchAwait(b, "the leader leads", func() bool { return f.web.Count(path) == 1 })
	conn := dialBench(b, f.nodes[0])
	defer conn.Close()
	sent := time.Now()
	resp, err := conn.open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadFull(resp.Body, make([]byte, 1)); err != nil {
		b.Fatal(err)
	}
	first = time.Since(sent)
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != slowSize-1 {
		b.Fatalf("%d bytes, %v", n, err)
	}
	last = time.Since(sent)
	if n := f.web.Count(path); n != 1 || !strings.Contains(resp.Header.Get("Cache-Status"), "collapsed") {
		b.Fatalf("%d fetches, the second client got %s", n, resp.Header.Get("Cache-Status"))
	}
	return first, last
}

const (
	largeSize    = 200 << 20
	largeMaxBody = 8 << 20 // the default
	largeGrowth  = largeMaxBody + 32<<20
)

// BenchmarkLargeResponse fetches what is too large to be stored, with its length
// stated and without. The time to the first byte is compared with reverse_proxy
// alone, which looks nothing up in Redis, and with that of a small miss; the origin
// answers at once. The memory of the process at its peak must not exceed what it was
// before by more than max_body and 32 MiB, after the proxy alone has had its share.
func BenchmarkLargeResponse(b *testing.B) {
	for _, kind := range []string{"stated", "chunked"} {
		b.Run(kind, func(b *testing.B) {
			f := startBenchNodes(b, 1, "handle /plain/* {\nreverse_proxy %s\n}\nhandle {\nredis_cache\nreverse_proxy %s\n}")
			piece := []byte(strings.Repeat("x", 64<<10))
			send := func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Cache-Control", "max-age=3600")
				if kind == "stated" {
					w.Header().Set("Content-Length", fmt.Sprint(largeSize))
				}
				for i := range largeSize / len(piece) {
					if _, err := w.Write(piece); err != nil {
						return
					}
					if i == 0 {
						time.Sleep(20 * time.Millisecond) // the first byte has the machine for itself
					}
				}
			}
			f.web.Handle("/plain/", send)
			f.web.Handle("/large/", send)
			f.web.Answer("/small/", http.StatusOK, strings.Repeat("x", 1<<10), "Cache-Control: max-age=3600")
			n := f.nodes[0]
			for b.Loop() {
				start := n.resident(b)
				n.firstByte(b, "/plain/warm", largeSize)
				before := n.resident(b)
				n.resetPeak(b)
				for range benchRounds {
					n.firstByte(b, fmt.Sprintf("/large/%d", harness.Probes.Add(1)), largeSize)
				}
				grown := n.peak(b) - before
				var plain, cached, small []float64
				for range 3 * benchRounds {
					plain = append(plain, n.firstByte(b, fmt.Sprintf("/plain/%d", harness.Probes.Add(1)), largeSize))
					cached = append(cached, n.firstByte(b, fmt.Sprintf("/large/%d", harness.Probes.Add(1)), largeSize))
					small = append(small, n.firstByte(b, fmt.Sprintf("/small/%d", harness.Probes.Add(1)), 1<<10))
				}
				b.ReportMetric(median(cached)/median(plain), "first-byte-×plain")
				b.ReportMetric(median(cached)/median(small), "first-byte-×small")
				b.ReportMetric(median(plain)*1000, "first-byte-plain-ms")
				b.ReportMetric(float64(grown)/(1<<20), "peak-MiB")
				b.ReportMetric(float64(before-start)/(1<<20), "plain-MiB")
				b.ReportMetric(largeMaxBody>>20, "max_body-MiB")
				b.ReportMetric(0, "ns/op")
				if grown >= largeGrowth {
					b.Errorf("the process grew by %d MiB, want less than %d", grown>>20, largeGrowth>>20)
				}
			}
		})
	}
}

// firstByte reads a response to its end and returns the seconds until its
// first byte was there.
func (c *loadedCaddy) firstByte(b *testing.B, path string, size int64) float64 {
	b.Helper()
	conn := dialBench(b, c)
	defer conn.Close()
	sent := time.Now()
	resp, err := conn.open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadFull(resp.Body, make([]byte, 1)); err != nil {
		b.Fatal(err)
	}
	first := time.Since(sent)
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != size-1 {
		b.Fatalf("%s: %d bytes, %v", path, n, err)
	}
	if strings.HasPrefix(path, "/plain/") == (resp.Header.Get("X-Cache") == "MISS") {
		b.Fatalf("%s was answered with %v", path, resp.Header)
	}
	return first.Seconds()
}

// resetPeak lets peak begin anew.
func (c *loadedCaddy) resetPeak(b *testing.B) {
	b.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", c.pid), []byte("5"), 0); err != nil {
		b.Fatal(err)
	}
}

// peak is the most resident memory that the process has had, in bytes.
func (c *loadedCaddy) peak(b *testing.B) int {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.pid))
	if err != nil {
		b.Fatal(err)
	}
	return firstNumber(b, `VmHWM:\s*(\d+) kB`, status) << 10
}
