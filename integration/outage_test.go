package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// recorded reports whether the journal lists an entry that contains a text.
func (n *node) recorded(t *testing.T, text string) bool {
	t.Helper()
	r := n.api(t, http.MethodGet, "/redis_cache/journal", "")
	return r.status == http.StatusOK && strings.Contains(r.body, text)
}

// waiting returns how many purges are not recorded yet.
func (n *node) waiting(t *testing.T) float64 {
	t.Helper()
	stats := n.json(t, http.StatusOK, http.MethodGet, "/redis_cache/stats", "")
	waiting, _ := stats["waiting"].(map[string]any)
	count, _ := waiting["purges"].(float64)
	return count
}

// TestPurgeBeforeAnyRedis is a newcomer's first purge: nothing says where Redis is, and there is
// none. Redis comes later, and then goes.
func TestPurgeBeforeAnyRedis(t *testing.T) {
	t.Parallel()
	node := startCaddy(t, layout{unnamed: true, origin: newOrigin(t), cache: guide, site: guideSite})
	alone := func(body string) {
		t.Helper()
		answer := node.json(t, http.StatusOK, http.MethodPost, "/redis_cache/purge", body)
		if answer["standalone"] != true || answer["recorded"] != false || answer["id"] != "" {
			t.Errorf("%s: %v", body, answer)
		}
	}
	for _, body := range []string{
		`{"namespace":"pickup"}`, `{"pattern":"pickup:*"}`, `{"url":"http://shop.test/api/v1/pickups/1"}`, `{"all":true}`,
	} {
		node.get(t, "/api/v1/pickups/1")
		node.want(t, "HIT", "/api/v1/pickups/1")
		alone(body)
		node.script(t, `
			MISS /api/v1/pickups/1
			HIT  /api/v1/pickups/1`)
	}
	if r := node.api(t, http.MethodPost, "/redis_cache/purge", `{"all":true,"require":"recorded"}`); r.status != http.StatusServiceUnavailable {
		t.Errorf("what must be recorded is answered %d %s", r.status, r.body)
	}
	if r := node.api(t, http.MethodPost, "/redis_cache/purge", `{"all":true,"require":"luck"}`); r.status != http.StatusBadRequest {
		t.Errorf("an unknown requirement is answered %d %s", r.status, r.body)
	}
	node.want(t, "HIT", "/api/v1/pickups/1")
	if _, errOut, ok := node.redisCache(t, "purge", "--namespace", "user", "--by", "a newcomer"); !ok {
		t.Errorf("the command fails: %s", errOut)
	}
	if answer := node.json(t, http.StatusOK, http.MethodPost, "/redis_cache/purge", `{"namespace":"pickup","dry_run":true}`); answer["matched"] != 1.0 {
		t.Errorf("a dry run finds %v", answer)
	}
	if got := node.waiting(t); got != 5 {
		t.Errorf("%v purges wait, want 5", got)
	}

	rds := redisAt(t, defaultPort)
	rds.start(t)
	node.layout.redis = rds
	eventually(t, "what waited is recorded", func() bool { return node.recorded(t, "a newcomer") })
	if got := node.waiting(t); got != 0 {
		t.Errorf("%v purges wait", got)
	}
	eventually(t, "the log tells of what was recorded", func() bool {
		return strings.Count(node.proc.log.String(), `"cache_invalidate"`) >= 5
	})
	eventually(t, "responses reach Redis", func() bool {
		key := node.get(t, fmt.Sprintf("/api/v1/users/%d", probes.Add(1))).key()
		return within(patience/20, func() bool { return rds.has(t, key) })
	})
	if answer := node.purge(t, `{"namespace":"pickup"}`); answer["standalone"] != nil || answer["recorded"] != true {
		t.Errorf("with Redis: %v", answer)
	}
	rds.kill()
	node.purgeWaits(t, `{"namespace":"pickup"}`) // there may be others now
}

