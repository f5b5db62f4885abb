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
		name[i] = byte('g' + r.IntN(20))
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
	if len(got) > numShards*shardSize {
		t.Errorf("%d templates are kept", len(got))
	}
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
