package purge

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// recorded reports whether the journal lists an entry that contains a text.
func recorded(t *testing.T, n *harness.Node, text string) bool {
	t.Helper()
	r := n.API(t, http.MethodGet, "/redis_cache/journal", "")
	return r.Status == http.StatusOK && strings.Contains(r.Body, text)
}

// waiting returns how many purges are not recorded yet.
func waiting(t *testing.T, n *harness.Node) float64 {
	t.Helper()
	stats := n.JSON(t, http.StatusOK, http.MethodGet, "/redis_cache/stats", "")
	waiting, _ := stats["waiting"].(map[string]any)
	count, _ := waiting["purges"].(float64)
	return count
}

// TestPurgeBeforeAnyRedis is a newcomer's first purge: nothing says where Redis is, and there is
// none. Redis comes later, and then goes.
func TestPurgeBeforeAnyRedis(t *testing.T) {
	t.Parallel()
	node := harness.StartCaddy(t, harness.Layout{Unnamed: true, Origin: harness.NewOrigin(t), Cache: harness.GuideCache, Site: harness.GuideSite})
	alone := func(body string) {
		t.Helper()
		answer := node.JSON(t, http.StatusOK, http.MethodPost, "/redis_cache/purge", body)
		if answer["standalone"] != true || answer["recorded"] != false || answer["id"] != "" {
			t.Errorf("%s: %v", body, answer)
		}
	}
	for _, body := range []string{
		`{"namespace":"pickup"}`, `{"pattern":"pickup:*"}`, `{"url":"http://shop.test/api/v1/pickups/1"}`, `{"all":true}`,
	} {
		node.Get(t, "/api/v1/pickups/1")
		node.Want(t, "HIT", "/api/v1/pickups/1")
		alone(body)
		node.Script(t, `
			MISS /api/v1/pickups/1
			HIT  /api/v1/pickups/1`)
	}
	if r := node.API(t, http.MethodPost, "/redis_cache/purge", `{"all":true,"require":"recorded"}`); r.Status != http.StatusServiceUnavailable {
		t.Errorf("what must be recorded is answered %d %s", r.Status, r.Body)
	}
	if r := node.API(t, http.MethodPost, "/redis_cache/purge", `{"all":true,"require":"luck"}`); r.Status != http.StatusBadRequest {
		t.Errorf("an unknown requirement is answered %d %s", r.Status, r.Body)
	}
	node.Want(t, "HIT", "/api/v1/pickups/1")
	if _, errOut, ok := node.RedisCache(t, "purge", "--namespace", "user", "--by", "a newcomer"); !ok {
		t.Errorf("the command fails: %s", errOut)
	}
	if answer := node.JSON(t, http.StatusOK, http.MethodPost, "/redis_cache/purge", `{"namespace":"pickup","dry_run":true}`); answer["matched"] != 1.0 {
		t.Errorf("a dry run finds %v", answer)
	}
	if got := waiting(t, node); got != 5 {
		t.Errorf("%v purges wait, want 5", got)
	}

	rds := harness.RedisAt(t, harness.DefaultPort)
	rds.Start(t)
	node.Layout.Redis = rds
	harness.Eventually(t, "what waited is recorded", func() bool { return recorded(t, node, "a newcomer") })
	if got := waiting(t, node); got != 0 {
		t.Errorf("%v purges wait", got)
	}
	harness.Eventually(t, "the log tells of what was recorded", func() bool {
		return strings.Count(node.Proc.Log.String(), `"cache_invalidate"`) >= 5
	})
	harness.Eventually(t, "responses reach Redis", func() bool {
		key := node.Get(t, fmt.Sprintf("/api/v1/users/%d", harness.Probes.Add(1))).Key()
		return harness.Within(harness.Patience/20, func() bool { return rds.Has(t, key) })
	})
	if answer := node.Purge(t, `{"namespace":"pickup"}`); answer["standalone"] != nil || answer["recorded"] != true {
		t.Errorf("with Redis: %v", answer)
	}
	rds.Kill()
	node.PurgeWaits(t, `{"namespace":"pickup"}`) // there may be others now
}

