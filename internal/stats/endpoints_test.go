package stats

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
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

// drainEvery drains as the node does, every so many requests, and sums up.
type drainEvery struct {
	e     *Endpoints
	every int
	count int
	sum   map[string]Endpoint
}

func (d *drainEvery) add(path string, hit bool, origin time.Duration) {
	d.e.Add(path, hit, origin)
	if d.count++; d.count%d.every == 0 {
		d.drain()
	}
}

func (d *drainEvery) drain() {
	if d.sum == nil {
		d.sum = make(map[string]Endpoint)
	}
	for template, counts := range d.e.Drain() {
		counts.Add(d.sum[template])
		d.sum[template] = counts
	}
}

// TestHeavyHitters asks for far more templates than are tracked: those that are
// often asked for are kept, and what is kept is bounded.
func TestHeavyHitters(t *testing.T) {
	e := NewEndpoints()
	r := rand.New(rand.NewPCG(1, 2))
	const rounds = 50_000
	for _, name := range []string{"heavy", "now"} { // what was heavy once makes room
		d := drainEvery{e: e, every: 10_000}
		for i := range rounds {
			d.add(fmt.Sprintf("/%s/%c", name, 'a'+i%10), true, 0)
			d.add("/"+word(r), false, 0)
		}
		d.drain()
		for c := 'a'; c < 'a'+10; c++ {
			count := d.sum["/"+name+"/"+string(c)]
			if count.Requests < rounds/10*8/10 || count.Requests > rounds/10*12/10 || count.Hits != count.Requests {
				t.Errorf("/%s/%c: %v", name, c, count)
			}
		}
		for template, count := range d.sum {
			if count.Requests > rounds/10*12/10 {
				t.Errorf("%s is counted %d times", template, count.Requests)
			}
		}
		for range 20 {
			e.Age()
		}
	}
}

