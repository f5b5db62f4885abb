package stats

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

const (
	miss = iota
	hit
)

// meter is what a node counts.
type meter struct {
	registry  Registry
	endpoints *Endpoints
	history   *History
	coalesced uint64
	errors    uint64
}

func newMeter() *meter {
	m := &meter{endpoints: NewEndpoints()}
	m.history = NewHistory(m.totals, m.endpoints)
	return m
}

func (m *meter) totals() *Bucket {
	b := &Bucket{
		Requests: make(map[string]*Outcomes), Coalesced: m.coalesced, Errors: map[string]uint64{"redis": m.errors},
		State: &State{Breaker: "closed"},
	}
	for name, counts := range m.registry.Snapshot() {
		b.Requests[name] = &Outcomes{counts.Of(miss), counts.Of(hit)}
		b.Hit.Add(&counts.Took[hit])
		b.Miss.Add(&counts.Took[miss])
	}
	return b
}

func (m *meter) count(namespace string, outcome uint8, times int) {
	for range times {
		m.registry.Namespace(namespace).Add(outcome, 0, false, time.Duration(10-9*int(outcome))*time.Millisecond)
		m.endpoints.Add("/"+namespace+"/7", outcome == hit, time.Duration(1-outcome)*time.Millisecond)
	}
}

var start = time.Unix(600*2_000_000, 0)

// TestMovingWindows counts at some times and looks at later ones.
func TestMovingWindows(t *testing.T) {
	m := newMeter()
	m.count("a", miss, 1)
	m.count("b", hit, 2)
	m.coalesced, m.errors = 1, 4
	m.history.Collect(start)
	m.count("a", hit, 10)
	m.history.Collect(start.Add(30 * time.Minute))
	m.count("b", miss, 100)
	m.coalesced = 3
	m.history.Collect(start.Add(30*time.Minute + 4*time.Second))
	alone := NewFleet(nil, "", "n", m.history)
	const minute = time.Minute
	for _, tt := range []struct {
		after     time.Duration
		hour, day uint64
	}{
		{-time.Minute, 3, 3}, // a clock that is a little behind
		{0, 3, 3},
		{29 * minute, 113, 103 + 10},
		{59*minute + 59*time.Second, 113, 113},
		{60 * minute, 110, 113},
		{89 * minute, 110, 113},
		{90 * minute, 0, 113},
		{24*time.Hour - 1, 0, 113},
		{24 * time.Hour, 0, 110},
		{24*time.Hour + 30*minute, 0, 0},
		{1000 * time.Hour, 0, 0},
	} {
		hour, day, err := alone.Report(t.Context(), start.Add(tt.after), Day, true)
		if err != nil {
			t.Fatal(err)
		}
		for name, got := range map[string]*Report{"hour": hour, "day": day} {
			want := tt.hour
			if name == "day" {
				want = tt.day
			}
			var sum uint64
			for _, n := range got.Total.Total() {
				sum += n
			}
			if sum != want || got.Total.Hit.Count()+got.Total.Miss.Count() != want {
				t.Errorf("after %s the last %s has %d requests, %d durations, want %d",
					tt.after, name, sum, got.Total.Hit.Count()+got.Total.Miss.Count(), want)
			}
		}
	}
	_, day, _ := alone.Report(t.Context(), start.Add(time.Hour), Day, true)
	if a, b := *day.Total.Requests["a"], *day.Total.Requests["b"]; a != (Outcomes{1, 10}) || b != (Outcomes{100, 2}) {
		t.Errorf("a %v, b %v", a, b)
	}
	if day.Total.Coalesced != 3 || day.Total.Errors["redis"] != 4 {
		t.Errorf("%+v", day.Total)
	}
	for after, there := range map[time.Duration]bool{30 * minute: true, 31 * minute: true, 33 * minute: false} {
		hour, _, _ := alone.Report(t.Context(), start.Add(after), Hour, true)
		if state := hour.Nodes["n"].State; (state != nil) != there {
			t.Errorf("after %s the state of the node is %v", after, state)
		}
	}
	if e := day.Endpoints["/b/{id}"]; e != (Endpoint{102, 2, 100 * time.Millisecond}) {
		t.Errorf("endpoint %v", e)
	}
	hour, _, _ := alone.Report(t.Context(), start.Add(time.Hour), Hour, true)
	if e := hour.Endpoints["/b/{id}"]; e != (Endpoint{100, 0, 100 * time.Millisecond}) {
		t.Errorf("endpoint %v", e)
	}

	// What no window shows any more is forgotten.
	m.history.Collect(start.Add(100 * time.Hour))
	if len(m.history.minutes) != 1 || len(m.history.tens) != 1 {
		t.Errorf("%d and %d buckets are kept", len(m.history.minutes), len(m.history.tens))
	}
}

func TestPurgesOutside(t *testing.T) {
	m := newMeter()
	for _, ago := range []time.Duration{-time.Hour, 0, time.Minute, 2 * time.Hour, 48 * time.Hour, math.MaxInt64} {
		m.history.Purged(start.Add(-ago), start)
	}
	hour, day, _ := NewFleet(nil, "", "n", m.history).Report(t.Context(), start, Hour, false)
	if hour.Total.Purges != 2 || day.Total.Purges != 4 {
		t.Errorf("%d purges in the last hour, %d in the last day, want 2 and 4", hour.Total.Purges, day.Total.Purges)
	}
}

