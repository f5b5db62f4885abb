package harness

import (
	"fmt"
	"net/http"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// Fleet is some nodes on one Redis, and an origin whose answers carry a version.
// What a purge that was answered 200 has replaced is an old version, and no node
// may ever answer with it again.
type Fleet struct {
	Redis   *Redis
	Connect string // see layout
	Web     *Origin
	Nodes   []*Node

	Current atomic.Int64 // what the origin answers
	Final   atomic.Int64 // what every node has to answer at least
	Failing atomic.Bool  // the origin answers 500
}

// fleetSite has a route for each selector. Every response has a tag that ends like its path.
const fleetSite = GuideSite + `
	redis_cache /mine/* user {
		by_user {http.request.cookie.uid}
	}`

func NewFleet(t *testing.T, rds *Redis) *Fleet {
	t.Helper()
	f := &Fleet{Redis: rds, Web: NewOrigin(t)}
	f.Web.Handle("/", f.Answer)
	return f
}

// StartFleet starts three nodes, and a Redis for them.
func StartFleet(t *testing.T) *Fleet {
	t.Helper()
	f := NewFleet(t, StartRedis(t))
	for range 3 {
		f.Join(t, f.Layout())
	}
	return f
}

func (f *Fleet) Layout() Layout {
	return Layout{Redis: f.Redis, Connect: f.Connect, Origin: f.Web, Cache: GuideCache, Site: fleetSite}
}

// Join starts one more node.
func (f *Fleet) Join(t *testing.T, l Layout) *Node {
	t.Helper()
	n := StartCaddy(t, l)
	f.Nodes = append(f.Nodes, n)
	return n
}

func (f *Fleet) Answer(w http.ResponseWriter, r *http.Request) {
	version := f.Current.Load()
	if f.Failing.Load() {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Cache-Tag", "t-"+path.Base(r.URL.Path))
	fmt.Fprintf(w, "v%d", version)
}

// VersionOf is the version that a reply carries, -1 if it has none.
func VersionOf(r Reply) int64 {
	var v int64 = -1
	fmt.Sscanf(r.Body, "v%d", &v)
	return v
}

// StaleReply says what is wrong with a reply to a request that began when final was the oldest
// version that may be answered.
func StaleReply(r Reply, err error, final int64) error {
	switch {
	case err != nil:
		return err
	case r.Status != http.StatusOK || r.Broken != nil:
		return fmt.Errorf("%d %q %v", r.Status, r.Body, r.Broken)
	case VersionOf(r) < final:
		return fmt.Errorf("an old response: %q, want v%d at least; %s, Cache-Status %q",
			r.Body, final, r.Outcome(), r.Header.Get("Cache-Status"))
	}
	return nil
}

// Fill stores the paths in Redis and in the memory of each node.
func (f *Fleet) Fill(t *testing.T, paths ...string) {
	t.Helper()
	f.Nodes[0].Attached(t) // or what it stores may not reach Redis
	for _, p := range paths {
		for i, n := range f.Nodes {
			if i == 0 {
				n.Keep(t, p)
				continue
			}
			Eventually(t, "a hit for "+p, func() bool { return n.Get(t, p).Outcome() == "HIT" })
		}
	}
}

// PickupSeries returns some paths of the namespace pickup.
func PickupSeries(name string, n int) []string {
	paths := make([]string, n)
	for i := range paths {
		paths[i] = fmt.Sprintf("/api/v1/pickups/%s-%d", name, i)
	}
	return paths
}

// Purge changes what the origin answers and purges what was stored of it. When the
// node says 200, the change is final, at once and everywhere.
func (f *Fleet) Purge(t *testing.T, n *Node, body string) map[string]any {
	t.Helper()
	next := f.Current.Add(1)
	answer := n.Purge(t, body)
	f.Final.Store(next)
	return answer
}

// Fence returns when every live node has applied what is in the journal.
func (f *Fleet) Fence(t *testing.T, n *Node) map[string]any {
	t.Helper()
	return n.Purge(t, `{"key":"none:at-all"}`)
}

// Check asks nodes at the same time. A node that answers something old fails the test.
func (f *Fleet) Check(t *testing.T, p string, nodes ...*Node) {
	t.Helper()
	var asked sync.WaitGroup
	for _, n := range nodes {
		asked.Go(func() {
			final := f.Final.Load()
			r, err := n.Try(t.Context(), http.MethodGet, p, "")
			if err := StaleReply(r, err, final); err != nil {
				t.Errorf("%s on node %d: %v", p, slices.Index(f.Nodes, n), err)
			}
		})
	}
	asked.Wait()
}

// Watch asks for the paths on all nodes, again and again, until stop. What is final when a
// request begins has to be in its answer.
func (f *Fleet) Watch(t *testing.T, paths ...string) (stop func()) {
	t.Helper()
	var running sync.WaitGroup
	var stopped atomic.Bool
	for i, n := range f.Nodes {
		for range 2 {
			running.Go(func() {
				for turn := 0; !stopped.Load(); turn++ {
					p, final := paths[turn%len(paths)], f.Final.Load()
					r, err := n.Try(t.Context(), http.MethodGet, p, "")
					if err := StaleReply(r, err, final); err != nil {
						t.Errorf("%s on node %d: %v", p, i, err)
						return
					}
				}
			})
		}
	}
	return func() {
		stopped.Store(true)
		running.Wait()
	}
}
