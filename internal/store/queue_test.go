package store

import (
	"fmt"
	"slices"
	"testing"
)

func queued(id int) *job {
	return &job{[]*Record{{Identifier: fmt.Sprint(id), Status: 200}}, func() {}}
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
		j := q.next()
		if q.push(queued(5)) {
			t.Errorf("%s: a busy job has given up its room", c.name)
		}
		q.finish(j)
		if !q.push(queued(6)) {
			t.Errorf("%s: a finished job still has its room", c.name)
		}
		if n := q.close(); n != 3 || q.push(queued(7)) || q.next() != nil {
			t.Errorf("%s: closed with %d records, want 3, and usable after it", c.name, n)
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
		q.push(queued(i))
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
