package journal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// every lets a node write a checkpoint after so many entries.
func every(n int) func(*Options) { return func(o *Options) { o.CheckpointEvery = n } }

func (t *table) chunks(tb testing.TB) (chunks [][]byte) {
	tb.Helper()
	w := tableWriter{t: t, emit: func(chunk []byte) error {
		chunks = append(chunks, bytes.Clone(chunk))
		return nil
	}}
	if err := w.write(); err != nil {
		tb.Fatal(err)
	}
	return chunks
}

func (t *table) reread(tb testing.TB, chunks [][]byte) *table {
	tb.Helper()
	j := New(Options{Prefix: "cache"})
	again := j.newTable()
	again.secret, again.hashes = t.secret, t.hashes
	r := tableReader{t: again}
	for _, chunk := range chunks {
		if err := r.read(chunk); err != nil {
			tb.Fatal(err)
		}
	}
	return again
}

// randomSelector is one of few, so that they meet.
func randomSelector(dice *rand.Rand) Selector {
	i := dice.IntN(12)
	return []Selector{
		{KindNamespace, fmt.Sprint("n", i)},
		{KindTag, fmt.Sprint("t", i)},
		{KindKey, fmt.Sprintf("n%d:k%d", i, dice.IntN(3))},
		{KindPattern, fmt.Sprintf("n%d:k*", i)},
		{KindPattern, fmt.Sprintf("*:k%d", i)},
		{KindURL, fmt.Sprintf("https://h%d.test/%d", i, dice.IntN(3))},
		{KindURL, fmt.Sprintf("https://h%d.test/1?q=%d", i, dice.IntN(3))},
		{KindPrefix, fmt.Sprintf("https://h%d.test/2", i)},
		{KindPrefix, fmt.Sprintf("https://h%d", i)},
		{KindHost, fmt.Sprintf("h%d.test", i)},
		{KindUser, fmt.Sprintf("%032d", i)},
		{KindAll, ""},
	}[dice.IntN(12)]
}

func randomSubject(dice *rand.Rand) *Subject {
	n, k := fmt.Sprint("n", dice.IntN(12)), fmt.Sprint("k", dice.IntN(3))
	return &Subject{
		Namespace: n, Identifier: k, Key: "cache:" + n + ":" + k + ":0123", BaseKey: "cache:" + n + ":" + k,
		URL:  fmt.Sprintf("https://h%d.test/%d?q=%d", dice.IntN(12), dice.IntN(3), dice.IntN(3)),
		Tags: []string{fmt.Sprint("t", dice.IntN(12))}, User: fmt.Sprintf("%032d", dice.IntN(12)),
	}
}

// A table that was written and read says what it said before.
func TestTableRoundTrip(t *testing.T) {
	dice := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		j := New(Options{Prefix: "cache", MaxRequestMarks: 1 + dice.IntN(30), MaxMarks: 1 + dice.IntN(60)})
		table := j.newTable()
		for i := range dice.IntN(100) {
			selectors := []Selector{randomSelector(dice)}
			if dice.IntN(2) == 0 {
				table.applyRequest(selectors, at(i+1))
			} else {
				table.apply(selectors, dice.IntN(3) == 0, at(i+1))
			}
			table.bound()
		}
		again := table.reread(t, table.chunks(t))
		if again.units != table.units || again.requests.used != table.requests.used || again.requests.ranges != table.requests.ranges {
			t.Fatalf("%d, %d and %d units, want %d, %d and %d", again.units, again.requests.used, again.requests.ranges,
				table.units, table.requests.used, table.requests.ranges)
		}
		for range 100 {
			s, after := randomSubject(dice), at(dice.IntN(100))
			if got, want := again.check(s, after), table.check(s, after); got != want {
				t.Fatalf("%+v from %v: %s, want %s", s, after, got, want)
			}
		}
	}
}