// TestPurgeOfMemoryOnly has no journal but its own.
func TestPurgeOfMemoryOnly(t *testing.T) {
	t.Parallel()
	node := harness.StartCaddy(t, harness.Layout{Origin: harness.NewOrigin(t), Cache: harness.GuideCache, Site: harness.GuideSite})
	for _, body := range []string{`{"namespace":"pickup"}`, `{"namespace":"pickup","require":"recorded"}`} {
		node.Get(t, "/api/v1/pickups/1")
		node.Want(t, "HIT", "/api/v1/pickups/1")
		answer := node.JSON(t, http.StatusOK, http.MethodPost, "/redis_cache/purge", body)
		if answer["standalone"] != true || answer["recorded"] != true || answer["id"] == "" {
			t.Errorf("%s: %v", body, answer)
		}
		node.Want(t, "MISS", "/api/v1/pickups/1")
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
		away, back func(t *testing.T, r *harness.Redis)
	}{
		"killed": {
			func(_ *testing.T, r *harness.Redis) { r.Kill() },
			func(t *testing.T, r *harness.Redis) { r.Start(t) },
		},
		"out of memory": {
			func(t *testing.T, r *harness.Redis) { r.Do(t, "CONFIG", "SET", "maxmemory", "1") },
			func(t *testing.T, r *harness.Redis) { r.Do(t, "CONFIG", "SET", "maxmemory", "0") },
		},
		"a replica": {
			func(t *testing.T, r *harness.Redis) { r.Do(t, "REPLICAOF", "127.0.0.1", "1") },
			func(t *testing.T, r *harness.Redis) { r.Do(t, "REPLICAOF", "NO", "ONE") },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rds := harness.StartRedis(t, "--appendonly", "yes", "--appendfsync", "always", "--dir", t.TempDir())
			l := harness.Layout{
				Redis: rds, Origin: harness.NewOrigin(t), Hasty: true, Site: outageSite,
				Cache: "namespace own\nnamespace named\non changed {\npurge tag changed-{event.id_of_page}\n}",
			}
			nodes := [2]*harness.Node{harness.StartCaddy(t, l), harness.StartCaddy(t, l)}
			for _, purge := range purgesOfOutage {
				if purge.path != "" {
					nodes[0].Get(t, purge.path)
				}
			}
			nodes[0].Get(t, "/own/kept")
			for _, n := range nodes {
				for _, purge := range purgesOfOutage {
					rds.Await(t, n.Want(t, "HIT", purge.path).Key())
				}
				n.Want(t, "HIT", "/own/kept")
			}

			tt.away(t, rds)
			for _, purge := range purgesOfOutage {
				purge.do(t, nodes[0], purge.path)
				stale := "MISS"
				if purge.soft {
					stale = "REVALIDATED"
				}
				if r := nodes[0].Get(t, purge.path); r.Outcome() != "MISS" && r.Outcome() != stale {
					t.Errorf("after %s %s is a %s", purge.name, purge.path, r.Outcome())
				}
				nodes[0].Want(t, "HIT", purge.path)
			}
			nodes[0].Want(t, "HIT", "/own/kept")

			tt.back(t, rds)
			harness.Eventually(t, "nothing waits", func() bool { return waiting(t, nodes[0]) == 0 })
			for _, purge := range purgesOfOutage {
				harness.Eventually(t, "the other node knows of "+purge.name, func() bool { return nodes[1].Get(t, purge.path).Outcome() != "HIT" })
			}
			nodes[1].Want(t, "HIT", "/own/kept")
			for _, purge := range purgesOfOutage {
				for _, n := range nodes {
					harness.Eventually(t, "a new response is served", func() bool { return n.Get(t, purge.path).Outcome() == "HIT" })
				}
			}
		})
	}
}

