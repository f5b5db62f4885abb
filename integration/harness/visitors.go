package harness

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// visitors send requests from several clients until they are stopped, and keep what
// went wrong.
type visitors struct {
	sent    atomic.Int64
	Slowest atomic.Int64 // nanoseconds
	Stop    func() []string
}

func StartVisitors(t *testing.T, n *Node, path func(i int64) string) *visitors {
	t.Helper()
	v := new(visitors)
	ctx, cancel := context.WithCancel(t.Context())
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		failed []string
	)
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				p := path(v.sent.Add(1))
				begun := time.Now()
				// Not ctx: a request is not to be cut by the end of the load.
				r, err := n.Try(context.WithoutCancel(ctx), http.MethodGet, p, "")
				if took := int64(time.Since(begun)); took > v.Slowest.Load() {
					v.Slowest.Store(took)
				}
				if err != nil || r.Broken != nil || r.Status != http.StatusOK {
					mu.Lock()
					failed = append(failed, fmt.Sprintf("%s: %d %v %v", p, r.Status, err, r.Broken))
					mu.Unlock()
				}
			}
		})
	}
	v.Stop = func() []string {
		cancel()
		wg.Wait()
		return failed
	}
	return v
}

// Some lets a number of requests pass.
func (v *visitors) Some(t *testing.T, n int64) {
	t.Helper()
	target := v.sent.Load() + n
	Eventually(t, "requests pass", func() bool { return v.sent.Load() >= target })
}