// Marks are written in the order of their slots. In a table that grows meanwhile they
// would all crowd at its beginning.
func TestTableIsReadWithoutGrowing(t *testing.T) {
	table := requestTable(100_000)
	for i := range 50_000 {
		table.applyRequest([]Selector{{KindURL, fmt.Sprint("https://h.test/", i)}}, at(i+1))
	}
	chunks := table.chunks(t)
	again := requestTable(100_000)
	r := tableReader{t: again}
	if err := r.read(chunks[0]); err != nil {
		t.Fatal(err)
	}
	if got, want := len(again.requests.slots), len(table.requests.slots); got != want {
		t.Errorf("%d slots after the first of %d chunks, want %d", got, len(chunks), want)
	}
	few := requestTable(10)
	r = tableReader{t: few}
	if err := r.read(chunks[0][:9]); err != nil || len(few.requests.slots) > firstSlots {
		t.Errorf("%d slots for 10 marks, %v", len(few.requests.slots), err)
	}
}

// What is applied while a table is written does not keep the rest from it.
func TestTableIsWrittenWhileItChanges(t *testing.T) {
	j := New(Options{Prefix: "cache", MaxRequestMarks: 3000, MaxMarks: 3000})
	table := j.newTable()
	const before = 2000
	for i := range before {
		table.applyRequest([]Selector{{KindURL, fmt.Sprintf("https://h.test/%d", i)}}, at(i+1))
		table.apply([]Selector{{KindPattern, fmt.Sprintf("n%d:%d*", i%7, i)}}, false, at(i+1))
		table.bound()
	}
	stop := make(chan struct{})
	changes := start(func() {
		for i := before; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			table.applyRequest([]Selector{{KindURL, fmt.Sprintf("https://h.test/%d", i)}, {KindPrefix, fmt.Sprintf("https://h.test/p%d", i)}}, at(i+1))
			table.apply([]Selector{{KindPattern, fmt.Sprintf("n%d:%d*", i%7, i)}}, false, at(i+1))
			table.bound()
		}
	})
	for range 20 {
		again := table.reread(t, table.chunks(t))
		for i := range before {
			if v := again.check(subjectOn("h.test", fmt.Sprint("/", i)), at(i)); v < Covered {
				t.Fatalf("the purge %d of a request is %s", i, v)
			}
			n, k := fmt.Sprint("n", i%7), fmt.Sprint(i, "x")
			if v := again.check(&Subject{Namespace: n, Identifier: k, Key: "cache:" + n + ":" + k, BaseKey: "cache:" + n + ":" + k}, at(i)); v < Covered {
				t.Fatalf("the purge %d of a pattern is %s", i, v)
			}
		}
	}
	close(stop)
	<-changes
}

// flood appends purges by requests of distinct URLs, as a node does.
func (s *server) flood(n int, url string) (last ID) {
	s.t.Helper()
	for first := 0; first < n; first += 1000 {
		cmds, err := s.Client().Pipelined(s.t.Context(), func(pipe redis.Pipeliner) error {
			for i := first; i < min(n, first+1000); i++ {
				pipe.XAdd(s.t.Context(), &redis.XAddArgs{Stream: "cache::journal", Values: []any{
					"op", "purge", "url", url + strconv.Itoa(i), "by", "request", "source", "request",
				}})
			}
			return nil
		})
		if err != nil {
			s.t.Fatal(err)
		}
		if last, err = ParseID(cmds[len(cmds)-1].(*redis.StringCmd).Val()); err != nil {
			s.t.Fatal(err)
		}
	}
	return last
}

func (n *testNode) reaches(t testing.TB, id ID) {
	t.Helper()
	eventually(t, n.opts.NodeID+" has applied all", func() bool { return !n.Position().ID.Before(id) })
}

func (s *server) header(t testing.TB) (h checkpointHeader) {
	t.Helper()
	raw, err := s.Client().Get(t.Context(), "cache::checkpoint:{cache::journal}").Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &h); err != nil {
		t.Fatal(err)
	}
	return h
}

// withCheckpoint is a node that has purged a tag, and a stream that was trimmed to
// the checkpoint after that. old was stored before the purge, kept behind it.
func withCheckpoint(t *testing.T, change ...func(*Options)) (s *server, a *testNode, old, kept *Subject) {
	t.Helper()
	s = newServer(t)
	a = startNode(t, s.Client(), append(change, named("a"), every(500))...)
	a.settled(t)
	old = a.subject()
	a.purge(t, Selector{KindTag, "pickup-7"})
	kept = a.subject()
	a.reaches(t, s.flood(600, "https://flooded.test/"))
	eventually(t, "a checkpoint is written", func() bool { return a.Stats().Checkpoints > 0 })
	a.reaches(t, s.flood(50, "https://flooded.test/later/"))
	if n := s.do("xtrim", "cache::journal", "minid", s.header(t).ID).(int64); n < 500 {
		t.Fatalf("%d entries are trimmed", n)
	}
	return s, a, old, kept
}