// purgesOfOutage purge one page each.
var purgesOfOutage = []struct {
	name, path string
	soft       bool
	do         func(t *testing.T, n *harness.Node, path string)
}{
	{"a tag", "/own/a", false, purgeThatWaits(`{"tag":"page-a"}`)},
	{"a soft tag", "/own/b", true, purgeThatWaits(`{"tag":"page-b","soft":true}`)},
	{"a key", "/own/c", false, purgeThatWaits(`{"key":"own:shop.test/own/c"}`)},
	{"a pattern", "/own/d", false, purgeThatWaits(`{"pattern":"own:*/d"}`)},
	{"a URL", "/own/e", false, purgeThatWaits(`{"url":"http://shop.test/own/e"}`)},
	{"a prefix", "/own/f/1", false, purgeThatWaits(`{"prefix":"http://shop.test/own/f/"}`)},
	{"a namespace", "/named/a", false, purgeThatWaits(`{"namespace":"named"}`)},
	{"a list", "/own/g", false, purgeThatWaits(`{"tags":["page-g","page-x"],"urls":["http://shop.test/y"]}`)},
	{"an event", "/events/h", false, func(t *testing.T, n *harness.Node, _ string) {
		t.Helper()
		answer := n.JSON(t, http.StatusAccepted, http.MethodPost, "/redis_cache/events", `{"event":"changed","data":{"id_of_page":"h"}}`)
		if answer["recorded"] != false {
			t.Errorf("the event is answered %v", answer)
		}
		if r := n.API(t, http.MethodPost, "/redis_cache/events", `{"event":"changed","data":{"id_of_page":"h"},"require":"recorded"}`); r.Status != http.StatusServiceUnavailable {
			t.Errorf("an event that must be recorded is answered %d %s", r.Status, r.Body)
		}
	}},
	{"an entry", "/own/i", false, func(t *testing.T, n *harness.Node, path string) {
		t.Helper()
		query := "/redis_cache/entry?key=" + url.QueryEscape(n.Get(t, path).Key())
		if r := n.API(t, http.MethodDelete, query+"&require=recorded", ""); r.Status != http.StatusServiceUnavailable {
			t.Errorf("an entry that must be recorded is answered %d %s", r.Status, r.Body)
		}
		n.Want(t, "HIT", path)
		if answer := n.JSON(t, http.StatusAccepted, http.MethodDelete, query, ""); answer["recorded"] != false {
			t.Errorf("the entry is answered %v", answer)
		}
	}},
	{"the command", "/own/j", false, func(t *testing.T, n *harness.Node, path string) {
		t.Helper()
		_, errOut, ok := n.RedisCache(t, "purge", "--tag", "page-j", "--require", "recorded")
		if ok || !strings.Contains(errOut, "could not be recorded") {
			t.Errorf("the command that requires a record says %q", errOut)
		}
		n.Want(t, "HIT", path)
		_, errOut, ok = n.RedisCache(t, "purge", "--tag", "page-j")
		if ok || !strings.Contains(errOut, "it waits to be recorded") {
			t.Errorf("the command says %q", errOut)
		}
	}},
	{"a client", "/own/k", false, func(t *testing.T, n *harness.Node, path string) {
		t.Helper()
		if r := n.Do(t, http.MethodPost, path, ""); r.Status != http.StatusOK {
			t.Errorf("POST %s: %d", path, r.Status)
		}
	}},
}

// purgeThatWaits purges, unless that must be recorded.
func purgeThatWaits(body string) func(*testing.T, *harness.Node, string) {
	return func(t *testing.T, n *harness.Node, path string) {
		t.Helper()
		required := strings.TrimSuffix(body, "}") + `,"require":"recorded"}`
		if r := n.API(t, http.MethodPost, "/redis_cache/purge", required); r.Status != http.StatusServiceUnavailable {
			t.Errorf("%s is answered %d %s", required, r.Status, r.Body)
		}
		n.Want(t, "HIT", path)
		n.PurgeWaits(t, body)
	}
}

// TestWidePurgesWhileRedisIsAway purges a host, and everything.
func TestWidePurgesWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	rds := harness.StartRedis(t)
	node := harness.StartCaddy(t, harness.Layout{Redis: rds, Origin: harness.NewOrigin(t), Hasty: true, Cache: harness.GuideCache, Site: harness.GuideSite})
	rds.Kill()
	ask := func(outcomes ...string) {
		t.Helper()
		for i, host := range []string{"one.test", "two.test"} {
			node.Want(t, outcomes[i], "/api/v1/users/1", "Host: "+host)
		}
	}
	ask("MISS", "MISS")
	ask("HIT", "HIT")
	node.PurgeWaits(t, `{"host":"one.test"}`)
	ask("MISS", "HIT")
	ask("HIT", "HIT")
	node.PurgeWaits(t, `{"all":true,"soft":true}`)
	node.PurgeWaits(t, `{"all":true}`)
	ask("MISS", "MISS")
	ask("HIT", "HIT")
}