// TestPurgeOfMemoryOnly has no journal but its own.
func TestPurgeOfMemoryOnly(t *testing.T) {
	t.Parallel()
	node := startCaddy(t, layout{origin: newOrigin(t), cache: guide, site: guideSite})
	for _, body := range []string{`{"namespace":"pickup"}`, `{"namespace":"pickup","require":"recorded"}`} {
		node.get(t, "/api/v1/pickups/1")
		node.want(t, "HIT", "/api/v1/pickups/1")
		answer := node.json(t, http.StatusOK, http.MethodPost, "/redis_cache/purge", body)
		if answer["standalone"] != true || answer["recorded"] != true || answer["id"] == "" {
			t.Errorf("%s: %v", body, answer)
		}
		node.want(t, "MISS", "/api/v1/pickups/1")
	}
}

// outageSite gives each page a tag and a namespace of its own, and lets POST purge.
const outageSite = `
	redis_cache /own/* own {
		ttl 1h
		tag page-{http.request.uri.path.1}
	}
	redis_cache /named/* named {
		ttl 1h
	}
	redis_cache /events/* {
		ttl 1h
		tag changed-{http.request.uri.path.1}
	}`

// TestPurgeWhileRedisIsAway takes down pages on one of two nodes by every way there is, while
// nobody can be told. The node itself obeys at once, the other one once Redis is back.
func TestPurgeWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		away, back func(t *testing.T, r *redisServer)
	}{
		"killed": {
			func(_ *testing.T, r *redisServer) { r.kill() },
			func(t *testing.T, r *redisServer) { r.start(t) },
		},
		"out of memory": {
			func(t *testing.T, r *redisServer) { r.do(t, "CONFIG", "SET", "maxmemory", "1") },
			func(t *testing.T, r *redisServer) { r.do(t, "CONFIG", "SET", "maxmemory", "0") },
		},
		"a replica": {
			func(t *testing.T, r *redisServer) { r.do(t, "REPLICAOF", "127.0.0.1", "1") },
			func(t *testing.T, r *redisServer) { r.do(t, "REPLICAOF", "NO", "ONE") },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rds := startRedis(t, "--appendonly", "yes", "--appendfsync", "always", "--dir", t.TempDir())
			l := layout{
				redis: rds, origin: newOrigin(t), hasty: true, site: outageSite,
				cache: "namespace own\nnamespace named\non changed {\npurge tag changed-{event.id_of_page}\n}",
			}
			nodes := [2]*node{startCaddy(t, l), startCaddy(t, l)}
			for _, purge := range purgesOfOutage {
				if purge.path != "" {
					nodes[0].get(t, purge.path)
				}
			}
			nodes[0].get(t, "/own/kept")
			for _, n := range nodes {
				for _, purge := range purgesOfOutage {
					rds.await(t, n.want(t, "HIT", purge.path).key())
				}
				n.want(t, "HIT", "/own/kept")
			}

			tt.away(t, rds)
			for _, purge := range purgesOfOutage {
				purge.do(t, nodes[0], purge.path)
				stale := "MISS"
				if purge.soft {
					stale = "REVALIDATED"
				}
				if r := nodes[0].get(t, purge.path); r.outcome() != "MISS" && r.outcome() != stale {
					t.Errorf("after %s %s is a %s", purge.name, purge.path, r.outcome())
				}
				nodes[0].want(t, "HIT", purge.path)
			}
			nodes[0].want(t, "HIT", "/own/kept")

			tt.back(t, rds)
			eventually(t, "nothing waits", func() bool { return nodes[0].waiting(t) == 0 })
			for _, purge := range purgesOfOutage {
				eventually(t, "the other node knows of "+purge.name, func() bool { return nodes[1].get(t, purge.path).outcome() != "HIT" })
			}
			nodes[1].want(t, "HIT", "/own/kept")
			for _, purge := range purgesOfOutage {
				for _, n := range nodes {
					eventually(t, "a new response is served", func() bool { return n.get(t, purge.path).outcome() == "HIT" })
				}
			}
		})
	}
}

