package journal

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

var all = Selector{Kind: KindAll}

func TestPurgeIsConfirmedByEveryNode(t *testing.T) {
	s := newServer(t)
	a, b, c := startNode(t, s.Client(), named("a")), startNode(t, s.Client(), named("b")), startNode(t, s.Client(), named("c"))
	a.settled(t)
	old := b.subject()
	r := a.purge(t, Selector{KindNamespace, "pickup"})
	if want := []string{"a", "b", "c"}; !slices.Equal(r.Confirmed, want) || len(r.Lapsed) > 0 {
		t.Errorf("confirmed by %v, lapsed %v, want %v", r.Confirmed, r.Lapsed, want)
	}
	for _, n := range []*testNode{a, b, c} {
		n.wantVerdict(t, old, Covered)
		n.wantVerdict(t, n.subject(), Valid)
		if n.Position().ID != r.ID {
			t.Errorf("%s has applied %v, want %v", n.opts.NodeID, n.Position().ID, r.ID)
		}
	}
	if a.Position().Epoch != c.Position().Epoch {
		t.Error("two nodes, two epochs")
	}
}

func TestFreshNodeCannotConfirmAlone(t *testing.T) {
	s := newServer(t)
	a := startNode(t, s.Client(), named("a"))
	r, err := a.Append(t.Context(), Purge{Selectors: []Selector{all}}, 10*time.Millisecond)
	if err != nil || r.Complete() || !slices.Equal(r.Pending, []string{"a"}) {
		t.Errorf("%+v, %v: want it pending until a lease has been observed", r, err)
	}
	if r := a.mayPurge(t, all); !r.Complete() {
		t.Errorf("%+v: want it complete after a lease", r)
	}
}

func TestSoftAndHard(t *testing.T) {
	s := newServer(t)
	a := startNode(t, s.Client())
	old := a.subject()
	soft := s.xadd("op", "soft_purge", "tag", "pickup-7")
	eventually(t, "applied", func() bool { return !a.Position().ID.Before(soft) })
	a.wantVerdict(t, old, SoftCovered)
	between := a.subject()
	hard := s.xadd("op", "purge", "key", "cache:pickup:item:7")
	eventually(t, "applied", func() bool { return !a.Position().ID.Before(hard) })
	later := s.xadd("op", "soft_purge", "all", "1")
	eventually(t, "applied", func() bool { return !a.Position().ID.Before(later) })
	a.wantVerdict(t, old, Covered)
	a.wantVerdict(t, between, Covered)
	a.wantVerdict(t, subjectAt(Position{Epoch: a.Position().Epoch, ID: hard}), SoftCovered)
	a.wantVerdict(t, a.subject(), Valid)
}

func TestJoinerKnowsEarlierPurges(t *testing.T) {
	s := newServer(t)
	a := startNode(t, s.Client(), named("a"))
	a.settled(t)
	old := a.subject()
	a.purge(t, Selector{KindPattern, "pickup:item:*"})
	b := startNode(t, s.Client(), named("b"))
	b.wantVerdict(t, old, Covered)
	b.wantVerdict(t, a.subject(), Valid)
	if r := a.purge(t, all); !slices.Contains(r.Confirmed, "b") {
		t.Errorf("confirmed by %v, want the joiner too", r.Confirmed)
	}
	if entries := b.entries(); len(entries) < 2 || !entries[0].Replayed || entries[len(entries)-1].Replayed {
		t.Errorf("%+v: want the first replayed and the last not", entries)
	}
}

func (n *testNode) entries() (entries []Entry) {
	n.events.locked(func() { entries = slices.Clone(n.events.entries) })
	return entries
}

// TestLagWithoutRedis is about a node that has never reached Redis: it falls
// behind from its start on.
func TestLagWithoutRedis(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	defer client.Close()
	n := newNode(t, client)
	if lag := n.Stats().Lag; lag != 0 {
		t.Errorf("before it has started the node lags by %v", lag)
	}
	n.Start()
	defer n.Close(context.Background())
	var first time.Duration
	eventually(t, "the node lags", func() bool { first = n.Stats().Lag; return first > 0 })
	eventually(t, "the node lags more", func() bool { return n.Stats().Lag > first })
}

