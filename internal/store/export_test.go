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

// Unpack unpacks the record of a full key, whether or not that was done before.
func (m *Memory) Unpack(key string) bool {
	e, ok := m.cache.GetIfPresent(key)
	if !ok {
		return false
	}
	e.seen.Store(nil)
	return e.view() != nil
}