func TestJoinerGoesOnFromCheckpoint(t *testing.T) {
	s, a, old, kept := withCheckpoint(t)
	b := startNode(t, s.Client(), named("b"))
	b.wantVerdict(t, old, Covered)
	b.wantVerdict(t, kept, Valid)
	flooded := *kept
	flooded.URL = "https://flooded.test/17"
	b.wantVerdict(t, &flooded, Covered)
	flooded.URL = "https://flooded.test/later/17"
	b.wantVerdict(t, &flooded, Covered)
	if got := b.Stats(); got.Loaded != 1 || got.Floor != a.Stats().Floor || got.RequestMarks != a.Stats().RequestMarks {
		t.Errorf("%+v, want what a has: %+v", got, a.Stats())
	}
	// It may write the next one, and a third node goes on from that.
	a.Close(t.Context())
	b.wantVerdict(t, kept, Valid)
	c := startNode(t, s.Client(), named("c"), every(100))
	last := s.flood(150, "https://flooded.test/last/")
	c.reaches(t, last)
	eventually(t, "another checkpoint is written", func() bool { return c.Stats().Checkpoints > 0 })
	s.do("xtrim", "cache::journal", "minid", s.header(t).ID)
	d := startNode(t, s.Client(), named("d"))
	d.wantVerdict(t, old, Covered)
	d.wantVerdict(t, kept, Valid)
	if ttl := s.do("ttl", "cache::checkpoint:{cache::journal}").(int64); ttl <= 0 {
		t.Errorf("the checkpoint lives for %d", ttl)
	}
	halves := s.do("exists", "cache::checkpoint0:{cache::journal}", "cache::checkpoint1:{cache::journal}").(int64)
	if halves != 1 {
		t.Errorf("%d halves are kept", halves)
	}
	for _, half := range b.keys.halves {
		if s.do("exists", half).(int64) == 1 && s.do("ttl", half).(int64) <= 0 {
			t.Error("chunks live for ever")
		}
	}
}

