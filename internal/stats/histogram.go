package stats

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Histograms have four buckets of equal width in each power of two from 1 µs to
// 134 s, so that the middle of a bucket is off by at most an eighth. The first
// bucket has what is shorter, the last one what is longer.
const (
	unit       = time.Microsecond / 4 // the least width
	firstBits  = 3                    // of the shortest duration behind the first bucket, in units
	lastBits   = 29
	NumBuckets = 1 + 4*(lastBits-firstBits+1) + 1
)

// Histogram is how many requests took how long.
type Histogram struct {
	Buckets [NumBuckets]uint64
	Sum     time.Duration
}

type histogram struct {
	buckets [NumBuckets]atomic.Uint64
	sum     atomic.Int64
}

func (h *histogram) add(took time.Duration) {
	h.buckets[bucketOf(took)].Add(1)
	h.sum.Add(int64(took))
}

func (h *histogram) counts() (counts Histogram) {
	for i := range h.buckets {
		counts.Buckets[i] = h.buckets[i].Load()
	}
	counts.Sum = time.Duration(h.sum.Load())
	return counts
}

func bucketOf(took time.Duration) int {
	units := uint64(max(took/unit, 0))
	length := bits.Len64(units)
	switch {
	case length < firstBits:
		return 0
	case length > lastBits:
		return NumBuckets - 1
	}
	return 1 + 4*(length-firstBits) + int(units>>(length-3))&3
}

// Bound is the duration that everything in a bucket is shorter than. The last
// bucket has none.
func Bound(bucket int) time.Duration {
	if bucket == 0 {
		return time.Microsecond
	}
	return time.Duration((bucket-1)%4+5) << ((bucket - 1) / 4) * unit
}

// Count returns the number of requests.
func (h *Histogram) Count() (n uint64) {
	for _, count := range h.Buckets {
		n += count
	}
	return n
}

// Add adds the counts of another histogram.
func (h *Histogram) Add(other *Histogram) {
	for i, count := range other.Buckets {
		h.Buckets[i] += count
	}
	h.Sum += other.Sum
}
