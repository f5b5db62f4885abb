package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// TestTopologies runs the same acceptance suite on every kind of Redis, as a user that may do no
// more than README says.
func TestTopologies(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T) *topology{
		"socket": startSocket, "tls": startTLS, "sentinel": startSentinel, "cluster": startCluster,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			top := start(t)
			t.Cleanup(func() { top.checkDenied(t) })
			f := newFleet(t, nil)
			f.connect = top.connect
			f.join(t, f.layout())
			f.join(t, f.layout())
			f.testTopology(t, top)
			switch name {
			case "cluster":
				f.testMigration(t, top)
				f.testFailover(t, top)
				f.testUncovered(t, top)
			case "sentinel":
				f.testFailover(t, top)
			}
		})
	}
}

// testTopology is the acceptance suite.
func (f *fleet) testTopology(t *testing.T, top *topology) {
	one, two := f.nodes[0], f.nodes[1]
	f.ready(t, top)
	miss := one.want(t, "MISS", "/api/v1/users/restart")
	one.want(t, "HIT", "/api/v1/users/restart")
	top.await(t, miss.key())
	one.restart(t)
	f.ready(t, top)
	hit := one.want(t, "HIT", "/api/v1/users/restart")
	if got := hit.cacheStatus(t)["detail"]; got != "redis" {
		t.Errorf("after a restart: a hit from %q", got)
	}
	for key, ttl := range map[string]bool{miss.key(): true, journalKey: false, epochKey: true} {
		if got := top.client.TTL(t.Context(), key).Val(); (got > 0) != ttl {
			t.Errorf("the TTL of %s is %s", key, got)
		}
	}

	f.testSelectors(t)

	// What the listings say.
	f.current.Add(1)
	points := make(map[string]bool)
	for i := range 20 { // in every part of a cluster
		miss := one.want(t, "MISS", fmt.Sprint("/api/v1/points/", i))
		top.await(t, miss.key())
		points[miss.key()] = true
	}
	if got := two.entries(t, "namespace=points", 7); !maps.Equal(got, points) {
		t.Errorf("entries %v, want %v", got, points)
	}
	want := float64(len(points))
	stats := two.json(t, http.StatusOK, http.MethodGet, "/redis_cache/stats", "")
	if got := number(t, stats, "namespaces", "points", "keys"); got != want || stats["breaker"] != "closed" || stats["partial"] != nil {
		t.Errorf("%v keys, want %v; %v", got, want, stats)
	}
	answer := f.purge(t, two, `{"namespace":"points","by":"somebody"}`)
	if replicated, known := answer["replicated"]; known != (len(top.servers) > 1) || known && replicated != true {
		t.Errorf("replicated: %v", replicated)
	}
	list := one.json(t, http.StatusOK, http.MethodGet, "/redis_cache/journal?limit=1", "")
	if line := list["entries"].([]any)[0].(map[string]any); line["id"] != answer["id"] || line["by"] != "somebody" {
		t.Errorf("listed is %v, answered was %v", line, answer)
	}
	eventually(t, "the purge is counted", func() bool { return one.removed(t, 1)[0] == want })
	f.testEntry(t, top)
	if lines := two.json(t, http.StatusOK, http.MethodGet, "/redis_cache/nodes", "")["nodes"].([]any); len(lines) < 2 {
		t.Errorf("nodes: %v", lines)
	}

	// What an operator may do to Redis.
	for name, harm := range map[string]func(context.Context, *redis.Client) error{
		"DEL":      func(ctx context.Context, c *redis.Client) error { return c.Del(ctx, journalKey).Err() },
		"FLUSHALL": func(ctx context.Context, c *redis.Client) error { return c.FlushAll(ctx).Err() },
	} {
		path := "/api/v1/users/" + name
		f.settled(t, path)
		for _, r := range top.servers {
			err := harm(t.Context(), r.client)
			if err != nil && !strings.HasPrefix(err.Error(), "MOVED") && !strings.HasPrefix(err.Error(), "READONLY") {
				t.Fatalf("%s: %v", name, err)
			}
		}
		f.purge(t, one, `{"namespace":"user"}`)
		f.check(t, path, f.nodes...)
		f.ready(t, top)
		f.settled(t, path)
	}
	f.testRights(t, top)
	f.testDoctor(t, top)
}

