package stats

import (
	"testing"
	"time"
)

func TestBuckets(t *testing.T) {
	for i := range NumBuckets - 1 {
		bound := Bound(i)
		if got := bucketOf(bound - time.Microsecond); got != i {
			t.Errorf("%v is in bucket %d, want %d", bound-time.Microsecond, got, i)
		}
		if got := bucketOf(bound); got != i+1 {
			t.Errorf("%v is in bucket %d, want %d", bound, got, i+1)
		}
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
