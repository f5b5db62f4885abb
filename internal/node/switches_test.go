package node

import (
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
)

func TestSwitches(t *testing.T) {
	s := newSwitches()
	expect := func(what string, want ...string) {
		t.Helper()
		if got := s.list(); !reflect.DeepEqual(got, append([]string{}, want...)) {
			t.Errorf("%s: %q is off, want %q", what, got, want)
		}
	}
	expect("at first")
	s.apply(turned(1, journal.OpDisable, "a", false))
	s.apply(turned(2, journal.OpDisable, "", false))
	expect("a and everything", "*", "a")
	s.apply(turned(3, journal.OpEnable, "a", false))
	expect("a on again", "*")
	if !s.off("a") || !s.off("b") {
		t.Error("a namespace is on although everything is off")
	}
	s.apply(turned(4, journal.OpDisable, "b", false))
	s.apply(turned(5, journal.OpEnable, "", false))
	expect("everything on")
	s.apply(turned(4, journal.OpDisable, "b", true))
	expect("an old entry, replayed")
	s.apply(turned(2, journal.OpDisable, "b", false))
	expect("an entry that arrives now, with a clock that is behind", "b")
	s.apply(turned(3, journal.OpEnable, "", false))
	expect("and one that turns everything on")
}

// TestSwitchesMerge has nodes that learn of entries in any order, some from the
// journal and some from each other.
func TestSwitchesMerge(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		var entries []*journal.Entry
		for id := range uint64(12) {
			op := journal.OpDisable
			if random.IntN(2) == 0 {
				op = journal.OpEnable
			}
			entries = append(entries, turned(id+1, op, []string{"", "a", "b"}[random.IntN(3)], true))
		}
		inOrder, one, two := newSwitches(), newSwitches(), newSwitches()
		for _, e := range entries {
			inOrder.apply(e)
		}
		for _, i := range random.Perm(len(entries)) {
			if random.IntN(2) == 0 {
				one.apply(entries[i])
			} else {
				two.apply(entries[i])
			}
			if random.IntN(4) == 0 {
				one.merge(two.snapshot())
			}
		}
		one.merge(two.snapshot())
		two.merge(one.snapshot())
		if !reflect.DeepEqual(one.list(), inOrder.list()) || !reflect.DeepEqual(two.list(), inOrder.list()) {
			t.Fatalf("%q and %q are off, want %q", one.list(), two.list(), inOrder.list())
		}
	}
}

func TestParseTurn(t *testing.T) {
	for _, want := range []turn{{journal.ID{Ms: 7, Seq: 3}, true}, {journal.ID{Ms: 1}, false}} {
		if got, err := parseTurn(want.String()); err != nil || got != want {
			t.Errorf("%v became %v, %v", want, got, err)
		}
	}
	for _, text := range []string{"", "on", "1-0", "1-0 maybe", "x off"} {
		if got, err := parseTurn(text); err == nil {
			t.Errorf("%q is read as %v", text, got)
		}
	}
}

func turned(id uint64, op journal.Op, namespace string, replayed bool) *journal.Entry {
	selector := journal.Selector{Kind: journal.KindAll}
	if namespace != "" {
		selector = journal.Selector{Kind: journal.KindNamespace, Value: namespace}
	}
	return &journal.Entry{ID: journal.ID{Ms: id}, Op: op, Selectors: []journal.Selector{selector}, Replayed: replayed}
}
