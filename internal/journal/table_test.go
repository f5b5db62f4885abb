package journal

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func TestSelectors(t *testing.T) {
	long := strings.Repeat("a", maxValue+1)
	for _, tt := range []struct {
		selector Selector
		change   func(*Subject)
		want     bool
	}{
		{Selector{KindAll, ""}, nil, true},
		{Selector{KindNamespace, "pickup"}, nil, true},
		{Selector{KindNamespace, "pick"}, nil, false},
		{Selector{KindTag, "pickup-7"}, nil, true},
		{Selector{KindTag, "pickup"}, nil, false},
		{Selector{KindTag, long}, func(s *Subject) { s.Tags = append(s.Tags, long) }, true},
		{Selector{KindKey, "pickup:item:7"}, nil, true},
		{Selector{KindKey, "cache:pickup:item:7"}, nil, true},
		{Selector{KindKey, "pickup:item:7:0123"}, nil, true},
		{Selector{KindKey, "pickup:item"}, nil, false},
		{Selector{KindKey, "cache:pickup:item:7:0123"}, func(s *Subject) { s.Key += ":4567" }, true},
		{Selector{KindKey, "cache:pickup:item:7:0123:4567"}, func(s *Subject) { s.Key += ":4567" }, true},
		{Selector{KindKey, "cache:pickup:item:7:0123:4567"}, nil, false},
		{Selector{KindKey, "pickup:" + long}, func(s *Subject) { s.Identifier, s.Key = long, "cache:pickup:"+long+":0123" }, true},
		{Selector{KindPattern, "pickup:item:*"}, nil, true},
		{Selector{KindPattern, "cache:pickup:item:?"}, nil, true},
		{Selector{KindPattern, "*:0123"}, nil, true},
		{Selector{KindPattern, "*cache:p*"}, nil, true},
		{Selector{KindPattern, "item:*"}, nil, false},
		{Selector{KindPattern, "p[i]ckup:item:7"}, nil, true},
		{Selector{KindPattern, "pickup:" + long + "b*"}, func(s *Subject) { s.Identifier = long + "bc" }, true},
		{Selector{KindURL, "https://EXAMPLE.com:443/pickup/7"}, nil, true},
		{Selector{KindURL, "https://example.com/pickup/7?status=open"}, nil, true},
		{Selector{KindURL, "https://example.com/pickup/7?status=closed"}, nil, false},
		{Selector{KindURL, "https://example.com/pickup/7?b=1&a=2"}, func(s *Subject) { s.URL = "https://example.com/pickup/7?a=2&b=1" }, true},
		{Selector{KindURL, "http://example.com/pickup/7"}, nil, false},
		{Selector{KindURL, "https://example.com/pickup"}, nil, false},
		{Selector{KindURL, "https://example.com/" + long}, func(s *Subject) { s.URL = "https://example.com/" + long }, true},
		{Selector{KindURL, "https://example.com/pickup/7?z=" + long + "&a=1"}, func(s *Subject) { s.URL = "https://example.com/pickup/7?a=1&z=" + long }, true},
		{Selector{KindURL, "https://example.com/pickup/7?z=" + long}, func(s *Subject) { s.URL = "https://example.com/pickup/8" }, false},
		{Selector{KindURL, "https://example.com/" + long + "?a=1"}, func(s *Subject) { s.URL = "https://example.com/" + long + "?a=1" }, true},
		{Selector{KindPrefix, "https://example.com:443"}, nil, true},
		{Selector{KindPrefix, "https://me:secret@Example.com"}, nil, true},
		{Selector{KindPrefix, "https://example.com:8443"}, nil, false},
		{Selector{KindPrefix, "https://example.com/pick"}, nil, true},
		{Selector{KindPrefix, "https://Example"}, nil, true},
		{Selector{KindPrefix, "https://example.com/other"}, nil, false},
		{Selector{KindURL, "http://A%25b:80/x"}, func(s *Subject) { s.URL = "http://a%25b/x" }, true},
		{Selector{KindURL, "http://[fe80::1%25en0]/x"}, func(s *Subject) { s.URL = "http://[fe80::1%25en0]/x" }, true},
		{Selector{KindHost, "Example.com"}, nil, true},
		{Selector{KindHost, "example.com:443"}, nil, true},
		{Selector{KindHost, "example.com:80"}, nil, false},
		{Selector{KindHost, "example.com"}, func(s *Subject) { s.URL = "https://example.com:8443/" }, true},
		{Selector{KindHost, "example.com:8443"}, func(s *Subject) { s.URL = "https://example.com:8443/" }, true},
		{Selector{KindHost, "example.com:8443"}, nil, false},
		{Selector{KindHost, "::1"}, func(s *Subject) { s.URL = "http://[::1]:8080/x" }, true},
		{Selector{KindUser, someUser}, nil, true},
		{Selector{KindUser, strings.Repeat("0", userHashLen)}, nil, false},
	} {
		s := subjectAt(Position{})
		if tt.change != nil {
			tt.change(s)
		}
		name := tt.selector.String()
		p := Purge{Selectors: []Selector{tt.selector}}
		entries, err := p.encode("cache")
		if err != nil {
			t.Fatal(name, err)
		}
		if got := checkAfterDecoding(t, entries, s); got != tt.want {
			t.Errorf("%.60s covers %+.200v: %t, want %t", name, s, got, tt.want)
		}
	}
}