// TestPurgeDuringFetchWhileRedisIsAway purges what is on its way: neither who asks later nor the
// store gets it, though it ends after the purge.
func TestPurgeDuringFetchWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	rds := harness.StartRedis(t)
	web := harness.NewOrigin(t)
	node := harness.StartCaddy(t, harness.Layout{Redis: rds, Origin: web, Hasty: true, Cache: harness.GuideCache, Site: harness.GuideSite})
	const path = "/api/v1/pickups/slow"
	for i, purge := range []func(){
		func() { node.PurgeWaits(t, `{"namespace":"pickup"}`) },
		func() { node.Do(t, http.MethodPost, path, "") },
	} {
		if i == 0 {
			rds.Kill()
		}
		hold, arrived := harness.NewGate(t), harness.NewGate(t)
		var first sync.Once
		web.Handle(path, func(w http.ResponseWriter, r *http.Request) {
			body := "new"
			if r.Method == http.MethodGet {
				first.Do(func() {
					body = "old"
					arrived.Open()
					hold.Wait()
				})
			}
			fmt.Fprint(w, body)
		})
		answers := make(chan string, 2)
		ask := func() {
			r, err := node.Try(t.Context(), http.MethodGet, path, "")
			if err != nil {
				r.Body = err.Error()
			}
			answers <- r.Body
		}
		go ask()
		arrived.Wait()
		purge()
		go ask() // it waits for the fetch that is under way, but must not take what that brings
		hold.Open()
		got := []string{<-answers, <-answers}
		if got[0] == got[1] || !strings.Contains(strings.Join(got, " "), "new") {
			t.Errorf("the answers are %q", got)
		}
		if r := node.Want(t, "HIT", path); r.Body != "new" {
			t.Errorf("stored is %q", r.Body)
		}
		web.Answer(path, http.StatusOK, "later")
		node.PurgeWaits(t, `{"namespace":"pickup"}`)
	}
}

// TestWaitingPurgeOutlivesAReload changes the connection while a purge waits.
func TestWaitingPurgeOutlivesAReload(t *testing.T) {
	t.Parallel()
	rds := harness.StartRedis(t)
	l := harness.Layout{Redis: rds, Origin: harness.NewOrigin(t), Hasty: true, Cache: harness.GuideCache, Site: harness.GuideSite}
	node := harness.StartCaddy(t, l)
	rds.Kill()
	node.PurgeWaits(t, `{"namespace":"pickup","by":"somebody in a hurry"}`)
	l.Connect = rds.URL() + " {\n\tdial_timeout 400ms\n\t}"
	if r := node.Reload(t, l); r.Status != http.StatusOK {
		t.Fatalf("reload: %d %s", r.Status, r.Body)
	}
	rds.Start(t)
	harness.Eventually(t, "the purge is recorded", func() bool { return recorded(t, node, "somebody in a hurry") })
}

// TestWhatWaitsIsShown looks where an operator does.
func TestWhatWaitsIsShown(t *testing.T) {
	t.Parallel()
	rds := harness.StartRedis(t)
	node := harness.StartCaddy(t, harness.Layout{Redis: rds, Origin: harness.NewOrigin(t), Hasty: true, Cache: harness.GuideCache, Site: harness.GuideSite})
	rds.Kill()
	node.PurgeWaits(t, `{"namespace":"pickup"}`)
	node.PurgeWaits(t, `{"namespace":"user"}`)
	stats := node.JSON(t, http.StatusOK, http.MethodGet, "/redis_cache/stats", "")
	if text, _ := json.Marshal(stats["waiting"]); !strings.HasPrefix(string(text), `{"purges":2,"since":"`) {
		t.Errorf("the statistics say %s", text)
	}
	if _, checks := node.AskDoctor(t); !strings.HasPrefix(checks["purges"], "warn ") || !strings.Contains(checks["purges"], "waiting to be recorded: 2") {
		t.Errorf("the doctor says %q", checks["purges"])
	}
	if got := node.Metrics(t)["waiting_purges"]; got != 2 {
		t.Errorf("the metric says %v", got)
	}
	if log := node.Proc.Log.String(); !strings.Contains(log, "a purge waits to be recorded") {
		t.Error("the log says nothing")
	}
	if out, _, _ := node.RedisCache(t, "stats"); !strings.Contains(out, "Purges waiting to be recorded: 2") {
		t.Errorf("the command prints\n%s", out)
	}
}
