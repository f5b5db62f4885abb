//go:build bench

package bench

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
	"github.com/gplus-recycling/caddy-redis-cache/internal/redistest"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// benchFleet is three nodes without the race detector on one Redis.
type benchFleet struct {
	redis *redis.Client
	nodes []*benchNode
}

type benchNode struct {
	site, admin string
	pid         int
	client      *http.Client
}

func startBenchFleet(b *testing.B) *benchFleet {
	b.Helper()
	bin := filepath.Join(b.TempDir(), "caddy")
	if err := harness.Build(bin); err != nil {
		b.Fatal(err)
	}
	port := fmt.Sprint(harness.FreePort(b))
	benchProcess(b, exec.Command(redistest.Program, "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", b.TempDir()))
	f := &benchFleet{redis: redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + port, ReadTimeout: time.Minute})}
	b.Cleanup(func() { f.redis.Close() })
	benchAwait(b, "Redis answers", func() bool { return f.redis.Ping(b.Context()).Err() == nil })
	for range 3 {
		f.nodes = append(f.nodes, startBenchNode(b, bin, port))
	}
	for _, n := range f.nodes {
		// The first purge waits until the node has seen whom there is to wait for.
		benchAwait(b, "all nodes confirm", func() bool {
			status, body := n.post(b, `{"key":"none:at-all","wait":"10s"}`)
			return status == http.StatusOK && strings.Contains(body, `"lapsed":[]`) && strings.Count(body, `","`) >= 2
		})
	}
	return f
}