// checkAfterDecoding sends a purge through its entries.
func checkAfterDecoding(t *testing.T, entries []fields, s *Subject) bool {
	t.Helper()
	table := newTable("cache", sortedForms, maxMarks)
	for _, f := range entries {
		e := mustDecode(t, f)
		table.apply(e.Selectors, false, ID{1, 0})
	}
	return table.check(s, ID{}) == Covered
}

func mustDecode(t *testing.T, f fields) Entry {
	t.Helper()
	e, err := decode(ID{1, 0}, f.values(), "cache")
	if err != nil {
		t.Fatalf("%v: %v", f, err)
	}
	return e
}

func sortedForms(u string) []string {
	if strings.HasSuffix(u, "?b=1&a=2") {
		return []string{strings.TrimSuffix(u, "b=1&a=2") + "a=2&b=1"}
	}
	return nil
}

func TestManyPatternsBecomeOneNamespace(t *testing.T) {
	table := newTable("cache", nil, maxMarks)
	for i := range maxRanges {
		table.apply([]Selector{{KindPattern, fmt.Sprintf("pickup:x%d:*", i)}}, false, ID{uint64(i + 1), 0})
	}
	s := subjectAt(Position{})
	if got := table.check(s, ID{}); got != Valid {
		t.Fatalf("%d patterns cover what none matches: %s", maxRanges, got)
	}
	table.apply([]Selector{{KindPattern, "pickup:y:*"}}, false, ID{1000, 0})
	if got := table.check(s, ID{}); got != Covered {
		t.Errorf("the oldest pattern was forgotten: %s", got)
	}
	if got := table.check(s, ID{1, 0}); got != Valid {
		t.Errorf("a record that is newer than the oldest pattern is %s", got)
	}
	other := subjectAt(Position{})
	other.Namespace, other.Key = "points", "cache:points:item:7:0123"
	if got := table.check(other, ID{}); got != Valid {
		t.Errorf("a record of another namespace is %s", got)
	}
	for i := range 10 * maxRanges {
		table.apply([]Selector{{KindPattern, fmt.Sprintf("pickup:z%d:*", i%4)}}, false, ID{uint64(2000 + i), 0})
	}
	if got := table.check(s, ID{999, 0}); got != Valid {
		t.Errorf("the same patterns again and again: %s", got)
	}
}

func TestManyPrefixesBecomeOneHost(t *testing.T) {
	table := newTable("cache", nil, maxMarks)
	for i := range maxRanges + 1 {
		table.apply([]Selector{{KindPrefix, fmt.Sprintf("https://example.com/x%d", i)}}, true, ID{uint64(i + 1), 0})
	}
	if got := table.check(subjectAt(Position{}), ID{}); got != SoftCovered {
		t.Errorf("got %s, want the host covered softly", got)
	}
}

func TestFullTableRaisesFloor(t *testing.T) {
	const limit = 1000
	table := newTable("cache", nil, limit)
	for i := range 10 * limit {
		table.apply([]Selector{{KindKey, fmt.Sprintf("pickup:%d", i)}, {KindPattern, fmt.Sprintf("n%d:*", i%7)}}, i%3 == 0, ID{uint64(i + 1), 0})
		table.bound()
		if table.units > limit {
			t.Fatalf("%d units, limit %d", table.units, limit)
		}
	}
	units := 0
	for _, marks := range table.marks {
		units += len(marks)
	}
	for _, list := range table.ranges {
		for i := range list {
			units += list[i].units()
		}
	}
	if units != table.units {
		t.Errorf("%d units in the table, %d counted", units, table.units)
	}
	s := subjectAt(Position{})
	if got := table.check(s, ID{1, 0}); got != Absent {
		t.Errorf("a record below the floor is %s", got)
	}
	if got := table.check(s, table.floor); got != Valid {
		t.Errorf("a record at the floor is %s", got)
	}
	s.Identifier, s.Key, s.BaseKey = "9999", "cache:pickup:9999:0", "cache:pickup:9999:0"
	if got := table.check(s, ID{9999, 0}); got != Covered && got != SoftCovered {
		t.Errorf("the newest mark is gone: %s", got)
	}
}

// A check either finds a mark or the floor that replaced it.
func TestDropBesideChecks(t *testing.T) {
	table := newTable("cache", nil, maxMarks)
	const n = 20_000
	for i := range n {
		table.apply([]Selector{{KindKey, fmt.Sprintf("pickup:%d", i)}}, false, ID{uint64(i + 1), 0})
	}
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for range 20_000 {
				i := rand.IntN(n)
				s := &Subject{Namespace: "pickup", Identifier: fmt.Sprint(i), Key: "cache:pickup:" + fmt.Sprint(i) + ":0"}
				if got := table.check(s, ID{uint64(i), 0}); got != Covered && got != Absent {
					t.Errorf("the record that mark %d covers is %s", i+1, got)
					return
				}
			}
		})
	}
	for upTo := uint64(1); upTo < n; upTo += n / 50 {
		table.drop(ID{upTo, 0})
	}
	readers.Wait()
}

