package coalesce

import (
	"testing"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
)

func TestMisses(t *testing.T) {
	m := NewMisses()
	now := time.Unix(1000, 0)
	if _, ok := m.Get(someID, now); ok {
		t.Error("something is known of nothing")
	}
	some := Miss{Credentialed: true, Position: journal.Position{Epoch: 1, ID: journal.ID{Ms: 2}}}
	m.Add(someID, some, now)
	if got, ok := m.Get(someID, now.Add(MissLifetime-1)); !ok || got != some {
		t.Errorf("%v, %t: want what was added", got, ok)
	}
	if _, ok := m.Get(someID, now.Add(MissLifetime)); ok {
		t.Error("it is remembered for longer than it lives")
	}
	everybody := Miss{}
	m.Add(someID, everybody, now)
	m.Add(someID, some, now)
	if got, _ := m.Get(someID, now); got != everybody {
		t.Error("what concerns everybody was replaced by what concerns some")
	}
	m.Remove(someID)
	if _, ok := m.Get(someID, now); ok {
		t.Error("it is not removed")
	}
}

func TestMissText(t *testing.T) {
	for _, m := range []Miss{
		{Position: journal.Position{Epoch: 7, ID: journal.ID{Ms: 1, Seq: 2}}},
		{Credentialed: true, Position: journal.Position{Epoch: 1 << 63}},
	} {
		if got, ok := parseMiss(m.String()); !ok || got != m {
			t.Errorf("%q is read as %v, %t", m.String(), got, ok)
		}
	}
	for _, s := range []string{"", "all", "all ", "all x", "some 0000000000000001/1-1", "all 0000000000000001/1", "all 0000000000000000/1-1"} {
		if m, ok := parseMiss(s); ok {
			t.Errorf("%q is read as %v", s, m)
		}
	}
}

func TestFailures(t *testing.T) {
	f := NewFailures()
	now := time.Unix(1000, 0)
	for _, seconds := range []int{1, 2, 4, 8, 10, 10} {
		want := time.Duration(seconds) * time.Second
		f.Add(someID, now)
		f.Add(someID, now) // another fetch that had begun before counts once
		end := now.Add(want)
		if !f.Recent(someID, end.Add(-1)) || f.Recent(someID, end) {
			t.Errorf("after %s: want the origin to be left alone for %s", now, want)
		}
		now = end
	}
	f.Remove(someID)
	f.Add(someID, now)
	if f.Recent(someID, now.Add(firstBackOff)) {
		t.Error("a success does not begin anew")
	}
}
