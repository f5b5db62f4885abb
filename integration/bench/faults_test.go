//go:build bench

package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
	"github.com/gplus-recycling/caddy-redis-cache/internal/redistest"
)

const (
	faultPaths    = 50
	faultInterval = 4 * time.Millisecond // between two requests of a kind
	faultAround   = 1500 * time.Millisecond
	faultDuring   = 2500 * time.Millisecond
	faultRecovery = 45 * time.Second // longest, until Redis is used again
)

// The kinds of requests that BenchmarkFaults sends, and the phases it tells apart.
var (
	faultKinds  = [...]string{"memory hits", "redis hits", "misses"}
	faultPhases = [...]string{"before", "during", "after"}
)

// BenchmarkFaults shows what clients notice of a Redis that is slow, cut off, hangs or dies: errors and
// latency of a steady load before, during and after. Hits in Redis are those of a node without
// memory tier, all else is asked of a node with one. The first requests after the beginning of a
// fault are among those during it.
func BenchmarkFaults(b *testing.B) {
	w := startFaultWorld(b)
	var table strings.Builder
	columns := tabwriter.NewWriter(&table, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(columns, "fault\trequests\tphase\tsent\terrors\tp50 ms\tp99 ms\t\n")
	for _, f := range []struct {
		name       string
		begin, end func(*testing.B)
	}{
		{"latency 20ms", w.toxic("latency", "latency", 20), w.cure},
		{"latency 100ms", w.toxic("latency", "latency", 100), w.cure},
		{"reset", w.toxic("reset_peer", "timeout", 0), w.cure},
		{"black hole", w.toxic("timeout", "timeout", 0), w.cure},
		{"SIGSTOP", w.signal(syscall.SIGSTOP), w.signal(syscall.SIGCONT)},
		{"kill", w.kill, w.startRedis},
		{"kill, restart empty", func(b *testing.B) { w.kill(b); w.startRedis(b) }, func(*testing.B) {}},
	} {
		b.Run(f.name, func(b *testing.B) {
			for b.Loop() {
				load := w.startLoad()
				time.Sleep(faultAround)
				load.phase.Store(1)
				f.begin(b)
				time.Sleep(faultDuring)
				load.phase.Store(-1)
				f.end(b)
				w.recovered(b)
				load.phase.Store(2)
				time.Sleep(faultAround)
				load.stop()
				load.report(b, columns, f.name)
			}
		})
	}
	columns.Flush()
	fmt.Println(table.String()) // a benchmark that has others below it does not show its log
}

// faultWorld is two nodes on one Redis, which they reach through a proxy.
type faultWorld struct {
	b            *testing.B // outlives the benchmarks of single faults
	proxy        *toxiproxy.Proxy
	port         string // of Redis
	pid          int    // of Redis
	redis        *redis.Client
	memory, bare *loadedCaddy
	client       *http.Client
	requests     atomic.Int64
}

func startFaultWorld(b *testing.B) *faultWorld {
	b.Helper()
	w := &faultWorld{
		b:      b,
		port:   fmt.Sprint(harness.FreePort(b)),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 512}, Timeout: harness.Patience},
	}
	b.Cleanup(w.client.CloseIdleConnections)
	w.redis = redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + w.port, MaxRetries: -1})
	b.Cleanup(func() { w.redis.Close() })
	w.startRedis(b)
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	w.proxy = toxiproxy.NewProxy(server, "redis", fmt.Sprintf("127.0.0.1:%d", harness.FreePort(b)), "127.0.0.1:"+w.port)
	if err := w.proxy.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(w.proxy.Stop)
	site := "redis_cache {\nttl 1h\n}\nheader Content-Type text/plain\nrespond \"" + strings.Repeat("x", 1<<10) + "\""
	connect := "redis redis://" + w.proxy.Listen + "/"
	w.memory = startLoadedCaddy(b, connect+"0", site)
	w.bare = startLoadedCaddy(b, connect+"1\nmemory off", site)
	w.recovered(b)
	for _, c := range []*loadedCaddy{w.memory, w.bare} {
		c.load(b, "/hit", 0, faultPaths)
	}
	return w
}

func (w *faultWorld) startRedis(b *testing.B) {
	b.Helper()
	w.pid = benchProcess(w.b, exec.Command(redistest.Program, "--port", w.port, "--bind", "127.0.0.1", "--save", "", "--dir", w.b.TempDir()))
	benchAwait(b, "Redis answers", func() bool { return w.redis.Ping(b.Context()).Err() == nil })
}

func (w *faultWorld) kill(b *testing.B) {
	b.Helper()
	w.signal(syscall.SIGKILL)(b)
	benchAwait(b, "Redis is gone", func() bool { return w.redis.Ping(b.Context()).Err() != nil })
}