// TestIdle writes what has changed: of an idle node its state, once for each bucket.
func TestIdle(t *testing.T) {
	m := newMeter()
	written := func(after time.Duration) (keys int) {
		m.history.Collect(start.Add(after))
		for _, b := range m.history.unwritten() {
			b.done()
			keys++
		}
		return keys
	}
	for i, step := range []struct {
		after time.Duration
		count func()
		want  int
	}{
		{0, nil, 2},
		{3 * time.Second, nil, 0},
		{6 * time.Second, func() { m.count("a", hit, 1) }, 3}, // with the endpoints
		{9 * time.Second, nil, 0},
		{12 * time.Second, func() { m.errors++ }, 3},
		{15 * time.Second, func() { m.coalesced++ }, 3},
		{18 * time.Second, func() { m.history.Purged(start, start) }, 3},
		{21 * time.Second, m.history.WriteAgain, 3},
		{time.Minute, nil, 1},
		{10 * time.Minute, nil, 2},
	} {
		if step.count != nil {
			step.count()
		}
		if got := written(step.after); got != step.want {
			t.Errorf("step %d writes %d keys, want %d", i, got, step.want)
		}
	}
	hour, _, _ := NewFleet(nil, "", "n", m.history).Report(t.Context(), start.Add(10*time.Minute), Hour, false)
	if hour.Nodes["n"].State == nil {
		t.Error("an idle node is gone")
	}
}

// TestQuantiles compares with the exact quantiles of the same durations.
func TestQuantiles(t *testing.T) {
	var h Histogram
	for _, share := range []float64{0, 0.5, 0.99} {
		if h.Quantile(share) != 0 || h.Mean() != 0 {
			t.Errorf("quantile %v of nothing is %s, the mean %s", share, h.Quantile(share), h.Mean())
		}
	}
	var c Counter
	r := rand.New(rand.NewPCG(3, 4))
	durations := make([]time.Duration, 10_000)
	for i := range durations {
		durations[i] = time.Duration(math.Exp(r.Float64()*9+4)) * time.Microsecond
		c.Add(0, 0, false, durations[i])
	}
	slices.Sort(durations)
	h = c.Counts().Took[0]
	for _, share := range []float64{0.01, 0.5, 0.95, 0.99, 1} {
		exact := durations[min(int(share*float64(len(durations))), len(durations)-1)]
		if got := h.Quantile(share); math.Abs(float64(got)/float64(exact)-1) > 0.13 {
			t.Errorf("quantile %v is %s, want %s", share, got, exact)
		}
	}

	c = Counter{}
	c.Add(0, 0, false, time.Hour)
	h = c.Counts().Took[0]
	if got := h.Quantile(0.5); got != Bound(NumBuckets-2) || h.Mean() != time.Hour {
		t.Errorf("the median of an hour is %s, the mean %s", got, h.Mean())
	}
}

func TestTrim(t *testing.T) {
	endpoints := make(map[string]Endpoint)
	for i := range 1000 {
		endpoints[fmt.Sprint("/", i)] = Endpoint{Requests: uint64(i), Origin: time.Duration(1000 - i)}
	}
	trim(endpoints, maxEndpoints)
	if len(endpoints) != maxEndpoints {
		t.Errorf("%d are left", len(endpoints))
	}
	for i := range maxEndpoints / 2 {
		for _, name := range []string{fmt.Sprint("/", i), fmt.Sprint("/", 999-i)} {
			if _, ok := endpoints[name]; !ok {
				t.Errorf("%s is gone", name)
			}
		}
	}
}

// TestPurgeRate has a purge a minute by a journal whose clock is half an hour ahead:
// the last hour of them counts, and a node that is gone is not there because a purge
// it has seen is of this minute.
func TestPurgeRate(t *testing.T) {
	m, gone := newMeter(), newMeter()
	const ahead = 30 * time.Minute
	gone.history.Collect(start)
	for i := range 90 {
		now := start.Add(time.Duration(i) * time.Minute)
		m.history.Collect(now)
		m.history.Purged(now.Add(ahead), now)
		if i < 30 {
			gone.history.Purged(now.Add(ahead), now)
		}
	}
	now := start.Add(50 * time.Minute)
	all := m.history.own("m").with(gone.history.own("gone"))
	hour := report(all.minutes, &byMinute, start.Add(90*time.Minute))
	if hour.Total.Purges != 60 {
		t.Errorf("%d purges in an hour", hour.Total.Purges)
	}
	if hour = report(all.minutes, &byMinute, now); hour.Nodes["gone"].State != nil || hour.Nodes["m"].State == nil {
		t.Errorf("states of the node that is gone, %v, and of the other, %v", hour.Nodes["gone"].State, hour.Nodes["m"].State)
	}
}

// TestDurationAlone has a request that was counted before its duration was.
func TestDurationAlone(t *testing.T) {
	total := Bucket{State: &State{}}
	h := NewHistory(func() *Bucket { return clone(&total) }, NewEndpoints())
	h.Collect(start)
	for _, b := range h.unwritten() {
		b.done()
	}
	total.Hit.Buckets[1]++
	h.Collect(start)
	if len(h.unwritten()) == 0 {
		t.Error("a duration is never written")
	}
}
