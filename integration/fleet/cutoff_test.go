package fleet

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// joinOver starts a node that reaches Redis over a link of its own.
func joinOver(t *testing.T, f *harness.Fleet, cache string) (*harness.Node, *harness.Link) {
	t.Helper()
	l := harness.NewLink(t, f.Redis.Addr)
	through := *f.Redis
	through.Addr = l.Addr
	layout := f.Layout()
	layout.Redis, layout.Hasty = &through, true
	layout.Cache = cache + "\n" + layout.Cache
	return f.Join(t, layout), l
}

// TestCutOffFromRedis takes the network away from two nodes. A purge ends without them. The one
// that puts consistency first goes to the origin; the other answers within TTL until it has
// its Redis back.
func TestCutOffFromRedis(t *testing.T) {
	t.Parallel()
	for name, state := range map[string]harness.LinkState{"connections end": harness.LinkCut, "nothing passes": harness.LinkHangs} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := harness.NewFleet(t, harness.StartRedis(t))
			near := f.Join(t, f.Layout())
			available, one := joinOver(t, f, "consistency available")
			strict, two := joinOver(t, f, "consistency strict")
			everybody := nodeIDs(t, f.Nodes...)
			harness.Eventually(t, "all nodes confirm", func() bool { return len(f.Fence(t, near)["confirmed"].([]any)) == 3 })
			paths := harness.PickupSeries("cut", 6)
			f.Fill(t, paths...)

			one.Set(state)
			two.Set(state)
			answer := f.Purge(t, near, `{"namespace":"pickup"}`)
			wantNames(t, answer, "confirmed", everybody[0])
			wantNames(t, answer, "lapsed", everybody[1:]...)
			f.Check(t, paths[0], near, strict)
			if r := available.Want(t, "HIT", paths[1]); harness.VersionOf(r) == f.Final.Load() {
				t.Errorf("the node that is cut off has a new response, %q", r.Body)
			}
			for _, n := range []*harness.Node{available, strict} {
				n.PurgeWaits(t, `{"namespace":"user"}`)
			}
			f.Check(t, paths[2], strict)

			one.Set(harness.LinkPasses)
			two.Set(harness.LinkPasses)
			harness.Eventually(t, "all nodes confirm again", func() bool {
				answer := f.Fence(t, near)
				return len(answer["confirmed"].([]any)) == 3
			})
			for _, p := range paths[3:] {
				f.Check(t, p, f.Nodes...)
			}
		})
	}
}

// TestPurgeWithoutRedis takes Redis away from the whole fleet: purges wait, and whoever requires
// that they are recorded hears soon that they are not. What was final stays so.
func TestPurgeWithoutRedis(t *testing.T) {
	t.Parallel()
	f := harness.NewFleet(t, harness.StartRedis(t))
	for range 2 {
		l := f.Layout()
		l.Hasty = true
		f.Join(t, l)
	}
	paths := harness.PickupSeries("without", 8)
	f.Fill(t, paths...)
	f.Purge(t, f.Nodes[0], `{"namespace":"pickup"}`)
	for i, tt := range []struct {
		name       string
		away, back func()
	}{
		{"hanging", f.Redis.Pause, f.Redis.Resume},
		{"killed", f.Redis.Kill, func() { f.Redis.Start(t) }},
	} {
		tt.away()
		for _, n := range f.Nodes {
			begun := time.Now()
			r := n.API(t, http.MethodPost, "/redis_cache/purge", `{"namespace":"pickup","wait":"1s","require":"recorded"}`)
			if r.Status != http.StatusServiceUnavailable {
				t.Errorf("%s: a purge is answered %d %s", tt.name, r.Status, r.Body)
			}
			n.PurgeWaits(t, `{"namespace":"user","wait":"1s"}`)
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("%s: that took %s", tt.name, took)
			}
			r = n.API(t, http.MethodGet, "/redis_cache/journal", "")
			if r.Status != http.StatusServiceUnavailable {
				t.Errorf("%s: the journal is answered %d %s", tt.name, r.Status, r.Body)
			}
		}
		f.Check(t, paths[4*i], f.Nodes...)
		tt.back()
		f.Check(t, paths[4*i+1], f.Nodes...)
		harness.Eventually(t, "purges are answered 200", func() bool {
			r := f.Nodes[0].API(t, http.MethodPost, "/redis_cache/purge", `{"key":"none:at-all","wait":"10s"}`)
			return r.Status == http.StatusOK
		})
		f.Check(t, paths[4*i+2], f.Nodes...)
		f.Fill(t, fmt.Sprint("/api/v1/pickups/after-", i))
	}
}