// testEntry looks at one stored response and deletes it on another node than the one that has it in
// memory.
func (f *fleet) testEntry(t *testing.T, top *topology) {
	t.Helper()
	key := f.nodes[0].want(t, "MISS", "/api/v1/users/entry").key()
	top.await(t, key)
	entry := "/redis_cache/entry?key=" + url.QueryEscape(key)
	if e := f.nodes[1].json(t, http.StatusOK, http.MethodGet, entry, ""); e["key"] != key || fmt.Sprint(e["tiers"]) != "[redis]" {
		t.Errorf("entry %v", e)
	}
	f.nodes[1].json(t, http.StatusOK, http.MethodDelete, entry+"&wait=10s", "")
	for _, n := range f.nodes {
		n.json(t, http.StatusNotFound, http.MethodGet, entry, "")
	}
}

// testDoctor examines a healthy Redis with the rights that README says it needs for that.
func (f *fleet) testDoctor(t *testing.T, top *topology) {
	t.Helper()
	top.allowDoctor(t)
	want := []string{"redis", "rights", "version", "memory", "clock", "lifetimes", "foreign keys", "configuration"}
	if len(top.servers) > 1 {
		want = append(want, "replicas") // of a master
	}
	if _, cluster := top.client.(*redis.ClusterClient); cluster {
		want = append(want, "cluster")
	}
	var checks map[string]string
	healthy := func() (ok bool) {
		ok, checks = f.nodes[0].doctor(t)
		return ok && !slices.ContainsFunc(want, func(name string) bool { return !strings.HasPrefix(checks[name], "ok ") })
	}
	if !within(patience, healthy) { // it takes a second to give keys their lifetimes after FLUSHALL
		t.Errorf("a healthy Redis: %v", checks)
	}
}

// allowDoctor gives the rights that only the doctor needs. A server that is started again has lost
// them.
func (top *topology) allowDoctor(t *testing.T) {
	t.Helper()
	for _, r := range top.servers {
		for _, rule := range aclRules(t, "caddy redis-cache doctor") {
			r.do(t, "ACL", "SETUSER", "cache", rule)
		}
	}
}

// testUncovered takes a right from one master, and then a slot.
func (f *fleet) testUncovered(t *testing.T, top *topology) {
	t.Helper()
	top.allowDoctor(t)
	top.checkDenied(t)
	master := top.masterOf(t, journalKey)
	master.do(t, "ACL", "SETUSER", "cache", "-hincrby")
	ok, checks := f.nodes[0].doctor(t)
	if ok || !strings.HasPrefix(checks["rights"], "fail redis refuses hincrby") {
		t.Errorf("without a right on one master: ok %t, %q", ok, checks["rights"])
	}
	master.do(t, "ACL", "SETUSER", "cache", "+hincrby")
	master.do(t, "ACL", "LOG", "RESET")

	master.do(t, "CLUSTER", "DELSLOTS", top.client.ClusterKeySlot(t.Context(), journalKey).Val())
	uncovered := func() bool {
		ok, checks = f.nodes[0].doctor(t)
		return !ok && strings.HasPrefix(checks["cluster"], "fail ") && strings.Contains(checks["cluster"], "16383 of 16384")
	}
	if !within(patience, uncovered) {
		t.Errorf("without a slot: %v", checks)
	}
}

// ready waits until both nodes keep responses in Redis, and know each other.
func (f *fleet) ready(t *testing.T, top *topology) {
	t.Helper()
	for _, n := range f.nodes {
		eventually(t, "the node stores in Redis", func() bool {
			key := n.get(t, fmt.Sprintf("/api/v1/pickups/ready-%d", probes.Add(1))).key()
			return within(patience/50, func() bool { return top.client.Exists(t.Context(), key).Val() == 1 })
		})
	}
	f.fence(t, f.nodes[0])
}

