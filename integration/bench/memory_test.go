//go:build bench

package bench

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

const (
	memoryBudget    = 128 << 20
	memoryResponses = 40_000  // that fit into the budget
	memoryOverflow  = 160_000 // that do not
)

// BenchmarkMemory shows what stored responses of 1 KiB with the usual fields
// cost the process: live heap and resident memory of each, after hits on all of
// them; what the process has grown by, compared with `memory`, when many more
// were stored than fit; and, for reference, what it grows by under the same load
// without the cache.
func BenchmarkMemory(b *testing.B) {
	answer := fmt.Sprintf(`
		header {
			Content-Type "application/json; charset=utf-8"
			Etag "\"5f3b-{http.request.uri.path.1}\""
			Last-Modified "Tue, 04 Mar 2025 09:15:00 GMT"
			Cache-Control "public, max-age=3600, stale-while-revalidate=60"
			X-Content-Type-Options nosniff
			Strict-Transport-Security "max-age=31536000"
		}
		respond "%s"`, strings.Repeat("x", 1<<10))
	for b.Loop() {
		c := startLoadedCaddy(b, fmt.Sprintf("redis off\nmemory %d", memoryBudget),
			"handle /plain/* {"+answer+"\n}\nhandle /cached/* {\nredis_cache"+answer+"\n}")
		c.load(b, "/plain", 0, memoryResponses)
		before, beforeHeap := c.resident(b), c.liveHeap(b)
		for range 3 {
			c.load(b, "/plain", 0, memoryResponses)
		}
		uncached := c.resident(b) - before

		before = c.resident(b)
		c.load(b, "/cached", 0, memoryResponses)
		for range 2 {
			c.load(b, "/cached", 0, memoryResponses)
		}
		grown := c.resident(b) - before
		live := c.liveHeap(b) - beforeHeap
		c.load(b, "/cached", memoryResponses, memoryResponses+memoryOverflow)
		full := c.resident(b) - before

		b.ReportMetric(float64(live)/memoryResponses, "live-B/response")
		b.ReportMetric(float64(grown)/memoryResponses, "resident-B/response")
		b.ReportMetric(float64(uncached)/memoryResponses, "uncached-B/response")
		b.ReportMetric(float64(full)/memoryBudget, "×memory")
	}
}

// loadedCaddy is a process that benchmarks load and look into.
type loadedCaddy struct {
	addr, admin string
	pid         int
}

func startLoadedCaddy(b *testing.B, global, site string) *loadedCaddy {
	b.Helper()
	return runLoadedCaddy(b, buildCaddy(b), global, site)
}

// runLoadedCaddy is startLoadedCaddy with a binary that is there already.
func runLoadedCaddy(b *testing.B, bin, global, site string) *loadedCaddy {
	b.Helper()
	c := &loadedCaddy{
		addr:  fmt.Sprintf("127.0.0.1:%d", harness.FreePort(b)),
		admin: fmt.Sprintf("127.0.0.1:%d", harness.FreePort(b)),
	}
	_, port, _ := strings.Cut(c.addr, ":")
	config := fmt.Sprintf("{\n\tadmin %s\n\tpersist_config off\n\tredis_cache {\n%s\n\t}\n}\nhttp://:%s {\n\tbind 127.0.0.1\n%s\n}\n",
		c.admin, global, port, site)
	file := filepath.Join(b.TempDir(), "Caddyfile")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(bin, "run", "--config", file, "--adapter", "caddyfile")
	cmd.Env = append(cmd.Environ(), "HOME="+b.TempDir())
	c.pid = benchProcess(b, cmd)
	benchAwait(b, "Caddy listens", func() bool {
		conn, err := net.Dial("tcp", c.addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return c
}

// load asks for the paths with the numbers from first to end.
func (c *loadedCaddy) load(b *testing.B, path string, first, end int) {
	b.Helper()
	const connections = 16
	var clients sync.WaitGroup
	for i := range connections {
		clients.Go(func() {
			conn, err := net.Dial("tcp", c.addr)
			if err != nil {
				b.Error(err)
				return
			}
			defer conn.Close()
			in := bufio.NewReaderSize(conn, 16<<10)
			for n := first + i; n < end; n += connections {
				if _, err := fmt.Fprintf(conn, "GET %s/%d HTTP/1.1\r\nHost: %s\r\n\r\n", path, n, c.addr); err != nil {
					b.Error(err)
					return
				}
				if err := skipResponse(in); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	clients.Wait()
}

// resident is the resident memory of the process in bytes.
func (c *loadedCaddy) resident(b *testing.B) int {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.pid))
	if err != nil {
		b.Fatal(err)
	}
	return firstNumber(b, `VmRSS:\s*(\d+) kB`, status) << 10
}

// liveHeap is what a collection leaves.
func (c *loadedCaddy) liveHeap(b *testing.B) int {
	b.Helper()
	resp, err := http.Get("http://" + c.admin + "/debug/pprof/heap?debug=1&gc=1")
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	profile, err := io.ReadAll(resp.Body)
	if err != nil {
		b.Fatal(err)
	}
	return firstNumber(b, `(?m)^# HeapAlloc = (\d+)$`, profile)
}

func firstNumber(b *testing.B, pattern string, text []byte) int {
	b.Helper()
	match := regexp.MustCompile(pattern).FindSubmatch(text)
	if match == nil {
		b.Fatalf("no %s in what was read", pattern)
	}
	n, err := strconv.Atoi(string(match[1]))
	if err != nil {
		b.Fatal(err)
	}
	return n
}
