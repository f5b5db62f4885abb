package stats

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

func TestEndpoints(t *testing.T) {
	e := NewEndpoints()
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			e.Add(fmt.Sprint("/users/", i), i%4 != 0, time.Duration(i%4)*time.Millisecond)
			e.Add("/other", false, time.Second)
		})
	}
	wg.Wait()
	got := e.Drain()
	if len(got) != 2 || got["/users/{id}"] != (Endpoint{100, 75, 150 * time.Millisecond}) ||
		got["/other"] != (Endpoint{100, 0, 100 * time.Second}) {
		t.Errorf("counts are %v", got)
	}
	if got := e.Drain(); len(got) != 0 {
		t.Errorf("drained twice: %v", got)
	}
	e.Add("/other", true, 0)
	if got := e.Drain(); len(got) != 1 || got["/other"] != (Endpoint{1, 1, 0}) {
		t.Errorf("later counts are %v", got)
	}
}

// word is a name that no template folds.
func word(r *rand.Rand) string {
	name := make([]byte, 12)
	for i := range name {
		name[i] = "bcdfghjklmnpqrstvwxz"[r.IntN(20)]
		if i%2 == 1 {
			name[i] = "aeiouy"[r.IntN(6)]
		}
	}
	return string(name)
}

// TestHeavyHitters asks for far more templates than are tracked: those that are
// often asked for are kept, and what is kept is bounded.
func TestHeavyHitters(t *testing.T) {
	e := NewEndpoints()
	r := rand.New(rand.NewPCG(1, 2))
	const rounds = 20_000
	for i := range rounds {
		e.Add(fmt.Sprintf("/heavy/%c", 'a'+i%10), true, 0)
		e.Add("/"+word(r), false, 0)
	}
	got := e.Drain()
	for c := 'a'; c < 'a'+10; c++ {
		if count := got["/heavy/"+string(c)]; count.Requests < rounds/10*9/10 || count.Hits != count.Requests {
			t.Errorf("/heavy/%c: %v", c, count)
		}
	}
	for name, count := range got {
		if count.Requests > rounds/10 {
			t.Errorf("%s is counted %d times", name, count.Requests)
		}
	}

	// What was heavy once makes room for what is heavy now.
	for range 20 {
		e.Age()
	}
	for i := range rounds {
		e.Add(fmt.Sprintf("/now/%c", 'a'+i%10), true, 0)
		e.Add("/"+word(r), false, 0)
	}
	got = e.Drain()
	for c := 'a'; c < 'a'+10; c++ {
		if count := got["/now/"+string(c)]; count.Requests < rounds/10*9/10 {
			t.Errorf("/now/%c: %v", c, count)
		}
	}
}

// TestHitsAhead drains while hits are counted: never more of them than requests.
func TestHitsAhead(t *testing.T) {
	e := NewEndpoints()
	e.Add("/a", true, 0)
	const adds = 100_000
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range adds {
				e.Add("/a", true, 0)
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	var sum Endpoint
	for over := false; !over; {
		select {
		case <-done:
			over = true
		default:
		}
		counts := e.Drain()["/a"]
		if counts.Hits > counts.Requests {
			t.Fatalf("%d hits of %d requests", counts.Hits, counts.Requests)
		}
		sum.Add(counts)
	}
	if sum.Requests != 2*adds+1 || sum.Hits > sum.Requests {
		t.Errorf("%+v in all", sum)
	}
}

// TestHitSeenLater has a request drained between it and its hit.
func TestHitSeenLater(t *testing.T) {
	var entry tracked
	entry.requests.Add(1)
	first := entry.drain()
	entry.hits.Add(1)
	between := entry.drain()
	entry.add(true, 0)
	last := entry.drain()
	if first != (Endpoint{Requests: 1}) || between != (Endpoint{}) || last != (Endpoint{1, 1, 0}) {
		t.Errorf("%v, %v, %v", first, between, last)
	}
}

// wordOf is a name that no template folds.
func wordOf(i int) string {
	return fmt.Sprintf("w%c%c%c", 'g'+i%20, 'g'+i/20%20, 'g'+i/400%20)
}

// TestDisplaced asks for more templates between two drains than are tracked: what
// was counted of those that had to make room is not lost.
func TestDisplaced(t *testing.T) {
	e := NewEndpoints()
	for i := range 3000 {
		for range 5 {
			e.Add("/"+wordOf(i), i%2 == 0, time.Second)
		}
	}
	var sum Endpoint
	got := e.Drain()
	for _, counts := range got {
		sum.Add(counts)
	}
	if len(got) != 3000 || sum != (Endpoint{15_000, 7_500, 15_000 * time.Second}) {
		t.Errorf("%d templates with %v", len(got), sum)
	}
	if got := e.Drain(); len(got) != 0 {
		t.Errorf("drained twice: %v", got)
	}
}

// TestDisplacedAreBounded keeps those that count most.
func TestDisplacedAreBounded(t *testing.T) {
	e := NewEndpoints()
	r := rand.New(rand.NewPCG(1, 2))
	for range 50_000 {
		e.Add("/"+word(r), false, 0)
	}
	if got := e.Drain(); len(got) > numShards*(shardSize+maxLeft) {
		t.Errorf("%d templates are kept", len(got))
	}
}

// TestCostlyEndpoint asks seldom for something that takes long, between many other
// templates.
func TestCostlyEndpoint(t *testing.T) {
	e := NewEndpoints()
	for i := range 200_000 {
		if i%10_000 == 0 {
			e.Add("/reports/yearly", false, time.Minute)
		}
		e.Add("/"+wordOf(i), true, 0)
	}
	if got := e.Drain()["/reports/yearly"]; got != (Endpoint{20, 0, 20 * time.Minute}) {
		t.Errorf("%v", got)
	}
}

// TestEndpointAllocations holds a tracked template to no allocation.
func TestEndpointAllocations(t *testing.T) {
	e := NewEndpoints()
	add := func() { e.Add("/api/v1/users/123/profile", true, 0) }
	add()
	if n := testing.AllocsPerRun(100, add); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkEndpoints(b *testing.B) {
	e := NewEndpoints()
	for name, path := range map[string]string{
		"short": "/a", "usual": "/api/v1/users/123/profile", "uuid": "/api/v1/users/6f1d3c5a-0b4e-4c7d-9a2f-112233445566/profile",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				e.Add(path, true, 0)
			}
		})
	}
	b.Run("displacing", func(b *testing.B) {
		r := rand.New(rand.NewPCG(1, 2))
		for b.Loop() {
			e.Add("/"+word(r), false, 0)
		}
	})
}