// purgesOfOutage purge one page each.
var purgesOfOutage = []struct {
	name, path string
	soft       bool
	do         func(t *testing.T, n *node, path string)
}{
	{"a tag", "/own/a", false, purgeThatWaits(`{"tag":"page-a"}`)},
	{"a soft tag", "/own/b", true, purgeThatWaits(`{"tag":"page-b","soft":true}`)},
	{"a key", "/own/c", false, purgeThatWaits(`{"key":"own:shop.test/own/c"}`)},
	{"a pattern", "/own/d", false, purgeThatWaits(`{"pattern":"own:*/d"}`)},
	{"a URL", "/own/e", false, purgeThatWaits(`{"url":"http://shop.test/own/e"}`)},
	{"a prefix", "/own/f/1", false, purgeThatWaits(`{"prefix":"http://shop.test/own/f/"}`)},
	{"a namespace", "/named/a", false, purgeThatWaits(`{"namespace":"named"}`)},
	{"a list", "/own/g", false, purgeThatWaits(`{"tags":["page-g","page-x"],"urls":["http://shop.test/y"]}`)},
	{"an event", "/events/h", false, func(t *testing.T, n *node, _ string) {
		t.Helper()
		answer := n.json(t, http.StatusAccepted, http.MethodPost, "/redis_cache/events", `{"event":"changed","data":{"id_of_page":"h"}}`)
		if answer["recorded"] != false {
			t.Errorf("the event is answered %v", answer)
		}
		if r := n.api(t, http.MethodPost, "/redis_cache/events", `{"event":"changed","data":{"id_of_page":"h"},"require":"recorded"}`); r.status != http.StatusServiceUnavailable {
			t.Errorf("an event that must be recorded is answered %d %s", r.status, r.body)
		}
	}},
	{"an entry", "/own/i", false, func(t *testing.T, n *node, path string) {
		t.Helper()
		query := "/redis_cache/entry?key=" + url.QueryEscape(n.get(t, path).key())
		if r := n.api(t, http.MethodDelete, query+"&require=recorded", ""); r.status != http.StatusServiceUnavailable {
			t.Errorf("an entry that must be recorded is answered %d %s", r.status, r.body)
		}
		n.want(t, "HIT", path)
		if answer := n.json(t, http.StatusAccepted, http.MethodDelete, query, ""); answer["recorded"] != false {
			t.Errorf("the entry is answered %v", answer)
		}
	}},
	{"the command", "/own/j", false, func(t *testing.T, n *node, path string) {
		t.Helper()
		_, errOut, ok := n.redisCache(t, "purge", "--tag", "page-j", "--require", "recorded")
		if ok || !strings.Contains(errOut, "could not be recorded") {
			t.Errorf("the command that requires a record says %q", errOut)
		}
		n.want(t, "HIT", path)
		_, errOut, ok = n.redisCache(t, "purge", "--tag", "page-j")
		if ok || !strings.Contains(errOut, "it waits to be recorded") {
			t.Errorf("the command says %q", errOut)
		}
	}},
	{"a client", "/own/k", false, func(t *testing.T, n *node, path string) {
		t.Helper()
		if r := n.do(t, http.MethodPost, path, ""); r.status != http.StatusOK {
			t.Errorf("POST %s: %d", path, r.status)
		}
	}},
}

// purgeThatWaits purges, unless that must be recorded.
func purgeThatWaits(body string) func(*testing.T, *node, string) {
	return func(t *testing.T, n *node, path string) {
		t.Helper()
		required := strings.TrimSuffix(body, "}") + `,"require":"recorded"}`
		if r := n.api(t, http.MethodPost, "/redis_cache/purge", required); r.status != http.StatusServiceUnavailable {
			t.Errorf("%s is answered %d %s", required, r.status, r.body)
		}
		n.want(t, "HIT", path)
		n.purgeWaits(t, body)
	}
}

// TestWidePurgesWhileRedisIsAway purges a host, and everything.
func TestWidePurgesWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	rds := startRedis(t)
	node := startCaddy(t, layout{redis: rds, origin: newOrigin(t), hasty: true, cache: guide, site: guideSite})
	rds.kill()
	ask := func(outcomes ...string) {
		t.Helper()
		for i, host := range []string{"one.test", "two.test"} {
			node.want(t, outcomes[i], "/api/v1/users/1", "Host: "+host)
		}
	}
	ask("MISS", "MISS")
	ask("HIT", "HIT")
	node.purgeWaits(t, `{"host":"one.test"}`)
	ask("MISS", "HIT")
	ask("HIT", "HIT")
	node.purgeWaits(t, `{"all":true,"soft":true}`)
	node.purgeWaits(t, `{"all":true}`)
	ask("MISS", "MISS")
	ask("HIT", "HIT")
}