func TestLeaverIsNotWaitedFor(t *testing.T) {
	s := newServer(t)
	a, b := startNode(t, s.Client(), named("a")), startNode(t, s.Client(), named("b"))
	a.settled(t)
	b.Close(context.Background())
	if got := b.Trust(t.Context()); got != Unproven {
		t.Errorf("a closed node is %s", got)
	}
	start := time.Now()
	if r := a.purge(t, all); len(r.Lapsed) > 0 || len(r.Confirmed) != 1 {
		t.Errorf("%+v: want neither word nor wait for the leaver", r)
	}
	if waited := time.Since(start); waited >= testLease {
		t.Errorf("the purge waited %v for a node that has left", waited)
	}
}

func TestSleepingNodeLapsesAndCatchesUp(t *testing.T) {
	s := newServer(t)
	a, b := startNode(t, s.Client(), named("a")), startNode(t, s.Client(), named("b"))
	a.settled(t)
	old := b.subject()
	b.cycle.Lock() // nothing of b runs
	r := a.purge(t, Selector{KindTag, "pickup-7"})
	if !slices.Equal(r.Lapsed, []string{"b"}) {
		t.Errorf("lapsed %v, want b", r.Lapsed)
	}
	if got := b.Trust(t.Context()); got == Leased {
		t.Error("b trusts its store after it has lapsed")
	}
	b.wantVerdict(t, old, Valid) // it cannot know
	b.cycle.Unlock()
	for b.Trust(t.Context()) != Leased {
		time.Sleep(time.Millisecond)
	}
	b.wantVerdict(t, old, Covered)
}

