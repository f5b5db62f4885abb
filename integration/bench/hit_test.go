//go:build bench

package bench

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

const (
	benchConnections = 64
	benchRequests    = 400 // of each connection in a round
	benchRounds      = 5
)

// BenchmarkHit compares memory hits with Caddy's own `respond` in one process
// without the race detector: one that sends the same body and the same fields,
// the cache's own among them, and a plain one that sends only those of the origin.
// Rounds alternate; the ratios of the medians are what counts.
func BenchmarkHit(b *testing.B) {
	bin := buildCaddy(b)
	for _, size := range []int{1 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			body := strings.Repeat("x", size)
			addr := startBenchCaddy(b, bin, body)
			for _, path := range []string{"/respond", "/plain", "/cached", "/cached"} {
				throughput(b, addr, path, 1)
			}
			for b.Loop() {
				var respond, plain, cached []float64
				for range benchRounds {
					respond = append(respond, throughput(b, addr, "/respond", benchRequests))
					cached = append(cached, throughput(b, addr, "/cached", benchRequests))
					plain = append(plain, throughput(b, addr, "/plain", benchRequests))
				}
				b.ReportMetric(median(respond), "respond/s")
				b.ReportMetric(median(cached), "hits/s")
				b.ReportMetric(median(cached)/median(respond), "×respond")
				b.ReportMetric(median(cached)/median(plain), "×plain")
			}
		})
	}
}

// BenchmarkObserved compares memory hits of a build that nobody watches with those
// of the product, which counts each for statistics and metrics and asks whether
// logs, tail and tracing want it. Rounds of the two alternate; the median of the
// ratios of neighbours is what counts.
func BenchmarkObserved(b *testing.B) {
	source, err := filepath.Abs(harness.Repository + "/observe.go")
	if err != nil {
		b.Fatal(err)
	}
	text, err := os.ReadFile(source)
	if err != nil {
		b.Fatal(err)
	}
	blind := string(text)
	for _, function := range []string{"observe", "noteHeader"} {
		start := "func (x *exchange) " + function + "() {\n"
		if !strings.Contains(blind, start) {
			b.Fatalf("observe.go has no %s: nothing to leave out", function)
		}
		blind = strings.Replace(blind, start, start+"\treturn\n", 1)
	}
	dir := b.TempDir()
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {source: filepath.Join(dir, "blind.go")}})
	if err != nil {
		b.Fatal(err)
	}
	for name, content := range map[string]string{"blind.go": blind, "overlay.json": string(overlay)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	body := strings.Repeat("x", 1<<10)
	off := startBenchCaddy(b, buildCaddy(b, "-overlay", filepath.Join(dir, "overlay.json")), body)
	on := startBenchCaddy(b, buildCaddy(b), body)
	for _, addr := range []string{off, on} {
		throughput(b, addr, "/cached", benchRequests)
	}
	for b.Loop() {
		var ratios []float64
		for round := range 4 * benchRounds {
			var without, with float64
			if round%2 == 0 {
				without = throughput(b, off, "/cached", benchRequests)
				with = throughput(b, on, "/cached", benchRequests)
			} else {
				with = throughput(b, on, "/cached", benchRequests)
				without = throughput(b, off, "/cached", benchRequests)
			}
			ratios = append(ratios, with/without)
		}
		b.ReportMetric(median(ratios), "×unobserved")
	}
}

// buildCaddy builds the binary without the race detector.
func buildCaddy(b *testing.B, flags ...string) string {
	b.Helper()
	bin := filepath.Join(b.TempDir(), "caddy")
	if err := harness.Build(bin, flags...); err != nil {
		b.Fatal(err)
	}
	return bin
}

func startBenchCaddy(b *testing.B, bin, body string) string {
	b.Helper()
	addr, admin := fmt.Sprintf("127.0.0.1:%d", harness.FreePort(b)), fmt.Sprintf("127.0.0.1:%d", harness.FreePort(b))
	config := fmt.Sprintf(`{
	admin %[1]s
	persist_config off
	redis_cache {
		redis off
	}
}
http://%[2]s {
	handle /plain {
		header {
			Cache-Control "max-age=3600"
			Content-Type "text/plain; charset=utf-8"
			Etag "\"v1\""
		}
		respond "%[3]s"
	}
	handle /respond {
		header {
			Age 12
			Cache-Control "max-age=3600"
			Cache-Status "redis_cache; hit; ttl=3588; detail=memory"
			Content-Type "text/plain; charset=utf-8"
			Date "Thu, 01 Jan 2026 00:00:00 GMT"
			Etag "\"v1\""
			X-Cache HIT
			X-Cache-Date "Thu, 01 Jan 2026 00:00:00 GMT"
			X-Cache-Key "cache:general:127.0.0.1%%3A18080/cached:03bd417cc94c71ea25a02239392d10b6"
			X-Cache-Ttl-Remaining 3588
		}
		respond "%[3]s"
	}
	handle /cached {
		redis_cache {
			ttl 1h
		}
		header {
			Cache-Control "max-age=3600"
			Content-Type "text/plain; charset=utf-8"
			Etag "\"v1\""
		}
		respond "%[3]s"
	}
}
`, admin, addr, body)
	file := filepath.Join(b.TempDir(), "Caddyfile")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(bin, "run", "--config", file, "--adapter", "caddyfile")
	cmd.Env = append(cmd.Environ(), "HOME="+b.TempDir())
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if !harness.Within(harness.Patience, func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}) {
		b.Fatal("Caddy does not listen")
	}
	return addr
}

// throughput sends requests over some connections and returns how many were answered
// a second.
func throughput(b *testing.B, addr, path string, requests int) float64 {
	b.Helper()
	return throughputOf(b, addr, func() string { return path }, requests)
}

// throughputOf is throughput with a path for each request.
func throughputOf(b *testing.B, addr string, path func() string, requests int) float64 {
	b.Helper()
	begun := time.Now()
	var clients sync.WaitGroup
	for range benchConnections {
		clients.Go(func() {
			if err := ask(addr, path, requests); err != nil {
				b.Error(err)
			}
		})
	}
	clients.Wait()
	return float64(benchConnections*requests) / time.Since(begun).Seconds()
}

// ask sends one request after the other over one connection. It reads
// answers without parsing more of them than their length, so that the client
// costs little beside the server.
func ask(addr string, path func() string, requests int) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	in := bufio.NewReaderSize(conn, 64<<10)
	for range requests {
		request := "GET " + path() + " HTTP/1.1\r\nHost: " + addr + "\r\n\r\n"
		if _, err := io.WriteString(conn, request); err != nil {
			return err
		}
		if err := skipResponse(in); err != nil {
			return err
		}
	}
	return nil
}

func skipResponse(in *bufio.Reader) error {
	length := -1
	for first := true; ; first = false {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if first && string(line) != "HTTP/1.1 200 OK\r\n" {
			return fmt.Errorf("got %q", line)
		}
		if len(line) == 2 {
			break
		}
		if value, ok := strings.CutPrefix(string(line), "Content-Length: "); ok {
			if _, err := fmt.Sscan(value, &length); err != nil {
				return err
			}
		}
	}
	if length < 0 {
		return skipChunks(in)
	}
	_, err := in.Discard(length)
	return err
}

func skipChunks(in *bufio.Reader) error {
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		size, err := strconv.ParseUint(strings.TrimSpace(string(line)), 16, 31)
		if err != nil {
			return err
		}
		if _, err := in.Discard(int(size) + 2); err != nil || size == 0 {
			return err
		}
	}
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
