package journal

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// BenchmarkStorm appends purges of distinct keys as fast as it can, and reports
// how far three nodes are behind, and what an entry takes in Redis.
func BenchmarkStorm(b *testing.B) {
	s := newServer(b)
	var nodes []*testNode
	for i := range 3 {
		nodes = append(nodes, startNode(b, s.Client(), named(fmt.Sprint(i))))
	}
	client := s.Client()
	var worst time.Duration
	var last ID
	n := 0
	for b.Loop() {
		cmds, err := client.Pipelined(b.Context(), func(pipe redis.Pipeliner) error {
			for range 100 {
				n++
				pipe.XAdd(b.Context(), nodes[0].xadd(fields{"op", "purge", "key", fmt.Sprintf("pickup:item:%d", n)}))
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		last, _ = ParseID(cmds[99].(*redis.StringCmd).Val())
		for _, node := range nodes {
			behind := time.Duration(last.Ms-min(last.Ms, node.Position().ID.Ms)) * time.Millisecond
			worst = max(worst, behind)
		}
	}
	eventually(b, "all is applied", func() bool {
		for _, node := range nodes {
			if node.Position().ID.Before(last) {
				return false
			}
		}
		return true
	})
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "entries/s")
	b.ReportMetric(float64(worst.Milliseconds()), "worst-lag-ms")
	b.ReportMetric(float64(s.do("memory", "usage", nodes[0].keys.stream).(int64))/float64(n), "B/entry")
}

// BenchmarkPurge measures purges that three nodes confirm.
func BenchmarkPurge(b *testing.B) {
	s := newServer(b)
	var nodes []*testNode
	for i := range 3 {
		nodes = append(nodes, startNode(b, s.Client(), named(fmt.Sprint(i))))
	}
	nodes[0].settled(b)
	var n atomic.Int64
	purge := func() {
		r, err := nodes[0].Append(b.Context(), Purge{Selectors: []Selector{{KindTag, fmt.Sprint(n.Add(1))}}}, time.Second)
		if err != nil || !r.Complete() {
			b.Errorf("%+v, %v", r, err)
		}
	}
	b.Run("one_by_one", func(b *testing.B) {
		for b.Loop() {
			purge()
		}
	})
	b.Run("64_at_once", func(b *testing.B) {
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				purge()
			}
		})
	})
}
