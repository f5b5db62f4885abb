package stats

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gplus-recycling/caddy-redis-cache/internal/redistest"
)

// peer is a node with its own connection.
type peer struct {
	*meter
	*Fleet
}

func join(s *redistest.Server, name string) *peer {
	m := newMeter()
	return &peer{m, NewFleet(s.Client(), "p", name, m.history)}
}

func (p *peer) at(t *testing.T, now time.Time) {
	t.Helper()
	p.history.Collect(now)
	if err := p.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// see expects the same requests of a in both windows.
func (p *peer) see(t *testing.T, now time.Time, want Outcomes) (hour, day *Report) {
	t.Helper()
	hour, day, err := p.Report(t.Context(), now, Hour, true)
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]*Report{"hour": hour, "day": day} {
		if got := r.Total.Total(); got != want {
			t.Errorf("%s: %s sees %v, want %v", name, p.node, got, want)
		}
	}
	return hour, day
}

func TestFleet(t *testing.T) {
	s := redistest.Start(t)
	one, two := join(s, "one"), join(s, "two")
	one.count("a", miss, 5)
	two.count("a", hit, 7)
	for i, p := range []*peer{one, two} {
		p.history.Purged(start, start)
		p.history.Purged(start, start.Add(time.Duration(i)*time.Second))
	}
	two.history.Purged(start.Add(time.Minute), start.Add(time.Minute))
	one.at(t, start)
	two.at(t, start.Add(time.Minute-1))
	for _, p := range []*peer{one, two} {
		hour, day := p.see(t, start.Add(time.Minute), Outcomes{5, 7})
		if hour.Total.Purges != 3 || day.Total.Purges != 3 {
			t.Errorf("%s sees %d and %d purges, want 3", p.node, hour.Total.Purges, day.Total.Purges)
		}
		if n := hour.Nodes; len(n) != 2 || *n["one"].Requests["a"] != (Outcomes{5}) || *n["two"].Requests["a"] != (Outcomes{0, 7}) ||
			n["one"].State.Breaker != "closed" {
			t.Errorf("%s: nodes %v", p.node, n)
		}
		if e := hour.Endpoints["/a/{id}"]; e != (Endpoint{12, 7, 5 * time.Millisecond}) {
			t.Errorf("%s: endpoint %v", p.node, e)
		}
	}

	// What is written twice counts once, and what is not written yet counts for
	// the node itself.
	one.at(t, start.Add(2*time.Minute))
	one.at(t, start.Add(2*time.Minute))
	one.count("a", hit, 1)
	one.history.Collect(start.Add(2 * time.Minute))
	one.see(t, start.Add(3*time.Minute), Outcomes{5, 8})
	two.see(t, start.Add(3*time.Minute), Outcomes{5, 7})

	// A node that is started again under another name.
	one.at(t, start.Add(3*time.Minute))
	again := join(s, "again")
	again.count("b", miss, 2)
	again.at(t, start.Add(3*time.Minute))
	two.at(t, start.Add(4*time.Minute))
	for _, p := range []*peer{again, two} {
		hour, _ := p.see(t, start.Add(4*time.Minute), Outcomes{7, 8})
		if len(hour.Nodes) != 3 {
			t.Errorf("%s: nodes %v", p.node, hour.Nodes)
		}
	}
	// What Redis has lost is written again.
	if err := s.Client().FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*peer{one, two, again} {
		p.history.WriteAgain()
		p.at(t, start.Add(4*time.Minute))
	}
	two.see(t, start.Add(5*time.Minute), Outcomes{7, 8})

	// The same numbers come from the longer window a day later, but not two.
	_, day, err := two.Report(t.Context(), start.Add(23*time.Hour), Day, true)
	if err != nil || day.Total.Total() != (Outcomes{7, 8}) || day.Endpoints["/b/{id}"].Requests != 2 {
		t.Errorf("a day later: %v %v %v", day.Total.Total(), day.Endpoints, err)
	}
	two.see(t, start.Add(48*time.Hour), Outcomes{})

	client := s.Client()
	for _, key := range client.Keys(t.Context(), "*").Val() {
		if ttl := client.TTL(t.Context(), key).Val(); ttl <= time.Hour || ttl > tenTTL || !strings.HasPrefix(key, "p::stats:v2:") {
			t.Errorf("%s has a lifetime of %s", key, ttl)
		}
	}
}

// TestPurgesOfJournalAhead has a journal whose clock, and that of one node, is ahead
// of another node's: both see the purge at once, and once.
func TestPurgesOfJournalAhead(t *testing.T) {
	s := redistest.Start(t)
	one, two := join(s, "one"), join(s, "two")
	ahead := start.Add(5 * time.Minute)
	see := func(p *peer, now time.Time) {
		t.Helper()
		if hour, day := p.see(t, now, Outcomes{}); hour.Total.Purges != 1 || day.Total.Purges != 1 {
			t.Errorf("at %s: %s sees %d and %d purges, want 1", now.Sub(start), p.node, hour.Total.Purges, day.Total.Purges)
		}
	}
	one.history.Purged(ahead, ahead)
	two.history.Purged(ahead, start)
	for after := time.Duration(0); after < 12*time.Minute; after += time.Minute {
		one.at(t, ahead.Add(after))
		two.at(t, start.Add(after))
		see(one, ahead.Add(after))
		see(two, start.Add(after))
	}
}