// settled waits until every node answers from its store.
func (f *fleet) settled(t *testing.T, path string) {
	t.Helper()
	for _, n := range f.nodes {
		eventually(t, "a hit for "+path, func() bool { return n.get(t, path).outcome() == "HIT" })
	}
}

// testRights asks Redis about commands that are needed too seldom to be seen here.
func (f *fleet) testRights(t *testing.T, top *topology) {
	nodes, removed := "cache::nodes:{cache::journal}", "cache::removed:{cache::journal}"
	for _, command := range [][]any{
		{"XTRIM", journalKey, "MAXLEN", "~", "1"},
		{"EVAL", "return 1", "1", nodes, "a", "b"},
		{"HGET", nodes, "a"},
		{"HDEL", nodes, "a"},
		{"HKEYS", removed},
		{"HDEL", removed, "a"},
		{"UNWATCH"},
	} {
		got, err := top.servers[0].client.Do(t.Context(), append([]any{"ACL", "DRYRUN", "cache"}, command...)...).Text()
		if err != nil || got != "OK" {
			t.Errorf("%v: %s %v", command, got, err)
		}
	}
	for _, command := range [][]any{{"GET", "cachet:x"}, {"SET", "other:cache:x", "y"}, {"KEYS", "*"}, {"FLUSHALL"}, {"CONFIG", "GET", "*"}} {
		got, _ := top.servers[0].client.Do(t.Context(), append([]any{"ACL", "DRYRUN", "cache"}, command...)...).Text()
		if got == "OK" {
			t.Errorf("%v is allowed", command)
		}
	}
}

// purger purges again and again, and counts the answers. With the answer 200 what the origin says
// now is final.
type purger struct {
	answers [3]atomic.Int64 // 200, 202, and 202 for one that waits to be recorded
	last    atomic.Pointer[string]
	stop    func()
}

var purgeStatuses = []int{http.StatusOK, http.StatusAccepted}

func (f *fleet) startPurger(t *testing.T) *purger {
	t.Helper()
	p := new(purger)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		for turn := 0; ctx.Err() == nil; turn++ {
			next := f.current.Add(1)
			r := f.nodes[turn%2].api(t, http.MethodPost, "/redis_cache/purge", `{"namespaces":["pickup","user"]}`)
			var answer struct {
				Recorded   bool     `json:"recorded"`
				Pending    []string `json:"pending"`
				Replicated *bool    `json:"replicated"`
			}
			kind := slices.Index(purgeStatuses, r.status)
			if err := json.Unmarshal([]byte(r.body), &answer); err != nil || kind < 0 {
				t.Errorf("a purge is answered %d %s", r.status, r.body)
				return
			}
			if !answer.Recorded && kind == 1 {
				kind = 2
			}
			complete := answer.Recorded && len(answer.Pending) == 0 && answer.Replicated != nil && *answer.Replicated
			if complete != (kind == 0) {
				t.Errorf("a purge is answered %d, though: %s", r.status, r.body)
			}
			if kind == 0 {
				f.final.Store(next)
			}
			p.answers[kind].Add(1)
			p.last.Store(&r.body)
		}
	})
	p.stop = func() {
		cancel()
		running.Wait()
	}
	return p
}

// some waits for a number of purges that are final.
func (p *purger) some(t *testing.T, n int64) {
	t.Helper()
	target := p.answers[0].Load() + n
	if !within(patience, func() bool { return p.answers[0].Load() >= target }) {
		t.Fatalf("waited in vain for %d purges that are final; %s, the last %s", n, p, *p.last.Load())
	}
}

func (p *purger) total() (n int64) {
	for i := range p.answers {
		n += p.answers[i].Load()
	}
	return n
}

func (p *purger) String() string {
	return fmt.Sprintf("%d purges answered 200, %d 202, %d 202 and not recorded", p.answers[0].Load(), p.answers[1].Load(), p.answers[2].Load())
}

