package journal

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func newRegistry(fetch func(context.Context) (map[string]string, error)) *registry {
	return &registry{self: "me", lease: 3 * time.Second, longest: 2 * time.Second, fetch: fetch, peers: make(map[string]*peer)}
}

func lineOf(counter uint64, ms uint64, state string) string {
	return line{counter, Position{Epoch: 7, ID: ID{ms, 0}}, state, "v1"}.String()
}

func TestLines(t *testing.T) {
	want := line{3, Position{Epoch: 7, ID: ID{1, 2}}, stateLive, "v1 (with spaces)"}
	if got := parseLine(want.String()); got != want {
		t.Errorf("%+v became %+v", want, got)
	}
	for _, s := range []string{"", "x", "1 2 3 4", "x 0000000000000007 1-0 live v", "1 0000000000000007 1 live v"} {
		if got := parseLine(s); got != (line{}) {
			t.Errorf("%q is read as %+v", s, got)
		}
	}
}

// A peer lapses by the observer's clock, when its counter has not moved.
func TestLapse(t *testing.T) {
	r := newRegistry(nil)
	start := time.Now()
	at := func(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }
	see := func(s float64, lines map[string]string) { r.observe(at(s), at(s+0.01), lines) }
	entry := Position{Epoch: 7, ID: ID{5, 0}}

	see(0, map[string]string{"me": lineOf(1, 9, stateLive), "a": lineOf(1, 4, stateLive), "b": lineOf(1, 5, stateLive)})
	want := func(step string, young bool, confirmed, pending, lapsed []string) {
		t.Helper()
		got := r.tally(entry)
		if got.young != young || !slices.Equal(got.confirmed, confirmed) || !slices.Equal(got.pending, pending) || !slices.Equal(got.lapsed, lapsed) {
			t.Errorf("%s: %+v", step, got)
		}
	}
	want("at first", true, []string{"b"}, []string{"a"}, nil)
	see(1.5, map[string]string{"a": lineOf(1, 4, stateLive), "b": lineOf(2, 5, stateLive)})
	see(3, map[string]string{"a": lineOf(1, 4, stateLive), "b": lineOf(3, 5, stateLive)})
	want("a not silent for a lease", true, []string{"b"}, []string{"a"}, nil)
	see(3.1, map[string]string{"a": lineOf(1, 4, stateLive)})
	want("a silent, b vanished", false, nil, []string{"b"}, []string{"a"})
	see(4, map[string]string{"a": lineOf(2, 5, stateJoining), "b": lineOf(4, 5, stateLeft)})
	want("a back, b left", false, []string{"a"}, nil, nil)
	see(7, map[string]string{"a": lineOf(3, 5, stateLive)})
	want("observed nothing for too long", true, []string{"a"}, nil, nil)
	see(6, map[string]string{})
	want("an overtaken read", true, []string{"a"}, nil, nil)
}

// What becomes of a peer is told once. One that had gone before it was first seen
// is not news.
func TestChanges(t *testing.T) {
	r := newRegistry(nil)
	start := time.Now()
	want := func(s float64, lines map[string]string, changes ...NodeChange) {
		t.Helper()
		at := start.Add(time.Duration(s * float64(time.Second)))
		r.observe(at, at, lines)
		if got := r.changes(); !slices.Equal(got, changes) {
			t.Errorf("after %v s: %v, want %v", s, got, changes)
		}
		if got := r.changes(); len(got) > 0 {
			t.Errorf("after %v s once more: %v", s, got)
		}
	}
	live := func(counter uint64) string { return lineOf(counter, 1, stateLive) }
	want(0, map[string]string{"me": live(1), "a": live(1), "b": lineOf(1, 1, stateJoining), "c": lineOf(1, 1, stateLeft)}, NodeChange{"a", "v1", stateLive})
	want(1, map[string]string{"a": live(2), "b": live(2)}, NodeChange{"b", "v1", stateLive})
	want(4, map[string]string{"a": live(2), "b": lineOf(3, 1, stateLeft)}, NodeChange{"a", "v1", stateLapsed}, NodeChange{"b", "v1", stateLeft})
	want(5, map[string]string{"a": live(3), "d": live(1)}, NodeChange{"a", "v1", stateLive}, NodeChange{"d", "v1", stateLive})
	want(6, nil)
	want(9, nil, NodeChange{"a", "v1", stateLapsed}, NodeChange{"d", "v1", stateLapsed})
	want(13, nil)
}

func TestRemains(t *testing.T) {
	r := newRegistry(nil)
	start := time.Now()
	lines := map[string]string{"left": lineOf(1, 1, stateLeft), "silent": lineOf(1, 1, stateLive)}
	for _, tt := range []struct {
		after time.Duration
		want  int
	}{{0, 0}, {20 * time.Second, 0}, {40 * time.Second, 1}, {400 * time.Second, 2}} {
		r.observe(start.Add(tt.after), start.Add(tt.after), lines)
		if got := r.remains(); len(got) != tt.want {
			t.Errorf("after %v: %v", tt.after, got)
		}
	}
}

// Readers share reads, but none that was sent before they asked.
func TestReadAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reads atomic.Int64
		r := newRegistry(func(context.Context) (map[string]string, error) {
			n := reads.Add(1)
			time.Sleep(time.Second)
			return map[string]string{"a": lineOf(uint64(n), uint64(n), stateLive)}, nil
		})
		for range 10 {
			go func() {
				if err := r.readAfter(t.Context()); err != nil {
					t.Error(err)
				}
			}()
		}
		time.Sleep(time.Millisecond)
		for range 10 {
			if err := r.readAfter(t.Context()); err != nil {
				t.Error(err)
			}
			if n := reads.Load(); r.peers["a"].counter != uint64(n) || n < 2 {
				t.Errorf("after %d reads the last is %d", n, r.peers["a"].counter)
			}
		}
		if n := reads.Load(); n != 11 {
			t.Errorf("%d reads, want two for the first eleven readers and one for each other", n)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := r.readAfter(ctx); err == nil {
			t.Error("a reader waited longer than it wanted")
		}
		r.running.Wait()
	})
}

// What Close waits for must not begin while it waits, or later.
func TestClosedRegistryReadsNothing(t *testing.T) {
	s := newServer(t)
	a := startNode(t, s.Client(), named("a"))
	a.Close(context.Background())
	if _, err := a.Nodes(t.Context()); !errors.Is(err, errClosed) {
		t.Errorf("%v, want a closed node to read no more", err)
	}
}