// TestFleetWithoutRedis counts on while Redis is away.
func TestFleetWithoutRedis(t *testing.T) {
	s := redistest.Start(t)
	one, two := join(s, "one"), join(s, "two")
	two.count("a", hit, 7)
	two.at(t, start)
	s.Kill()
	for i := range 90 { // more than one batch
		one.count("a", miss, 1)
		one.history.Collect(start.Add(time.Duration(i) * time.Minute))
		if i%30 == 0 && one.Flush(t.Context()) == nil {
			t.Error("written without Redis")
		}
	}
	later := start.Add(89 * time.Minute)
	hour, day, err := one.Report(t.Context(), later, Day, true)
	if err == nil || hour.Total.Total() != (Outcomes{60}) || day.Total.Total() != (Outcomes{90}) || day.Endpoints["/a/{id}"].Requests != 90 {
		t.Errorf("%v in the last hour, %v in the last day, %v, %v", hour.Total.Total(), day.Total.Total(), day.Endpoints, err)
	}
	if hour, day, err := one.Report(t.Context(), later, Day, false); err != nil || !hour.Alone || !day.Alone {
		t.Errorf("Redis was asked: %v, alone %t %t", err, hour.Alone, day.Alone)
	}

	s.Start()
	if err := one.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if hour, day, err := two.Report(t.Context(), later, Day, true); err != nil || hour.Total.Total() != (Outcomes{60}) ||
		day.Total.Total() != (Outcomes{90, 7}) || day.Endpoints["/a/{id}"].Requests != 97 {
		t.Errorf("the other one sees %v, %v, %v, %v", hour.Total.Total(), day.Total.Total(), day.Endpoints, err)
	}
	if blobs := one.history.unwritten(); len(blobs) != 0 {
		t.Errorf("%d buckets are still to be written", len(blobs))
	}
}

// TestFleetWithSilentRedis takes what the others had written for a while.
func TestFleetWithSilentRedis(t *testing.T) {
	s := redistest.Start(t)
	one, two := join(s, "one"), join(s, "two")
	two.count("a", hit, 7)
	two.at(t, start)
	one.see(t, start, Outcomes{0, 7})
	one.count("a", miss, 1)
	one.history.Collect(start)
	s.Kill()
	for _, tt := range []struct {
		after  time.Duration
		window Window
		want   Outcomes
		alone  bool
	}{
		{30 * time.Second, Hour, Outcomes{1, 7}, false},
		{peersKept - 1, Hour, Outcomes{1, 7}, false},
		{30 * time.Second, Day, Outcomes{1}, true}, // was not read before
		{peersKept, Hour, Outcomes{1}, true},
	} {
		for _, ask := range []bool{true, false} {
			hour, day, err := one.Report(t.Context(), start.Add(tt.after), tt.window, ask)
			if hour.Total.Total() != tt.want || day.Total.Total() != tt.want || hour.Alone != tt.alone || day.Alone != tt.alone || (err != nil) != ask {
				t.Errorf("after %s (%t): %v and %v, alone %t, want %v, %t; %v", tt.after, ask, hour.Total.Total(), day.Total.Total(),
					hour.Alone, tt.want, tt.alone, err)
			}
		}
	}
	s.Start()
	if _, _, err := one.Report(t.Context(), start, Day, true); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	if hour, _, _ := one.Report(t.Context(), start.Add(peersKept-1), Hour, true); hour.Alone {
		t.Error("what was read for a day does not stand in for an hour")
	}
	if hour, _, _ := NewFleet(nil, "p", "n", one.history).Report(t.Context(), start, Hour, true); hour.Alone {
		t.Error("without Redis there are no others, and it is said that they are missing")
	}
}

// TestForeignBuckets finds what nobody wrote for this version.
func TestForeignBuckets(t *testing.T) {
	s := redistest.Start(t)
	one := join(s, "one")
	one.count("a", hit, 3)
	one.at(t, start)
	client := s.Client()
	key := byMinute.key("p", byMinute.number(start))
	for i, text := range []string{"", "null", "{", "[]", `{"requests":{"a":null,"b":[1,2,3,4,5,6,7]},"hit":{"Buckets":[1]},"later":1}`, `{"requests":7}`} {
		if err := client.HSet(t.Context(), key, fmt.Sprint("n", i), text).Err(); err != nil {
			t.Fatal(err)
		}
	}
	hour, _, err := one.Report(t.Context(), start, Hour, true)
	if err != nil || hour.Total.Total() != (Outcomes{1, 5, 3, 4, 5}) || hour.Total.Hit.Count() != 4 {
		t.Errorf("%v, %d durations, %v", hour.Total.Total(), hour.Total.Hit.Count(), err)
	}
}

// TestPeersAge asks Redis at most once a second, however many ask for a report.
func TestPeersAge(t *testing.T) {
	s := redistest.Start(t)
	one := join(s, "one")
	asked := 0
	one.client.(*redis.Client).AddHook(counting{&asked})
	for range 100 {
		one.see(t, start, Outcomes{})
	}
	first := asked
	one.see(t, start.Add(time.Second), Outcomes{})
	if first == 0 || asked != 2*first {
		t.Errorf("%d batches for the first second, %d in all", first, asked)
	}
}

type counting struct{ batches *int }

func (counting) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (counting) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (c counting) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		*c.batches++
		return next(ctx, cmds)
	}
}
