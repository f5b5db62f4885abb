package rfc9111

import (
	"math"
	"net/http"
	"strings"
	"testing"
	"time"
)

// arrival is when the responses of these tests arrive.
var arrival = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// at is the HTTP-date of a time relative to the arrival.
func at(d time.Duration) string { return arrival.Add(d).Format(http.TimeFormat) }

// headerLines makes a header of "Name: value" lines.
func headerLines(lines ...string) http.Header {
	h := make(http.Header)
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		h.Add(name, value)
	}
	return h
}

func TestFreshness(t *testing.T) {
	f := Freshness{ResponseTime: arrival, InitialAge: 10 * time.Second, Lifetime: time.Minute, StaleWhileRevalidate: 20 * time.Second, StaleIfError: 30 * time.Second}
	for _, tt := range []struct {
		section              string
		after                time.Duration
		age, remaining       time.Duration
		fresh, stale, onFail bool
	}{
		{"4.2.3 on arrival", 0, 10 * time.Second, 50 * time.Second, true, true, true},
		{"4.2.3 clock set back", -time.Hour, 10 * time.Second, 50 * time.Second, true, true, true},
		{"4.2 almost stale", 49 * time.Second, 59 * time.Second, time.Second, true, true, true},
		{"4.2 lifetime equals age", 50 * time.Second, time.Minute, 0, false, true, true},
		{"RFC 5861 3 end of the window", 70 * time.Second, 80 * time.Second, 0, false, false, true},
		{"RFC 5861 4 end of the window", 80 * time.Second, 90 * time.Second, 0, false, false, false},
		{"1.3 overflow", math.MaxInt64, MaxDelta, 0, false, false, false},
	} {
		now := arrival.Add(tt.after)
		if got := f.CurrentAge(now); got != tt.age {
			t.Errorf("%s: CurrentAge = %v, want %v", tt.section, got, tt.age)
		}
		if got := f.Remaining(now); got != tt.remaining {
			t.Errorf("%s: Remaining = %v, want %v", tt.section, got, tt.remaining)
		}
		if f.Fresh(now) != tt.fresh || f.ServeStale(now) != tt.stale || f.ServeOnError(now) != tt.onFail {
			t.Errorf("%s: Fresh, ServeStale, ServeOnError = %t, %t, %t", tt.section, f.Fresh(now), f.ServeStale(now), f.ServeOnError(now))
		}
	}
	if got, want := f.DropAfter(), arrival.Add(80*time.Second); !got.Equal(want) {
		t.Errorf("RFC 5861: DropAfter = %v, want %v", got, want)
	}
}

func TestFreshnessForbidden(t *testing.T) {
	f := Freshness{ResponseTime: arrival, Lifetime: time.Minute}
	if f.ServeStale(arrival) || f.ServeOnError(arrival) {
		t.Error("RFC 5861: no window, but served stale")
	}
	f.StaleWhileRevalidate, f.StaleIfError, f.NoCache = time.Minute, time.Minute, true
	if f.Fresh(arrival) || f.ServeStale(arrival) || f.ServeOnError(arrival) {
		t.Error("5.2.2.4: served without validation")
	}
}

func TestFreshnessLimits(t *testing.T) {
	f := Freshness{ResponseTime: arrival, Lifetime: MaxDelta, StaleIfError: MaxDelta}
	if got, want := f.DropAfter(), arrival.Add(MaxDelta); !got.Equal(want) {
		t.Errorf("1.3: DropAfter = %v, want %v", got, want)
	}
	f.InitialAge = MaxDelta
	if f.Fresh(arrival) || f.CurrentAge(arrival.Add(time.Hour)) != MaxDelta || !f.DropAfter().Equal(arrival) {
		t.Errorf("1.3: %+v", f)
	}
	if f.CurrentAge(time.Time{}) != MaxDelta || f.CurrentAge(arrival.AddDate(9000, 0, 0)) != MaxDelta {
		t.Error("1.3: the age wraps")
	}
}

func TestFreshnessAllocs(t *testing.T) {
	f := &Freshness{ResponseTime: arrival, Lifetime: time.Minute, StaleIfError: time.Minute}
	if n := testing.AllocsPerRun(100, func() {
		_ = f.CurrentAge(arrival)
		_ = f.Remaining(arrival)
		_ = f.Fresh(arrival)
		_ = f.ServeStale(arrival)
		_ = f.ServeOnError(arrival)
		_ = f.DropAfter()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestInitialAge(t *testing.T) {
	for _, tt := range []struct {
		section string
		delay   time.Duration // between request and response
		header  []string
		want    time.Duration
	}{
		{"4.2.3 nothing known", 0, nil, 0},
		{"4.2.3 Date in the past", 0, []string{"Date: " + at(-time.Minute)}, time.Minute},
		{"4.2.3 Date in the future", 0, []string{"Date: " + at(time.Minute)}, 0},
		{"4.2.3 Date invalid", 0, []string{"Date: yesterday"}, 0},
		{"4.2.3 Age", 0, []string{"Age: 60"}, time.Minute},
		{"4.2.3 Age and delay", 2 * time.Second, []string{"Age: 60"}, 62 * time.Second},
		{"4.2.3 delay only", 2 * time.Second, nil, 2 * time.Second},
		{"4.2.3 delay below 0", -2 * time.Second, []string{"Age: 60"}, time.Minute},
		{"4.2.3 Age is larger", 0, []string{"Age: 60", "Date: " + at(-time.Second)}, time.Minute},
		{"4.2.3 Date is older", 0, []string{"Age: 1", "Date: " + at(-time.Minute)}, time.Minute},
		{"5.1 Age invalid", 0, []string{"Age: abc", "Date: " + at(-time.Second)}, time.Second},
		{"5.1 Age of two members", 0, []string{"Age: 60, 0"}, time.Minute},
		{"1.3 Age overflows", time.Second, []string{"Age: 99999999999"}, MaxDelta},
		{"1.3 Date of long ago", 0, []string{"Date: Mon, 01 Jan 0001 00:00:00 GMT"}, MaxDelta},
	} {
		resp := Response{Header: headerLines(tt.header...), RequestTime: arrival.Add(-tt.delay), ResponseTime: arrival}
		if got := resp.initialAge(); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.section, got, tt.want)
		}
	}
	unknown := Response{Header: headerLines(), ResponseTime: arrival}
	if got := unknown.initialAge(); got != 0 {
		t.Errorf("4.2.3 time of the request not known: %v", got)
	}
}
