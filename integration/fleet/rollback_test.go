package fleet

import (
	"net/http"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// startRollback starts two nodes over links on a Redis that takes snapshots when told to.
func startRollback(t *testing.T) (*harness.Fleet, []*harness.Link) {
	t.Helper()
	f := harness.NewFleet(t, harness.StartRedis(t, "--dir", t.TempDir()))
	links := make([]*harness.Link, 2)
	for i := range links {
		_, links[i] = joinOver(t, f, "")
	}
	return f, links
}

// rollBack restarts Redis from its last snapshot.
func rollBack(t *testing.T, f *harness.Fleet) {
	t.Helper()
	f.Redis.Kill()
	f.Redis.Start(t)
	if !f.Redis.Has(t, harness.JournalKey) {
		t.Fatal("Redis came back empty")
	}
}

// TestRollback restarts Redis from a snapshot in which the last purge is missing, but not what
// it covers. The nodes have applied it and notice.
func TestRollback(t *testing.T) {
	t.Parallel()
	f, _ := startRollback(t)
	paths := harness.PickupSeries("rollback", 5)
	f.Fill(t, paths...)
	f.Redis.Do(t, "SAVE")
	f.Purge(t, f.Nodes[0], `{"namespace":"pickup"}`)
	rollBack(t, f)
	f.Check(t, paths[0], f.Nodes...)
	harness.Eventually(t, "a purge is answered 200", func() bool {
		r := f.Nodes[1].API(t, http.MethodPost, "/redis_cache/purge", `{"key":"none:at-all","wait":"10s"}`)
		return r.Status == http.StatusOK
	})
	f.Check(t, paths[1], f.Nodes...)
	f.Join(t, f.Layout())
	f.Check(t, paths[2], f.Nodes...)
	f.Nodes[0].Restart(t)
	f.Check(t, paths[3], f.Nodes...)
}

// TestJoinAfterRollback has a node start after Redis has lost a purge, while those that have
// applied it find out that their connections are back: they are live, but have not told yet.
// What it finds in the store, it must not trust yet.
func TestJoinAfterRollback(t *testing.T) {
	t.Parallel()
	f, links := startRollback(t)
	paths := harness.PickupSeries("rollback", 3)
	f.Fill(t, paths...)
	f.Redis.Do(t, "SAVE")
	f.Purge(t, f.Nodes[0], `{"namespace":"pickup"}`)
	for _, l := range links {
		l.Set(harness.LinkHangs)
	}
	rollBack(t, f)
	for _, l := range links {
		l.Set(harness.LinkPasses)
	}
	guest := startUnattached(t, f.Layout())
	f.Nodes = append(f.Nodes, guest)
	f.Check(t, paths[0], f.Nodes...)
	harness.Eventually(t, "all nodes confirm", func() bool {
		r := guest.API(t, http.MethodPost, "/redis_cache/purge", `{"key":"none:at-all","wait":"10s"}`)
		return r.Status == http.StatusOK
	})
	f.Check(t, paths[1], f.Nodes...)
}

// startUnattached starts a node and does not wait until it uses Redis.
func startUnattached(t *testing.T, l harness.Layout) *harness.Node {
	t.Helper()
	unwatched := *l.Redis
	unwatched.Proc = nil
	l.Redis = &unwatched
	return harness.StartCaddy(t, l)
}
