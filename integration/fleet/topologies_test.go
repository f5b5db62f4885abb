package fleet

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

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// TestTopologies runs the same acceptance suite on every kind of Redis, as a user that may do no
// more than the documentation says.
func TestTopologies(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T) *harness.Topology{
		"socket": harness.StartSocket, "tls": harness.StartTLS, "sentinel": harness.StartSentinel, "cluster": harness.StartCluster,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			top := start(t)
			t.Cleanup(func() { top.CheckDenied(t) })
			f := harness.NewFleet(t, nil)
			f.Connect = top.Connect
			f.Join(t, f.Layout())
			f.Join(t, f.Layout())
			testTopology(t, f, top)
			switch name {
			case "cluster":
				testMigration(t, f, top)
				testFailover(t, f, top)
				testUncovered(t, f, top)
			case "sentinel":
				testFailover(t, f, top)
			}
		})
	}
}

// testTopology is the acceptance suite.
func testTopology(t *testing.T, f *harness.Fleet, top *harness.Topology) {
	one, two := f.Nodes[0], f.Nodes[1]
	ready(t, f, top)
	miss := one.Want(t, "MISS", "/api/v1/users/restart")
	one.Want(t, "HIT", "/api/v1/users/restart")
	top.Await(t, miss.Key())
	one.Restart(t)
	ready(t, f, top)
	hit := one.Want(t, "HIT", "/api/v1/users/restart")
	if got := hit.CacheStatus(t)["detail"]; got != "redis" {
		t.Errorf("after a restart: a hit from %q", got)
	}
	for key, ttl := range map[string]bool{miss.Key(): true, harness.JournalKey: false, harness.EpochKey: true} {
		if got := top.Client.TTL(t.Context(), key).Val(); (got > 0) != ttl {
			t.Errorf("the TTL of %s is %s", key, got)
		}
	}

	testSelectors(t, f)

	// What the listings say.
	f.Current.Add(1)
	points := make(map[string]bool)
	for i := range 20 { // in every part of a cluster
		miss := one.Want(t, "MISS", fmt.Sprint("/api/v1/points/", i))
		top.Await(t, miss.Key())
		points[miss.Key()] = true
	}
	if got := two.Entries(t, "namespace=points", 7); !maps.Equal(got, points) {
		t.Errorf("entries %v, want %v", got, points)
	}
	want := float64(len(points))
	stats := two.JSON(t, http.StatusOK, http.MethodGet, "/redis_cache/stats", "")
	if got := harness.Number(t, stats, "namespaces", "points", "keys"); got != want || stats["breaker"] != "closed" || stats["partial"] != nil {
		t.Errorf("%v keys, want %v; %v", got, want, stats)
	}
	answer := f.Purge(t, two, `{"namespace":"points","by":"somebody"}`)
	if replicated, known := answer["replicated"]; known != (len(top.Servers) > 1) || known && replicated != true {
		t.Errorf("replicated: %v", replicated)
	}
	list := one.JSON(t, http.StatusOK, http.MethodGet, "/redis_cache/journal?limit=1", "")
	if line := list["entries"].([]any)[0].(map[string]any); line["id"] != answer["id"] || line["by"] != "somebody" {
		t.Errorf("listed is %v, answered was %v", line, answer)
	}
	harness.Eventually(t, "the purge is counted", func() bool { return one.Removed(t, 1)[0] == want })
	testEntry(t, f, top)
	if lines := two.JSON(t, http.StatusOK, http.MethodGet, "/redis_cache/nodes", "")["nodes"].([]any); len(lines) < 2 {
		t.Errorf("nodes: %v", lines)
	}

	// What an operator may do to Redis.
	for name, harm := range map[string]func(context.Context, *redis.Client) error{
		"DEL":      func(ctx context.Context, c *redis.Client) error { return c.Del(ctx, harness.JournalKey).Err() },
		"FLUSHALL": func(ctx context.Context, c *redis.Client) error { return c.FlushAll(ctx).Err() },
	} {
		path := "/api/v1/users/" + name
		settled(t, f, path)
		for _, r := range top.Servers {
			err := harm(t.Context(), r.Client)
			if err != nil && !strings.HasPrefix(err.Error(), "MOVED") && !strings.HasPrefix(err.Error(), "READONLY") {
				t.Fatalf("%s: %v", name, err)
			}
		}
		f.Purge(t, one, `{"namespace":"user"}`)
		f.Check(t, path, f.Nodes...)
		ready(t, f, top)
		settled(t, f, path)
	}
	testRights(t, f, top)
	testDoctor(t, f, top)
}

