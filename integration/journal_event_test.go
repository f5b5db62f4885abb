package integration

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// startEventFleet starts nodes with rules for events, and routes that invalidate.
func startEventFleet(t *testing.T, nodes int, hasty bool) *fleet {
	t.Helper()
	f := newFleet(t, startRedis(t))
	l := f.layout()
	l.hasty = hasty
	l.cache += `
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
	l.site = `
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
		f.join(t, l)
	}
	return f
}

// TestRules has three nodes with rules for events and for requests.
func TestRules(t *testing.T) {
	t.Parallel()
	f := startEventFleet(t, 3, false)
	t.Run("events", f.testEvents)
	t.Run("requests", f.testInvalidate)
}

// testEvents purges by rules: through the admin API with the promise of a purge, and
// through the journal.
func (f *fleet) testEvents(t *testing.T) {
	everybody := nodeIDs(t, f.nodes...)
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
				answer := f.nodes[i%3].json(t, http.StatusOK, http.MethodPost, "/redis_cache/events",
					`{"event":"points_changed","data":`+tt.data+`,"wait":"10s"}`)
				wantNames(t, answer, "confirmed", everybody...)
			},
			"journal": func(t *testing.T) {
				f.redis.do(t, "XADD", journalKey, "*", "op", "event", "event", "points_changed", "data", tt.data)
				f.fence(t, f.nodes[i%3])
			},
		} {
			t.Run(way+" "+tt.data, func(t *testing.T) {
				f.fill(t, paths...)
				f.current.Add(1)
				send(t)
				for place, p := range paths {
					if strings.Contains(" "+tt.gone+" ", fmt.Sprint(" ", place, " ")) {
						f.gone(t, p)
					} else {
						f.kept(t, p)
					}
				}
			})
		}
	}
	t.Run("hard and soft", func(t *testing.T) {
		f.fill(t, "/api/v1/pickups/soft", "/api/v1/users/hard")
		f.nodes[1].json(t, http.StatusOK, http.MethodPost, "/redis_cache/events", `{"event":"catalogue","data":{"tag":"hard"},"wait":"10s"}`)
		f.failing.Store(true)
		defer f.failing.Store(false)
		for i, n := range f.nodes {
			if r := n.get(t, "/api/v1/pickups/soft"); r.outcome() != "STALE" {
				t.Errorf("node %d: the soft rule made it %d %s", i, r.status, r.outcome())
			}
			if r := n.get(t, "/api/v1/users/hard"); r.status != http.StatusInternalServerError {
				t.Errorf("node %d: the hard rule made it %d %s", i, r.status, r.outcome())
			}
		}
	})
	for body, status := range map[string]int{
		`{"event":"nobody_knows"}`:                       404,
		`{"event":"points_changed","data":[1]}`:          400,
		`{"event":"catalogue","data":{},"colour":"red"}`: 400,
		`{}`: 404,
	} {
		f.nodes[0].json(t, status, http.MethodPost, "/redis_cache/events", body)
	}
}

// testInvalidate changes something through one node. Its own answers show that at once, and
// those of the others as soon as they have applied what it appended.
func (f *fleet) testInvalidate(t *testing.T) {
	f.web.handle("/write/", func(w http.ResponseWriter, r *http.Request) {
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
			f.fill(t, pickup, points, user)
			f.final.Store(f.current.Add(1))
			defer f.final.Store(0)
			method, p, _ := strings.Cut(tt.request, " ")
			writer := f.nodes[i%3]
			writer.do(t, method, p, "", "X-Change: "+tt.changed)
			for _, p := range tt.gone {
				f.check(t, p, writer)
			}
			f.fence(t, writer)
			for _, p := range tt.gone {
				f.check(t, p, f.nodes...)
			}
			for _, p := range tt.kept {
				f.kept(t, p)
			}
		})
	}
}

// TestInvalidateWithoutRedis changes something while Redis hangs. The node that knows of it
// serves nothing old; the other learns of it when Redis is back.
func TestInvalidateWithoutRedis(t *testing.T) {
	t.Parallel()
	f := startEventFleet(t, 2, true)
	writer, reader := f.nodes[0], f.nodes[1]
	const other = "/api/v1/users/1"
	paths := append(pickupSeries("away", 4), "/points/7/x")
	f.fill(t, append(paths, other)...)
	f.fence(t, writer)
	f.redis.pause()
	f.current.Add(1)
	writer.do(t, http.MethodPost, "/write/x?user=7", "")
	f.final.Store(f.current.Load())
	f.check(t, paths[0], writer)
	f.check(t, paths[4], writer)
	for range 20 {
		f.check(t, paths[1], writer) // the copy in memory as well
	}
	f.kept(t, other) // the cache goes on with the rest
	f.redis.resume()
	eventually(t, "the other node has heard of it", func() bool {
		return versionOf(reader.get(t, paths[2])) == f.current.Load()
	})
	eventually(t, "it has applied both rules", func() bool {
		return versionOf(reader.get(t, paths[4])) == f.current.Load()
	})
	f.check(t, paths[3], f.nodes...)
}

// TestCaddyEvent has a rule for an event of Caddy's own: an upstream fails its health check. The node
// that sees it tells one that has neither check nor rule.
func TestCaddyEvent(t *testing.T) {
	t.Parallel()
	f := startEventFleet(t, 1, false)
	f.join(t, f.layout())
	var sick atomic.Bool
	f.web.handle("/health", func(w http.ResponseWriter, _ *http.Request) {
		if sick.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	l := f.nodes[0].layout
	l.site += "\n\treverse_proxy /checked/* " + f.web.addr + " {\n\thealth_uri /health\n\thealth_interval 50ms\n\t}"
	if r := f.nodes[0].reload(t, l); r.status != http.StatusOK {
		t.Fatalf("reload: %d %s", r.status, r.body)
	}
	f.fill(t, "/api/v1/users/1", "/api/v1/pickups/1")
	next := f.current.Add(1)
	sick.Store(true)
	for _, n := range f.nodes {
		eventually(t, "the event has purged", func() bool { return versionOf(n.get(t, "/api/v1/users/1")) == next })
	}
	for _, n := range f.nodes {
		if r := n.get(t, "/api/v1/pickups/1"); r.outcome() != "HIT" {
			t.Errorf("the other namespace: %s", r.outcome())
		}
	}
}
