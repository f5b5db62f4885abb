package rfc9111

import (
	"testing"
	"time"
)

func TestRequestAllows(t *testing.T) {
	secs := func(n int) Delta { return Delta{Present: true, Valid: true, Value: time.Duration(n) * time.Second} }
	invalid := Delta{Present: true}
	stored := func(age int) Freshness {
		return Freshness{ResponseTime: today, InitialAge: time.Duration(age) * time.Second, Lifetime: time.Minute}
	}
	mustRevalidate, noCache, freshNoCache := stored(70), stored(70), stored(10)
	mustRevalidate.MustRevalidate, noCache.NoCache, freshNoCache.NoCache = true, true, true
	freshMustRevalidate := stored(10)
	freshMustRevalidate.MustRevalidate = true

	for _, c := range []struct {
		section, name string
		d             Directives
		f             Freshness
		want          bool
	}{
		{"9111 4.2", "fresh", Directives{}, stored(10), true},
		{"9111 4.2.4", "stale", Directives{}, stored(70), false},
		{"9111 5.2.1.4", "no-cache", Directives{NoCache: true}, stored(10), false},
		{"9111 5.2.1.5", "no-store", Directives{NoStore: true}, stored(10), true},
		{"9111 5.2.2.4", "no-cache of the response", Directives{}, freshNoCache, false},
		{"9111 5.2.2.2", "must-revalidate of a fresh response", Directives{}, freshMustRevalidate, true},

		{"9111 5.2.1.1", "younger than max-age", Directives{MaxAge: secs(11)}, stored(10), true},
		{"9111 5.2.1.1", "as old as max-age", Directives{MaxAge: secs(10)}, stored(10), true},
		{"9111 5.2.1.1", "older than max-age", Directives{MaxAge: secs(9)}, stored(10), false},
		{"9111 5.2.1.1", "max-age=0", Directives{MaxAge: secs(0)}, stored(0), false},
		{"9111 5.2.1.1", "max-age does not make fresh", Directives{MaxAge: secs(100)}, stored(70), false},
		{"9111 5.2.1.1", "max-age before max-stale", Directives{MaxAge: secs(60), MaxStaleAny: true}, stored(70), false},
		{"9111 5.2.1.1", "both max-age and max-stale hold", Directives{MaxAge: secs(100), MaxStale: secs(20)}, stored(70), true},
		{"9111 1.3", "invalid max-age", Directives{MaxAge: invalid}, stored(0), false},

		{"9111 5.2.1.3", "fresh enough", Directives{MinFresh: secs(50)}, stored(10), true},
		{"9111 5.2.1.3", "not fresh enough", Directives{MinFresh: secs(51)}, stored(10), false},
		{"9111 5.2.1.3", "min-fresh before max-stale", Directives{MinFresh: secs(0), MaxStaleAny: true}, stored(70), false},
		{"9111 1.3", "invalid min-fresh", Directives{MinFresh: invalid}, stored(0), false},

		{"9111 5.2.1.2", "max-stale without a number", Directives{MaxStaleAny: true}, stored(5000), true},
		{"9111 5.2.1.2", "not too stale", Directives{MaxStale: secs(10)}, stored(70), true},
		{"9111 5.2.1.2", "too stale", Directives{MaxStale: secs(9)}, stored(70), false},
		{"9111 1.3", "invalid max-stale", Directives{MaxStale: invalid}, stored(70), false},
		{"9111 4.2.4", "must-revalidate before max-stale", Directives{MaxStaleAny: true}, mustRevalidate, false},
		{"9111 4.2.4", "no-cache before max-stale", Directives{MaxStaleAny: true}, noCache, false},
	} {
		if got := RequestAllows(c.d, &c.f, today); got != c.want {
			t.Errorf("RFC %s %s: got %v, want %v", c.section, c.name, got, c.want)
		}
	}
}

func TestRequestServesStale(t *testing.T) {
	secs := func(n int) Delta { return Delta{Present: true, Valid: true, Value: time.Duration(n) * time.Second} }
	invalid := Delta{Present: true}
	windows := Freshness{
		ResponseTime: today, InitialAge: 70 * time.Second, Lifetime: time.Minute,
		StaleWhileRevalidate: time.Minute, StaleIfError: time.Minute,
	}
	none, mustRevalidate, noCache, plainShared := windows, windows, windows, windows
	none.StaleWhileRevalidate, none.StaleIfError = 0, 0
	mustRevalidate.MustRevalidate, mustRevalidate.StaleWhileRevalidate, mustRevalidate.StaleIfError = true, 0, 0
	noCache.NoCache, plainShared.MustRevalidate = true, true
	for _, c := range []struct {
		section, name  string
		d              Directives
		f              Freshness
		while, onError bool
	}{
		{"5861 3", "no directive", Directives{}, windows, true, true},
		{"5861 3", "no window", Directives{}, none, false, false},
		{"9111 5.2.1.4", "no-cache", Directives{NoCache: true}, windows, false, false},
		{"9111 5.2.1.1", "as old as max-age", Directives{MaxAge: secs(70)}, windows, true, true},
		{"9111 5.2.1.1", "older than max-age", Directives{MaxAge: secs(69)}, windows, false, false},
		{"9111 1.3", "invalid max-age", Directives{MaxAge: invalid}, windows, false, false},
		{"9111 5.2.1.3", "min-fresh", Directives{MinFresh: secs(0)}, windows, false, false},
		{"9111 5.2.1.2", "max-stale", Directives{MaxStaleAny: true}, windows, true, true},
		{"9111 5.2.1.2", "not too stale", Directives{MaxStale: secs(10)}, windows, true, true},
		{"9111 5.2.1.2", "too stale", Directives{MaxStale: secs(9)}, windows, false, false},
		{"9111 1.3", "invalid max-stale", Directives{MaxStale: invalid}, windows, false, false},
		{"5861 4", "stale-if-error opens a window", Directives{StaleIfError: secs(11)}, none, false, true},
		{"5861 4", "stale-if-error ends a window", Directives{StaleIfError: secs(10)}, windows, true, false},
		{"5861 4", "stale-if-error before no-cache", Directives{NoCache: true, StaleIfError: secs(11)}, windows, false, true},
		{"5861 4", "stale-if-error before max-age", Directives{MaxAge: secs(0), StaleIfError: secs(11)}, windows, false, true},
		{"5861 4", "stale-if-error=0", Directives{StaleIfError: secs(0)}, windows, true, false},
		{"9111 1.3", "invalid stale-if-error", Directives{StaleIfError: invalid}, windows, true, false},
		{"9111 4.2.4", "must-revalidate", Directives{StaleIfError: secs(99)}, mustRevalidate, false, false},
		{"9111 4.2.4", "no-cache of the response", Directives{StaleIfError: secs(99)}, noCache, false, false},
		{"9111 5.2.2.10", "s-maxage with windows", Directives{StaleIfError: secs(11)}, plainShared, true, true},
	} {
		if got := RequestServesStale(c.d, &c.f, today); got != c.while {
			t.Errorf("RFC %s %s: RequestServesStale = %v", c.section, c.name, got)
		}
		if got := RequestServesOnError(c.d, &c.f, today); got != c.onError {
			t.Errorf("RFC %s %s: RequestServesOnError = %v", c.section, c.name, got)
		}
	}
}
