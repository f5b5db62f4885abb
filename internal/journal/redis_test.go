package journal

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/gplus-recycling/caddy-redis-cache/internal/redistest"
)

func TestMain(m *testing.M) {
	redis.SetLogger(discard{})
	goleak.VerifyTestMain(m)
}

type discard struct{}

func (discard) Printf(context.Context, string, ...any) {}

// server is a real redis-server of one test.
type server struct {
	*redistest.Server
	t testing.TB
}

func newServer(t testing.TB, args ...string) *server {
	t.Helper()
	return &server{redistest.Start(t, args...), t}
}

func (s *server) do(args ...any) any {
	s.t.Helper()
	result, err := s.Client().Do(s.t.Context(), args...).Result()
	if err != nil && err != redis.Nil {
		s.t.Fatalf("%v: %v", args, err)
	}
	return result
}

// xadd appends an entry as any user would.
func (s *server) xadd(fields ...any) ID {
	s.t.Helper()
	result := s.do(append([]any{"xadd", "cache::journal", "*"}, fields...)...)
	id, err := ParseID(result.(string))
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

// eventually waits for something that happens on another goroutine or in Redis.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// events collects what a journal reported.
type events struct {
	mu        sync.Mutex
	entries   []Entry
	malformed []Malformed
	gaps      []Gap
	emptied   int
	reach     []bool
}

func (e *events) locked(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
}

func (e *events) gapReasons() string {
	var reasons []string
	e.locked(func() {
		for _, g := range e.gaps {
			reasons = append(reasons, g.Reason)
		}
	})
	return strings.Join(reasons, "; ")
}

// testNode is a journal with quick timers.
type testNode struct {
	*Journal
	events events
}

const (
	testLease     = 600 * time.Millisecond
	testHeartbeat = 100 * time.Millisecond
)

func newNode(t testing.TB, client redis.UniversalClient, change ...func(*Options)) *testNode {
	t.Helper()
	n := new(testNode)
	opts := Options{
		Client: client, Prefix: "cache", Version: "test", Lease: testLease, Heartbeat: testHeartbeat,
		WriteTimeout: 200 * time.Millisecond, ReadTimeout: 200 * time.Millisecond,
		Empty:       func() { n.events.locked(func() { n.events.emptied++ }) },
		OnEntry:     func(e Entry) { n.events.locked(func() { n.events.entries = append(n.events.entries, e) }) },
		OnMalformed: func(m Malformed) { n.events.locked(func() { n.events.malformed = append(n.events.malformed, m) }) },
		OnGap:       func(g Gap) { n.events.locked(func() { n.events.gaps = append(n.events.gaps, g) }) },
		OnReach:     func(up bool, _ error) { n.events.locked(func() { n.events.reach = append(n.events.reach, up) }) },
	}
	for _, f := range change {
		f(&opts)
	}
	n.Journal = New(opts)
	return n
}

// startNode starts a journal and waits until it may answer from its store.
func startNode(t testing.TB, client redis.UniversalClient, change ...func(*Options)) *testNode {
	t.Helper()
	n := newNode(t, client, change...)
	n.Start()
	t.Cleanup(func() { n.Close(context.Background()) })
	n.waitFor(t, Leased)
	return n
}

func named(id string) func(*Options) { return func(o *Options) { o.NodeID = id } }

func (n *testNode) waitFor(t testing.TB, want Standing) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s is %s", n.opts.NodeID, want), func() bool { return n.Trust(t.Context()) == want })
}

// settled waits until the node has observed the others for a lease, so that it
// can confirm purges.
func (n *testNode) settled(t testing.TB) {
	t.Helper()
	eventually(t, n.opts.NodeID+" has observed for a lease", func() bool { return !n.registry.tally(Position{}).young })
}

// purge appends a purge that every node confirms.
func (n *testNode) purge(t testing.TB, selectors ...Selector) Result {
	t.Helper()
	r := n.mayPurge(t, selectors...)
	if !r.Complete() {
		t.Fatalf("purge of %v is not complete: %+v", selectors, r)
	}
	return r
}

func (n *testNode) mayPurge(t testing.TB, selectors ...Selector) Result {
	t.Helper()
	r, err := n.Append(t.Context(), Purge{Selectors: selectors}, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// subject is a record of the namespace fetched now.
func (n *testNode) subject() *Subject { return subjectAt(n.Position()) }

// someUser is what nodes know a user by.
const someUser = "0123456789abcdef0123456789abcdef"

func subjectAt(at Position) *Subject {
	return &Subject{
		Position: at, Namespace: "pickup", Identifier: "item:7",
		Key: "cache:pickup:item:7:0123", BaseKey: "cache:pickup:item:7:0123",
		URL: "https://example.com/pickup/7?status=open", Tags: []string{"pickup-7"}, User: someUser,
	}
}

func (n *testNode) verdict(s *Subject) Verdict {
	v, _ := n.Check(s, Checked{})
	return v
}

func (n *testNode) wantVerdict(t testing.TB, s *Subject, want Verdict) {
	t.Helper()
	if got := n.verdict(s); got != want {
		t.Errorf("%s says %s, want %s (record at %v, node at %v)", n.opts.NodeID, got, want, s.Position, n.Position())
	}
}
