package fleet

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

func nodeIDs(t *testing.T, nodes ...*harness.Node) []string {
	t.Helper()
	var all []string
	for _, n := range nodes {
		all = append(all, n.ID(t))
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
	f := harness.StartFleet(t)
	t.Run("selectors", func(t *testing.T) { testSelectors(t, f) })
	t.Run("soft", func(t *testing.T) { testSoft(t, f) })
	t.Run("listings", func(t *testing.T) { testListings(t, f) })
}

// testSelectors purges by every selector, on one node after the other. With the answer 200
// what is named is gone from all nodes, and what is not is still there.
func testSelectors(t *testing.T, f *harness.Fleet) {
	everybody := nodeIDs(t, f.Nodes...)
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
			for _, n := range f.Nodes {
				for _, s := range fleetResponses {
					n.Get(t, s.path, s.fields()...)
					n.Want(t, "HIT", s.path, s.fields()...)
				}
			}
			wantNames(t, f.Purge(t, f.Nodes[i%len(f.Nodes)], tt.body), "confirmed", everybody...)
			for place, s := range fleetResponses {
				for _, n := range f.Nodes {
					r := n.Get(t, s.path, s.fields()...)
					gone := slices.Contains(strings.Fields(tt.gone), fmt.Sprint(place))
					if !gone && r.Unproven() {
						continue // it was not looked for
					}
					if isNew := harness.VersionOf(r) == f.Current.Load(); isNew != gone || !gone && r.Outcome() != "HIT" {
						t.Errorf("%v: %s %q, want purged: %t", s, r.Outcome(), r.Body, gone)
					}
				}
			}
		})
	}
	if f.Redis == nil {
		return
	}
	for _, message := range f.Redis.Client.XRange(t.Context(), harness.JournalKey, "-", "+").Val() {
		if text := fmt.Sprint(message.Values); strings.Contains(text, "alice") || strings.Contains(text, "bob") {
			t.Errorf("the journal shows an identity: %s", text)
		}
	}
}

// testSoft makes responses stale on all nodes: good enough while the origin fails, which
// those that a hard purge has hit are not.
func testSoft(t *testing.T, f *harness.Fleet) {
	const soft, both, fresh = "/api/v1/pickups/soft", "/api/v1/users/both", "/api/v1/points/fresh"
	f.Fill(t, soft, both, fresh)
	f.Nodes[0].Purge(t, `{"namespaces":["pickup","user"],"soft":true}`)
	f.Nodes[1].Purge(t, `{"namespace":"user"}`)
	f.Nodes[2].Purge(t, `{"namespace":"user","soft":true}`) // must not bring anything back
	f.Failing.Store(true)
	for i, n := range f.Nodes {
		for p, want := range map[string]string{soft: "200 STALE", both: "500 MISS", fresh: "200 HIT"} {
			if r := n.Get(t, p); fmt.Sprint(r.Status, " ", r.Outcome()) != want {
				t.Errorf("node %d, %s: %d %s, want %s", i, p, r.Status, r.Outcome(), want)
			}
		}
	}
	f.Failing.Store(false)
	f.Current.Add(1)
	for i, n := range f.Nodes {
		// An origin that has failed is left alone for a moment.
		harness.Eventually(t, fmt.Sprintf("node %d asks the origin again", i), func() bool {
			return harness.VersionOf(n.Get(t, soft)) == f.Current.Load()
		})
	}
}

// testListings asks one node about what another one did.
func testListings(t *testing.T, f *harness.Fleet) {
	answer := f.Purge(t, f.Nodes[0], `{"namespace":"pickup","tag":"x","by":"shop admin","reason":"prices\nchanged"}`)
	list := f.Nodes[2].JSON(t, http.StatusOK, http.MethodGet, "/redis_cache/journal?limit=1", "")
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

	everybody := nodeIDs(t, f.Nodes...)
	for _, n := range f.Nodes {
		var list map[string]any
		if !harness.Within(harness.Patience, func() bool {
			var live []string
			list = n.JSON(t, http.StatusOK, http.MethodGet, "/redis_cache/nodes", "")
			for _, line := range list["nodes"].([]any) {
				line := line.(map[string]any)
				if line["state"] == "live" && line["position"] == answer["id"] && harness.Number(t, line, "lag_seconds") < 2 {
					live = append(live, line["id"].(string))
				}
			}
			slices.Sort(live)
			return slices.Equal(live, slices.Sorted(slices.Values(everybody)))
		}) {
			t.Errorf("not all nodes are live and at %v: %v", answer["id"], list)
		}
	}

	f.Purge(t, f.Nodes[0], `{"all":true}`)
	f.Fill(t, "/api/v1/pickups/1", "/api/v1/pickups/2", "/api/v1/users/1")
	before := f.Redis.Client.XLen(t.Context(), "cache::journal").Val()
	for body, want := range map[string]float64{
		`{"namespace":"pickup","dry_run":true}`:           2,
		`{"tags":["t-1"],"dry_run":true}`:                 2,
		`{"pattern":"user:*","dry_run":true}`:             1,
		`{"url":"http://shop.test/","dry_run":true}`:      0,
		`{"namespace":"nothing","dry_run":true}`:          0,
		`{"host":"shop.test","wait":"5s","dry_run":true}`: 3,
	} {
		got := f.Nodes[1].JSON(t, http.StatusOK, http.MethodPost, "/redis_cache/purge", body)
		// The harness has stored something of that host, too.
		if m := harness.Number(t, got, "matched"); m != want && (want != 3 || m < want) {
			t.Errorf("%s: matched %v, want %v", body, m, want)
		}
	}
	if after := f.Redis.Client.XLen(t.Context(), "cache::journal").Val(); after != before {
		t.Errorf("a dry run appended: %d entries, were %d", after, before)
	}
	f.Nodes[1].Want(t, "HIT", "/api/v1/pickups/1")
}