// TestVaryingPathsDisplaceNothing sends a hundred times as many requests, each for
// another path, as there are for endpoints that are asked for again and again. Some of
// the paths are slow.
func TestVaryingPathsDisplaceNothing(t *testing.T) {
	const endpoints, rounds = 500, 4
	e := NewEndpoints()
	r := rand.New(rand.NewPCG(3, 4))
	d := drainEvery{e: e, every: 1 << 62}
	for range 10 {
		for i := range endpoints {
			d.add("/"+wordOf(i), true, 0)
		}
		d.drain()
	}
	clear(d.sum)
	for range rounds {
		for i := range endpoints {
			d.add("/"+wordOf(i), true, 0)
			for range 100 {
				d.add("/"+word(r), false, time.Duration(r.IntN(2))*2*time.Second)
			}
		}
		d.drain()
	}
	lost := 0
	for i := range endpoints {
		if got := d.sum["/"+wordOf(i)]; got != (Endpoint{rounds, rounds, 0}) {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d endpoints have lost counts", lost, endpoints)
	}
	if len(*e.tracked.Load()) > maxTracked || len(e.known) > maxKnown {
		t.Errorf("%d are tracked, %d known", len(*e.tracked.Load()), len(e.known))
	}
}

// TestFoundAmongVaryingPaths has an endpoint appear while each other request is for
// another path: it is found all the same.
func TestFoundAmongVaryingPaths(t *testing.T) {
	e := NewEndpoints()
	r := rand.New(rand.NewPCG(5, 6))
	d := drainEvery{e: e, every: 20_000}
	for range 60_000 {
		d.add("/"+word(r), false, 0)
	}
	clear(d.sum)
	const requests = 1_000
	for i := range 100 * requests {
		if i%100 == 0 {
			d.add("/new", true, 0)
			continue
		}
		d.add("/"+word(r), false, 0)
	}
	d.drain()
	if got := d.sum["/new"].Requests; got < requests/2 || got > requests*11/10 {
		t.Errorf("%d of %d requests are counted", got, requests)
	}
}

// TestSampledSum offers one template so often that it is sampled: what the samples
// stand for is near what was offered.
func TestSampledSum(t *testing.T) {
	var s samples
	for _, offered := range []int{100, 10_000, 1_000_000, 1_000_000, 10_000} {
		for range offered {
			s.offer([]byte("/a"), true, 0)
		}
		sum, variance, count := 0.0, 0.0, 0
		s.drain(func(_ []byte, one Endpoint, scale float64) {
			sum += scale * float64(one.Hits)
			variance += scale * (scale - 1)
			count++
		})
		if off := math.Abs(sum - float64(offered)); off > 8*math.Sqrt(variance) || count > maxSamples {
			t.Errorf("%d samples stand for %.0f of %d, give or take %.0f", count, sum, offered, math.Sqrt(variance))
		}
	}
}

// TestHitsAhead drains while hits are counted: never more of them than requests.
func TestHitsAhead(t *testing.T) {
	e := NewEndpoints()
	e.Add("/a", true, 0)
	e.Drain()
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
	if sum.Requests != 2*adds || sum.Hits > sum.Requests {
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
	return fmt.Sprintf("w%c%c%c", 'g'+i%20, 'g'+i/20%20, 'g'+i/400%20) // 8,000 of them
}

// TestCostlyEndpoint asks seldom for something that takes long, between many other
// templates.
func TestCostlyEndpoint(t *testing.T) {
	e := NewEndpoints()
	d := drainEvery{e: e, every: 20_000}
	for i := range 200_000 {
		if i%10_000 == 0 {
			d.add("/reports/yearly", false, time.Minute)
		}
		d.add("/"+wordOf(i), true, 0)
	}
	d.drain()
	if got := d.sum["/reports/yearly"]; got != (Endpoint{20, 0, 20 * time.Minute}) {
		t.Errorf("%v", got)
	}
}

// TestEndpointAllocations holds every template to no allocation: one that is tracked,
// and one among more than can be.
func TestEndpointAllocations(t *testing.T) {
	e := crowded(3 * maxTracked)
	for name, path := range map[string]string{"tracked": "/api/v1/users/123/profile", "untracked": "/" + wordOf(7_999)} {
		if tracked := (*e.tracked.Load())[string(AppendTemplate(nil, path))] != nil; tracked != (name == "tracked") {
			t.Fatalf("%s: %v", path, tracked)
		}
		if n := testing.AllocsPerRun(10_000, func() { e.Add(path, true, 0) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// crowded has seen more templates than it tracks, among them /api/v1/users/{id}/profile.
func crowded(templates int) *Endpoints {
	e := NewEndpoints()
	for range 3 {
		for i := range templates {
			e.Add("/"+wordOf(i), true, 0)
			e.Add("/api/v1/users/1/profile", true, 0)
		}
		e.Drain()
	}
	return e
}

// TestDrainedMeanwhile drains while requests are counted.
func TestDrainedMeanwhile(t *testing.T) {
	e := NewEndpoints()
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			for i := range 20_000 {
				e.Add("/"+wordOf(i*4+n), true, time.Millisecond)
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for over := false; !over; {
		select {
		case <-done:
			over = true
		default:
		}
		for template, c := range e.Drain() {
			if c.Hits > c.Requests || !strings.HasPrefix(template, "/w") {
				t.Fatalf("%q: %v", template, c)
			}
		}
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
}

// BenchmarkUntracked asks for a hundred thousand endpoints whose names are words, on
// every core, with the drains of every three seconds, and shows what one costs beside
// an endpoint that is tracked.
func BenchmarkUntracked(b *testing.B) {
	const names = 100_000
	paths := make([]string, names)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range paths {
		paths[i] = "/products/" + word(r)
	}
	e := crowded(3 * maxTracked)
	draining := make(chan struct{})
	defer close(draining)
	go func() {
		ticks := time.NewTicker(3 * time.Second)
		defer ticks.Stop()
		for {
			select {
			case <-draining:
				return
			case <-ticks.C:
				e.Drain()
			}
		}
	}()
	perRequest := make(map[string]float64)
	for _, bench := range []struct {
		name string
		path func(i int) string
	}{
		{"tracked", func(int) string { return "/api/v1/users/123/profile" }},
		{"words", func(i int) string { return paths[i%names] }},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for i := rand.IntN(names); pb.Next(); i++ {
					e.Add(bench.path(i), true, 0)
				}
			})
			perRequest[bench.name] = float64(b.Elapsed().Nanoseconds()) / float64(b.N)
			if bench.name == "words" && perRequest["tracked"] > 0 {
				b.ReportMetric(perRequest["words"]/perRequest["tracked"], "x_tracked")
			}
		})
	}
}