// Who goes on from a checkpoint knows the epochs that were before it, as who has read
// their entries: a Redis that falls back into one of them has lost purges.
func TestJoinerKnowsEpochsBeforeCheckpoint(t *testing.T) {
	s := newServer(t)
	a := startNode(t, s.Client(), named("a"), every(100))
	a.settled(t)
	old := a.subject()
	dump, earlier := s.do("dump", "cache::journal"), s.do("get", a.keys.epoch)
	begun := newEpoch()
	s.do("set", a.keys.epoch, formatEpoch(begun))
	a.reaches(t, s.xadd("op", "epoch", "epoch", formatEpoch(begun)))
	a.reaches(t, s.flood(150, "https://flooded.test/"))
	eventually(t, "a checkpoint is written", func() bool { return a.Stats().Checkpoints > 0 })
	b := startNode(t, s.Client(), named("b"))
	if got := b.Stats(); got.Loaded != 1 || got.Position.Epoch != begun {
		t.Fatalf("%+v", got)
	}
	a.Close(t.Context())
	_, err := b.client.TxPipelined(t.Context(), func(pipe redis.Pipeliner) error {
		pipe.RestoreReplace(t.Context(), "cache::journal", 0, dump.(string))
		pipe.Set(t.Context(), b.keys.epoch, earlier, 0)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the loss is noticed", func() bool { return b.Position().Epoch != begun })
	b.wantVerdict(t, old, Absent)
}

// A checkpoint that is not whole, not of this journal, or not of these rules is
// none. What was trimmed away is then absent.
func TestCheckpointsThatAreNone(t *testing.T) {
	t.Parallel()
	rewrite := func(t *testing.T, s *server, change func(*checkpointHeader)) {
		h := s.header(t)
		change(&h)
		raw, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		s.do("set", "cache::checkpoint:{cache::journal}", raw)
	}
	half := func(s *server, t *testing.T) string {
		return fmt.Sprintf("cache::checkpoint%d:{cache::journal}", s.header(t).Half)
	}
	for name, spoil := range map[string]func(t *testing.T, s *server){
		"no header": func(_ *testing.T, s *server) { s.do("del", "cache::checkpoint:{cache::journal}") },
		"a header cut": func(t *testing.T, s *server) {
			s.do("setrange", "cache::checkpoint:{cache::journal}", 40, strings.Repeat("x", 500))
		},
		"no JSON": func(_ *testing.T, s *server) {
			s.do("set", "cache::checkpoint:{cache::journal}", strings.Repeat("[", maxHeader))
		},
		"a list": func(_ *testing.T, s *server) {
			s.do("del", "cache::checkpoint:{cache::journal}")
			s.do("lpush", "cache::checkpoint:{cache::journal}", "x")
		},
		"no chunks": func(t *testing.T, s *server) { s.do("del", half(s, t)) },
		"a chunk cut": func(t *testing.T, s *server) {
			h := half(s, t)
			s.do("hset", h, "0", s.do("hget", h, "0").(string)[:100])
		},
		"a chunk more": func(t *testing.T, s *server) {
			h := half(s, t)
			s.do("hset", h, "0", s.do("hget", h, "0").(string)+"f"+strings.Repeat("\x00", 16))
		},
		"no chunk at all": func(t *testing.T, s *server) { rewrite(t, s, func(h *checkpointHeader) { h.Chunks = 0 }) },
		"many chunks":     func(t *testing.T, s *server) { rewrite(t, s, func(h *checkpointHeader) { h.Chunks = 1 << 40 }) },
		"an odd half":     func(t *testing.T, s *server) { rewrite(t, s, func(h *checkpointHeader) { h.Half = -1 }) },
		"a later version": func(t *testing.T, s *server) { rewrite(t, s, func(h *checkpointHeader) { h.Version++ }) },
		"another epoch":   func(t *testing.T, s *server) { rewrite(t, s, func(h *checkpointHeader) { h.Epoch = formatEpoch(7) }) },
		"other rules":     func(t *testing.T, s *server) { rewrite(t, s, func(h *checkpointHeader) { h.Rules = "others" }) },
		"another secret":  func(t *testing.T, s *server) { rewrite(t, s, func(h *checkpointHeader) { h.Secret = "00" }) },
		"another entry": func(t *testing.T, s *server) {
			rewrite(t, s, func(h *checkpointHeader) { h.Entry = strings.Repeat("0", 64) })
		},
		"an ID that is gone": func(t *testing.T, s *server) {
			rewrite(t, s, func(h *checkpointHeader) { h.ID = "1-1" })
		},
		"an ID to come": func(t *testing.T, s *server) {
			rewrite(t, s, func(h *checkpointHeader) { h.ID = "99999999999999-0" })
		},
		"an entry that is gone": func(t *testing.T, s *server) { s.do("xdel", "cache::journal", s.header(t).ID) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, a, old, kept := withCheckpoint(t)
			spoil(t, s)
			b := startNode(t, s.Client(), named("b"))
			b.wantVerdict(t, old, Absent)
			b.wantVerdict(t, kept, Absent)
			if got := b.Stats(); got.Loaded != 0 {
				t.Errorf("%+v", got)
			}
			a.wantVerdict(t, kept, Valid)
			b.wantVerdict(t, b.subject(), Valid)
		})
	}
}

// The rules under which a table was made are told by those that are in use.
func TestCheckpointOfOtherRules(t *testing.T) {
	rules := func(name string) func(*Options) {
		return func(o *Options) { o.Rules = func() string { return name } }
	}
	s, _, old, kept := withCheckpoint(t, rules("x"))
	startNode(t, s.Client(), named("b"), rules("y")).wantVerdict(t, kept, Absent)
	c := startNode(t, s.Client(), named("c"), rules("x"))
	c.wantVerdict(t, kept, Valid)
	c.wantVerdict(t, old, Covered)
	c.NewRules()
	eventually(t, "it has gone on from the checkpoint again", func() bool { return c.Stats().Loaded == 2 && !c.view.outdated() })
	c.wantVerdict(t, kept, Valid)
	c.wantVerdict(t, old, Covered)
}

// A table that is made anew up to an entry cannot go on from a checkpoint that reaches it.
func TestNewRulesAtACheckpoint(t *testing.T) {
	s := newServer(t)
	a := startNode(t, s.Client())
	old := a.subject()
	a.reaches(t, s.xadd("op", "purge", "tag", "pickup-7"))
	kept := a.subject()
	a.cycle.Lock()
	c := capture{at: a.tail.position, anchor: a.tail.anchor, table: a.tail.table, rules: a.tail.name}
	a.cycle.Unlock()
	if _, err := a.saved.write(t.Context(), c, maxID); err != nil {
		t.Fatal(err)
	}
	a.NewRules()
	a.waitFor(t, Leased)
	a.wantVerdict(t, old, Covered)
	a.wantVerdict(t, kept, Valid)
	if got := a.Stats(); got.Gaps != 0 || got.Loaded != 0 {
		t.Errorf("%+v", got)
	}
}

// Two that write at a time leave one checkpoint or none, and never a wrong one.
func TestTwoWritersOfCheckpoints(t *testing.T) {
	s := newServer(t)
	a, b := startNode(t, s.Client(), named("a")), startNode(t, s.Client(), named("b"))
	a.settled(t)
	old := a.subject()
	a.purge(t, Selector{KindTag, "pickup-7"})
	kept := a.subject()
	s.flood(5000, "https://flooded.test/")
	last := s.flood(5000, "https://flooded.test/more/")
	a.reaches(t, last)
	b.reaches(t, last)
	var writers []<-chan struct{}
	for _, n := range []*testNode{a, b} {
		n.cycle.Lock()
		c := capture{n.tail.position, n.tail.anchor, n.tail.table, n.tail.name, nil, 0}
		n.cycle.Unlock()
		writers = append(writers, start(func() { _, _ = n.saved.write(t.Context(), c, maxID) }))
	}
	for _, done := range writers {
		<-done
	}
	d := startNode(t, s.Client(), named("d"))
	d.wantVerdict(t, old, Covered)
	d.wantVerdict(t, kept, Valid)
}

// The node with the lowest ID writes; where it does not, others do later.
func TestWhoWritesCheckpoints(t *testing.T) {
	s := newServer(t)
	a := startNode(t, s.Client(), named("a"), every(1_000_000)) // as one that knows of none
	b := startNode(t, s.Client(), named("b"), every(100))
	eventually(t, "b knows a", func() bool { return !b.registry.elects() && a.registry.elects() })
	b.reaches(t, s.flood(150, "https://flooded.test/"))
	b.cycle.Lock()
	entries := b.tail.entries
	b.cycle.Unlock()
	if n := b.Stats().Checkpoints; n > 0 || entries < 100 {
		t.Errorf("%d were written after %d entries", n, entries)
	}
	b.reaches(t, s.flood(150, "https://flooded.test/"))
	eventually(t, "b writes one", func() bool { return b.Stats().Checkpoints == 1 })
}

func FuzzTableReader(f *testing.F) {
	dice := rand.New(rand.NewPCG(3, 4))
	j := New(Options{Prefix: "cache", MaxRequestMarks: 20})
	table := j.newTable()
	for i := range 8 {
		table.applyRequest([]Selector{randomSelector(dice)}, at(i+1))
		table.apply([]Selector{randomSelector(dice)}, i%2 == 0, at(i+1))
	}
	f.Add(slices.Concat(table.chunks(f)...))
	f.Fuzz(func(t *testing.T, chunk []byte) {
		again := j.newTable()
		r := tableReader{t: again}
		if r.read(chunk) != nil {
			return
		}
		again.bound()
		dice := rand.New(rand.NewPCG(3, 4))
		third := again.reread(t, again.chunks(t))
		for range 20 {
			s, after := randomSubject(dice), at(dice.IntN(60))
			if got, want := third.check(s, after), again.check(s, after); got != want {
				t.Errorf("%+v from %v: %s, want %s", s, after, got, want)
			}
		}
	})
}