// testFailover takes the master of the journal away under load, and gives it back. No request
// fails, and what a purge has made final stays so.
func (f *fleet) testFailover(t *testing.T, top *topology) {
	_, cluster := top.client.(*redis.ClusterClient)
	for _, tt := range []struct {
		name string
		away func(*redisServer)
		back func(p *purger, old, successor *redisServer)
	}{
		{"killed", (*redisServer).kill, func(_ *purger, old, successor *redisServer) {
			if !cluster {
				old.args = append(old.args, "--replicaof", "127.0.0.1 "+successor.port())
			}
			old.start(t)
		}},
		// It comes back as the master that it was, until it hears otherwise.
		{"hanging", (*redisServer).pause, func(p *purger, old, successor *redisServer) {
			old.resume()
			before := p.total()
			eventually(t, "purges go on", func() bool { return p.total() >= before+3 })
			if !cluster { // Sentinels take ten seconds for this
				old.do(t, "REPLICAOF", "127.0.0.1", successor.port())
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stop := f.watch(t, append(pickupSeries("failover", 5), "/api/v1/users/1", "/api/v1/users/2")...)
			defer stop()
			purges := f.startPurger(t)
			defer purges.stop()
			purges.some(t, 20)
			old := top.masterOf(t, journalKey)
			tt.away(old)
			eventually(t, "a replica takes over", func() bool { return top.masterOf(t, journalKey) != old })
			tt.back(purges, old, top.masterOf(t, journalKey))
			purges.some(t, 20)
			purges.stop()
			stop()
			t.Log(purges)
			if purges.answers[1].Load()+purges.answers[2].Load() == 0 {
				t.Error("no purge has noticed the failover")
			}
			f.ready(t, top)
			f.settled(t, "/api/v1/users/after-"+tt.name)
		})
	}
}

// testMigration moves the slots of the journal and of a response to another master under load.
func (f *fleet) testMigration(t *testing.T, top *topology) {
	const path = "/api/v1/users/moving"
	key := f.nodes[0].get(t, path).key()
	stop := f.watch(t, path, "/api/v1/pickups/moving")
	defer stop()
	purges := f.startPurger(t)
	defer purges.stop()
	purges.some(t, 20)
	for _, moved := range []string{key, journalKey} {
		top.migrate(t, moved)
		purges.some(t, 20)
	}
	purges.stop()
	stop()
	t.Log(purges)
	if purges.answers[2].Load() > 0 {
		t.Error("purges had to wait, though no server was away")
	}
	f.ready(t, top)
	f.settled(t, path)
}

// migrate moves the slot of a key to the next master, as an operator does, with time in between.
func (top *topology) migrate(t *testing.T, key string) {
	t.Helper()
	slot := top.client.ClusterKeySlot(t.Context(), key).Val()
	masters := top.servers[:clusterMasters]
	from := slices.IndexFunc(masters, func(r *redisServer) bool {
		// Others say that it has moved.
		return r.client.Do(t.Context(), "EXISTS", key).Err() == nil
	})
	if from < 0 {
		t.Fatalf("nobody has slot %d", slot)
	}
	source, target := masters[from], masters[(from+1)%clusterMasters]
	target.do(t, "CLUSTER", "SETSLOT", slot, "IMPORTING", source.clusterID(t))
	source.do(t, "CLUSTER", "SETSLOT", slot, "MIGRATING", target.clusterID(t))
	for {
		keys := source.client.ClusterGetKeysInSlot(t.Context(), int(slot), 10).Val()
		if len(keys) == 0 {
			break
		}
		for _, k := range keys {
			source.do(t, "MIGRATE", "127.0.0.1", target.port(), k, 0, 5000, "REPLACE")
		}
	}
	within(750*time.Millisecond, func() bool { return false }) // requests find the slot between two servers
	for _, r := range []*redisServer{target, source, masters[(from+2)%clusterMasters]} {
		r.do(t, "CLUSTER", "SETSLOT", slot, "NODE", target.clusterID(t))
	}
}
