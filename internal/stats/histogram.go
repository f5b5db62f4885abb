package stats

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Histograms have four buckets of equal width in each power of two, from 16 µs to
// 134 s, so that a quantile is off by at most an eighth.
const (
	firstBits  = 4 // of the longest duration in the first bucket, in µs
	lastBits   = 27
	NumBuckets = 1 + 4*(lastBits-firstBits) + 1
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
	us := uint64(max(took.Microseconds(), 0))
	length := bits.Len64(us)
	switch {
	case length <= firstBits:
		return 0
	case length > lastBits:
		return NumBuckets - 1
	}
	return 1 + 4*(length-firstBits-1) + int(us>>(length-3))&3
}

// Bound is the duration that everything in a bucket is shorter than. The last
// bucket has none.
func Bound(bucket int) time.Duration {
	if bucket == 0 {
		return time.Microsecond << firstBits
	}
	length := firstBits + 1 + (bucket-1)/4
	return time.Duration((bucket-1)%4+5) << (length - 3) * time.Microsecond
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
