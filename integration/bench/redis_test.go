//go:build bench

package bench

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
	"github.com/gplus-recycling/caddy-redis-cache/internal/redistest"
)

const (
	sizedResponses   = 100 // too few for a dictionary
	trainedResponses = 400 // enough for one
)

// BenchmarkRedisBytes shows what JSON responses of 1 KiB take in Redis: raw,
// compressed, and compressed with a dictionary, as the length of the values and
// as Redis counts memory, key and overhead included. Raw is the same responses
// with `encode off`.
func BenchmarkRedisBytes(b *testing.B) {
	upstream := httptest.NewServer(http.HandlerFunc(answerJSON))
	defer upstream.Close()
	for b.Loop() {
		port := fmt.Sprint(harness.FreePort(b))
		benchProcess(b, exec.Command(redistest.Program, "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", b.TempDir()))
		client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + port})
		defer client.Close()
		benchAwait(b, "Redis answers", func() bool { return client.Ping(b.Context()).Err() == nil })
		c := startLoadedCaddy(b, `
			redis redis://127.0.0.1:`+port+` {
				read_timeout 5s
			}
			namespace raw {
				encode off
			}
			namespace zstd {
				encode zstd 1B
			}
			namespace dictionary`, `
			redis_cache /raw/* raw
			redis_cache /zstd/* zstd
			redis_cache /dictionary/* dictionary
			reverse_proxy `+upstream.Listener.Addr().String())

		c.load(b, "/dictionary", sizedResponses, sizedResponses+trainedResponses)
		benchAwait(b, "there is a dictionary", func() bool {
			n, err := client.Exists(b.Context(), "cache::dict-of:dictionary").Result()
			return err == nil && n == 1
		})
		var values, memory [3]float64
		for i, namespace := range []string{"raw", "zstd", "dictionary"} {
			c.load(b, "/"+namespace, 0, sizedResponses)
			values[i], memory[i] = redisBytes(b, client, namespace)
		}
		b.ReportMetric(values[0], "raw-B")
		b.ReportMetric(values[1]/values[0], "×raw-zstd")
		b.ReportMetric(values[2]/values[0], "×raw-dictionary")
		b.ReportMetric(memory[0], "raw-memory-B")
		b.ReportMetric(memory[1]/memory[0], "×raw-memory-zstd")
		b.ReportMetric(memory[2]/memory[0], "×raw-memory-dictionary")
	}
}

// answerJSON answers with a document of 1 KiB that the path decides.
func answerJSON(w http.ResponseWriter, r *http.Request) {
	_, number, _ := strings.Cut(r.URL.Path[1:], "/")
	n, _ := strconv.Atoi(number)
	random := rand.New(rand.NewPCG(uint64(n), 1))
	var body strings.Builder
	fmt.Fprintf(&body, `{"page":%d,"results":[`, n)
	for body.Len() < 900 {
		fmt.Fprintf(&body, `{"id":%d,"name":"Company %d","city":%q,"active":%t,"created_at":"2025-%02d-%02dT%02d:%02d:00Z","points":%d},`,
			random.IntN(1e6), random.IntN(1e4), []string{"Berlin", "Hamburg", "Wien", "Warszawa"}[random.IntN(4)],
			random.IntN(2) == 0, 1+random.IntN(12), 1+random.IntN(28), random.IntN(24), random.IntN(60), random.IntN(5000))
	}
	fmt.Fprintf(&body, `{"id":%d}]}`, n)
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "public, max-age=3600, stale-while-revalidate=60")
	w.Header().Set("Etag", fmt.Sprintf(`"%016x"`, random.Uint64()))
	w.Header().Set("Last-Modified", "Tue, 04 Mar 2025 09:15:00 GMT")
	w.Header().Set("X-Request-Id", fmt.Sprintf("%016x", random.Uint64()))
	_, _ = w.Write([]byte(body.String()))
}

// redisBytes is the mean size of the first responses of a namespace, once all
// of them are there: of the values, and what Redis says it needs.
func redisBytes(b *testing.B, client *redis.Client, namespace string) (value, memory float64) {
	b.Helper()
	var keys []string
	benchAwait(b, "the responses are in Redis", func() bool {
		keys = keys[:0]
		for n := range sizedResponses {
			found, _, err := client.Scan(b.Context(), 0, fmt.Sprintf("cache:%s:*/%s/%d:*", namespace, namespace, n), 1e6).Result()
			if err != nil || len(found) != 1 {
				return false
			}
			keys = append(keys, found[0])
		}
		return true
	})
	for _, key := range keys {
		length, err := client.StrLen(b.Context(), key).Result()
		if err != nil {
			b.Fatal(err)
		}
		usage, err := client.MemoryUsage(b.Context(), key).Result()
		if err != nil {
			b.Fatal(err)
		}
		value += float64(length) / sizedResponses
		memory += float64(usage) / sizedResponses
	}
	return value, memory
}
