package store

import (
	"fmt"
	"slices"
	"testing"
)

func queued(id int) *job {
	name := fmt.Sprint(id)
	return &job{[]*Record{{Key: Key{Full: name, Name: name}, Identifier: name, Status: 200}}, func() {}}
}

func TestQueueBounds(t *testing.T) {
	size := weight(queued(0).records)
	for _, c := range []struct {
		name    string
		records int
		bytes   int64
	}{
		{"records", 3, 1 << 40},
		{"bytes", 1 << 20, 3*size + size/2},
	} {
		q := newQueue(c.records, c.bytes)
		for i := range 5 {
			if got, want := q.push(queued(i)), i < 3; got != want {
				t.Errorf("%s: push %d = %v, want %v", c.name, i, got, want)
			}
		}
		busy := q.batch()
		if q.push(queued(5)) {
			t.Errorf("%s: a busy job has given up its room", c.name)
		}
		q.finish(busy[0])
		if !q.push(queued(6)) {
			t.Errorf("%s: a finished job still has its room", c.name)
		}
		if n := q.close(); n != 1 || q.push(queued(7)) || q.batch() != nil {
			t.Errorf("%s: closed with %d records, want 1, and usable after it", c.name, n)
		}
		for _, j := range busy[1:] {
			q.finish(j)
		}
		if n, b := q.size(); n != 0 || b != 0 {
			t.Errorf("%s: %d records of %d bytes left", c.name, n, b)
		}
	}
}

func TestQueueBatches(t *testing.T) {
	q := newQueue(1000, 1<<30)
	huge := queued(0)
	huge.records[0].Body = make([]byte, 2*batchBytes)
	q.push(huge)
	for i := range 100 {
		q.push(queued(i + 1))
	}
	var sizes []int
	for range 3 {
		jobs := q.batch()
		sizes = append(sizes, len(jobs))
		for _, j := range jobs {
			q.finish(j)
		}
	}
	if want := []int{1, batchJobs, 100 - batchJobs}; !slices.Equal(sizes, want) {
		t.Errorf("batches of %v, want %v", sizes, want)
	}
	if n, b := q.size(); n != 0 || b != 0 {
		t.Errorf("%d records of %d bytes left", n, b)
	}
	q.close()
	if q.batch() != nil {
		t.Error("a closed queue has jobs")
	}
}

// Jobs of one key are busy one after the other, and only the latest counts.
func TestQueueOrder(t *testing.T) {
	q := newQueue(1000, 1<<30)
	first, second, third, other := queued(1), queued(1), queued(1), queued(2)
	for _, j := range []*job{first, second, other, third} {
		q.push(j)
	}
	for i, want := range [][]*job{{first, other}, {second}, {third}} {
		jobs := q.batch()
		if !slices.Equal(jobs, want) {
			t.Fatalf("batch %d is of %d jobs, want %d", i, len(jobs), len(want))
		}
		current := q.current(jobs...)
		if latest := i != 1; (len(current) == 1) != latest || (latest && current[0] != jobs[len(jobs)-1].records[0]) {
			t.Errorf("batch %d: %d records are the latest", i, len(current))
		}
		if found := q.find("1"); found != third.records[0] {
			t.Errorf("batch %d: found is not what was pushed last", i)
		}
		for _, j := range jobs {
			q.finish(j)
		}
	}
	if len(q.busy)+len(q.latest) > 0 {
		t.Errorf("left: %v, %v", q.busy, q.latest)
	}
}