// testEntry looks at one stored response and deletes it on another node than the one that has it in
// memory.
func testEntry(t *testing.T, f *harness.Fleet, top *harness.Topology) {
	t.Helper()
	key := f.Nodes[0].Want(t, "MISS", "/api/v1/users/entry").Key()
	top.Await(t, key)
	entry := "/redis_cache/entry?key=" + url.QueryEscape(key)
	if e := f.Nodes[1].JSON(t, http.StatusOK, http.MethodGet, entry, ""); e["key"] != key || fmt.Sprint(e["tiers"]) != "[redis]" {
		t.Errorf("entry %v", e)
	}
	f.Nodes[1].JSON(t, http.StatusOK, http.MethodDelete, entry+"&wait=10s", "")
	for _, n := range f.Nodes {
		n.JSON(t, http.StatusNotFound, http.MethodGet, entry, "")
	}
}

// testDoctor examines a healthy Redis with the rights that the documentation says it needs for that.
func testDoctor(t *testing.T, f *harness.Fleet, top *harness.Topology) {
	t.Helper()
	allowDoctor(t, top)
	want := []string{"redis", "rights", "version", "memory", "clock", "lifetimes", "foreign keys", "configuration"}
	if len(top.Servers) > 1 {
		want = append(want, "replicas") // of a master
	}
	if _, cluster := top.Client.(*redis.ClusterClient); cluster {
		want = append(want, "cluster")
	}
	var checks map[string]string
	healthy := func() (ok bool) {
		ok, checks = f.Nodes[0].Doctor(t)
		return ok && !slices.ContainsFunc(want, func(name string) bool { return !strings.HasPrefix(checks[name], "ok ") })
	}
	if !harness.Within(harness.Patience, healthy) { // it takes a second to give keys their lifetimes after FLUSHALL
		t.Errorf("a healthy Redis: %v", checks)
	}
}

// allowDoctor gives the rights that only the doctor needs. A server that is started again has lost
// them.
func allowDoctor(t *testing.T, top *harness.Topology) {
	t.Helper()
	for _, r := range top.Servers {
		for _, rule := range harness.AclRules(t, "caddy redis-cache doctor") {
			r.Do(t, "ACL", "SETUSER", "cache", rule)
		}
	}
}

// testUncovered takes a right from one master, and then a slot.
func testUncovered(t *testing.T, f *harness.Fleet, top *harness.Topology) {
	t.Helper()
	allowDoctor(t, top)
	top.CheckDenied(t)
	master := top.MasterOf(t, harness.JournalKey)
	master.Do(t, "ACL", "SETUSER", "cache", "-hincrby")
	ok, checks := f.Nodes[0].Doctor(t)
	if ok || !strings.HasPrefix(checks["rights"], "fail redis refuses hincrby") {
		t.Errorf("without a right on one master: ok %t, %q", ok, checks["rights"])
	}
	master.Do(t, "ACL", "SETUSER", "cache", "+hincrby")
	master.Do(t, "ACL", "LOG", "RESET")

	master.Do(t, "CLUSTER", "DELSLOTS", top.Client.ClusterKeySlot(t.Context(), harness.JournalKey).Val())
	uncovered := func() bool {
		ok, checks = f.Nodes[0].Doctor(t)
		return !ok && strings.HasPrefix(checks["cluster"], "fail ") && strings.Contains(checks["cluster"], "16383 of 16384")
	}
	if !harness.Within(harness.Patience, uncovered) {
		t.Errorf("without a slot: %v", checks)
	}
}

