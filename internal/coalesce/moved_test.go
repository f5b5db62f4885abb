package coalesce

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Whoever finds out that the response will lie under another key neither keeps the
// lease nor waits on.
func TestLeaseMoved(t *testing.T) {
	s, a, b := newPair(t)
	moved := func(n *fleetNode, yes *atomic.Bool) Query {
		q := n.query()
		q.Moved = yes.Load
		return q
	}
	var yes atomic.Bool
	lease, verdict := a.Acquire(t.Context(), moved(a, &yes))
	if verdict != Granted {
		t.Fatalf("verdict %d", verdict)
	}
	done := make(chan Verdict, 1)
	go func() {
		_, v := b.Acquire(t.Context(), moved(b, &yes))
		done <- v
	}()
	for !b.isWaiting() || s.Client().Exists(t.Context(), b.key("wait", someID)).Val() == 0 {
		time.Sleep(time.Millisecond)
	}
	yes.Store(true)
	lease.Release(nil)
	if v := <-done; v != Moved {
		t.Errorf("who waited: verdict %d", v)
	}
	if _, v := a.Acquire(t.Context(), moved(a, &yes)); v != Moved {
		t.Errorf("who was first: verdict %d", v)
	}
	noKeysLeft(t, s)
}

// What another node has found out is remembered for half as long, after it lay in
// Redis for as long at most.
func TestSharedMissLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMisses()
		defer m.memo.StopAllGoroutines()
		m.AddShared(someID, Miss{}, time.Now())
		time.Sleep(sharedMissLifetime - time.Nanosecond)
		if _, known := m.Get(someID, time.Now()); !known {
			t.Error("forgotten too early")
		}
		time.Sleep(time.Nanosecond)
		if _, known := m.Get(someID, time.Now()); known {
			t.Error("remembered for too long")
		}
	})
	s, a, b := newPair(t)
	lease := a.mustAcquire(t)
	verdict := b.acquire(t, s)
	lease.Release(&Miss{})
	verdict()
	if left := s.Client().PTTL(t.Context(), a.key("miss", someID)).Val(); left <= 0 || left > sharedMissLifetime {
		t.Errorf("Redis keeps it for %s", left)
	}
}