func startBenchNode(b *testing.B, bin, redisPort string) *benchNode {
	b.Helper()
	n := &benchNode{
		site: fmt.Sprintf("127.0.0.1:%d", harness.FreePort(b)), admin: fmt.Sprintf("127.0.0.1:%d", harness.FreePort(b)),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: time.Minute},
	}
	b.Cleanup(n.client.CloseIdleConnections)
	config := fmt.Sprintf(`{
	admin %s
	persist_config off
	log {
		level WARN
	}
	redis_cache {
		redis redis://127.0.0.1:%s/0
		namespace pickup {
			ttl 1h
		}
	}
}
http://%s {
	redis_cache pickup
	respond "%s"
}
`, n.admin, redisPort, n.site, strings.Repeat("x", 100))
	file := filepath.Join(b.TempDir(), "Caddyfile")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(bin, "run", "--config", file, "--adapter", "caddyfile")
	cmd.Env = append(cmd.Environ(), "HOME="+b.TempDir())
	n.pid = benchProcess(b, cmd)
	benchAwait(b, "Caddy answers", func() bool {
		resp, err := n.client.Get("http://" + n.site + "/")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
	return n
}

// benchProcess starts a process that ends with the benchmark.
func benchProcess(b *testing.B, cmd *exec.Cmd) (pid int) {
	b.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

func benchAwait(b *testing.B, what string, ok func() bool) {
	b.Helper()
	if !harness.Within(harness.Patience, ok) {
		b.Fatalf("waited %s in vain: %s", harness.Patience, what)
	}
}

// post purges and returns the answer.
func (n *benchNode) post(b *testing.B, body string) (int, string) {
	resp, err := n.client.Post("http://"+n.admin+"/redis_cache/purge", "application/json", strings.NewReader(body))
	if err != nil {
		b.Error(err)
		return 0, ""
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text)
}

var commandCalls = regexp.MustCompile(`cmdstat_(\S+?):calls=(\d+)`)

// commands returns how often Redis has run each command, subcommands apart.
func (f *benchFleet) commands(b *testing.B) map[string]int {
	b.Helper()
	calls := make(map[string]int)
	for _, m := range commandCalls.FindAllStringSubmatch(f.redis.Info(b.Context(), "commandstats").Val(), -1) {
		calls[m[1]], _ = strconv.Atoi(m[2])
	}
	delete(calls, "info")
	return calls
}

// benchPercentile returns milliseconds.
func benchPercentile(took []time.Duration, p float64) float64 {
	slices.Sort(took)
	return float64(took[min(len(took)-1, int(p*float64(len(took))))]) / 1e6
}

const benchPurges = 300

// BenchmarkPurge purges a namespace on three nodes, in which at first 1,000 and then
// 1,000,000 responses are stored. Both the time and the commands have to stay the same.
func BenchmarkPurge(b *testing.B) {
	f := startBenchFleet(b)
	var medians, commands []float64
	stored := 0
	for _, want := range []int{1_000, 1_000_000} {
		f.fill(b, stored, want)
		stored = want
		b.Run(fmt.Sprintf("responses=%d", want), func(b *testing.B) {
			for b.Loop() {
				before, begun := f.commands(b), time.Now()
				var took []time.Duration
				for i := range benchPurges {
					sent := time.Now()
					if status, body := f.nodes[i%3].post(b, `{"namespace":"pickup"}`); status != http.StatusOK {
						b.Errorf("%d %s", status, body)
					}
					took = append(took, time.Since(sent))
				}
				elapsed, after := time.Since(begun), f.commands(b)
				total := 0
				for name, calls := range after {
					total += calls - before[name]
					if calls > before[name] {
						b.ReportMetric(float64(calls-before[name])/benchPurges, name+"/purge")
					}
					if strings.Contains(name, "scan") || name == "keys" || name == "unlink" || name == "del" {
						if calls != before[name] {
							b.Errorf("%d times %s", calls-before[name], name)
						}
					}
				}
				medians = append(medians, benchPercentile(took, 0.5))
				commands = append(commands, float64(total)/benchPurges)
				b.ReportMetric(benchPercentile(took, 0.5), "median-ms")
				b.ReportMetric(benchPercentile(took, 0.99), "p99-ms")
				b.ReportMetric(float64(total)/benchPurges, "commands/purge")
				b.ReportMetric(elapsed.Seconds(), "s")
				b.ReportMetric(0, "ns/op")
			}
			last := len(medians) - 1
			b.ReportMetric(medians[last]/medians[0], "×median")
			b.ReportMetric(commands[last]/commands[0], "×commands")
		})
	}
}

// fill stores copies of a real response straight in Redis, under names of their own.
func (f *benchFleet) fill(b *testing.B, from, to int) {
	b.Helper()
	resp, err := f.nodes[0].client.Get("http://" + f.nodes[0].site + fmt.Sprint("/template/", to))
	if err != nil {
		b.Fatal(err)
	}
	resp.Body.Close()
	key := resp.Header.Get("X-Cache-Key")
	var template []byte
	benchAwait(b, "a response is in Redis", func() bool {
		template, err = f.redis.Get(b.Context(), key).Bytes()
		return err == nil
	})
	rec, err := store.Decode(template)
	if err != nil {
		b.Fatal(err)
	}
	for next := from; next < to; {
		pipe := f.redis.Pipeline()
		for end := min(next+5000, to); next < end; next++ {
			r := *rec
			r.Identifier = fmt.Sprintf("filled/%d", next)
			r.Key.Full = fmt.Sprintf("cache:pickup:%s:%032x", r.Identifier, next)
			r.Key.Name, r.BaseKey = r.Key.Full, r.Key.Full
			pipe.Set(b.Context(), r.Key.Name, store.Encode(nil, &r), time.Hour)
		}
		if _, err := pipe.Exec(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPurgeBystanders purges another namespace while clients get hits at half the rate that
// these nodes can do beside these clients.
func BenchmarkPurgeBystanders(b *testing.B) {
	f := startBenchFleet(b)
	const d = 3 * time.Second
	most, _ := f.bystand(b, d, 0)
	for b.Loop() {
		_, quiet := f.bystand(b, d, most/2)
		var took []time.Duration
		var purging sync.WaitGroup
		end := time.Now().Add(d)
		purging.Go(func() {
			for i := 0; time.Now().Before(end); i++ {
				sent := time.Now()
				if status, body := f.nodes[i%3].post(b, `{"namespace":"other"}`); status != http.StatusOK {
					b.Errorf("%d %s", status, body)
				}
				took = append(took, time.Since(sent))
				benchPause(b.Context(), 10*time.Millisecond)
			}
		})
		rate, busy := f.bystand(b, d, most/2)
		purging.Wait()
		b.ReportMetric(most, "hits/s-most")
		b.ReportMetric(rate, "hits/s")
		b.ReportMetric(quiet, "hit-p99-quiet-ms")
		b.ReportMetric(busy, "hit-p99-ms")
		b.ReportMetric(benchPercentile(took, 0.5), "median-ms")
		b.ReportMetric(benchPercentile(took, 0.99), "p99-ms")
		b.ReportMetric(float64(len(took))/d.Seconds(), "purges/s")
		b.ReportMetric(0, "ns/op")
	}
}

// bystand gets hits over 64 connections at a rate, 0 being as many as possible. It returns
// the rate that came of it, and the 99th percentile in milliseconds.
func (f *benchFleet) bystand(b *testing.B, d time.Duration, rate float64) (float64, float64) {
	b.Helper()
	took := make([][]time.Duration, benchConnections)
	begun := time.Now()
	var clients sync.WaitGroup
	for c := range benchConnections {
		clients.Go(func() {
			for i := 0; ; i++ {
				if rate > 0 {
					share := float64(i) + float64(c)/benchConnections // not all at once
					benchPause(b.Context(), time.Until(begun.Add(time.Duration(share*benchConnections/rate*1e9))))
				}
				sent := time.Now()
				if sent.Sub(begun) >= d {
					return
				}
				if err := f.nodes[c%3].hit(); err != nil {
					b.Error(err)
					return
				}
				took[c] = append(took[c], time.Since(sent))
			}
		})
	}
	clients.Wait()
	all := slices.Concat(took...)
	return float64(len(all)) / d.Seconds(), benchPercentile(all, 0.99)
}

// hit gets what every node has in memory.
func (n *benchNode) hit() error {
	resp, err := n.client.Get("http://" + n.site + "/hit")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
