package store

import (
	"context"
	"runtime"
)

// Flush waits until what is queued is written.
func (t *Tiered) Flush(ctx context.Context) error {
	for ctx.Err() == nil {
		if records, _ := t.queue.size(); records == 0 {
			return nil
		}
		runtime.Gosched()
	}
	return ctx.Err()
}
