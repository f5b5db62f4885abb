package journal

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
)

// hanging is a Redis that does not answer.
type hanging struct{ redis.UniversalClient }

func (hanging) HSet(ctx context.Context, _ string, _ ...any) *redis.IntCmd {
	<-ctx.Done()
	cmd := redis.NewIntCmd(ctx)
	cmd.SetErr(ctx.Err())
	return cmd
}

// leasedNode is a node whose lease has just begun, and whose Redis hangs.
func leasedNode(t *testing.T) *Journal {
	j := New(Options{Prefix: "cache", Client: hanging{}})
	now := time.Now()
	j.lease.proof.Store(&now)
	j.lease.phase.Store(phaseProved)
	t.Cleanup(func() {
		time.Sleep(time.Second) // any catch-up ends: time stands still while Close waits for a mutex
		j.Close(context.Background())
	})
	return j
}

func TestLeaseRunsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := leasedNode(t)
		time.Sleep(2*time.Second - time.Millisecond)
		if got := j.Trust(t.Context()); got != Leased {
			t.Errorf("within the lease: %s", got)
		}
		time.Sleep(time.Millisecond)
		start := time.Now()
		var waiting sync.WaitGroup
		for range 100 {
			waiting.Go(func() {
				if got := j.Trust(t.Context()); got != CutOff {
					t.Errorf("past the lease, Redis hanging: %s", got)
				}
			})
		}
		waiting.Wait()
		if took := time.Since(start); took != 50*time.Millisecond {
			t.Errorf("requests waited %v, want the read timeout", took)
		}
		if j.Trust(t.Context()); time.Since(start) != 50*time.Millisecond {
			t.Error("the next request waited as well")
		}
	})
}

func TestClientThatLeavesWaitsNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := leasedNode(t)
		time.Sleep(3 * time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if got := j.Trust(ctx); got != Unproven {
			t.Errorf("got %s", got)
		}
	})
}

func TestClockThatJumps(t *testing.T) {
	then := time.Now()
	if got := elapsed(then, then.Add(time.Second)); got != time.Second {
		t.Errorf("both clocks: %v", got)
	}
	// The monotonic clock stood still while the machine slept.
	slept := then.Round(0).Add(time.Hour)
	if got := elapsed(then, slept); got != time.Hour {
		t.Errorf("wall clock only: %v", got)
	}
	later := time.Now()
	if got := elapsed(then.Add(0), later); got < 0 {
		t.Errorf("backwards: %v", got)
	}
}
