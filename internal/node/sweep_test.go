package node

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
)

// TestSweepIsDue looks at when sweeps begin: soon after a purge, seldom in a
// storm, and now and then without any.
func TestSweepIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Node{sweeper: newSweeper()}
		n.ctx, n.cancel = context.WithCancel(t.Context())
		purge := func() {
			n.sweeper.note(&journal.Entry{Op: journal.OpPurge, ID: journal.ID{Ms: uint64(time.Now().UnixMilli())}})
		}
		awaited := func() time.Duration {
			begun := time.Now()
			if !n.awaitSweep() {
				t.Fatal("the node has ended")
			}
			return time.Since(begun)
		}
		if d := awaited(); d != sweepInterval {
			t.Errorf("without a purge: %s", d)
		}
		purge()
		if d := awaited(); d != sweepQuiet {
			t.Errorf("after one purge: %s", d)
		}
		if swept := n.sweeper.due(); len(swept) != 1 {
			t.Errorf("due are %v", swept)
		} else {
			n.sweeper.settle(swept)
		}

		storm, end := context.WithCancel(t.Context())
		go func() {
			for storm.Err() == nil {
				purge()
				time.Sleep(time.Second)
			}
		}()
		for range 3 {
			if d := awaited(); d < sweepLatest || d > sweepLatest+sweepQuiet {
				t.Errorf("in a storm: %s", d)
			}
		}
		end()
		time.Sleep(2 * recentPurge)
		if swept := n.sweeper.due(); len(swept) != 0 {
			t.Errorf("long after the storm, still due are %v", swept)
		}
		n.cancel()
		n.awaitSweep() // whatever is left of the storm
		if n.awaitSweep() {
			t.Error("a sweep begins when the node has ended")
		}
	})
}

// TestSweeperNotes keeps what concerns stored responses, and not without bound.
func TestSweeperNotes(t *testing.T) {
	s := newSweeper()
	now := uint64(time.Now().UnixMilli())
	for _, e := range []journal.Entry{
		{Op: journal.OpSoftPurge, ID: journal.ID{Ms: now}},
		{Op: journal.OpEnable, ID: journal.ID{Ms: now}},
		{Op: journal.OpPurge, ID: journal.ID{Ms: now - uint64(time.Hour.Milliseconds())}},
	} {
		s.note(&e)
	}
	if got := s.due(); len(got) > 0 || len(s.wake) > 0 {
		t.Errorf("due are %v", got)
	}
	var last journal.ID
	for seq := range uint64(5 * maxRecentPurges) {
		last = journal.ID{Ms: now, Seq: seq}
		s.note(&journal.Entry{Op: journal.OpPurge, ID: last})
	}
	got := s.due()
	if len(got) > 2*maxRecentPurges || got[len(got)-1] != last {
		t.Errorf("%d purges are kept, the last is %v", len(got), got[len(got)-1])
	}
	s.counts[last] = 7
	s.settle(got)
	counts := s.take()
	if zero, known := counts[got[0]]; len(counts) != len(got) || counts[last] != 7 || zero != 0 || !known {
		t.Errorf("%d counts, %d of the last", len(counts), counts[last])
	}
	s.counts[last] = 1
	s.giveBack(counts)
	if counts := s.take(); counts[last] != 8 || len(s.due()) > 0 {
		t.Errorf("%d after counts were given back", counts[last])
	}
}
