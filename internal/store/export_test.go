package store

import (
	"context"
	"runtime"
)

// Flush waits until what is queued is written.
func (t *Tiered) Flush(ctx context.Context) error {
	for {
		records, _ := t.queue.size()
		if records == 0 {
			return nil
		}
		// Matches nothing, and waits for the busy jobs.
		if err := t.queue.drop(ctx, func(*Record) bool { return false }); err != nil {
			return err
		}
		runtime.Gosched() // a writer may not have taken its job yet
	}
}