func (w *faultWorld) signal(sig syscall.Signal) func(*testing.B) {
	return func(b *testing.B) {
		b.Helper()
		if err := syscall.Kill(w.pid, sig); err != nil {
			b.Fatal(err)
		}
	}
}

// toxic spoils the connections that there are and new ones, for what Redis answers.
func (w *faultWorld) toxic(kind, attribute string, milliseconds int) func(*testing.B) {
	return func(b *testing.B) {
		b.Helper()
		spec := fmt.Sprintf(`{"type":%q,"attributes":{%q:%d}}`, kind, attribute, milliseconds)
		if _, err := w.proxy.Toxics.AddToxicJson(strings.NewReader(spec)); err != nil {
			b.Fatal(err)
		}
	}
}

func (w *faultWorld) cure(*testing.B) { w.proxy.Toxics.ResetToxics(context.Background()) }

// recovered waits until both nodes keep responses in Redis.
func (w *faultWorld) recovered(b *testing.B) {
	b.Helper()
	for db, c := range []*loadedCaddy{w.memory, w.bare} {
		inside := redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + w.port, DB: db})
		defer inside.Close()
		if !harness.Within(faultRecovery, func() bool {
			resp, err := w.client.Get(fmt.Sprintf("http://%s/probe/%d", c.addr, w.requests.Add(1)))
			if err != nil {
				return false
			}
			resp.Body.Close()
			return harness.Within(300*time.Millisecond, func() bool {
				return inside.Exists(b.Context(), resp.Header.Get("X-Cache-Key")).Val() == 1
			})
		}) {
			b.Fatalf("no response has arrived in Redis for %s", faultRecovery)
		}
	}
}

// faultLoad is a steady load: requests are sent at fixed times, however long others take.
type faultLoad struct {
	phase atomic.Int32 // that requests which begin now belong to; negative: none
	stop  func()       // returns when all are answered

	mu     sync.Mutex
	took   [len(faultKinds)][len(faultPhases)][]time.Duration
	failed [len(faultKinds)][len(faultPhases)][]string
}

func (w *faultWorld) startLoad() *faultLoad {
	l := new(faultLoad)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for kind := range faultKinds {
		running.Go(func() {
			tick := time.NewTicker(faultInterval)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					running.Go(func() { l.record(kind, func() error { return w.ask(kind) }) })
				case <-ctx.Done():
					return
				}
			}
		})
	}
	l.stop = func() {
		cancel()
		running.Wait()
	}
	return l
}

// ask sends a request of a kind and returns what is wrong with the answer.
func (w *faultWorld) ask(kind int) error {
	n := w.requests.Add(1)
	url := [...]string{
		fmt.Sprintf("http://%s/hit/%d", w.memory.addr, n%faultPaths),
		fmt.Sprintf("http://%s/hit/%d", w.bare.addr, n%faultPaths),
		fmt.Sprintf("http://%s/miss/%d", w.memory.addr, n),
	}[kind]
	resp, err := w.client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || len(body) != 1<<10) {
		err = fmt.Errorf("status %d, %d bytes", resp.StatusCode, len(body))
	}
	return err
}

func (l *faultLoad) record(kind int, ask func() error) {
	phase, begun := l.phase.Load(), time.Now()
	err := ask()
	took := time.Since(begun)
	if phase < 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took[kind][phase] = append(l.took[kind][phase], took)
	if err != nil {
		l.failed[kind][phase] = append(l.failed[kind][phase], err.Error())
	}
}

// report adds the lines of a fault to the table, and fails for requests that failed.
func (l *faultLoad) report(b *testing.B, columns io.Writer, fault string) {
	b.Helper()
	errors := 0
	for kind, name := range faultKinds {
		for phase, when := range faultPhases {
			took, failed := l.took[kind][phase], l.failed[kind][phase]
			if len(took) == 0 {
				b.Fatalf("no %s %s", name, when)
			}
			slices.Sort(took)
			p50 := took[len(took)/2].Seconds() * 1000
			p99 := took[len(took)*99/100].Seconds() * 1000
			fmt.Fprintf(columns, "%s\t%s\t%s\t%d\t%d\t%.2f\t%.2f\t\n", fault, name, when, len(took), len(failed), p50, p99)
			unit := strings.ReplaceAll(name, " ", "-") + "-" + when
			b.ReportMetric(p50, unit+"-p50-ms")
			b.ReportMetric(p99, unit+"-p99-ms")
			errors += len(failed)
			if len(failed) > 0 {
				b.Errorf("%s, %s %s: %d failed, the first: %s", fault, name, when, len(failed), failed[0])
			}
		}
	}
	b.ReportMetric(float64(errors), "errors")
}
