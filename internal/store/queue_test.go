package store

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
)

func queued(id int) []*Record { return []*Record{{Identifier: fmt.Sprint(id), Status: 200}} }

func TestQueueBounds(t *testing.T) {
	size := weight(queued(0))
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

func TestQueueDrop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(100, 1<<20)
		q.push(queued(1))
		busy := q.next()
		q.push(queued(1))
		q.push(append(queued(1), queued(2)...))

		dropped := make(chan error, 1)
		go func() {
			dropped <- q.drop(context.Background(), func(r *Record) bool { return r.Identifier == "1" })
		}()
		synctest.Wait()
		select {
		case <-dropped:
			t.Fatal("did not wait for the busy job")
		default:
		}
		q.finish(busy)
		if err := <-dropped; err != nil {
			t.Fatal(err)
		}
		if j := q.next(); len(j.records) != 1 || j.records[0].Identifier != "2" {
			t.Errorf("left %v", j.records)
		}

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := q.drop(ctx, func(*Record) bool { return false }); err == nil {
			t.Error("waited beyond its context")
		}
	})
}
