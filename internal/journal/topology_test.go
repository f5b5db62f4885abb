package journal

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestReplicated(t *testing.T) {
	s := newServer(t)
	replicated := func(o *Options) { o.Replicated = true }
	a := startNode(t, s.Client(), named("a"), replicated)
	a.settled(t)
	r := a.mayPurge1(t, 100*time.Millisecond)
	if r.Replicated == nil || *r.Replicated || r.Complete() {
		t.Errorf("%+v: want it not replicated without a replica", r)
	}
	host, port, _ := net.SplitHostPort(s.Addr)
	newServer(t, "--replicaof", host+" "+port)
	eventually(t, "replicated", func() bool {
		r := a.mayPurge1(t, time.Second)
		return *r.Replicated && r.Complete()
	})
}

func (n *testNode) mayPurge1(t *testing.T, wait time.Duration) Result {
	t.Helper()
	r, err := n.Append(t.Context(), Purge{Selectors: []Selector{all}}, wait)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestCluster(t *testing.T) {
	s := newServer(t, "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf")
	s.do("cluster", "addslotsrange", 0, 16383)
	eventually(t, "the cluster is up", func() bool { return s.Client().Set(t.Context(), "x", "y", 0).Err() == nil })
	cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{s.Addr}, ContextTimeoutEnabled: true, DisableIdentity: true})
	t.Cleanup(func() { cluster.Close() })
	a := startNode(t, cluster, named("a"), func(o *Options) { o.Replicated = true })
	slot := s.do("cluster", "keyslot", a.keys.stream)
	for _, key := range []string{a.keys.epoch, a.keys.nodes, a.keys.removed} {
		if got := s.do("cluster", "keyslot", key); got != slot {
			t.Errorf("%s is in slot %v, the stream in %v", key, got, slot)
		}
	}
	a.settled(t)
	old := a.subject()
	if r := a.mayPurge1(t, 300*time.Millisecond); r.Replicated == nil || *r.Replicated || len(r.Pending) > 0 {
		t.Errorf("%+v: want it confirmed and not replicated", r)
	}
	a.wantVerdict(t, old, Covered)
}

func TestKeys(t *testing.T) {
	s := newServer(t)
	s.do("set", "tenant", "x")
	a := startNode(t, s.Client(), named("a"))
	a.settled(t)
	if err := a.AddRemoved(t.Context(), map[ID]int64{a.purge(t, all).ID: 1}); err != nil {
		t.Fatal(err)
	}
	for _, key := range s.do("keys", "*").([]any) {
		ttl := s.do("ttl", key).(int64)
		switch key {
		case "cache::journal", "tenant":
		case "cache::epoch:{cache::journal}", "cache::nodes:{cache::journal}", "cache::removed:{cache::journal}":
			if ttl <= 0 {
				t.Errorf("%s has no TTL", key)
			}
		default:
			t.Errorf("key %s", key)
		}
	}
}

func TestNodes(t *testing.T) {
	s := newServer(t)
	a, b := startNode(t, s.Client(), named("a")), startNode(t, s.Client(), named("b"))
	nodes, err := a.Nodes(t.Context())
	if err != nil || len(nodes) != 2 || !nodes[0].Self || nodes[1].ID != "b" || nodes[1].State != stateLive || nodes[1].Version != "test" {
		t.Errorf("%+v, %v", nodes, err)
	}
	b.cycle.Lock()
	defer b.cycle.Unlock()
	eventually(t, "b lapses", func() bool {
		nodes, err := a.Nodes(t.Context())
		return err == nil && nodes[1].State == "lapsed"
	})
}

func TestMaintain(t *testing.T) {
	s := newServer(t)
	for i := range 1000 {
		s.do("xadd", "cache::journal", fmt.Sprintf("%d-1", i+1), "op", "purge", "tag", "old")
	}
	a := startNode(t, s.Client(), named("a"))
	a.purgeAfterRest(t)
	s.do("hset", a.keys.nodes, "gone", lineOf(1, 1, stateLeft))
	now := time.Now()
	a.registry.observe(now, now, map[string]string{"gone": lineOf(1, 1, stateLeft)})
	a.registry.observe(now.Add(time.Hour), now, map[string]string{"gone": lineOf(1, 1, stateLeft)})
	a.cycle.Lock()
	a.keeper.maintained = time.Time{}
	a.cycle.Unlock()
	a.tail.maintain(t.Context())
	if n := s.do("xlen", "cache::journal").(int64); n >= 200 {
		t.Errorf("%d entries left; want whole blocks of old ones removed", n)
	}
	first := s.do("xrange", "cache::journal", "-", "+", "count", 1).([]any)[0].([]any)[0].(string)
	if id, _ := ParseID(first); id.Ms > 1000 {
		t.Error("the newest old entry is gone")
	}
	if s.do("hexists", a.keys.nodes, "gone") != int64(0) {
		t.Error("the line of a node that left long ago is still there")
	}
	if got := a.Stats().Gaps; got > 0 {
		t.Errorf("%d gaps", got)
	}
}

// purgeAfterRest stops the tail after a last purge.
func (n *testNode) purgeAfterRest(t *testing.T) {
	t.Helper()
	n.settled(t)
	n.purge(t, Selector{KindTag, "new"})
	n.stop()
	n.running.Wait()
}

func TestSwitch(t *testing.T) {
	s := newServer(t)
	a, b := startNode(t, s.Client(), named("a")), startNode(t, s.Client(), named("b"))
	a.settled(t)
	r, err := a.Switch(t.Context(), false, "", "me", "why", time.Second)
	if err != nil || !r.Complete() {
		t.Fatalf("%+v, %v", r, err)
	}
	if r, err = a.Switch(t.Context(), true, "pickup", "me", "", time.Second); err != nil || !r.Complete() {
		t.Fatalf("%+v, %v", r, err)
	}
	got := b.entries()
	if len(got) != 2 || got[0].Op != OpDisable || got[0].Selectors[0] != all || got[1].Op != OpEnable || got[1].Selectors[0].Value != "pickup" {
		t.Errorf("%+v", got)
	}
}

