package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// fleet is some nodes on one Redis, and an origin whose answers carry a version.
// What a purge that was answered 200 has replaced is an old version, and no node
// may ever answer with it again.
type fleet struct {
	redis   *redisServer
	connect string // see layout
	web     *origin
	nodes   []*node

	current atomic.Int64 // what the origin answers
	final   atomic.Int64 // what every node has to answer at least
	failing atomic.Bool  // the origin answers 500
}

// fleetSite has a route for each selector. Every response has a tag that ends like its path.
const fleetSite = guideSite + `
	redis_cache /mine/* user {
		by_user {http.request.cookie.uid}
	}`

func newFleet(t *testing.T, rds *redisServer) *fleet {
	t.Helper()
	f := &fleet{redis: rds, web: newOrigin(t)}
	f.web.handle("/", f.answer)
	return f
}

// startFleet starts three nodes, and a Redis for them.
func startFleet(t *testing.T) *fleet {
	t.Helper()
	f := newFleet(t, startRedis(t))
	for range 3 {
		f.join(t, f.layout())
	}
	return f
}

func (f *fleet) layout() layout {
	return layout{redis: f.redis, connect: f.connect, origin: f.web, cache: guide, site: fleetSite}
}

// join starts one more node.
func (f *fleet) join(t *testing.T, l layout) *node {
	t.Helper()
	n := startCaddy(t, l)
	f.nodes = append(f.nodes, n)
	return n
}

