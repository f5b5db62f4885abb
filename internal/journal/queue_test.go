package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestRequestsPurgeAtOnce(t *testing.T) {
	s := newServer(t)
	a, b := startNode(t, s.Client(), named("a")), startNode(t, s.Client(), named("b"))
	old := a.subject()
	if err := a.AppendAsync(Purge{Selectors: []Selector{{KindTag, "pickup-7"}}}); err != nil {
		t.Fatal(err)
	}
	a.wantVerdict(t, old, Covered)
	eventually(t, "b knows", func() bool { return b.verdict(old) == Covered })
	eventually(t, "the queue is empty", func() bool { return a.Stats().Queue == 0 })
	a.wantVerdict(t, old, Covered)
	a.wantVerdict(t, a.subject(), Valid)
}

func TestRequestsPurgeWhileRedisIsAway(t *testing.T) {
	s := newServer(t)
	a := startNode(t, s.Client(), named("a"))
	s.Kill()
	a.waitFor(t, CutOff)
	old := a.subject()
	start := time.Now()
	for i := range 100 {
		if err := a.AppendAsync(Purge{Selectors: []Selector{{KindTag, fmt.Sprint("x", i)}, {KindNamespace, "pickup"}}, Soft: i > 0}); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("100 requests waited %v for a Redis that is away", took)
	}
	a.wantVerdict(t, old, Covered)
	a.wantVerdict(t, a.subject(), Valid) // fetched after the writes
	s.Start()
	b := startNode(t, s.Client(), named("b"))
	a.waitFor(t, Leased)
	if n := a.Stats().Queue; n > 0 {
		t.Errorf("%d purges wait although the node trusts Redis", n)
	}
	a.wantVerdict(t, a.subject(), Valid)
	eventually(t, "b knows", func() bool { return b.Position().ID == a.Position().ID })
	if got := len(b.entries()); got < 100 {
		t.Errorf("b has seen %d purges, want 100", got)
	}
}

func TestQueueOverflow(t *testing.T) {
	s := newServer(t)
	a := startNode(t, s.Client(), func(o *Options) { o.MaxQueue = 10 })
	s.Kill()
	a.waitFor(t, CutOff)
	old := a.subject()
	for i := range 11 {
		a.AppendAsync(Purge{Selectors: []Selector{{KindTag, fmt.Sprint("x", i)}}})
	}
	if got := a.Stats(); got.Queue != 1 || got.Overflows != 1 {
		t.Errorf("%d in the queue, %d overflows, want one of each", got.Queue, got.Overflows)
	}
	a.wantVerdict(t, old, Covered)
	a.wantVerdict(t, a.subject(), Valid)
	s.Start()
	a.waitFor(t, Leased)
	a.wantVerdict(t, a.subject(), Valid)
}

// Requests that purge at the same time are no overflow while Redis answers.
func TestQueueOfABurst(t *testing.T) {
	s := newServer(t)
	a := startNode(t, s.Client(), func(o *Options) { o.MaxQueue = 10 })
	var requests sync.WaitGroup
	for i := range 100 {
		requests.Go(func() {
			if err := a.AppendAsync(Purge{Selectors: []Selector{{KindTag, fmt.Sprint("x", i)}}}); err != nil {
				t.Error(err)
			}
		})
	}
	requests.Wait()
	eventually(t, "all are read", func() bool { return a.Stats().Queue == 0 })
	if n := a.Stats().Overflows; n != 0 {
		t.Errorf("%d overflows", n)
	}
}

