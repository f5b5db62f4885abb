package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// probe is a health with a scripted Redis and a diary of its changes.
type probe struct {
	health
	failure atomic.Pointer[error] // what pings return
	pings   atomic.Int32

	mu    sync.Mutex
	diary []string
}

var errRefused = errors.New("refused")

func startProbe(t *testing.T, failure error) *probe {
	p := &probe{}
	p.set(failure)
	p.health.down, p.nudged = make(chan error, 1), make(chan struct{}, 1)
	p.tune(5, 4*time.Second)
	p.interval, p.timeout = time.Second, 500*time.Millisecond
	p.ping = func(ctx context.Context) error {
		p.pings.Add(1)
		err := *p.failure.Load()
		if errors.Is(err, context.DeadlineExceeded) { // hangs
			<-ctx.Done()
		}
		return err
	}
	p.notify = func(up bool, err error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.diary = append(p.diary, fmt.Sprintf("%v %v", up, err))
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); p.run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	synctest.Wait()
	return p
}

func (p *probe) set(err error) { p.failure.Store(&err) }

// want checks the state and all changes so far.
func (p *probe) want(t *testing.T, up bool, diary ...string) {
	t.Helper()
	synctest.Wait()
	if _, isUp := p.period(); isUp != up {
		t.Errorf("up = %v, want %v", isUp, up)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Equal(p.diary, diary) {
		t.Errorf("changes %q, want %q", p.diary, diary)
	}
}

func TestHealthUpAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startProbe(t, nil)
		p.want(t, true, "true <nil>")
		time.Sleep(time.Hour)
		if n := p.pings.Load(); n != 1 {
			t.Errorf("%d pings while up, want 1", n)
		}
	})
}

func TestHealthAbsentAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startProbe(t, errRefused)
		p.want(t, false, "false refused")
		for _, after := range []int{1, 2, 4, 4, 4} { // seconds
			pings := p.pings.Load()
			time.Sleep(time.Duration(after) * time.Second)
			synctest.Wait()
			if n := p.pings.Load(); n != pings+1 {
				t.Errorf("%d pings after %d s more, want one", n-pings, after)
			}
		}
		p.want(t, false, "false refused")
		p.set(nil)
		p.nudge()
		p.want(t, true, "false refused", "true <nil>")
	})
}

func TestHealthHangingPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startProbe(t, context.DeadlineExceeded)
		time.Sleep(500 * time.Millisecond)
		p.want(t, false, "false context deadline exceeded")
	})
}

// Only failures in a row count.
func TestHealthFailuresInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startProbe(t, nil)
		time.Sleep(time.Minute)
		period, _ := p.period()
		for range 10 {
			for range 4 {
				p.fail(period, errRefused, true)
			}
			p.succeed(period, true)
		}
		for range 4 {
			p.fail(period, errRefused, false)
			p.succeed(period, false)
		}
		p.fail(period, errRefused, false)
		p.succeed(period, true)
		p.want(t, true, "true <nil>")
		p.tune(2, time.Minute)
		p.fail(period, errRefused, true)
		p.want(t, true, "true <nil>")
		p.fail(period, errRefused, true)
		p.want(t, true, "true <nil>", "false refused", "true <nil>")
	})
}

func TestHealthFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startProbe(t, nil)
		time.Sleep(time.Minute)
		period, _ := p.period()
		p.set(errRefused)

		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { p.fail(period, errRefused, true) })
		}
		wg.Wait()
		p.fail(period, errRefused, true) // late
		p.want(t, false, "true <nil>", "false refused")
		if n := p.pings.Load(); n != 2 {
			t.Errorf("%d pings, want one at once after the failure", n)
		}

		p.set(nil)
		time.Sleep(time.Second)
		for range 10 {
			p.fail(period, errRefused, true) // of operations that began before the outage
		}
		p.want(t, true, "true <nil>", "false refused", "true <nil>")
		p.fail(period+2, errRefused, true)
		p.succeed(period, true)
		if n := p.failures(); n != 1 {
			t.Errorf("%d failures, want 1: what began before the outage says nothing about now", n)
		}
	})
}

// Pings succeed and operations do not: the changes must not be as frequent as
// the requests.
func TestHealthFlapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startProbe(t, nil)
		for range 1000 { // 10 s
			for range 5 {
				if period, up := p.period(); up {
					p.fail(period, errRefused, true)
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
		if n := p.pings.Load(); n > 11 {
			t.Errorf("%d pings in 10 s", n)
		}
	})
}

func TestHealthIsDownAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h health
		h.down = make(chan error, 1)
		h.ping = func(context.Context) error { return nil }
		h.notify = func(bool, error) {}
		ctx, cancel := context.WithCancel(t.Context())
		go h.run(ctx)
		synctest.Wait()
		period, up := h.period()
		if !up {
			t.Fatal("down")
		}
		cancel()
		synctest.Wait()
		if _, up := h.period(); up {
			t.Error("up after the end")
		}
		h.fail(period, errRefused, true) // must not block
	})
}