func (f *fleet) answer(w http.ResponseWriter, r *http.Request) {
	version := f.current.Load()
	if f.failing.Load() {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Cache-Tag", "t-"+path.Base(r.URL.Path))
	fmt.Fprintf(w, "v%d", version)
}

// versionOf is the version that a reply carries, -1 if it has none.
func versionOf(r reply) int64 {
	var v int64 = -1
	fmt.Sscanf(r.body, "v%d", &v)
	return v
}

// staleReply says what is wrong with a reply to a request that began when final was the oldest
// version that may be answered.
func staleReply(r reply, err error, final int64) error {
	switch {
	case err != nil:
		return err
	case r.status != http.StatusOK || r.broken != nil:
		return fmt.Errorf("%d %q %v", r.status, r.body, r.broken)
	case versionOf(r) < final:
		return fmt.Errorf("an old response: %q, want v%d at least; %s, Cache-Status %q",
			r.body, final, r.outcome(), r.header.Get("Cache-Status"))
	}
	return nil
}

// fill stores the paths in Redis and in the memory of each node.
func (f *fleet) fill(t *testing.T, paths ...string) {
	t.Helper()
	f.nodes[0].attached(t) // or what it stores may not reach Redis
	for _, p := range paths {
		for i, n := range f.nodes {
			if i == 0 {
				n.keep(t, p)
				continue
			}
			eventually(t, "a hit for "+p, func() bool { return n.get(t, p).outcome() == "HIT" })
		}
	}
}

// pickupSeries returns some paths of the namespace pickup.
func pickupSeries(name string, n int) []string {
	paths := make([]string, n)
	for i := range paths {
		paths[i] = fmt.Sprintf("/api/v1/pickups/%s-%d", name, i)
	}
	return paths
}

// purge changes what the origin answers and purges what was stored of it. When the
// node says 200, the change is final, at once and everywhere.
func (f *fleet) purge(t *testing.T, n *node, body string) map[string]any {
	t.Helper()
	next := f.current.Add(1)
	answer := n.purge(t, body)
	f.final.Store(next)
	return answer
}

// fence returns when every live node has applied what is in the journal.
func (f *fleet) fence(t *testing.T, n *node) map[string]any {
	t.Helper()
	return n.purge(t, `{"key":"none:at-all"}`)
}

// check asks nodes at the same time. A node that answers something old fails the test.
func (f *fleet) check(t *testing.T, p string, nodes ...*node) {
	t.Helper()
	var asked sync.WaitGroup
	for _, n := range nodes {
		asked.Go(func() {
			final := f.final.Load()
			r, err := n.try(t.Context(), http.MethodGet, p, "")
			if err := staleReply(r, err, final); err != nil {
				t.Errorf("%s on node %d: %v", p, slices.Index(f.nodes, n), err)
			}
		})
	}
	asked.Wait()
}

// watch asks for the paths on all nodes, again and again, until stop. What is final when a
// request begins has to be in its answer.
func (f *fleet) watch(t *testing.T, paths ...string) (stop func()) {
	t.Helper()
	var running sync.WaitGroup
	var stopped atomic.Bool
	for i, n := range f.nodes {
		for range 2 {
			running.Go(func() {
				for turn := 0; !stopped.Load(); turn++ {
					p, final := paths[turn%len(paths)], f.final.Load()
					r, err := n.try(t.Context(), http.MethodGet, p, "")
					if err := staleReply(r, err, final); err != nil {
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

// id is the node's name in the registry.
func (n *node) id(t *testing.T) string {
	t.Helper()
	for _, line := range n.json(t, http.StatusOK, http.MethodGet, "/redis_cache/nodes", "")["nodes"].([]any) {
		if line := line.(map[string]any); line["self"] == true {
			return line["id"].(string)
		}
	}
	t.Fatal("the node does not list itself")
	return ""
}

func nodeIDs(t *testing.T, nodes ...*node) []string {
	t.Helper()
	var all []string
	for _, n := range nodes {
		all = append(all, n.id(t))
	}
	return all
}

// wantNames expects an answer to list exactly these nodes, in any order.
func wantNames(t *testing.T, answer map[string]any, field string, want ...string) {
	t.Helper()
	list, ok := answer[field].([]any)
	if !ok {
		t.Errorf("%s is %v, want a list", field, answer[field])
	}
	got := []string{}
	for _, name := range list {
		got = append(got, name.(string))
	}
	slices.Sort(got)
	want = slices.Sorted(slices.Values(want))
	if !slices.Equal(got, want) {
		t.Errorf("%s %q, want %q, in %v", field, got, want, answer)
	}
}

// freeze stops the process where it is, and returns when it stands still.
func (p *process) freeze(t *testing.T) {
	t.Helper()
	p.signal(syscall.SIGSTOP)
	eventually(t, p.name+" stands still", func() bool {
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.cmd.Process.Pid))
		return err == nil && !slices.ContainsFunc(threads, func(thread os.DirEntry) bool {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/stat", p.cmd.Process.Pid, thread.Name()))
			return err == nil && !strings.Contains(string(stat), ") T ")
		})
	})
}

func (p *process) thaw() { p.signal(syscall.SIGCONT) }

// fleetStored is a response that the cases of testSelectors start with.
type fleetStored struct {
	path  string
	field string
}

var fleetResponses = []fleetStored{
	{"/api/v1/users/1", ""},
	{"/api/v1/users/2", ""},
	{"/api/v1/pickups/1", ""},
	{"/api/v1/pickups/1?status=open", ""},
	{"/api/v1/pickups/2", "Host: other.test:8080"},
	{"/mine/x", "Cookie: uid=alice"},
	{"/mine/x", "Cookie: uid=bob"},
}

func (s fleetStored) fields() []string {
	if s.field == "" {
		return nil
	}
	return []string{s.field}
}

// TestFleetPurge asks one node of a fleet, and looks at all of them.
func TestFleetPurge(t *testing.T) {
	t.Parallel()
	f := startFleet(t)
	t.Run("selectors", f.testSelectors)
	t.Run("soft", f.testSoft)
	t.Run("listings", f.testListings)
}

// testSelectors purges by every selector, on one node after the other. With the answer 200
// what is named is gone from all nodes, and what is not is still there.
func (f *fleet) testSelectors(t *testing.T) {
	everybody := nodeIDs(t, f.nodes...)
	for i, tt := range []struct {
		body string
		gone string // by place in fleetResponses
	}{
		{`{"namespace":"pickup"}`, "2 3 4"},
		{`{"namespaces":["pickup","user"]}`, "0 1 2 3 4 5 6"},
		{`{"tag":"t-1"}`, "0 2 3"},
		{`{"tags":["t-1","t-x"]}`, "0 2 3 5 6"},
		{`{"key":"pickup:shop.test/api/v1/pickups/1"}`, "2 3"},
		{`{"pattern":"user:*/users/?"}`, "0 1"},
		{`{"url":"http://shop.test/api/v1/pickups/1"}`, "2 3"},
		{`{"url":"http://shop.test/api/v1/pickups/1?status=open"}`, "3"},
		{`{"prefix":"http://shop.test/api/v1/p"}`, "2 3"},
		{`{"host":"other.test"}`, "4"},
		{`{"host":"other.test:8080"}`, "4"},
		{`{"host":"other.test:8081"}`, ""},
		{`{"user":"alice"}`, "5"},
		{`{"namespace":"pickup","tag":"t-2","user":"bob"}`, "1 2 3 4 6"},
		{`{"all":true}`, "0 1 2 3 4 5 6"},
	} {
		t.Run(tt.body, func(t *testing.T) {
			for _, n := range f.nodes {
				for _, s := range fleetResponses {
					n.get(t, s.path, s.fields()...)
					n.want(t, "HIT", s.path, s.fields()...)
				}
			}
			wantNames(t, f.purge(t, f.nodes[i%len(f.nodes)], tt.body), "confirmed", everybody...)
			for place, s := range fleetResponses {
				for _, n := range f.nodes {
					r := n.get(t, s.path, s.fields()...)
					gone := slices.Contains(strings.Fields(tt.gone), fmt.Sprint(place))
					if !gone && r.unproven() {
						continue // it was not looked for
					}
					if isNew := versionOf(r) == f.current.Load(); isNew != gone || !gone && r.outcome() != "HIT" {
						t.Errorf("%v: %s %q, want purged: %t", s, r.outcome(), r.body, gone)
					}
				}
			}
		})
	}
	if f.redis == nil {
		return
	}
	for _, message := range f.redis.client.XRange(t.Context(), journalKey, "-", "+").Val() {
		if text := fmt.Sprint(message.Values); strings.Contains(text, "alice") || strings.Contains(text, "bob") {
			t.Errorf("the journal shows an identity: %s", text)
		}
	}
}

// testSoft makes responses stale on all nodes: good enough while the origin fails, which
// those that a hard purge has hit are not.
func (f *fleet) testSoft(t *testing.T) {
	const soft, both, fresh = "/api/v1/pickups/soft", "/api/v1/users/both", "/api/v1/points/fresh"
	f.fill(t, soft, both, fresh)
	f.nodes[0].purge(t, `{"namespaces":["pickup","user"],"soft":true}`)
	f.nodes[1].purge(t, `{"namespace":"user"}`)
	f.nodes[2].purge(t, `{"namespace":"user","soft":true}`) // must not bring anything back
	f.failing.Store(true)
	for i, n := range f.nodes {
		for p, want := range map[string]string{soft: "200 STALE", both: "500 MISS", fresh: "200 HIT"} {
			if r := n.get(t, p); fmt.Sprint(r.status, " ", r.outcome()) != want {
				t.Errorf("node %d, %s: %d %s, want %s", i, p, r.status, r.outcome(), want)
			}
		}
	}
	f.failing.Store(false)
	f.current.Add(1)
	for i, n := range f.nodes {
		// An origin that has failed is left alone for a moment.
		eventually(t, fmt.Sprintf("node %d asks the origin again", i), func() bool {
			return versionOf(n.get(t, soft)) == f.current.Load()
		})
	}
}

// testListings asks one node about what another one did.
func (f *fleet) testListings(t *testing.T) {
	answer := f.purge(t, f.nodes[0], `{"namespace":"pickup","tag":"x","by":"shop admin","reason":"prices\nchanged"}`)
	list := f.nodes[2].json(t, http.StatusOK, http.MethodGet, "/redis_cache/journal?limit=1", "")
	entries := list["entries"].([]any)
	if len(entries) != 1 {
		t.Fatalf("%d entries, want the newest one", len(entries))
	}
	e := entries[0].(map[string]any)
	selectors, _ := json.Marshal(e["selectors"])
	if e["id"] != answer["id"] || e["op"] != "purge" || e["by"] != "shop admin" || e["reason"] != "prices\nchanged" ||
		string(selectors) != `[{"namespace":"pickup"},{"tag":"x"}]` {
		t.Errorf("listed is %v, answered was %v", e, answer)
	}

	everybody := nodeIDs(t, f.nodes...)
	for _, n := range f.nodes {
		var list map[string]any
		if !within(patience, func() bool {
			var live []string
			list = n.json(t, http.StatusOK, http.MethodGet, "/redis_cache/nodes", "")
			for _, line := range list["nodes"].([]any) {
				line := line.(map[string]any)
				if line["state"] == "live" && line["position"] == answer["id"] && number(t, line, "lag_seconds") < 2 {
					live = append(live, line["id"].(string))
				}
			}
			slices.Sort(live)
			return slices.Equal(live, slices.Sorted(slices.Values(everybody)))
		}) {
			t.Errorf("not all nodes are live and at %v: %v", answer["id"], list)
		}
	}

	f.purge(t, f.nodes[0], `{"all":true}`)
	f.fill(t, "/api/v1/pickups/1", "/api/v1/pickups/2", "/api/v1/users/1")
	before := f.redis.client.XLen(t.Context(), "cache::journal").Val()
	for body, want := range map[string]float64{
		`{"namespace":"pickup","dry_run":true}`:           2,
		`{"tags":["t-1"],"dry_run":true}`:                 2,
		`{"pattern":"user:*","dry_run":true}`:             1,
		`{"url":"http://shop.test/","dry_run":true}`:      0,
		`{"namespace":"nothing","dry_run":true}`:          0,
		`{"host":"shop.test","wait":"5s","dry_run":true}`: 3,
	} {
		got := f.nodes[1].json(t, http.StatusOK, http.MethodPost, "/redis_cache/purge", body)
		// The harness has stored something of that host, too.
		if m := number(t, got, "matched"); m != want && (want != 3 || m < want) {
			t.Errorf("%s: matched %v, want %v", body, m, want)
		}
	}
	if after := f.redis.client.XLen(t.Context(), "cache::journal").Val(); after != before {
		t.Errorf("a dry run appended: %d entries, were %d", after, before)
	}
	f.nodes[1].want(t, "HIT", "/api/v1/pickups/1")
}
