package fleet

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// startEventFleet starts nodes with rules for events, and routes that invalidate.
func startEventFleet(t *testing.T, nodes int, hasty bool) *harness.Fleet {
	t.Helper()
	f := harness.NewFleet(t, harness.StartRedis(t))
	l := f.Layout()
	l.Hasty = hasty
	l.Cache += `
		on points_changed {
			purge pattern "points:{event.user_id}:*"
			purge key "user:shop.test/api/v1/users/{event.data.user_id}"
		}
		on catalogue {
			purge tag "t-{event.tag}"
			soft_purge namespace pickup
		}
		on unhealthy {
			purge namespace user
		}`
	l.Site = `
		redis_cache /api/v1/users/* user
		redis_cache /api/v1/pickups/* pickup
		redis_cache /points/* points {
			key {http.request.uri.path.1}:balance
		}
		redis_cache /write/* {
			invalidate namespace pickup
			invalidate pattern "points:{http.request.uri.query.user}:*"
			invalidate tag {http.response.header.X-Changed}
		}
		@touch {
			method GET
			query touch=1
		}
		redis_cache /read/* {
			ttl 5m
			invalidate @touch namespace user
		}`
	for range nodes {
		f.Join(t, l)
	}
	return f
}

// TestRules has three nodes with rules for events and for requests.
func TestRules(t *testing.T) {
	t.Parallel()
	f := startEventFleet(t, 3, false)
	t.Run("events", func(t *testing.T) { testEvents(t, f) })
	t.Run("requests", func(t *testing.T) { testInvalidate(t, f) })
}

// testEvents purges by rules: through the admin API with the promise of a purge, and
// through the journal.
func testEvents(t *testing.T, f *harness.Fleet) {
	everybody := nodeIDs(t, f.Nodes...)
	paths := []string{"/points/7/x", "/points/77/x", "/points/%2A/x", "/points/a%3Ab/x", "/api/v1/users/7", "/api/v1/users/77"}
	for i, tt := range []struct {
		data string
		gone string // by place in paths
	}{
		{`{"user_id":7}`, "0 4"},
		{`{"user_id":"77"}`, "1 5"},
		{`{"user_id":"*"}`, "2"}, // itself, and no pattern
		{`{"user_id":"?"}`, ""},
		{`{"user_id":"[7]"}`, ""},
		{`{"user_id":"a:b"}`, "3"},
		{`{"user_id":"7:balance\u0000"}`, ""},
		{`{"user_id":12345678901234567890}`, ""},
	} {
		for way, send := range map[string]func(t *testing.T){
			"admin": func(t *testing.T) {
				answer := f.Nodes[i%3].JSON(t, http.StatusOK, http.MethodPost, "/redis_cache/events",
					`{"event":"points_changed","data":`+tt.data+`,"wait":"10s"}`)
				wantNames(t, answer, "confirmed", everybody...)
			},
			"journal": func(t *testing.T) {
				f.Redis.Do(t, "XADD", harness.JournalKey, "*", "op", "event", "event", "points_changed", "data", tt.data)
				f.Fence(t, f.Nodes[i%3])
			},
		} {
			t.Run(way+" "+tt.data, func(t *testing.T) {
				f.Fill(t, paths...)
				f.Current.Add(1)
				send(t)
				for place, p := range paths {
					if strings.Contains(" "+tt.gone+" ", fmt.Sprint(" ", place, " ")) {
						gone(t, f, p)
					} else {
						kept(t, f, p)
					}
				}
			})
		}
	}
	t.Run("hard and soft", func(t *testing.T) {
		f.Fill(t, "/api/v1/pickups/soft", "/api/v1/users/hard")
		f.Nodes[1].JSON(t, http.StatusOK, http.MethodPost, "/redis_cache/events", `{"event":"catalogue","data":{"tag":"hard"},"wait":"10s"}`)
		f.Failing.Store(true)
		defer f.Failing.Store(false)
		for i, n := range f.Nodes {
			if r := n.Get(t, "/api/v1/pickups/soft"); r.Outcome() != "STALE" {
				t.Errorf("node %d: the soft rule made it %d %s", i, r.Status, r.Outcome())
			}
			if r := n.Get(t, "/api/v1/users/hard"); r.Status != http.StatusInternalServerError {
				t.Errorf("node %d: the hard rule made it %d %s", i, r.Status, r.Outcome())
			}
		}
	})
	for body, status := range map[string]int{
		`{"event":"nobody_knows"}`:                       404,
		`{"event":"points_changed","data":[1]}`:          400,
		`{"event":"catalogue","data":{},"colour":"red"}`: 400,
		`{}`: 404,
	} {
		f.Nodes[0].JSON(t, status, http.MethodPost, "/redis_cache/events", body)
	}
}

