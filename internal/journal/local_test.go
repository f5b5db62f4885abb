package journal

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestMemoryOnly(t *testing.T) {
	a := startNode(t, nil, named("a"), func(o *Options) { o.MaxMarks = 100 })
	old := a.subject()
	a.wantVerdict(t, old, Valid)
	r := a.purge(t, Selector{KindTag, "pickup-7"})
	if !slices.Equal(r.Confirmed, []string{"a"}) || r.ID != a.Position().ID {
		t.Errorf("%+v", r)
	}
	a.wantVerdict(t, old, Covered)
	a.wantVerdict(t, a.subject(), Valid)
	between := a.subject()
	if err := a.AppendAsync(Purge{Selectors: []Selector{{KindUser, between.User}}, Soft: true}); err != nil {
		t.Fatal(err)
	}
	a.wantVerdict(t, between, SoftCovered)
	if _, err := a.Switch(t.Context(), false, "pickup", "me", "", 0); err != nil {
		t.Fatal(err)
	}
	list, err := a.Entries(t.Context(), 2)
	if err != nil || len(list) != 2 || list[0].Op != OpDisable || list[1].Op != OpSoftPurge {
		t.Errorf("%+v, %v", list, err)
	}
	for i := range 2 * maxListed {
		a.purge(t, Selector{KindTag, fmt.Sprint(i)})
	}
	a.wantVerdict(t, between, Absent) // the table is full of newer purges
	if got := a.Stats(); got.Marks > 100 || got.Nodes != 1 || got.Standing != Leased {
		t.Errorf("%+v", got)
	}
	if list, _ := a.Entries(t.Context(), 2*maxListed); len(list) != maxListed {
		t.Errorf("%d entries are remembered", len(list))
	}
	if nodes, err := a.Nodes(t.Context()); err != nil || len(nodes) != 1 || !nodes[0].Self {
		t.Errorf("%+v, %v", nodes, err)
	}
	if other := New(Options{Prefix: "cache"}); other.verdictOf(between) != Absent {
		t.Error("the record of another journal is not absent")
	}
}

func (j *Journal) verdictOf(s *Subject) Verdict {
	v, _ := j.Check(s, Checked{})
	return v
}

func TestInvalidPurge(t *testing.T) {
	a := startNode(t, nil)
	bad := Purge{Selectors: []Selector{{KindURL, "nonsense"}}}
	if _, err := a.Append(t.Context(), bad, 0); !errors.Is(err, ErrInvalid) {
		t.Errorf("Append: %v", err)
	}
	if err := a.AppendAsync(bad); !errors.Is(err, ErrInvalid) {
		t.Errorf("AppendAsync: %v", err)
	}
	if _, err := a.Matcher(bad); !errors.Is(err, ErrInvalid) {
		t.Errorf("Matcher: %v", err)
	}
}

func TestMatcher(t *testing.T) {
	a := startNode(t, nil)
	match, err := a.Matcher(Purge{Selectors: []Selector{{KindTag, "none"}, {KindPattern, "pickup:*"}}})
	if err != nil {
		t.Fatal(err)
	}
	other := a.subject()
	other.Namespace, other.Key = "points", "cache:points:item:7:0"
	if !match(a.subject()) || match(other) {
		t.Error("wrong match")
	}
}

// A memory entry remembers up to where it was checked, so that a full table
// does not drop what is in use.
func TestCheckAdvances(t *testing.T) {
	a := startNode(t, nil, func(o *Options) { o.MaxMarks = 100 })
	s := a.subject()
	var upTo Checked
	for i := range 1000 {
		a.purge(t, Selector{KindTag, fmt.Sprint(i)})
		v, next := a.Check(s, upTo)
		if v != Valid || next.ID != a.Position().ID {
			t.Fatalf("after %d purges: %s up to %v, node at %v", i+1, v, next, a.Position().ID)
		}
		upTo = next
	}
	a.wantVerdict(t, s, Absent)
	a.purge(t, Selector{KindTag, "pickup-7"})
	if v, next := a.Check(s, upTo); v != Covered || next != upTo {
		t.Errorf("%s up to %v", v, next)
	}
}

func TestOldMarksExpire(t *testing.T) {
	a := New(Options{Prefix: "cache", MaxAge: time.Hour})
	now := time.Now()
	p := progress{position: a.Position(), table: a.newTable()}
	p.position.ID = ID{Ms: uint64(now.UnixMilli())}
	old := ID{Ms: uint64(now.Add(-2 * time.Hour).UnixMilli())}
	p.table.apply([]Selector{{KindTag, "old"}}, false, ID{old.Ms - 1, 0})
	p.table.apply([]Selector{{KindTag, "less old"}}, false, old)
	p.table.apply([]Selector{{KindTag, "new"}}, false, p.position.ID)
	a.keeper.expire(&p, now)
	if p.table.units != 1 || p.table.floor != old {
		t.Errorf("%d marks above %v, want 1 above %v", p.table.units, p.table.floor, old)
	}
	p.table.apply([]Selector{{KindTag, "old again"}}, false, old)
	a.keeper.expire(&p, now.Add(time.Second))
	if p.table.units != 2 {
		t.Error("the table is searched more often than needed")
	}
}

// ruled is a node whose rules drop a parameter of URLs, once they do.
func ruled(drop *atomic.Bool) func(*Options) {
	return func(o *Options) {
		o.URLForms = func(u string) []string {
			if drop.Load() {
				u = strings.TrimSuffix(u, "&utm=x")
			}
			return []string{u}
		}
	}
}

var withParameter = Selector{KindURL, "https://example.com/pickup/7?status=open&utm=x"}

func TestNewRulesWithoutRedis(t *testing.T) {
	var drop atomic.Bool
	a := startNode(t, nil, ruled(&drop))
	old := a.subject()
	a.purge(t, withParameter)
	v, upTo := a.Check(old, Checked{})
	if v != Valid {
		t.Fatal(v)
	}
	drop.Store(true)
	a.NewRules()
	if v, _ = a.Check(old, upTo); v != Covered {
		t.Errorf("under the new rules it is %s", v)
	}
	fresh := a.subject()
	a.wantVerdict(t, fresh, Valid)
	for i := range maxListed {
		a.purge(t, Selector{KindTag, fmt.Sprint(i)})
	}
	a.NewRules()
	a.wantVerdict(t, fresh, Absent) // what was purged first is forgotten
	a.wantVerdict(t, a.subject(), Valid)
}

// What is listed without Redis are the newest entries, whatever was before them.
func TestLocalEntriesAreTheNewest(t *testing.T) {
	a := startNode(t, nil)
	for i := range 2*maxListed + 7 {
		a.purge(t, Selector{KindTag, fmt.Sprint(i)})
	}
	list, err := a.Entries(t.Context(), 3*maxListed)
	if err != nil || len(list) != maxListed {
		t.Fatalf("%d entries, %v", len(list), err)
	}
	for i, e := range list {
		if want := fmt.Sprint(2*maxListed + 6 - i); e.Selectors[0].Value != want {
			t.Fatalf("entry %d is about %s, want %s", i, e.Selectors[0].Value, want)
		}
	}
}

// BenchmarkLocalPurge is about a node without Redis that lists as much as it may.
func BenchmarkLocalPurge(b *testing.B) {
	a := New(Options{Prefix: "cache"})
	a.Start()
	defer a.Close(b.Context())
	p := Purge{Selectors: []Selector{{KindURL, "https://example.com/a"}}, Request: true}
	for range maxListed {
		_ = a.AppendAsync(p)
	}
	for b.Loop() {
		_ = a.AppendAsync(p)
	}
}
