package stats

import (
	"sync"
	"sync/atomic"
	"time"
)

// Window counts hits and requests by minute for the last 24 hours. It may be
// used from any goroutine. The zero value is ready for use.
type Window struct {
	minutes [windowMinutes]bucket // a minute's bucket is its number modulo the length

	// renew is held while a bucket is given to another minute. Counting takes no
	// lock: a request counted in that very moment may be lost.
	renew sync.Mutex
}

const windowMinutes = 24 * 60

type bucket struct {
	minute      atomic.Int64 // since the epoch
	hits, total atomic.Uint64
}

// Add counts one request.
func (w *Window) Add(now time.Time, hit bool) {
	minute := now.Unix() / 60
	b := &w.minutes[minute%windowMinutes]
	if b.minute.Load() != minute {
		w.reuse(b, minute)
	}
	b.total.Add(1)
	if hit {
		b.hits.Add(1)
	}
}

func (w *Window) reuse(b *bucket, minute int64) {
	w.renew.Lock()
	defer w.renew.Unlock()
	if b.minute.Load() < minute {
		b.hits.Store(0)
		b.total.Store(0)
		b.minute.Store(minute)
	}
}

// HitRate is the share of hits among the requests of the last minutes, the
// current one included; 0 when there were none.
func (w *Window) HitRate(now time.Time, minutes int64) float64 {
	last := now.Unix() / 60
	var hits, total uint64
	for i := range w.minutes {
		b := &w.minutes[i]
		if minute := b.minute.Load(); minute > last-minutes && minute <= last {
			hits += b.hits.Load()
			total += b.total.Load()
		}
	}
	if total == 0 {
		return 0
	}
	return float64(hits) / float64(total)
}
