package stats

import (
	"sync"
	"testing"
	"time"
)

func TestRegistry(t *testing.T) {
	var r Registry
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			r.Namespace("a").Add(1, 0, 0)
			r.Namespace("b").Add(2, 1, 0)
		})
	}
	wg.Wait()
	r.Namespace("unused")
	got := r.Snapshot()
	if got["a"].Of(1) != 100 || got["b"].Of(2) != 100 || got["a"].Of(2) != 0 || len(got) != 3 {
		t.Errorf("counts are %v", got)
	}
}

func TestWindow(t *testing.T) {
	var w Window
	start := time.Unix(1_000_000*60, 0)
	if got := w.HitRate(start, 60); got != 0 {
		t.Errorf("hit rate of nothing is %v", got)
	}
	w.Add(start, false)
	w.Add(start, true)
	w.Add(start.Add(30*time.Minute), true)
	w.Add(start.Add(30*time.Minute), true)
	for _, c := range []struct {
		after   time.Duration
		minutes int64
		want    float64
	}{
		{30 * time.Minute, 60, 0.75},
		{30 * time.Minute, 30, 1},
		{60 * time.Minute, 60, 1},
		{60 * time.Minute, 1440, 0.75},
		{24 * time.Hour, 1440, 1},
		{48 * time.Hour, 1440, 0},
	} {
		if got := w.HitRate(start.Add(c.after), c.minutes); got != c.want {
			t.Errorf("after %s the rate of %d minutes is %v, want %v", c.after, c.minutes, got, c.want)
		}
	}
	w.Add(start.Add(24*time.Hour), false)
	if got := w.HitRate(start.Add(24*time.Hour), 1); got != 0 {
		t.Errorf("a bucket used again keeps its counts: %v", got)
	}
}
