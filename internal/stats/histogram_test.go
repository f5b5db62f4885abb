package stats

import (
	"testing"
	"time"
)

func TestBuckets(t *testing.T) {
	for i := range NumBuckets - 1 {
		bound := Bound(i)
		if got := bucketOf(bound - 1); got != i {
			t.Errorf("%v is in bucket %d, want %d", bound-1, got, i)
		}
		if got := bucketOf(bound); got != i+1 {
			t.Errorf("%v is in bucket %d, want %d", bound, got, i+1)
		}
	}
	if Bound(0) != time.Microsecond || Bound(NumBuckets-2) != time.Microsecond<<27 {
		t.Errorf("the bounds are %v to %v", Bound(0), Bound(NumBuckets-2))
	}
	for _, took := range []time.Duration{-time.Second, 0, 1} {
		if got := bucketOf(took); got != 0 {
			t.Errorf("%v is in bucket %d", took, got)
		}
	}
	if got := bucketOf(24 * time.Hour); got != NumBuckets-1 {
		t.Errorf("a day is in bucket %d", got)
	}
}

func TestHistogram(t *testing.T) {
	var c Counter
	for _, took := range []time.Duration{time.Millisecond, time.Second, time.Second} {
		c.Add(2, 1, false, took)
	}
	counts := c.Counts()
	sum := counts.Took[2]
	sum.Add(&counts.Took[2])
	if n, total := sum.Count(), sum.Sum; n != 6 || total != 2*(2*time.Second+time.Millisecond) {
		t.Errorf("%d requests took %v", n, total)
	}
	if counts.Of(2) != 3 || counts.Requests[2][1] != 3 || counts.Of(1) != 0 {
		t.Errorf("%v", counts.Requests)
	}
}

// TestQuantileError has all requests take the same time, at the bounds of powers of
// two, in the middle of them and between.
func TestQuantileError(t *testing.T) {
	for power := time.Microsecond; power <= time.Minute; power *= 2 {
		for eighths := range 8 {
			from := power + time.Duration(eighths)*(power/8)
			for _, took := range []time.Duration{from, from + power/8 - 1} {
				var c Counter
				for range 3 {
					c.Add(0, 0, false, took)
				}
				h := &c.Counts().Took[0]
				for _, share := range []float64{0, 0.5, 0.95, 0.99, 1} {
					if got := h.Quantile(share); 8*(got-took).Abs() > took {
						t.Errorf("all are %v, but quantile %v is %v", took, share, got)
					}
				}
			}
		}
	}
}