// A node attached to a Redis that refuses writes cannot hold a lease.
func TestRedisRefusesWrites(t *testing.T) {
	s := newServer(t)
	a := startNode(t, s.Client(), named("a"))
	s.do("config", "set", "maxmemory", "1")
	a.waitFor(t, CutOff) // nobody can purge
	if err := a.AppendAsync(Purge{Selectors: []Selector{all}}); err != nil {
		t.Error(err)
	}
	s.do("config", "set", "maxmemory", "0")
	a.waitFor(t, Leased)
	eventually(t, "the queue is empty", func() bool { return a.Stats().Queue == 0 })
	a.Close(context.Background())
}

// Purges that wait for a replica leave connections to the tail, and end when nobody
// waits for them any more.
func TestFewWaitForReplicas(t *testing.T) {
	s := newServer(t)
	client := redis.NewClient(&redis.Options{
		Addr: s.Addr, PoolSize: 4, ReadTimeout: time.Second, ContextTimeoutEnabled: true, MaxRetries: -1,
	})
	t.Cleanup(func() { client.Close() })
	a := startNode(t, client, func(o *Options) { o.Replicated = true })
	a.settled(t)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	var purges sync.WaitGroup
	for range 2 {
		purges.Go(func() {
			if _, err := a.Append(ctx, Purge{Selectors: []Selector{all}}, time.Hour); err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, "half of the connections wait", func() bool { return len(a.appender.waits) == 2 })
	for range 4 {
		r, err := a.Append(t.Context(), Purge{Selectors: []Selector{all}}, time.Hour)
		if err != nil || r.Replicated == nil || *r.Replicated || len(r.Confirmed) != 1 {
			t.Errorf("%+v, %v", r, err)
		}
	}
	if got := a.Trust(t.Context()); got != Leased {
		t.Errorf("the node is %s", got)
	}
	leave()
	purges.Wait()
	if n := len(a.appender.waits); n != 0 {
		t.Errorf("%d wait", n)
	}
}

// refusable is a client that Redis can be told to refuse something.
func (s *server) refusable() redis.UniversalClient {
	s.do("acl", "setuser", "b", "on", "nopass", "~*", "&*", "+@all")
	client := redis.NewClient(&redis.Options{
		Addr: s.Addr, Username: "b", Password: "any", ReadTimeout: time.Second, ContextTimeoutEnabled: true, MaxRetries: -1,
	})
	s.t.Cleanup(func() { client.Close() })
	return client
}

// A node whose purges Redis refuses goes on to read those of others.
func TestRefusedPurgesKeepNoneFromReading(t *testing.T) {
	s := newServer(t)
	a, b := startNode(t, s.Client(), named("a")), startNode(t, s.refusable(), named("b"))
	a.settled(t)
	s.do("acl", "setuser", "b", "-xadd")
	if err := b.AppendAsync(Purge{Selectors: []Selector{{KindTag, "other"}}}); err != nil {
		t.Fatal(err)
	}
	old := a.subject()
	r := a.purge(t, Selector{KindTag, "pickup-7"})
	if !slices.Contains(r.Confirmed, "b") {
		t.Errorf("%+v: want it confirmed by b", r)
	}
	b.wantVerdict(t, old, Covered)
	s.do("acl", "setuser", "b", "+xadd")
	eventually(t, "the queue is empty", func() bool { return b.Stats().Queue == 0 })
}

// A purge does not wait for a node that cannot publish what it has applied. It reads
// Redis, and so must not answer as one that is cut off.
func TestRefusedLineIsNotCutOff(t *testing.T) {
	s := newServer(t)
	a, b := startNode(t, s.Client(), named("a")), startNode(t, s.refusable(), named("b"))
	a.settled(t)
	s.do("acl", "setuser", "b", "-hset")
	eventually(t, "b has no lease", func() bool { return b.Trust(t.Context()) != Leased })
	for range 10 {
		if r := a.purge(t, Selector{KindTag, "pickup-7"}); slices.Contains(r.Confirmed, "b") {
			t.Fatalf("%+v", r)
		}
		if got := b.Trust(t.Context()); got != Unproven {
			t.Fatalf("b is %s", got)
		}
	}
	s.do("acl", "setuser", "b", "+hset")
	b.waitFor(t, Leased)
}

// failsOnce fails the first page that is read.
type failsOnce struct {
	redis.Hook
	failed atomic.Bool
}

func (f *failsOnce) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (f *failsOnce) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (f *failsOnce) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if cmds[0].Name() == "get" && f.failed.CompareAndSwap(false, true) {
			cmds[1].SetErr(context.DeadlineExceeded)
			return context.DeadlineExceeded
		}
		return next(ctx, cmds)
	}
}

// A node that could not read the journal to its end while it joined tries again, and
// costs the others nothing.
func TestJoinerTriesAgain(t *testing.T) {
	s := newServer(t)
	a := startNode(t, s.Client(), named("a"))
	kept := a.subject()
	client, fails := s.Client(), new(failsOnce)
	client.AddHook(fails)
	b := startNode(t, client, named("b"))
	if !fails.failed.Load() || b.Position().Epoch != kept.Position.Epoch {
		t.Errorf("failed: %t; b is in epoch %x, want %x", fails.failed.Load(), b.Position().Epoch, kept.Position.Epoch)
	}
	b.wantVerdict(t, kept, Valid)
}