// Ten thousand purges a second for a minute, distinct keys, within 128 MiB.
func TestTableMemory(t *testing.T) {
	before := heap()
	table := newTable("cache", nil, maxMarks)
	for i := range 600_000 {
		table.apply([]Selector{{KindKey, fmt.Sprintf("pickup:item:%d", i)}}, false, ID{uint64(1_700_000_000_000 + i/10), uint64(i % 10)})
	}
	used := heap() - before
	t.Logf("%d MiB for %d marks", used>>20, table.units)
	if used > 128<<20 {
		t.Errorf("%d MiB for %d marks", used>>20, table.units)
	}
	runtime.KeepAlive(table)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestCutPatternCoversMore(t *testing.T) {
	for _, unit := range []string{"a", `\*`, "[ab]", `[\]x]`, "[^z", "?", "*"} {
		pattern := strings.Repeat(unit, 2*maxValue)
		cut := cutPattern(pattern)
		if len(cut) > maxValue || !strings.HasSuffix(cut, "*") {
			t.Errorf("%s…: cut to %d bytes, ending in %q", unit, len(cut), cut[max(0, len(cut)-5):])
		}
		if body := strings.TrimSuffix(cut, "*"); !strings.HasPrefix(pattern, body) || len(body)%len(unit) != 0 {
			t.Errorf("%s…: cut inside an element", unit)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	j := New(Options{Prefix: "cache"})
	s := subjectAt(j.Position())
	for i := range 100_000 {
		j.view.state.Load().table.apply([]Selector{{KindKey, fmt.Sprintf("pickup:other:%d", i)}, {KindTag, fmt.Sprint(i)}}, false, ID{uint64(2_000_000_000_000 + i), 0})
	}
	b.Run("proved", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			j.Check(s, Checked{})
		}
	})
	j.view.publish(func(st *state) { st.position.ID = ID{3_000_000_000_000, 0} })
	b.Run("keys_and_tags", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			j.Check(s, Checked{})
		}
	})
	for i := range maxRanges {
		j.view.state.Load().table.apply([]Selector{{KindPattern, fmt.Sprintf("pickup:x%d:*", i)}}, false, ID{2_900_000_000_000, uint64(i)})
	}
	b.Run("256_patterns", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			j.Check(s, Checked{})
		}
	})
}

func TestCheckDoesNotAllocate(t *testing.T) {
	j := New(Options{Prefix: "cache"})
	s := subjectAt(j.Position())
	check := func() { j.Check(s, Checked{}) }
	if n := testing.AllocsPerRun(100, check); n > 0 {
		t.Errorf("%v allocations with nothing newer", n)
	}
	for i := range 100 {
		for kind := range Kind(numKinds - 1) {
			j.view.state.Load().table.apply([]Selector{{kind, fmt.Sprintf("other:%d", i)}}, false, maxID)
		}
	}
	j.view.publish(func(st *state) { st.position.ID = maxID })
	if n := testing.AllocsPerRun(100, check); n > 0 {
		t.Errorf("%v allocations with other purges", n)
	}
}

func BenchmarkApply(b *testing.B) {
	j := New(Options{Prefix: "cache"})
	p := progress{position: j.Position(), table: j.newTable()}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		message := message(fmt.Sprintf("%d-0", i), "op", "purge", "key", fmt.Sprintf("pickup:item:%d", i))
		j.applier.apply(&p, message)
	}
}

// Who compares counts around a position relies on what they tell.
func TestCountedWhenApplied(t *testing.T) {
	j := New(Options{Prefix: "cache"})
	p := progress{position: j.Position(), table: j.newTable()}
	entries := j.applier.apply(&p, message("1-0", "op", "purge", "key", "x"))
	if n := j.Stats().Applied; n != 0 {
		t.Errorf("%d entries are counted before anybody can know of them", n)
	}
	j.applier.settle(&p, entries)
	if n := j.Stats().Applied; n != 1 {
		t.Errorf("%d entries are counted, want 1", n)
	}
}

// Whoever is told of a purge, and whoever waits for it, can rely on it.
func TestAppliedWhenTold(t *testing.T) {
	s := newServer(t)
	var told atomic.Pointer[func(Entry)]
	a := startNode(t, s.Client(), func(o *Options) {
		o.OnEntry = func(e Entry) {
			if f := told.Load(); f != nil {
				(*f)(e)
			}
		}
	})
	old, verdict := a.subject(), make(chan Verdict, 1)
	check := func(Entry) {
		v, _ := a.Check(old, Checked{})
		verdict <- v
	}
	told.Store(&check)
	s.xadd("op", "purge", "tag", "pickup-7")
	if v := <-verdict; v != Covered {
		t.Errorf("it is told of while the record is %s", v)
	}
}
