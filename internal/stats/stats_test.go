package stats

import (
	"sync"
	"testing"
)

func TestRegistry(t *testing.T) {
	var r Registry
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			r.Namespace("a").Add(1, 0, false, 0)
			r.Namespace("b").Add(2, 1, false, 0)
		})
	}
	wg.Wait()
	r.Namespace("unused")
	got := r.Snapshot()
	if got["a"].Of(1) != 100 || got["b"].Of(2) != 100 || got["a"].Of(2) != 0 || len(got) != 3 {
		t.Errorf("counts are %v", got)
	}
}
