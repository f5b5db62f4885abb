package integration

import (
	"net/http"
	"testing"
)

// startRollback starts two nodes over links on a Redis that takes snapshots when told to.
func startRollback(t *testing.T) (*fleet, []*link) {
	t.Helper()
	f := newFleet(t, startRedis(t, "--dir", t.TempDir()))
	links := make([]*link, 2)
	for i := range links {
		_, links[i] = f.joinOver(t, "")
	}
	return f, links
}

// rollBack restarts Redis from its last snapshot.
func (f *fleet) rollBack(t *testing.T) {
	t.Helper()
	f.redis.kill()
	f.redis.start(t)
	if !f.redis.has(t, journalKey) {
		t.Fatal("Redis came back empty")
	}
}

// TestRollback restarts Redis from a snapshot in which the last purge is missing, but not what
// it covers. The nodes have applied it and notice.
func TestRollback(t *testing.T) {
	t.Parallel()
	f, _ := startRollback(t)
	paths := pickupSeries("rollback", 5)
	f.fill(t, paths...)
	f.redis.do(t, "SAVE")
	f.purge(t, f.nodes[0], `{"namespace":"pickup"}`)
	f.rollBack(t)
	f.check(t, paths[0], f.nodes...)
	eventually(t, "a purge is answered 200", func() bool {
		r := f.nodes[1].api(t, http.MethodPost, "/redis_cache/purge", `{"key":"none:at-all","wait":"10s"}`)
		return r.status == http.StatusOK
	})
	f.check(t, paths[1], f.nodes...)
	f.join(t, f.layout())
	f.check(t, paths[2], f.nodes...)
	f.nodes[0].restart(t)
	f.check(t, paths[3], f.nodes...)
}

// TestJoinAfterRollback has a node start after Redis has lost a purge, while those that have
// applied it find out that their connections are back: they are live, but have not told yet.
// What it finds in the store, it must not trust yet.
func TestJoinAfterRollback(t *testing.T) {
	t.Parallel()
	f, links := startRollback(t)
	paths := pickupSeries("rollback", 3)
	f.fill(t, paths...)
	f.redis.do(t, "SAVE")
	f.purge(t, f.nodes[0], `{"namespace":"pickup"}`)
	for _, l := range links {
		l.set(linkHangs)
	}
	f.rollBack(t)
	for _, l := range links {
		l.set(linkPasses)
	}
	guest := startUnattached(t, f.layout())
	f.nodes = append(f.nodes, guest)
	f.check(t, paths[0], f.nodes...)
	eventually(t, "all nodes confirm", func() bool {
		r := guest.api(t, http.MethodPost, "/redis_cache/purge", `{"key":"none:at-all","wait":"10s"}`)
		return r.status == http.StatusOK
	})
	f.check(t, paths[1], f.nodes...)
}

// startUnattached starts a node and does not wait until it uses Redis.
func startUnattached(t *testing.T, l layout) *node {
	t.Helper()
	unwatched := *l.redis
	unwatched.proc = nil
	l.redis = &unwatched
	return startCaddy(t, l)
}
