//go:build bench

package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
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

// BenchmarkPurgeStorm appends purges of distinct keys at 10,000 a second, for PURGE_STORM (5s).
func BenchmarkPurgeStorm(b *testing.B) {
	duration, err := time.ParseDuration(os.Getenv("PURGE_STORM"))
	if err != nil {
		duration = 5 * time.Second
	}
	f := startBenchFleet(b)
	before := f.rss(b, "VmRSS")
	_, idleP99 := f.probe(b, time.Second)
	b.ResetTimer()
	for b.Loop() {
		var last atomic.Pointer[string]
		var maxLag atomic.Int64
		ctx, cancel := context.WithCancel(b.Context())
		var watching sync.WaitGroup
		watching.Go(func() {
			for ctx.Err() == nil {
				if id := last.Load(); id != nil {
					maxLag.Store(max(maxLag.Load(), f.lag(b, *id)))
				}
				benchPause(ctx, 50*time.Millisecond)
			}
		})
		var stormP99 float64
		watching.Go(func() { _, stormP99 = f.probe(b, duration) })
		appended, begun := 0, time.Now()
		for time.Since(begun) < duration {
			pipe := f.redis.Pipeline()
			for due := int(10_000 * time.Since(begun).Seconds()); appended < due; appended++ {
				pipe.XAdd(b.Context(), &redis.XAddArgs{
					Stream: harness.JournalKey, Values: []any{"op", "purge", "key", fmt.Sprintf("pickup:storm/%d", appended)},
				})
			}
			if cmds, err := pipe.Exec(b.Context()); err != nil {
				b.Fatal(err)
			} else if len(cmds) > 0 {
				id := cmds[len(cmds)-1].(*redis.StringCmd).Val()
				last.Store(&id)
			}
			benchPause(ctx, 5*time.Millisecond)
		}
		sent, end := time.Since(begun), time.Now()
		benchAwait(b, "all nodes have applied the storm", func() bool { return f.lag(b, *last.Load()) == 0 })
		b.ReportMetric(float64(time.Since(end).Milliseconds()), "drain-ms")
		cancel()
		watching.Wait()
		b.ReportMetric(float64(appended)/sent.Seconds(), "purges/s")
		b.ReportMetric(float64(maxLag.Load()), "lag-max-ms")
		b.ReportMetric(float64(f.rss(b, "VmRSS")-before)/(1<<20), "rss-growth-MiB")
		b.ReportMetric(float64(f.rss(b, "VmHWM"))/(1<<20), "rss-peak-MiB")
		b.ReportMetric(float64(f.redis.MemoryUsage(b.Context(), harness.JournalKey, 0).Val())/(1<<20), "journal-MiB")
		b.ReportMetric(idleP99, "hit-p99-idle-ms")
		b.ReportMetric(stormP99, "hit-p99-ms")
		b.ReportMetric(0, "ns/op")
	}
}

// benchPause waits, unless the context ends.
func benchPause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// lag is by how many milliseconds the slowest node is behind an entry.
func (f *benchFleet) lag(b *testing.B, id string) int64 {
	newest, newestSeq := splitID(id)
	var lag int64
	for _, line := range f.redis.HGetAll(b.Context(), harness.NodesKey).Val() {
		ms, seq := splitID(strings.Fields(line)[2])
		behind := newest - ms
		if behind == 0 && seq < newestSeq {
			behind = 1
		}
		lag = max(lag, behind)
	}
	return lag
}

func splitID(id string) (ms, seq int64) {
	fmt.Sscanf(id, "%d-%d", &ms, &seq)
	return ms, seq
}

// rss is the memory of the largest node in bytes.
func (f *benchFleet) rss(b *testing.B, field string) int64 {
	b.Helper()
	var largest int64
	for _, n := range f.nodes {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.pid))
		if err != nil {
			b.Fatal(err)
		}
		lines := bufio.NewScanner(bytes.NewReader(status))
		for lines.Scan() {
			var kib int64
			if rest, ok := strings.CutPrefix(lines.Text(), field+":"); ok {
				fmt.Sscan(rest, &kib)
				largest = max(largest, kib<<10)
			}
		}
	}
	return largest
}

// probe sends some hits a second to each node and returns their times.
func (f *benchFleet) probe(b *testing.B, d time.Duration) (p50, p99 float64) {
	var took []time.Duration
	for begun, i := time.Now(), 0; time.Since(begun) < d; i++ {
		sent := time.Now()
		if err := f.nodes[i%3].hit(); err != nil {
			b.Error(err)
			return 0, 0
		}
		took = append(took, time.Since(sent))
		benchPause(b.Context(), 2*time.Millisecond)
	}
	return benchPercentile(took, 0.5), benchPercentile(took, 0.99)
}

// BenchmarkPurgeAPI purges distinct keys through the admin API over 64 connections.
func BenchmarkPurgeAPI(b *testing.B) {
	f := startBenchFleet(b)
	const each = 100
	for b.Loop() {
		took := make([][]time.Duration, benchConnections)
		var clients sync.WaitGroup
		begun := time.Now()
		for c := range benchConnections {
			clients.Go(func() {
				for i := range each {
					sent := time.Now()
					status, body := f.nodes[c%3].post(b, fmt.Sprintf(`{"key":"pickup:api/%d-%d","wait":"10s"}`, c, i))
					if status != http.StatusOK {
						b.Errorf("%d %s", status, body)
						return
					}
					took[c] = append(took[c], time.Since(sent))
				}
			})
		}
		clients.Wait()
		all := slices.Concat(took...)
		b.ReportMetric(float64(len(all))/time.Since(begun).Seconds(), "purges/s")
		b.ReportMetric(benchPercentile(all, 0.5), "median-ms")
		b.ReportMetric(benchPercentile(all, 0.99), "p99-ms")
		b.ReportMetric(0, "ns/op")
	}
}