// What waits for Redis covers what was being fetched before, and costs a record
// that it does not concern one search.
func TestWhatWaitsIsSearchedOnce(t *testing.T) {
	s := newServer(t)
	a := startNode(t, s.Client())
	s.Kill()
	a.waitFor(t, CutOff)
	old := a.subject()
	for i, tt := range []struct {
		selector   Selector
		soft       bool
		old, later Verdict
	}{
		{Selector{KindTag, "other"}, false, Valid, Valid},
		{Selector{KindTag, "pickup-7"}, true, SoftCovered, Valid},
		{Selector{KindPattern, "pickup:*"}, false, Covered, Valid},
	} {
		if err := a.AppendAsync(Purge{Selectors: []Selector{tt.selector}, Soft: tt.soft}); err != nil {
			t.Fatal(err)
		}
		a.wantVerdict(t, old, tt.old)
		a.wantVerdict(t, a.subject(), tt.later)
		fromRedis := *a.subject()
		fromRedis.Position.Local = 0
		a.wantVerdict(t, &fromRedis, tt.old) // nobody can tell when it was fetched
		if at := a.Position(); at.Local != uint64(i+1) {
			t.Errorf("after %d purges the node is at %d", i+1, at.Local)
		}
	}
	later := a.subject()
	v, upTo := a.Check(later, Checked{})
	a.AppendAsync(Purge{Selectors: []Selector{{KindTag, "other"}}})
	v2, upTo2 := a.Check(later, upTo)
	if v != Valid || v2 != Valid || !upTo2.Beyond(upTo) || upTo.Beyond(upTo2) {
		t.Errorf("%s up to %v, then %s up to %v", v, upTo, v2, upTo2)
	}
	a.appender.queues[ofOperators].mu.Lock() // as would a purge that is being taken
	defer a.appender.queues[ofOperators].mu.Unlock()
	a.view.state.Load().pending[ofOperators].mu.Lock()
	defer a.view.state.Load().pending[ofOperators].mu.Unlock()
	if n := testing.AllocsPerRun(10, func() { a.Check(later, upTo2) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// What was appended to a stream that vanished before it was read back is
// appended again.
func TestQueueOutlivesTheStream(t *testing.T) {
	s := newServer(t)
	a := startNode(t, s.Client())
	a.cycle.Lock()
	a.AppendAsync(Purge{Selectors: []Selector{{KindTag, "pickup-7"}}})
	s.do("flushall")
	a.cycle.Unlock()
	eventually(t, "appended again", func() bool { return a.Stats().Queue == 0 })
	entries, err := a.Entries(t.Context(), 10)
	if err != nil || entries[0].Op != OpPurge {
		t.Errorf("%+v, %v", entries, err)
	}
}

// What was appended may be lost without a gap for this node: a replica took over
// that had all but the last entries.
func TestLostEntryIsAppendedAgain(t *testing.T) {
	s := newServer(t)
	a := startNode(t, s.Client())
	a.cycle.Lock()
	if err := a.AppendAsync(Purge{Selectors: []Selector{{KindTag, "pickup-7"}}}); err != nil {
		t.Error(err)
	}
	entries, err := a.Entries(t.Context(), 1)
	if err != nil || entries[0].Op != OpPurge {
		t.Errorf("%+v, %v", entries, err)
	}
	s.do("xdel", "cache::journal", entries[0].ID.String())
	a.cycle.Unlock()
	eventually(t, "the queue is empty", func() bool { return a.Stats().Queue == 0 })
	entries, err = a.Entries(t.Context(), 1)
	if err != nil || entries[0].Op != OpPurge || a.Stats().Gaps > 0 {
		t.Errorf("%+v, %v", entries, err)
	}
}

func TestCloseAppendsTheQueue(t *testing.T) {
	s := newServer(t)
	a := startNode(t, s.Client())
	s.Kill()
	a.waitFor(t, CutOff)
	a.AppendAsync(Purge{Selectors: []Selector{{KindTag, "x"}}})
	a.cycle.Lock()
	a.cycle.limit = 1 // as after a cycle in which a request could not wait
	a.cycle.Unlock()
	s.Start()
	a.Close(context.Background())
	if n := s.do("xlen", "cache::journal").(int64); n == 0 {
		t.Error("the purge is lost")
	}
}

// A client that makes its URL long must not escape the purge of it, nor keep this
// node from storing it again.
func TestLongURLIsPurgedEverywhere(t *testing.T) {
	s := newServer(t)
	a, b := startNode(t, s.Client(), named("a")), startNode(t, s.Client(), named("b"))
	old := a.subject()
	old.URL = "https://example.com/" + strings.Repeat("%D0%B0", 300)
	if err := a.AppendAsync(Purge{Selectors: []Selector{{KindTag, "other"}, {KindURL, old.URL}}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "b knows", func() bool { return b.verdict(old) == Covered })
	eventually(t, "the queue is empty", func() bool { return a.Stats().Queue == 0 })
	fresh := subjectAt(a.Position())
	fresh.URL = old.URL
	a.wantVerdict(t, fresh, Valid)
}

// An own entry that every node skips is not waited for.
func TestOwnEntryThatIsSkipped(t *testing.T) {
	s := newServer(t)
	a := startNode(t, s.Client(), named("a"))
	a.settled(t)
	skipped := func() *item {
		token := a.token()
		return &item{fields: fields{fieldOp, "nonsense", fieldToken, token}, selectors: []Selector{all}, token: token}
	}
	good, err := a.newItems(Purge{Selectors: []Selector{{KindTag, "pickup-7"}}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := a.appender.appendAndWait(t.Context(), append([]*item{skipped()}, good...), time.Second)
	if !errors.Is(err, ErrNotRecorded) {
		t.Errorf("%+v, %v: want it to be known that a part was skipped", r, err)
	}
	a.appender.queues[ofOperators].add([]*item{skipped()})
	eventually(t, "it is forgotten", func() bool { return a.Stats().Queue == 0 })
	a.wantVerdict(t, a.subject(), Valid)
}

// A purge of several entries is final when each of them is.
func TestEveryEntryIsWaitedFor(t *testing.T) {
	s := newServer(t)
	a := startNode(t, s.Client(), named("a"))
	a.settled(t)
	items := make([]*item, 0, 2)
	for _, tag := range []string{"x", "y"} {
		more, err := a.newItems(Purge{Selectors: []Selector{{KindTag, tag}}})
		if err != nil {
			t.Fatal(err)
		}
		items = append(items, more...)
	}
	seen := a.appender.sights.expect(items)
	if _, err := a.appender.appendOn(t.Context(), a.client, items[1:], false); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the last one is read", func() bool {
		a.appender.sights.mu.Lock()
		defer a.appender.sights.mu.Unlock()
		return seen.left == 1
	})
	select {
	case <-seen.done:
		t.Error("the first entry is lost, and nobody noticed")
	default:
	}
}

// A reload that changes the connection ends a node whose purges Redis has not taken.
func TestAnotherNodeAdoptsTheQueue(t *testing.T) {
	s := newServer(t)
	a, b := startNode(t, s.Client(), named("a")), startNode(t, s.Client(), named("b"))
	s.Kill()
	a.waitFor(t, CutOff)
	b.waitFor(t, CutOff)
	old := b.subject()
	if err := a.AppendAsync(Purge{Selectors: []Selector{{KindTag, "pickup-7"}}}); err != nil {
		t.Fatal(err)
	}
	b.wantVerdict(t, old, Valid)
	a.Close(context.Background())
	b.Adopt(a.Journal)
	b.wantVerdict(t, old, Covered)
	s.Start()
	b.waitFor(t, Leased)
	eventually(t, "the queue is empty", func() bool { return b.Stats().Queue == 0 })
	entries, err := b.Entries(t.Context(), 10)
	if err != nil || !slices.ContainsFunc(entries, func(e Entry) bool { return e.Op == OpPurge }) {
		t.Errorf("%+v, %v", entries, err)
	}
}

// What clients do to a queue whose Redis is away must not widen what operators
// purge, nor what is purged of other hosts.
func TestRequestsOverflowIntoTheirHosts(t *testing.T) {
	s := newServer(t)
	a := startNode(t, s.Client(), func(o *Options) { o.MaxQueue = 20 })
	s.Kill()
	a.waitFor(t, CutOff)
	byRequest := func(selectors ...Selector) {
		t.Helper()
		if err := a.AppendAsync(Purge{Selectors: selectors, Request: true}); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.AppendAsync(Purge{Selectors: []Selector{{KindTag, "by an event"}}}); err != nil {
		t.Fatal(err)
	}
	byRequest(Selector{KindURL, "https://quiet.example/a"})
	other, quiet, busy := a.subject(), a.subject(), a.subject()
	quiet.URL, busy.URL = "https://quiet.example/b", "https://busy.example/never-posted"
	for i := range 1000 {
		byRequest(Selector{KindURL, fmt.Sprint("https://busy.example/", i)})
		byRequest(Selector{KindKey, fmt.Sprint("menu:item:", i)})
	}
	a.wantVerdict(t, other, Valid)
	a.wantVerdict(t, quiet, Valid)
	a.wantVerdict(t, busy, Covered)
	if got := a.Stats(); got.Queue > 1+20 || got.Overflows == 0 {
		t.Errorf("%d wait, %d overflows", got.Queue, got.Overflows)
	}
	s.Start()
	b := startNode(t, s.Client(), named("b"))
	a.waitFor(t, Leased)
	eventually(t, "b knows", func() bool { return b.Position().ID == a.Position().ID })
	var selectors []string
	for _, e := range b.entries() {
		for _, s := range e.Selectors {
			selectors = append(selectors, s.String())
		}
	}
	for _, want := range []string{"tag by an event", "url https://quiet.example/a", "host busy.example", "namespace menu"} {
		if !slices.Contains(selectors, want) {
			t.Errorf("%s is not among %d purges", want, len(selectors))
		}
	}
	if slices.Contains(selectors, "all") {
		t.Error("everything was purged")
	}
}

// Hosts are the clients' to choose: as many of them as purges are one of everything.
func TestRequestsOfTooManyHosts(t *testing.T) {
	s := newServer(t)
	a := startNode(t, s.Client(), func(o *Options) { o.MaxQueue = 20 })
	s.Kill()
	a.waitFor(t, CutOff)
	old := a.subject()
	for i := range 100 {
		if err := a.AppendAsync(Purge{Selectors: []Selector{{KindURL, fmt.Sprintf("https://h%d.example/", i)}}, Request: true}); err != nil {
			t.Fatal(err)
		}
	}
	if got := a.Stats(); got.Queue > 20 {
		t.Errorf("%d wait", got.Queue)
	}
	a.wantVerdict(t, old, Covered)
}

// What is too long for an entry is a digest there, which tells no namespace.
func TestLongKeysOverflow(t *testing.T) {
	s := newServer(t)
	a := startNode(t, s.Client(), func(o *Options) { o.MaxQueue = 20 })
	s.Kill()
	a.waitFor(t, CutOff)
	old := a.subject()
	old.Identifier = strings.Repeat("long", maxValue)
	for i := range 100 {
		key := old.Namespace + ":" + old.Identifier
		if i > 0 {
			key += fmt.Sprint(i)
		}
		if err := a.AppendAsync(Purge{Selectors: []Selector{{KindKey, key}}, Request: true}); err != nil {
			t.Fatal(err)
		}
		a.wantVerdict(t, old, Covered)
	}
	if got := a.Stats(); got.Queue > 20 || got.Overflows == 0 {
		t.Errorf("%d wait, %d overflows", got.Queue, got.Overflows)
	}
}

// A repeat of what waits is not kept, however often it comes.
func TestRepeatsOfRequestsAreOne(t *testing.T) {
	s := newServer(t)
	a := startNode(t, s.Client())
	s.Kill()
	a.waitFor(t, CutOff)
	for range 100 {
		for _, u := range []string{"https://example.com/a", "https://example.com/b"} {
			if err := a.AppendAsync(Purge{Selectors: []Selector{{KindURL, u}}, Request: true}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := a.Stats().Queue; got != 2 {
		t.Errorf("%d wait, want 2", got)
	}
	fetched := a.subject()
	fetched.URL = "https://example.com/a"
	a.wantVerdict(t, fetched, Valid)
	if err := a.AppendAsync(Purge{Selectors: []Selector{{KindURL, fetched.URL}}, Request: true}); err != nil {
		t.Fatal(err)
	}
	a.wantVerdict(t, fetched, Covered) // what was fetched between two of them, too
}

// What Redis may have already is no repeat: others have fetched since.
func TestRepeatOfWhatIsAppended(t *testing.T) {
	s := newServer(t)
	a := startNode(t, s.Client())
	s.Kill()
	a.waitFor(t, CutOff)
	p := Purge{Selectors: []Selector{{KindURL, "https://example.com/a"}}, Request: true}
	for i, state := range []itemState{itemInFlight, itemAppended} {
		if err := a.AppendAsync(p); err != nil {
			t.Fatal(err)
		}
		q := &a.appender.queues[ofRequests]
		q.mu.Lock()
		if len(q.items) != i+1 || q.items[i].state != itemWaiting {
			t.Errorf("%d wait, want another one", len(q.items))
		}
		q.items[len(q.items)-1].state = state
		q.mu.Unlock()
	}
	if err := a.AppendAsync(p); err != nil || a.appender.queues[ofRequests].size() != 3 {
		t.Errorf("%d wait, %v", a.appender.queues[ofRequests].size(), err)
	}
}

// A purge that cannot be recorded covers at once what was being fetched here, and
// is appended before the node trusts Redis again.
func TestPurgeThatWaits(t *testing.T) {
	s := newServer(t)
	a, b := startNode(t, s.Client(), named("a")), startNode(t, s.Client(), named("b"))
	a.settled(t)
	s.Kill()
	old := a.subject()
	p := Purge{Selectors: []Selector{{KindTag, "pickup-7"}}, By: "operator"}
	if _, err := a.Record(t.Context(), p, time.Second); !errors.Is(err, ErrNotRecorded) {
		t.Errorf("want it not recorded: %v", err)
	}
	a.wantVerdict(t, old, Valid)
	if n, _ := a.Waiting(); n != 0 {
		t.Errorf("%d purges wait that must be recorded or nothing", n)
	}
	before := time.Now()
	r, err := a.Append(t.Context(), p, time.Second)
	if err != nil || !errors.Is(r.Waits, ErrNotRecorded) || r.Complete() || !slices.Equal(r.Confirmed, []string{"a"}) || !slices.Equal(r.Pending, []string{"b"}) {
		t.Errorf("%+v, %v", r, err)
	}
	if n, since := a.Waiting(); n != 1 || since.Before(before) {
		t.Errorf("%d wait since %v", n, since)
	}
	a.wantVerdict(t, old, Covered)
	a.wantVerdict(t, a.subject(), Valid)
	a.waitFor(t, CutOff)
	s.Start()
	a.waitFor(t, Leased)
	if n, _ := a.Waiting(); n != 0 {
		t.Errorf("%d wait although the node trusts Redis", n)
	}
	eventually(t, "b knows", func() bool { return b.verdict(old) >= Covered })
	eventually(t, "it is told", func() bool {
		return slices.ContainsFunc(b.entries(), func(e Entry) bool { return e.By == "operator" })
	})
}

// Whatever keeps an entry from being appended, the purge waits.
func TestPurgeWaitsForAJournalThatTakesNone(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		refuse, mend func(s *server)
	}{
		"last possible ID": {
			func(s *server) { s.do("xadd", "cache::journal", maxID.String(), "op", "purge", "tag", "x") },
			func(s *server) { s.do("del", "cache::journal") },
		},
		"out of memory": {
			func(s *server) { s.do("config", "set", "maxmemory", "1") },
			func(s *server) { s.do("config", "set", "maxmemory", "0") },
		},
		"a replica": {
			func(s *server) { s.do("replicaof", "127.0.0.1", "1") },
			func(s *server) { s.do("replicaof", "no", "one") },
		},
		"another type": {
			func(s *server) { s.do("del", "cache::journal"); s.do("set", "cache::journal", "x") },
			func(s *server) { s.do("del", "cache::journal") },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			a := startNode(t, s.Client(), named("a"))
			tt.refuse(s)
			old := a.subject()
			r, err := a.Append(t.Context(), Purge{Selectors: []Selector{{KindTag, "pickup-7"}}}, time.Second)
			if err != nil || r.Waits == nil || !a.Heard() {
				t.Errorf("%+v, %v", r, err)
			}
			if v := a.verdict(old); v < Covered {
				t.Errorf("it is %s", v)
			}
			tt.mend(s)
			eventually(t, "it is recorded", func() bool {
				n, _ := a.Waiting()
				return n == 0 && slices.ContainsFunc(a.entries(), func(e Entry) bool { return len(e.Selectors) == 1 && e.Selectors[0].Value == "pickup-7" })
			})
			a.waitFor(t, Leased)
			a.wantVerdict(t, a.subject(), Valid)
		})
	}
}

// A purge that nobody waits for, and that is in the journal, covers here before it
// is read back.
func TestRecordedPurgeCoversBeforeItIsRead(t *testing.T) {
	s := newServer(t)
	a := startNode(t, s.Client(), named("a"))
	a.settled(t)
	old := a.subject()
	a.cycle.Lock()
	r, err := a.Append(t.Context(), Purge{Selectors: []Selector{{KindTag, "pickup-7"}}}, 0)
	if err != nil || r.Waits != nil || r.Complete() || r.ID.IsZero() {
		t.Errorf("%+v, %v", r, err)
	}
	a.wantVerdict(t, old, Covered)
	a.cycle.Unlock()
	eventually(t, "it is read back", func() bool { return a.Stats().Queue == 0 && !a.Position().ID.Before(r.ID) })
	a.wantVerdict(t, old, Covered)
	a.wantVerdict(t, a.subject(), Valid)
}

// What a request or an operator purges by a journal that is being closed is not
// lost as long as another one follows it.
func TestHeirTakesWhatComesLate(t *testing.T) {
	s := newServer(t)
	a, b := startNode(t, s.Client(), named("a")), startNode(t, s.Client(), named("b"))
	s.Kill()
	a.waitFor(t, CutOff)
	b.waitFor(t, CutOff)
	old := b.subject()
	purge := func(tag string) Purge { return Purge{Selectors: []Selector{{KindTag, tag}}} }
	a.Close(context.Background())
	if r, err := a.Append(t.Context(), purge("early"), 0); !errors.Is(err, ErrNotRecorded) {
		t.Errorf("nobody will append it, and it is claimed to wait: %+v, %v", r, err)
	}
	b.Adopt(a.Journal)
	if r, err := a.Append(t.Context(), purge("late"), 0); err != nil || r.Waits == nil {
		t.Errorf("%+v, %v", r, err)
	}
	b.wantVerdict(t, old, Valid)
	if err := a.AppendAsync(purge("pickup-7")); err != nil {
		t.Error(err)
	}
	b.wantVerdict(t, old, Covered)
}

// Nobody knows whether Redis has what was being appended.
func TestHeirTakesWhatWasInFlight(t *testing.T) {
	s := newServer(t)
	a, b := startNode(t, s.Client(), named("a")), startNode(t, s.Client(), named("b"))
	items, err := a.newItems(Purge{Selectors: []Selector{{KindTag, "pickup-7"}}})
	if err != nil {
		t.Fatal(err)
	}
	items[0].state = itemInFlight
	a.appender.queues[ofOperators].add(items)
	old := b.subject()
	a.Close(context.Background())
	b.Adopt(a.Journal)
	b.wantVerdict(t, old, Covered)
}

// A request that found the journal open, and appends when it is closed and Redis away.
func TestHeirTakesWhatWasUnderWay(t *testing.T) {
	s := newServer(t)
	a, b := startNode(t, s.Client(), named("a")), startNode(t, s.Client(), named("b"))
	old := b.subject()
	a.appender.sights.mu.Lock()
	tokens := a.tokens.Load()
	purged := start(func() {
		if err := a.AppendAsync(Purge{Selectors: []Selector{{KindTag, "pickup-7"}}}); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "the purge is made", func() bool { return a.tokens.Load() > tokens })
	a.Close(context.Background())
	b.Adopt(a.Journal)
	s.Kill()
	a.appender.sights.mu.Unlock()
	<-purged
	b.wantVerdict(t, old, Covered)
}