// A node that wakes to more purges than it can read within the read timeout goes to
// the origin: Redis answers, so nothing that it stores may stand in.
func TestSleepingNodeHasMuchToRead(t *testing.T) {
	s := newServer(t)
	quick := func(o *Options) { o.ReadTimeout = 20 * time.Millisecond }
	b := startNode(t, s.Client(), named("b"), quick)
	old := b.subject()
	b.cycle.Lock() // nothing of b runs
	client := s.Client()
	for range 30 {
		if _, err := client.Pipelined(t.Context(), func(pipe redis.Pipeliner) error {
			for i := range 1000 {
				pipe.XAdd(t.Context(), &redis.XAddArgs{Stream: "cache::journal", Values: []any{"op", "purge", "tag", strconv.Itoa(i)}})
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	s.xadd("op", "purge", "all", "1")
	for b.lease.holds() {
		time.Sleep(time.Millisecond)
	}
	if got := b.Trust(t.Context()); got != Unproven {
		t.Errorf("b is %s while it does not run, want unproven", got)
	}
	b.cycle.Unlock()
	for standing := Unproven; standing != Leased; standing = b.Trust(t.Context()) {
		if standing == CutOff {
			t.Fatal("b counts as cut off, though Redis answers")
		}
	}
	b.wantVerdict(t, old, Covered)
	b.events.locked(func() {
		if slices.Contains(b.events.reach, false) {
			t.Errorf("told that Redis was reached: %v", b.events.reach)
		}
	})
}

// tooLate is a Redis whose first answer comes while the process is stopped.
type tooLate struct {
	redis.UniversalClient
	j     *Journal
	armed atomic.Bool
}

func (c *tooLate) Pipelined(ctx context.Context, f func(redis.Pipeliner) error) ([]redis.Cmder, error) {
	if c.armed.CompareAndSwap(true, false) {
		c.j.cycle.sent = time.Now().Add(-2 * callTimeout) // by whom the cycle is held
		late, cancel := context.WithDeadline(ctx, time.Now())
		defer cancel()
		ctx = late
	}
	return c.UniversalClient.Pipelined(ctx, f)
}

// A node that was stopped while it waited for an answer has not been cut off.
func TestStoppedWhileRedisAnswered(t *testing.T) {
	s := newServer(t)
	client := &tooLate{UniversalClient: s.Client()}
	b := startNode(t, client, named("b"))
	old := b.subject()
	b.rest(t)
	client.j = b.Journal
	client.armed.Store(true)
	s.xadd("op", "purge", "all", "1")
	if !b.tail.turn(t.Context(), callTimeout) || b.Trust(t.Context()) != Leased {
		t.Errorf("b is %s", b.Trust(t.Context()))
	}
	b.wantVerdict(t, old, Covered)
}

func TestRequestCatchesUpWithinTheLease(t *testing.T) {
	s := newServer(t)
	b := startNode(t, s.Client(), named("b"))
	old := b.subject()
	b.rest(t)
	s.xadd("op", "purge", "all", "1")
	if got := b.Trust(t.Context()); got != Leased {
		t.Fatalf("b is %s, want it to have caught up", got)
	}
	b.wantVerdict(t, old, Covered)
}

// rest stops the tail and puts its last line so far back that the lease is over
// but no peer has noticed.
func (n *testNode) rest(t *testing.T) {
	t.Helper()
	n.stop()
	eventually(t, "the tail rests", func() bool {
		before := n.lease.read.Load()
		time.Sleep(3 * testHeartbeat)
		return n.lease.read.Load() == before
	})
	ago := time.Now().Add(-n.lease.term())
	n.lease.proof.Store(&ago)
	n.cycle.Lock()
	n.presence.lineSent = ago
	n.cycle.Unlock()
}

func TestReturnAfterLapseTakesTwoProofs(t *testing.T) {
	s := newServer(t)
	b := startNode(t, s.Client(), named("b"))
	b.rest(t)
	b.cycle.Lock()
	b.presence.lineSent = time.Now().Add(-testLease)
	b.cycle.Unlock()
	if got := b.Trust(t.Context()); got != Unproven {
		t.Fatalf("b is %s after its first proof, want unproven", got)
	}
	time.Sleep(testHeartbeat)
	if !b.tail.turn(t.Context(), callTimeout) || b.Trust(t.Context()) != Leased {
		t.Fatalf("b is %s after its second proof, want leased", b.Trust(t.Context()))
	}
}

func TestFlushFollowedByPurge(t *testing.T) {
	s := newServer(t)
	a, b := startNode(t, s.Client(), named("a")), startNode(t, s.Client(), named("b"))
	a.settled(t)
	old, epoch := b.subject(), b.Position().Epoch
	s.do("flushall")
	r := a.mayPurge(t, Selector{KindNamespace, "other"})
	if !r.Complete() || !slices.Equal(r.Confirmed, []string{"a", "b"}) {
		t.Errorf("%+v: want both to have confirmed", r)
	}
	for _, n := range []*testNode{a, b} {
		n.wantVerdict(t, old, Absent)
		n.waitFor(t, Leased)
		if n.Position().Epoch == epoch {
			t.Errorf("%s is in the old epoch", n.opts.NodeID)
		}
	}
	eventually(t, "one epoch", func() bool { return a.Position() == b.Position() })
	b.wantVerdict(t, a.subject(), Valid)
}

func TestJournalDeleted(t *testing.T) {
	for _, refill := range []bool{false, true} {
		s := newServer(t)
		a := startNode(t, s.Client())
		old := a.subject()
		s.do("del", "cache::journal")
		if refill {
			s.xadd("op", "purge", "namespace", "x")
		}
		eventually(t, "the loss is noticed", func() bool { return a.verdict(old) == Absent })
		a.waitFor(t, Leased)
		a.wantVerdict(t, a.subject(), Valid)
		if got := a.events.gapReasons(); got == "" {
			t.Error("nobody was told")
		}
	}
}

func TestRedisReturnsEmpty(t *testing.T) {
	s := newServer(t)
	a, b := startNode(t, s.Client(), named("a")), startNode(t, s.Client(), named("b"))
	old := a.subject()
	s.Kill()
	a.waitFor(t, CutOff)
	a.wantVerdict(t, old, Valid)
	if _, err := a.Record(t.Context(), Purge{Selectors: []Selector{all}}, time.Second); !errors.Is(err, ErrNotRecorded) {
		t.Errorf("%v, want ErrNotRecorded", err)
	}
	start := time.Now()
	for range 1000 {
		a.Trust(t.Context())
	}
	if waited := time.Since(start); waited > 100*time.Millisecond {
		t.Errorf("1000 requests waited %v while Redis was known to be away", waited)
	}
	s.Start()
	a.waitFor(t, Leased)
	b.waitFor(t, Leased)
	a.wantVerdict(t, old, Absent)
	eventually(t, "one epoch", func() bool { return a.Position().Epoch == b.Position().Epoch })
}

func TestStartWithoutRedis(t *testing.T) {
	s := newServer(t)
	s.Kill()
	a := newNode(t, s.Client())
	a.Start()
	t.Cleanup(func() { a.Close(context.Background()) })
	<-a.Ready()
	if got := a.Trust(t.Context()); got != CutOff {
		t.Errorf("a is %s, want cut_off", got)
	}
	old := a.subject()
	a.wantVerdict(t, old, Valid)
	s.Start()
	a.waitFor(t, Leased)
	a.wantVerdict(t, old, Absent)
}

func TestTrimmedPastSleepingNode(t *testing.T) {
	s := newServer(t)
	a, b := startNode(t, s.Client(), named("a")), startNode(t, s.Client(), named("b"))
	old, epoch := b.subject(), b.Position().Epoch
	b.cycle.Lock()
	for range 10 {
		s.xadd("op", "purge", "tag", "some")
	}
	s.do("xtrim", "cache::journal", "maxlen", "3")
	recent := s.xadd("op", "purge", "tag", "other")
	b.cycle.Unlock()
	eventually(t, "b has read on", func() bool { return b.Position().ID == recent })
	b.wantVerdict(t, old, Absent)
	b.wantVerdict(t, subjectAt(Position{Epoch: epoch, ID: recent}), Valid)
	if got := b.events.gapReasons(); got != string(errTrimmed) {
		t.Errorf("gaps: %s, want trimmed", got)
	}
	a.wantVerdict(t, old, Valid) // it has read everything
	if b.Position().Epoch != epoch {
		t.Error("trimming began an epoch")
	}
}

func TestRollback(t *testing.T) {
	s := newServer(t)
	s.xadd("op", "purge", "tag", "some")
	a := startNode(t, s.Client(), named("a"))
	epoch := a.Position().Epoch
	dump := s.do("dump", "cache::journal")
	last := s.xadd("op", "purge", "tag", "pickup-7")
	eventually(t, "applied", func() bool { return a.Position().ID == last })
	old := a.subject()
	s.do("restore", "cache::journal", 0, dump, "replace")
	eventually(t, "the loss is noticed", func() bool { return a.Position().Epoch != epoch })
	a.wantVerdict(t, old, Absent)
	// A node that had not applied what was lost learns of it from the journal.
	b := startNode(t, s.Client(), named("b"))
	b.wantVerdict(t, old, Absent)
}

func TestOldEpochIsNotEnteredAgain(t *testing.T) {
	s := newServer(t)
	a := startNode(t, s.Client())
	old := a.subject()
	s.do("flushall")
	eventually(t, "another epoch", func() bool { return a.Position().Epoch != old.Position.Epoch })
	id := s.xadd("op", "epoch", "epoch", formatEpoch(old.Position.Epoch))
	eventually(t, "applied", func() bool { return !a.Position().ID.Before(id) })
	a.wantVerdict(t, old, Absent)
	a.waitFor(t, Leased)
	a.wantVerdict(t, a.subject(), Valid)
}

func TestEpochKeyLost(t *testing.T) {
	s := newServer(t)
	a := startNode(t, s.Client())
	epoch := a.Position().Epoch
	s.do("del", a.keys.epoch)
	eventually(t, "the key is back", func() bool { return s.do("get", a.keys.epoch) == formatEpoch(epoch) })
	if a.Position().Epoch != epoch {
		t.Error("losing the key alone began an epoch")
	}
}

func TestHostileEntries(t *testing.T) {
	s := newServer(t)
	a := startNode(t, s.Client())
	old := a.subject()
	s.xadd("op", "purge", "namespace", strings.Repeat("x", maxEntry))
	s.xadd("op", "purge", "tag", strings.Repeat("y", 1<<20))
	s.xadd("no", "op")
	s.xadd("op", "purge")
	s.xadd("op", "purge", "selectors", `{"namespace":`)
	s.xadd("op", "purge", "selectors", `{"nmespace":"x"}`)
	s.xadd("op", "purge", "user", "not a hash")
	s.xadd("op", "purge", "user", "1234") // an identity in place of its hash
	s.xadd("op", "purge", "selectors", `{"user":"4711"}`)
	s.xadd("op", "purge", "selectors", `{"tag":"a"} {"tag":"b"}`)
	s.xadd("op", "purge", "all", "0")
	s.xadd("op", "epoch", "epoch", "zzz")
	s.xadd("op", "event", "event", "x", "data", "[]")
	last := s.xadd("op", "disable", "tag", "x")
	eventually(t, "all are skipped", func() bool { return a.Position().ID == last })
	a.wantVerdict(t, old, Valid)
	if got := a.Stats().Malformed; got != 14 {
		t.Errorf("%d malformed entries, want 14", got)
	}
	a.events.locked(func() {
		if len(a.events.malformed) != 1 {
			t.Errorf("%d notices, want 1", len(a.events.malformed))
		}
	})
	a.waitFor(t, Leased)
}

func TestLastPossibleID(t *testing.T) {
	s := newServer(t)
	a := startNode(t, s.Client())
	s.do("xadd", "cache::journal", maxID.String(), "op", "purge", "tag", "x")
	eventually(t, "applied", func() bool { return a.Position().ID == maxID })
	_, err := a.Record(t.Context(), Purge{Selectors: []Selector{all}}, time.Second)
	if !errors.Is(err, ErrNotRecorded) || !errors.Is(err, ErrExhausted) {
		t.Errorf("%v, want it to tell that the stream has ended", err)
	}
	a.waitFor(t, Leased)
	old := a.subject()
	s.do("del", "cache::journal")
	eventually(t, "mended", func() bool { return a.verdict(old) == Absent })
	a.settled(t)
	a.purge(t, all)
}

func TestOutsidePurgesAndEvents(t *testing.T) {
	s := newServer(t)
	a := startNode(t, s.Client(), func(o *Options) {
		o.Expand = func(event string, data json.RawMessage) []Purge {
			return []Purge{{Selectors: []Selector{{KindTag, event + string(data)}}}}
		}
	})
	tagged := a.subject()
	tagged.Tags = []string{`changed{"id":7}`}
	s.xadd("op", "event", "event", "changed", "data", `{"id":7}`)
	s.xadd("op", "disable", "namespace", "pickup", "by", "ops")
	last := s.xadd("op", "purge", "selectors", `{"namespaces":["a","b"],"url":"https://example.com/x"}`)
	eventually(t, "applied", func() bool { return a.Position().ID == last })
	a.wantVerdict(t, tagged, Covered)
	var ops []Op
	for _, e := range a.entries() {
		ops = append(ops, e.Op)
	}
	if want := []Op{OpEvent, OpDisable, OpPurge}; !slices.Equal(ops, want) {
		t.Errorf("told of %v, want %v", ops, want)
	}
	list, err := a.Entries(t.Context(), 2)
	if err != nil || len(list) != 2 || list[0].ID != last || len(list[0].Selectors) != 3 || list[1].By != "ops" {
		t.Errorf("listed %+v, %v", list, err)
	}
}

// A reload may change which records a purge concerns.
func TestNewRules(t *testing.T) {
	s := newServer(t)
	var drop atomic.Bool
	a := startNode(t, s.Client(), ruled(&drop))
	a.settled(t)
	s.xadd("no", "op")
	old := a.subject()
	a.purge(t, withParameter)
	v, upTo := a.Check(old, Checked{})
	if v != Valid {
		t.Fatal(v)
	}
	before, entries := a.Stats(), a.entries()
	emptied := a.emptied()
	a.cycle.Lock()
	drop.Store(true)
	a.NewRules()
	if got := a.lease.standing(); got != Unproven {
		t.Errorf("before the purges are applied again, the node is %s", got)
	}
	if !a.tail.attached {
		t.Error("it has left the journal")
	}
	a.cycle.Unlock()
	a.waitFor(t, Leased)
	if v, _ = a.Check(old, upTo); v != Covered {
		t.Errorf("under the new rules it is %s", v)
	}
	after := a.Stats()
	if after.Position != before.Position || after.Floor != before.Floor || after.Gaps != before.Gaps || after.Malformed != before.Malformed {
		t.Errorf("%+v, want %+v", after, before)
	}
	if len(a.entries()) != len(entries) || a.emptied() != emptied {
		t.Error("entries are told again, or the memory tier is emptied")
	}
	a.purge(t, Selector{KindTag, "more"})
	if n := len(a.entries()); n != len(entries)+1 {
		t.Errorf("%d entries are told, want one more than %d", n, len(entries))
	}
}

// What was found not to be covered is searched once more under other rules, not at
// each hit until something else is purged.
func TestNewRulesAreSearchedOnce(t *testing.T) {
	for name, client := range map[string]redis.UniversalClient{"redis": newServer(t).Client(), "memory only": nil} {
		t.Run(name, func(t *testing.T) {
			var drop atomic.Bool
			a := startNode(t, client, ruled(&drop))
			if client != nil {
				a.settled(t)
			}
			kept := a.subject()
			a.purge(t, Selector{KindTag, "other"})
			_, upTo := a.Check(kept, Checked{})
			a.NewRules()
			a.waitFor(t, Leased)
			v, again := a.Check(kept, upTo)
			if v != Valid || !again.Beyond(upTo) {
				t.Fatalf("%s up to %+v, after %+v", v, again, upTo)
			}
			a.view.state.Load().table.apply([]Selector{{KindAll, ""}}, false, maxID) // whoever searches finds it
			if v, _ := a.Check(kept, again); v != Valid {
				t.Error("it is searched again")
			}
			if v, _ := a.Check(kept, upTo); v != Covered {
				t.Error("what was found under the old rules still counts")
			}
		})
	}
}

func (n *testNode) emptied() (times int) {
	n.events.locked(func() { times = n.events.emptied })
	return times
}

// Purges that wait for Redis cover what they concern under the new rules, and a node
// that has read nothing goes on as before.
func TestNewRulesWithoutAnAnswer(t *testing.T) {
	var drop atomic.Bool
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	defer client.Close()
	a := newNode(t, client, ruled(&drop))
	a.Start()
	defer a.Close(context.Background())
	a.waitFor(t, CutOff)
	old := a.subject()
	if err := a.AppendAsync(Purge{Selectors: []Selector{withParameter}}); err != nil {
		t.Fatal(err)
	}
	v, upTo := a.Check(old, Checked{})
	if v != Valid {
		t.Errorf("under the old rules it is %s", v)
	}
	drop.Store(true)
	a.NewRules()
	if v, _ := a.Check(old, upTo); v != Covered {
		t.Errorf("under the new rules it is %s", v)
	}
	a.wantVerdict(t, a.subject(), Valid)
	if got := a.Trust(t.Context()); got != CutOff {
		t.Errorf("the node is %s", got)
	}
}

// A purge that follows the loss of the journal is told of, on every node, though they
// meet it when they read the journal anew.
func TestPurgeBehindAGapIsTold(t *testing.T) {
	s := newServer(t)
	a, b := startNode(t, s.Client(), named("a")), startNode(t, s.Client(), named("b"))
	a.settled(t)
	a.purge(t, Selector{KindTag, "before"})
	nodes := []*testNode{a, b}
	for _, n := range nodes {
		n.cycle.Lock()
	}
	s.do("flushall")
	id := s.xadd("op", "purge", "tag", "pickup-7")
	for _, n := range nodes {
		n.cycle.Unlock()
	}
	for _, n := range nodes {
		eventually(t, "it is told of", func() bool {
			return slices.ContainsFunc(n.entries(), func(e Entry) bool { return e.ID == id })
		})
		for _, e := range n.entries() {
			if e.Replayed {
				t.Errorf("%s takes %v for old", n.opts.NodeID, e.Selectors)
			}
		}
	}
}

// The clock of a server may be behind that of the one before it.
func TestOwnPurgeBehindAGapIsTold(t *testing.T) {
	s := newServer(t)
	a := startNode(t, s.Client())
	a.settled(t)
	ahead := ID{Ms: uint64(time.Now().Add(time.Hour).UnixMilli())}
	s.do("xadd", "cache::journal", ahead.String(), "op", "purge", "tag", "x")
	eventually(t, "applied", func() bool { return a.Position().ID == ahead })
	a.cycle.Lock()
	s.do("flushall")
	purged := make(chan struct{})
	go func() {
		defer close(purged)
		a.mayPurge(t, Selector{KindTag, "pickup-7"})
	}()
	eventually(t, "it is appended", func() bool { return s.do("exists", "cache::journal") == int64(1) })
	a.cycle.Unlock()
	<-purged
	entries := a.entries()
	if last := entries[len(entries)-1]; last.Replayed || last.Selectors[0].Value != "pickup-7" {
		t.Errorf("%+v", last)
	}
}