// testInvalidate changes something through one node. Its own answers show that at once, and
// those of the others as soon as they have applied what it appended.
func testInvalidate(t *testing.T, f *harness.Fleet) {
	f.Web.Handle("/write/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Changed", r.Header.Get("X-Change"))
		if strings.Contains(r.URL.Path, "fail") {
			w.WriteHeader(http.StatusConflict)
		}
	})
	const pickup, points, user = "/api/v1/pickups/1", "/points/7/x", "/api/v1/users/1"
	for i, tt := range []struct {
		request, changed string
		gone, kept       []string
	}{
		{"POST /write/x", "", []string{pickup}, []string{points, user}},
		{"PUT /write/x?user=7", "", []string{pickup, points}, []string{user}},
		{"PATCH /write/x?user=*", "", []string{pickup}, []string{points, user}},
		{"DELETE /write/x", "t-1", []string{pickup, user}, []string{points}},
		{"POST /write/fail?user=7", "t-1", nil, []string{pickup, points, user}},
		{"GET /write/x?user=7", "t-1", nil, []string{pickup, points, user}},
		{"GET /read/x", "", nil, []string{pickup, points, user}},
		{"GET /read/x?touch=1", "", []string{user}, []string{pickup, points}},
		{"DELETE /api/v1/pickups/1", "", []string{pickup}, []string{points, user}},
		{"POST /points/7/x?a=b", "", []string{points}, []string{pickup, user}},
	} {
		t.Run(tt.request, func(t *testing.T) {
			f.Fill(t, pickup, points, user)
			f.Final.Store(f.Current.Add(1))
			defer f.Final.Store(0)
			method, p, _ := strings.Cut(tt.request, " ")
			writer := f.Nodes[i%3]
			writer.Do(t, method, p, "", "X-Change: "+tt.changed)
			for _, p := range tt.gone {
				f.Check(t, p, writer)
			}
			f.Fence(t, writer)
			for _, p := range tt.gone {
				f.Check(t, p, f.Nodes...)
			}
			for _, p := range tt.kept {
				kept(t, f, p)
			}
		})
	}
}

// TestInvalidateWithoutRedis changes something while Redis hangs. The node that knows of it
// serves nothing old; the other learns of it when Redis is back.
func TestInvalidateWithoutRedis(t *testing.T) {
	t.Parallel()
	f := startEventFleet(t, 2, true)
	writer, reader := f.Nodes[0], f.Nodes[1]
	const other = "/api/v1/users/1"
	paths := append(harness.PickupSeries("away", 4), "/points/7/x")
	f.Fill(t, append(paths, other)...)
	f.Fence(t, writer)
	f.Redis.Pause()
	f.Current.Add(1)
	writer.Do(t, http.MethodPost, "/write/x?user=7", "")
	f.Final.Store(f.Current.Load())
	f.Check(t, paths[0], writer)
	f.Check(t, paths[4], writer)
	for range 20 {
		f.Check(t, paths[1], writer) // the copy in memory as well
	}
	kept(t, f, other) // the cache goes on with the rest
	f.Redis.Resume()
	harness.Eventually(t, "the other node has heard of it", func() bool {
		return harness.VersionOf(reader.Get(t, paths[2])) == f.Current.Load()
	})
	harness.Eventually(t, "it has applied both rules", func() bool {
		return harness.VersionOf(reader.Get(t, paths[4])) == f.Current.Load()
	})
	f.Check(t, paths[3], f.Nodes...)
}

// TestCaddyEvent has a rule for an event of Caddy's own: an upstream fails its health check. The node
// that sees it tells one that has neither check nor rule.
func TestCaddyEvent(t *testing.T) {
	t.Parallel()
	f := startEventFleet(t, 1, false)
	f.Join(t, f.Layout())
	var sick atomic.Bool
	f.Web.Handle("/health", func(w http.ResponseWriter, _ *http.Request) {
		if sick.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	l := f.Nodes[0].Layout
	l.Site += "\n\treverse_proxy /checked/* " + f.Web.Addr + " {\n\thealth_uri /health\n\thealth_interval 50ms\n\t}"
	if r := f.Nodes[0].Reload(t, l); r.Status != http.StatusOK {
		t.Fatalf("reload: %d %s", r.Status, r.Body)
	}
	f.Fill(t, "/api/v1/users/1", "/api/v1/pickups/1")
	next := f.Current.Add(1)
	sick.Store(true)
	for _, n := range f.Nodes {
		harness.Eventually(t, "the event has purged", func() bool { return harness.VersionOf(n.Get(t, "/api/v1/users/1")) == next })
	}
	for _, n := range f.Nodes {
		if r := n.Get(t, "/api/v1/pickups/1"); r.Outcome() != "HIT" {
			t.Errorf("the other namespace: %s", r.Outcome())
		}
	}
}