// ready waits until both nodes keep responses in Redis, and know each other.
func ready(t *testing.T, f *harness.Fleet, top *harness.Topology) {
	t.Helper()
	for _, n := range f.Nodes {
		harness.Eventually(t, "the node stores in Redis", func() bool {
			key := n.Get(t, fmt.Sprintf("/api/v1/pickups/ready-%d", harness.Probes.Add(1))).Key()
			return harness.Within(harness.Patience/50, func() bool { return top.Client.Exists(t.Context(), key).Val() == 1 })
		})
	}
	f.Fence(t, f.Nodes[0])
}

// settled waits until every node answers from its store.
func settled(t *testing.T, f *harness.Fleet, path string) {
	t.Helper()
	for _, n := range f.Nodes {
		harness.Eventually(t, "a hit for "+path, func() bool { return n.Get(t, path).Outcome() == "HIT" })
	}
}

// testRights asks Redis about commands that are needed too seldom to be seen here.
func testRights(t *testing.T, f *harness.Fleet, top *harness.Topology) {
	nodes, removed := "cache::nodes:{cache::journal}", "cache::removed:{cache::journal}"
	for _, command := range [][]any{
		{"XTRIM", harness.JournalKey, "MAXLEN", "~", "1"},
		{"EVAL", "return 1", "1", nodes, "a", "b"},
		{"HGET", nodes, "a"},
		{"HDEL", nodes, "a"},
		{"HKEYS", removed},
		{"HDEL", removed, "a"},
		{"UNWATCH"},
	} {
		got, err := top.Servers[0].Client.Do(t.Context(), append([]any{"ACL", "DRYRUN", "cache"}, command...)...).Text()
		if err != nil || got != "OK" {
			t.Errorf("%v: %s %v", command, got, err)
		}
	}
	for _, command := range [][]any{{"GET", "cachet:x"}, {"SET", "other:cache:x", "y"}, {"KEYS", "*"}, {"FLUSHALL"}, {"CONFIG", "GET", "*"}} {
		got, _ := top.Servers[0].Client.Do(t.Context(), append([]any{"ACL", "DRYRUN", "cache"}, command...)...).Text()
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

func startPurger(t *testing.T, f *harness.Fleet) *purger {
	t.Helper()
	p := new(purger)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		for turn := 0; ctx.Err() == nil; turn++ {
			next := f.Current.Add(1)
			r := f.Nodes[turn%2].API(t, http.MethodPost, "/redis_cache/purge", `{"namespaces":["pickup","user"]}`)
			var answer struct {
				Recorded   bool     `json:"recorded"`
				Pending    []string `json:"pending"`
				Replicated *bool    `json:"replicated"`
			}
			kind := slices.Index(purgeStatuses, r.Status)
			if err := json.Unmarshal([]byte(r.Body), &answer); err != nil || kind < 0 {
				t.Errorf("a purge is answered %d %s", r.Status, r.Body)
				return
			}
			if !answer.Recorded && kind == 1 {
				kind = 2
			}
			complete := answer.Recorded && len(answer.Pending) == 0 && answer.Replicated != nil && *answer.Replicated
			if complete != (kind == 0) {
				t.Errorf("a purge is answered %d, though: %s", r.Status, r.Body)
			}
			if kind == 0 {
				f.Final.Store(next)
			}
			p.answers[kind].Add(1)
			p.last.Store(&r.Body)
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
	if !harness.Within(harness.Patience, func() bool { return p.answers[0].Load() >= target }) {
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
func testFailover(t *testing.T, f *harness.Fleet, top *harness.Topology) {
	_, cluster := top.Client.(*redis.ClusterClient)
	for _, tt := range []struct {
		name string
		away func(*harness.Redis)
		back func(p *purger, old, successor *harness.Redis)
	}{
		{"killed", (*harness.Redis).Kill, func(_ *purger, old, successor *harness.Redis) {
			if !cluster {
				old.Args = append(old.Args, "--replicaof", "127.0.0.1 "+successor.Port())
			}
			old.Start(t)
		}},
		// It comes back as the master that it was, until it hears otherwise.
		{"hanging", (*harness.Redis).Pause, func(p *purger, old, successor *harness.Redis) {
			old.Resume()
			before := p.total()
			harness.Eventually(t, "purges go on", func() bool { return p.total() >= before+3 })
			if !cluster { // Sentinels take ten seconds for this
				old.Do(t, "REPLICAOF", "127.0.0.1", successor.Port())
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stop := f.Watch(t, append(harness.PickupSeries("failover", 5), "/api/v1/users/1", "/api/v1/users/2")...)
			defer stop()
			purges := startPurger(t, f)
			defer purges.stop()
			purges.some(t, 20)
			old := top.MasterOf(t, harness.JournalKey)
			tt.away(old)
			harness.Eventually(t, "a replica takes over", func() bool { return top.MasterOf(t, harness.JournalKey) != old })
			tt.back(purges, old, top.MasterOf(t, harness.JournalKey))
			purges.some(t, 20)
			purges.stop()
			stop()
			t.Log(purges)
			if purges.answers[1].Load()+purges.answers[2].Load() == 0 {
				t.Error("no purge has noticed the failover")
			}
			ready(t, f, top)
			settled(t, f, "/api/v1/users/after-"+tt.name)
		})
	}
}

// testMigration moves the slots of the journal and of a response to another master under load.
func testMigration(t *testing.T, f *harness.Fleet, top *harness.Topology) {
	const path = "/api/v1/users/moving"
	key := f.Nodes[0].Get(t, path).Key()
	stop := f.Watch(t, path, "/api/v1/pickups/moving")
	defer stop()
	purges := startPurger(t, f)
	defer purges.stop()
	purges.some(t, 20)
	for _, moved := range []string{key, harness.JournalKey} {
		migrate(t, top, moved)
		purges.some(t, 20)
	}
	purges.stop()
	stop()
	t.Log(purges)
	if purges.answers[2].Load() > 0 {
		t.Error("purges had to wait, though no server was away")
	}
	ready(t, f, top)
	settled(t, f, path)
}

// migrate moves the slot of a key to the next master, as an operator does, with time in between.
func migrate(t *testing.T, top *harness.Topology, key string) {
	t.Helper()
	slot := top.Client.ClusterKeySlot(t.Context(), key).Val()
	masters := top.Servers[:harness.ClusterMasters]
	from := slices.IndexFunc(masters, func(r *harness.Redis) bool {
		// Others say that it has moved.
		return r.Client.Do(t.Context(), "EXISTS", key).Err() == nil
	})
	if from < 0 {
		t.Fatalf("nobody has slot %d", slot)
	}
	source, target := masters[from], masters[(from+1)%harness.ClusterMasters]
	target.Do(t, "CLUSTER", "SETSLOT", slot, "IMPORTING", source.ClusterID(t))
	source.Do(t, "CLUSTER", "SETSLOT", slot, "MIGRATING", target.ClusterID(t))
	for {
		keys := source.Client.ClusterGetKeysInSlot(t.Context(), int(slot), 10).Val()
		if len(keys) == 0 {
			break
		}
		for _, k := range keys {
			source.Do(t, "MIGRATE", "127.0.0.1", target.Port(), k, 0, 5000, "REPLACE")
		}
	}
	harness.Within(750*time.Millisecond, func() bool { return false }) // requests find the slot between two servers
	for _, r := range []*harness.Redis{target, source, masters[(from+2)%harness.ClusterMasters]} {
		r.Do(t, "CLUSTER", "SETSLOT", slot, "NODE", target.ClusterID(t))
	}
}
