//go:build bench

package bench

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
	"github.com/gplus-recycling/caddy-redis-cache/internal/redistest"
)

// startBenchRedis starts a server and returns its address.
func startBenchRedis(b *testing.B) string {
	b.Helper()
	port := fmt.Sprint(harness.FreePort(b))
	benchProcess(b, exec.Command(redistest.Program, "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", b.TempDir()))
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + port})
	defer client.Close()
	benchAwait(b, "Redis answers", func() bool { return client.Ping(b.Context()).Err() == nil })
	return "127.0.0.1:" + port
}

// BenchmarkRedisHit compares hits in Redis, without a memory tier, with a bare
// handler that sends one GET for each request. Rounds of the two alternate.
func BenchmarkRedisHit(b *testing.B) {
	redisAddr := startBenchRedis(b)
	body := strings.Repeat("x", 1<<10)
	client := redis.NewClient(&redis.Options{Addr: redisAddr})
	defer client.Close()
	if err := client.Set(context.Background(), "bare", body, 0).Err(); err != nil {
		b.Fatal(err)
	}
	bin := filepath.Join(b.TempDir(), "bareget")
	if out, err := exec.Command("go", "build", "-o", bin, "./bareget").CombinedOutput(); err != nil {
		b.Fatalf("building bareget: %v\n%s", err, out)
	}
	bare := fmt.Sprintf("127.0.0.1:%d", harness.FreePort(b))
	benchProcess(b, exec.Command(bin, bare, redisAddr))
	c := startLoadedCaddy(b, "redis redis://"+redisAddr+" {\n read_timeout 5s\n}\nmemory off",
		"redis_cache {\n ttl 1h\n encode off\n}\nrespond \""+body+"\"")
	benchAwait(b, "both answer", func() bool {
		conn, err := net.Dial("tcp", bare)
		if err == nil {
			conn.Close()
		}
		return err == nil && throughput(b, c.addr, "/x", 1) > 0
	})
	benchAwait(b, "it is in redis", func() bool {
		resp, err := http.Get("http://" + c.addr + "/x")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return strings.Contains(resp.Header.Get("Cache-Status"), "detail=redis")
	})
	for b.Loop() {
		var plain, hits []float64
		for range benchRounds {
			plain = append(plain, throughput(b, bare, "/x", benchRequests))
			hits = append(hits, throughput(b, c.addr, "/x", benchRequests))
		}
		b.ReportMetric(median(plain), "bare/s")
		b.ReportMetric(median(hits), "hits/s")
		b.ReportMetric(median(hits)/median(plain), "×bare")
	}
}

// BenchmarkMiss compares misses of unique URLs, both tiers on, with reverse_proxy
// alone. Rounds of the two alternate.
func BenchmarkMiss(b *testing.B) {
	redisAddr := startBenchRedis(b)
	body := strings.Repeat("x", 1<<10)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		_, _ = w.Write([]byte(body))
	}))
	defer upstream.Close()
	proxy := "reverse_proxy " + upstream.Listener.Addr().String()
	c := startLoadedCaddy(b, "redis redis://"+redisAddr+" {\n read_timeout 5s\n}",
		"handle /plain/* {\n"+proxy+"\n}\nhandle {\nredis_cache\n"+proxy+"\n}")
	benchAwait(b, "it answers", func() bool { return throughput(b, c.addr, "/plain/", 1) > 0 })
	var unique atomic.Int64
	for b.Loop() {
		var plain, misses []float64
		for range benchRounds {
			plain = append(plain, throughputOf(b, c.addr, func() string { return fmt.Sprintf("/plain/%d", unique.Add(1)) }, benchRequests/2))
			misses = append(misses, throughputOf(b, c.addr, func() string { return fmt.Sprintf("/cached/%d", unique.Add(1)) }, benchRequests/2))
		}
		b.ReportMetric(median(plain), "proxied/s")
		b.ReportMetric(median(misses), "misses/s")
		b.ReportMetric(median(misses)/median(plain), "×proxied")
	}
}