// TestPurgeDuringFetchWhileRedisIsAway purges what is on its way: neither who asks later nor the
// store gets it, though it ends after the purge.
func TestPurgeDuringFetchWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	rds := startRedis(t)
	web := newOrigin(t)
	node := startCaddy(t, layout{redis: rds, origin: web, hasty: true, cache: guide, site: guideSite})
	const path = "/api/v1/pickups/slow"
	for i, purge := range []func(){
		func() { node.purgeWaits(t, `{"namespace":"pickup"}`) },
		func() { node.do(t, http.MethodPost, path, "") },
	} {
		if i == 0 {
			rds.kill()
		}
		hold, arrived := newGate(t), newGate(t)
		var first sync.Once
		web.handle(path, func(w http.ResponseWriter, r *http.Request) {
			body := "new"
			if r.Method == http.MethodGet {
				first.Do(func() {
					body = "old"
					arrived.open()
					hold.wait()
				})
			}
			fmt.Fprint(w, body)
		})
		answers := make(chan string, 2)
		ask := func() {
			r, err := node.try(t.Context(), http.MethodGet, path, "")
			if err != nil {
				r.body = err.Error()
			}
			answers <- r.body
		}
		go ask()
		arrived.wait()
		purge()
		go ask() // it waits for the fetch that is under way, but must not take what that brings
		hold.open()
		got := []string{<-answers, <-answers}
		if got[0] == got[1] || !strings.Contains(strings.Join(got, " "), "new") {
			t.Errorf("the answers are %q", got)
		}
		if r := node.want(t, "HIT", path); r.body != "new" {
			t.Errorf("stored is %q", r.body)
		}
		web.answer(path, http.StatusOK, "later")
		node.purgeWaits(t, `{"namespace":"pickup"}`)
	}
}

// TestWaitingPurgeOutlivesAReload changes the connection while a purge waits.
func TestWaitingPurgeOutlivesAReload(t *testing.T) {
	t.Parallel()
	rds := startRedis(t)
	l := layout{redis: rds, origin: newOrigin(t), hasty: true, cache: guide, site: guideSite}
	node := startCaddy(t, l)
	rds.kill()
	node.purgeWaits(t, `{"namespace":"pickup","by":"somebody in a hurry"}`)
	l.connect = rds.url() + " {\n\tdial_timeout 400ms\n\t}"
	if r := node.reload(t, l); r.status != http.StatusOK {
		t.Fatalf("reload: %d %s", r.status, r.body)
	}
	rds.start(t)
	eventually(t, "the purge is recorded", func() bool { return node.recorded(t, "somebody in a hurry") })
}

// TestWhatWaitsIsShown looks where an operator does.
func TestWhatWaitsIsShown(t *testing.T) {
	t.Parallel()
	rds := startRedis(t)
	node := startCaddy(t, layout{redis: rds, origin: newOrigin(t), hasty: true, cache: guide, site: guideSite})
	rds.kill()
	node.purgeWaits(t, `{"namespace":"pickup"}`)
	node.purgeWaits(t, `{"namespace":"user"}`)
	stats := node.json(t, http.StatusOK, http.MethodGet, "/redis_cache/stats", "")
	if text, _ := json.Marshal(stats["waiting"]); !strings.HasPrefix(string(text), `{"purges":2,"since":"`) {
		t.Errorf("the statistics say %s", text)
	}
	if _, checks := node.askDoctor(t); !strings.HasPrefix(checks["purges"], "warn ") || !strings.Contains(checks["purges"], "waiting to be recorded: 2") {
		t.Errorf("the doctor says %q", checks["purges"])
	}
	if got := node.metrics(t)["waiting_purges"]; got != 2 {
		t.Errorf("the metric says %v", got)
	}
	if log := node.proc.log.String(); !strings.Contains(log, "a purge waits to be recorded") {
		t.Error("the log says nothing")
	}
	if out, _, _ := node.redisCache(t, "stats"); !strings.Contains(out, "Purges waiting to be recorded: 2") {
		t.Errorf("the command prints\n%s", out)
	}
}
