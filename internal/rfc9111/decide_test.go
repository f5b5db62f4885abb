package rfc9111

import (
	"reflect"
	"slices"
	"testing"
	"time"
)

// decision is what a row of a table expects of a Decision.
type decision struct {
	refusal  Refusal
	lifetime time.Duration
	source   string
}

func decide(status int, p Policy, lines ...string) Decision {
	return Decide(Response{Status: status, Header: headerLines(lines...), RequestTime: arrival, ResponseTime: arrival}, p)
}

type decideRow struct {
	section string
	status  int
	policy  Policy
	header  []string
	want    decision
}

func testDecide(t *testing.T, rows []decideRow) {
	t.Helper()
	for _, tt := range rows {
		d := decide(tt.status, tt.policy, tt.header...)
		if got := (decision{d.Refusal, d.Freshness.Lifetime, d.Source}); got != tt.want {
			t.Errorf("%s: %d %q: %+v, want %+v", tt.section, tt.status, tt.header, got, tt.want)
		}
		if d.Store != (tt.want.refusal == RefusalNone) {
			t.Errorf("%s: Store is %t with %q", tt.section, d.Store, d.Refusal)
		}
		if !d.Freshness.ResponseTime.Equal(arrival) {
			t.Errorf("%s: arrived at %v", tt.section, d.Freshness.ResponseTime)
		}
	}
}

func TestDecideLifetime(t *testing.T) {
	minute := []string{"Cache-Control: max-age=60"}
	testDecide(t, []decideRow{
		{"4.2.1 s-maxage first", 200, Policy{}, []string{"Cache-Control: max-age=1, s-maxage=60"}, decision{0, time.Minute, "s-maxage"}},
		{"4.2.1 s-maxage invalid", 200, Policy{}, []string{"Cache-Control: max-age=60, s-maxage=x"}, decision{RefusalExpired, 0, "s-maxage"}},
		{"4.2.1 max-age", 200, Policy{}, minute, decision{0, time.Minute, "max-age"}},
		{"4.2.1 max-age beats Expires", 200, Policy{}, append(minute, "Expires: "+at(time.Hour)), decision{0, time.Minute, "max-age"}},
		{"5.3 max-age beats Expires in the past", 200, Policy{}, append(minute, "Expires: "+at(-time.Hour)), decision{0, time.Minute, "max-age"}},
		{"5.3 max-age beats Expires that is invalid", 200, Policy{}, append(minute, "Expires: 0"), decision{0, time.Minute, "max-age"}},
		{"4.2.1 max-age invalid beats Expires", 200, Policy{}, []string{"Cache-Control: max-age=x", "Expires: " + at(time.Hour)}, decision{RefusalExpired, 0, "max-age"}},
		{"4.2.1 max-age twice, not the same", 200, Policy{}, []string{"Cache-Control: max-age=60", "Cache-Control: max-age=0"}, decision{RefusalExpired, 0, "max-age"}},
		{"4.2.1 max-age=0", 200, Policy{}, []string{"Cache-Control: max-age=0"}, decision{RefusalExpired, 0, "max-age"}},
		{"1.3 max-age overflows", 200, Policy{}, []string{"Cache-Control: max-age=99999999999"}, decision{0, MaxDelta, "max-age"}},
		{"4.2.1 Expires without Date", 200, Policy{}, []string{"Expires: " + at(time.Minute)}, decision{0, time.Minute, "Expires"}},
		{"4.2.1 Expires with Date invalid", 200, Policy{}, []string{"Expires: " + at(time.Minute), "Date: x"}, decision{0, time.Minute, "Expires"}},
		{"4.2.1 Expires - Date, never - now", 200, Policy{}, []string{"Expires: " + at(2*time.Hour), "Date: " + at(time.Hour)}, decision{0, time.Hour, "Expires"}},
		{"4.2.1 Expires equals Date", 200, Policy{}, []string{"Expires: " + at(0), "Date: " + at(0)}, decision{RefusalExpired, 0, "Expires"}},
		{"4.2.1 Expires before Date", 200, Policy{}, []string{"Expires: " + at(time.Minute), "Date: " + at(time.Hour)}, decision{RefusalExpired, 0, "Expires"}},
		{"5.3 Expires 0", 200, Policy{}, []string{"Expires: 0"}, decision{RefusalExpired, 0, "Expires"}},
		{"5.3 Expires far away", 200, Policy{}, []string{"Expires: Fri, 31 Dec 9999 23:59:59 GMT"}, decision{0, MaxDelta, "Expires"}},
		{"4.2.1 Expires twice the same", 200, Policy{}, []string{"Expires: " + at(time.Hour), "Expires: " + at(time.Hour)}, decision{0, time.Hour, "Expires"}},
		{"4.2.1 Expires twice, not the same", 200, Policy{}, []string{"Expires: " + at(time.Hour), "Expires: " + at(time.Minute)}, decision{RefusalExpired, 0, "Expires"}},
		{"4.2 age equals lifetime", 200, Policy{}, append(minute, "Age: 60"), decision{RefusalExpired, time.Minute, "max-age"}},
		{"4.2 age below lifetime", 200, Policy{}, append(minute, "Age: 59"), decision{0, time.Minute, "max-age"}},
		{"4.2.3 Date older than the lifetime", 200, Policy{}, append(minute, "Date: "+at(-time.Hour)), decision{RefusalExpired, time.Minute, "max-age"}},
		{"3 nothing stated", 200, Policy{}, nil, decision{RefusalNoLifetime, 0, ""}},
		{"3 public alone", 200, Policy{}, []string{"Cache-Control: public"}, decision{RefusalNoLifetime, 0, ""}},
	})
}

func TestDecideTTL(t *testing.T) {
	ttl := Policy{TTL: time.Minute, HasTTL: true}
	override := Policy{TTL: time.Minute, HasTTL: true, Override: true}
	testDecide(t, []decideRow{
		{"4.2.1 nothing stated", 200, ttl, nil, decision{0, time.Minute, "ttl"}},
		{"4.2.1 max-age wins", 200, ttl, []string{"Cache-Control: max-age=1"}, decision{0, time.Second, "max-age"}},
		{"4.2.1 max-age invalid wins", 200, ttl, []string{"Cache-Control: max-age=x"}, decision{RefusalExpired, 0, "max-age"}},
		{"4.2.1 Expires wins", 200, ttl, []string{"Expires: 0"}, decision{RefusalExpired, 0, "Expires"}},
		{"5.2.2.5 no-store wins", 200, ttl, []string{"Cache-Control: no-store"}, decision{RefusalNoStore, time.Minute, "ttl"}},
		{"5.2.2.4 no-cache wins", 200, ttl, []string{"Cache-Control: no-cache"}, decision{RefusalNoCache, time.Minute, "ttl"}},
		{"5.2.2.7 private wins", 200, ttl, []string{"Cache-Control: private"}, decision{RefusalPrivate, time.Minute, "ttl"}},
		{"4.2.3 counts from storing", 200, ttl, []string{"Age: 30"}, decision{0, 90 * time.Second, "ttl"}},
		{"4.2.3 counts from storing, Date old", 200, ttl, []string{"Date: " + at(-time.Hour)}, decision{0, time.Hour + time.Minute, "ttl"}},
		{"1.3 too long", 200, Policy{TTL: 1 << 62, HasTTL: true}, nil, decision{0, MaxDelta, "ttl"}},
		{"4.2 ttl 0", 200, Policy{HasTTL: true}, nil, decision{RefusalExpired, 0, "ttl"}},
		{"4.2 ttl 0 and an age", 200, Policy{HasTTL: true}, []string{"Age: 9"}, decision{RefusalExpired, 9 * time.Second, "ttl"}},

		{"override max-age", 200, override, []string{"Cache-Control: max-age=3600"}, decision{0, time.Minute, "ttl"}},
		{"override max-age=0, no-cache, no-store", 200, override, []string{"Cache-Control: max-age=0, no-cache, no-store, must-revalidate"}, decision{0, time.Minute, "ttl"}},
		{"override Expires", 200, override, []string{"Expires: 0", "Age: 5"}, decision{0, 65 * time.Second, "ttl"}},
		{"override a targeted field", 200, with(override, targets), []string{"CDN-Cache-Control: no-store, max-age=0"}, decision{0, time.Minute, "ttl"}},
		{"5.2.2.7 override, but private", 200, override, []string{"Cache-Control: private"}, decision{RefusalPrivate, time.Minute, "ttl"}},
		{"5.2.2.7 override, but private in the field replaced", 200, with(override, targets), []string{"Cache-Control: private", "CDN-Cache-Control: max-age=9"}, decision{RefusalPrivate, time.Minute, "ttl"}},
		{"5.2.2.7 override, but private in a targeted field", 200, with(override, targets), []string{"CDN-Cache-Control: private"}, decision{RefusalPrivate, time.Minute, "ttl"}},
		{"5.2.2.7 override and private allowed", 200, with(override, allowPrivate), []string{"Cache-Control: private"}, decision{0, time.Minute, "ttl"}},
		{"5.2.2.7 private allowed, no override", 200, with(ttl, allowPrivate), []string{"Cache-Control: private"}, decision{RefusalPrivate, time.Minute, "ttl"}},
		{"4.1 override, but Vary: *", 200, override, []string{"Vary: *"}, decision{RefusalVaryAny, time.Minute, "ttl"}},
	})
}

func targets(p *Policy)      { p.Targets = []string{"Foo-Cache-Control", "CDN-Cache-Control"} }
func allowPrivate(p *Policy) { p.AllowPrivate = true }
func validators(p *Policy)   { p.Validators = true }

func with(p Policy, options ...func(*Policy)) Policy {
	for _, option := range options {
		option(&p)
	}
	return p
}

func TestDecideStatus(t *testing.T) {
	for status := 100; status < 700; status++ {
		want := RefusalNone
		switch {
		case status == 206:
			want = RefusalPartial
		case status < 200 || status > 599, slices.Contains([]int{304, 428, 429, 431, 511}, status):
			want = RefusalStatus
		}
		if d := decide(status, Policy{}, "Cache-Control: max-age=60"); d.Refusal != want {
			t.Errorf("3: status %d with max-age: %q, want %q", status, d.Refusal, want)
		}
	}
	testDecide(t, []decideRow{
		{"5.2.2.3 known status", 200, Policy{}, []string{"Cache-Control: must-understand, no-store, max-age=60"}, decision{0, time.Minute, "max-age"}},
		{"5.2.2.3 known, no-store absent", 404, Policy{}, []string{"Cache-Control: must-understand, max-age=60"}, decision{0, time.Minute, "max-age"}},
		{"5.2.2.3 unknown status", 299, Policy{}, []string{"Cache-Control: must-understand, max-age=60"}, decision{RefusalMustUnderstand, time.Minute, "max-age"}},
		{"5.2.2.3 unknown, override", 499, Policy{TTL: 1, HasTTL: true, Override: true}, []string{"Cache-Control: must-understand"}, decision{RefusalMustUnderstand, 1, "ttl"}},
		{"5.2.2.5 no-store", 200, Policy{}, []string{"Cache-Control: max-age=60", "Cache-Control: no-store"}, decision{RefusalNoStore, time.Minute, "max-age"}},
		{"5.2.2.7 private", 200, Policy{}, []string{"Cache-Control: private, max-age=60"}, decision{RefusalPrivate, time.Minute, "max-age"}},
		{"4.1 Vary: * on any line", 200, Policy{}, []string{"Cache-Control: max-age=60", "Vary: A", "Vary: B, *"}, decision{RefusalVaryAny, time.Minute, "max-age"}},
	})
}

func TestDecideHeuristic(t *testing.T) {
	p := Policy{HeuristicPercent: 10, HeuristicMax: time.Hour}
	modified := "Last-Modified: " + at(-100*time.Minute)
	testDecide(t, []decideRow{
		{"4.2.2 a tenth", 200, p, []string{modified}, decision{0, 10 * time.Minute, "heuristic"}},
		{"4.2.2 of Date - Last-Modified", 200, p, []string{modified, "Date: " + at(-50*time.Minute)}, decision{RefusalExpired, 5 * time.Minute, "heuristic"}},
		{"4.2.2 capped", 200, p, []string{"Last-Modified: Sat, 01 Jan 2000 00:00:00 GMT"}, decision{0, time.Hour, "heuristic"}},
		{"1.3 long ago", 200, Policy{HeuristicPercent: 1 << 40, HeuristicMax: 1 << 62}, []string{"Last-Modified: Mon, 01 Jan 0001 00:00:00 GMT"}, decision{0, MaxDelta, "heuristic"}},
		{"4.2.2 off", 200, Policy{HeuristicPercent: 10}, []string{modified}, decision{RefusalNoLifetime, 0, ""}},
		{"4.2.2 off", 200, Policy{HeuristicMax: 10}, []string{modified}, decision{RefusalNoLifetime, 0, ""}},
		{"4.2.2 no Last-Modified", 200, p, nil, decision{RefusalNoLifetime, 0, ""}},
		{"4.2.2 Last-Modified invalid", 200, p, []string{"Last-Modified: x"}, decision{RefusalNoLifetime, 0, ""}},
		{"4.2.2 Last-Modified in the future", 200, p, []string{"Last-Modified: " + at(time.Hour)}, decision{RefusalNoLifetime, 0, ""}},
		{"4.2.2 explicit", 200, p, []string{modified, "Expires: 0"}, decision{RefusalExpired, 0, "Expires"}},
		{"4.2.2 configured", 200, with(p, func(p *Policy) { p.TTL, p.HasTTL = time.Second, true }), []string{modified}, decision{0, time.Second, "ttl"}},
		{"RFC 9110 15.1 status is not cacheable", 201, p, []string{modified}, decision{RefusalNoLifetime, 0, ""}},
		{"4.2.2 public", 201, p, []string{modified, "Cache-Control: public"}, decision{0, 10 * time.Minute, "heuristic"}},
	})
	for _, status := range []int{200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501} {
		if d := decide(status, p, modified); !d.Store {
			t.Errorf("RFC 9110 15.1: status %d: %q", status, d.Refusal)
		}
	}
}

func TestDecideTargeted(t *testing.T) {
	p := with(Policy{}, targets)
	testDecide(t, []decideRow{
		{"RFC 9213 2.2 replaces no-store", 200, p, []string{"CDN-Cache-Control: max-age=60", "Cache-Control: no-store"}, decision{0, time.Minute, "CDN-Cache-Control"}},
		{"RFC 9213 2.2 replaces private", 200, p, []string{"CDN-Cache-Control: s-maxage=60", "Cache-Control: private"}, decision{0, time.Minute, "CDN-Cache-Control"}},
		{"RFC 9213 2.2 no-store wins", 200, p, []string{"CDN-Cache-Control: no-store", "Cache-Control: max-age=60"}, decision{RefusalNoStore, 0, ""}},
		{"RFC 9213 2.2 no-cache wins", 200, p, []string{"CDN-Cache-Control: no-cache, max-age=9", "Cache-Control: max-age=60"}, decision{RefusalNoCache, 9 * time.Second, "CDN-Cache-Control"}},
		{"RFC 9213 2.2 private wins", 200, p, []string{"CDN-Cache-Control: private", "Cache-Control: max-age=60"}, decision{RefusalPrivate, 0, ""}},
		{"RFC 9213 2.2 max-age=0 wins", 200, p, []string{"CDN-Cache-Control: max-age=0", "Cache-Control: max-age=60"}, decision{RefusalExpired, 0, "CDN-Cache-Control"}},
		{"RFC 9213 2.2 replaces Expires", 200, p, []string{"CDN-Cache-Control: public", "Expires: " + at(time.Hour)}, decision{RefusalNoLifetime, 0, ""}},
		{"RFC 9213 2.2 unknown directives only", 200, p, []string{"CDN-Cache-Control: foo", "Cache-Control: max-age=60"}, decision{RefusalNoLifetime, 0, ""}},
		{"RFC 9213 2.2 order of the list", 200, p, []string{"CDN-Cache-Control: max-age=1", "Foo-Cache-Control: max-age=60"}, decision{0, time.Minute, "Foo-Cache-Control"}},
		{"RFC 9213 2.2 first one invalid", 200, p, []string{"CDN-Cache-Control: max-age=60", "Foo-Cache-Control: &&&&&"}, decision{0, time.Minute, "CDN-Cache-Control"}},
		{"RFC 9213 2.1 invalid", 200, p, []string{`CDN-Cache-Control: max-age="10000"`, "Cache-Control: max-age=60"}, decision{0, time.Minute, "max-age"}},
		{"RFC 9213 2.1 empty", 200, p, []string{"CDN-Cache-Control: ", "Cache-Control: max-age=60"}, decision{0, time.Minute, "max-age"}},
		{"RFC 9213 2.2 not in the list", 200, Policy{}, []string{"CDN-Cache-Control: max-age=0", "Cache-Control: max-age=60"}, decision{0, time.Minute, "max-age"}},
		{"RFC 9213 2.2 Age counts", 200, p, []string{"CDN-Cache-Control: max-age=60", "Age: 60"}, decision{RefusalExpired, time.Minute, "CDN-Cache-Control"}},
		{"RFC 9213 2.2 configured lifetime", 200, with(p, func(p *Policy) { p.TTL, p.HasTTL = time.Minute, true }), []string{"CDN-Cache-Control: public", "Cache-Control: max-age=1"}, decision{0, time.Minute, "ttl"}},
	})
}

func TestDecideValidators(t *testing.T) {
	p := with(Policy{}, validators)
	testDecide(t, []decideRow{
		{"4.3.1 no-cache, ETag", 200, p, []string{"Cache-Control: no-cache, max-age=60", `Etag: "a"`}, decision{0, time.Minute, "max-age"}},
		{"4.3.1 no-cache, Last-Modified", 200, p, []string{"Cache-Control: no-cache", "Last-Modified: " + at(0)}, decision{0, 0, ""}},
		{"4.3.1 no-cache, no validator", 200, p, []string{"Cache-Control: no-cache, max-age=60"}, decision{RefusalNoCache, time.Minute, "max-age"}},
		{"4.3.1 lifetime 0, ETag", 201, p, []string{"Cache-Control: max-age=0", `Etag: "a"`}, decision{0, 0, "max-age"}},
		{"4.3.1 no lifetime, ETag", 200, p, []string{`Etag: "a"`}, decision{0, 0, ""}},
		{"3 no lifetime, ETag, status is not cacheable", 201, p, []string{`Etag: "a"`}, decision{RefusalNoLifetime, 0, ""}},
		{"3 no lifetime, ETag, public", 201, p, []string{`Etag: "a"`, "Cache-Control: public"}, decision{0, 0, ""}},
		{"RFC 9110 13.2.1 not found, ETag", 404, p, []string{"Cache-Control: no-cache", `Etag: "a"`}, decision{RefusalNoCache, 0, ""}},
		{"RFC 9110 13.2.1 moved, ETag", 301, p, []string{"Cache-Control: max-age=0", `Etag: "a"`}, decision{RefusalExpired, 0, "max-age"}},
		{"RFC 9110 13.2.1 not found, window of the origin", 404, p, []string{"Cache-Control: max-age=0, stale-if-error=60", `Etag: "a"`}, decision{0, 0, "max-age"}},
		{"4.3.1 off", 200, Policy{}, []string{"Cache-Control: max-age=0", `Etag: "a"`}, decision{RefusalExpired, 0, "max-age"}},
		{"4.3.1 off, no-cache", 200, Policy{}, []string{"Cache-Control: no-cache", `Etag: "a"`}, decision{RefusalNoCache, 0, ""}},
		{"RFC 5861 3 window of the origin", 200, p, []string{"Cache-Control: max-age=0, stale-while-revalidate=60"}, decision{0, 0, "max-age"}},
		{"RFC 5861 4 window of the origin", 200, p, []string{"Cache-Control: max-age=0, stale-if-error=60"}, decision{0, 0, "max-age"}},
		{"RFC 5861 3 window is over", 200, p, []string{"Cache-Control: max-age=0, stale-while-revalidate=60", "Age: 60"}, decision{RefusalExpired, 0, "max-age"}},
		{"RFC 5861 4 window configured", 200, with(p, windows), []string{"Cache-Control: max-age=0"}, decision{RefusalExpired, 0, "max-age"}},
		{"5.2.2.5 no-store, ETag", 200, p, []string{"Cache-Control: no-store", `Etag: "a"`}, decision{RefusalNoStore, 0, ""}},
	})
}

func windows(p *Policy) { p.StaleWhileRevalidate, p.StaleIfError = 7*time.Second, 8*time.Second }

func TestDecideStale(t *testing.T) {
	override := func(p *Policy) { p.TTL, p.HasTTL, p.Override = time.Minute, true, true }
	for _, tt := range []struct {
		section                 string
		policy                  Policy
		header                  []string
		noCache, mustRevalidate bool
		swr, sie                time.Duration
	}{
		{"RFC 5861 none", Policy{}, []string{"Cache-Control: max-age=60"}, false, false, 0, 0},
		{"RFC 5861 configured", with(Policy{}, windows), []string{"Cache-Control: max-age=60"}, false, false, 7 * time.Second, 8 * time.Second},
		{"RFC 5861 stated", with(Policy{}, windows), []string{"Cache-Control: max-age=60, stale-while-revalidate=1, stale-if-error=0"}, false, false, time.Second, 0},
		{"RFC 5861 stated, invalid", with(Policy{}, windows), []string{"Cache-Control: max-age=60, stale-while-revalidate=x"}, false, false, 0, 8 * time.Second},
		{"RFC 5861 in a targeted field", with(Policy{}, windows, targets), []string{"Cdn-Cache-Control: max-age=60, stale-if-error=1"}, false, false, 7 * time.Second, time.Second},
		{"1.3 configured, too long", Policy{StaleIfError: 1 << 62}, nil, false, false, 0, MaxDelta},
		{"5.2.2.4 no-cache", with(Policy{}, windows), []string{"Cache-Control: no-cache, stale-while-revalidate=1"}, true, false, 0, 0},
		{"5.2.2.4 no-cache, qualified", with(Policy{}, windows), []string{`Cache-Control: no-cache="a"`}, false, false, 7 * time.Second, 8 * time.Second},
		{"5.2.2.2 must-revalidate", with(Policy{}, windows), []string{"Cache-Control: must-revalidate, stale-if-error=1"}, false, true, 0, 0},
		{"5.2.2.8 proxy-revalidate", with(Policy{}, windows), []string{"Cache-Control: proxy-revalidate, stale-if-error=1"}, false, true, 0, 0},
		{"5.2.2.10 s-maxage", with(Policy{}, windows), []string{"Cache-Control: s-maxage=60"}, false, true, 0, 0},
		{"5.2.2.10 s-maxage and a window", with(Policy{}, windows), []string{"Cache-Control: s-maxage=60, stale-if-error=1"}, false, true, 0, time.Second},
		{"5.2.2.10 s-maxage in a targeted field", with(Policy{}, windows, targets), []string{"CDN-Cache-Control: s-maxage=60"}, false, true, 0, 0},
		{"override", with(Policy{}, windows, override), []string{"Cache-Control: no-cache, must-revalidate, s-maxage=0"}, false, false, 7 * time.Second, 8 * time.Second},
		{"override, stated", with(Policy{}, windows, override), []string{"Cache-Control: no-cache, stale-if-error=1"}, false, false, 7 * time.Second, time.Second},
	} {
		f := decide(200, tt.policy, tt.header...).Freshness
		if f.NoCache != tt.noCache || f.MustRevalidate != tt.mustRevalidate || f.StaleWhileRevalidate != tt.swr || f.StaleIfError != tt.sie {
			t.Errorf("%s: %q: %+v", tt.section, tt.header, f)
		}
	}
}

func TestDecideCredentials(t *testing.T) {
	override := Policy{TTL: time.Minute, HasTTL: true, Override: true, Targets: []string{"cdn-cache-control"}}
	honour := with(Policy{}, targets)
	for _, tt := range []struct {
		section              string
		policy               Policy
		header               []string
		authorization, other bool
	}{
		{"3.5 nothing", honour, []string{"Cache-Control: max-age=60"}, false, false},
		{"3.5 public", honour, []string{"Cache-Control: max-age=60, public"}, true, true},
		{"3.5 s-maxage", honour, []string{"Cache-Control: s-maxage=60"}, true, true},
		{"3.5 s-maxage=0", honour, []string{"Cache-Control: s-maxage=0"}, true, true},
		{"3.5 s-maxage invalid", honour, []string{"Cache-Control: s-maxage=x"}, false, false},
		{"3.5 must-revalidate", honour, []string{"Cache-Control: max-age=60, must-revalidate"}, true, false},
		{"3.5 proxy-revalidate", honour, []string{"Cache-Control: max-age=60, proxy-revalidate"}, false, false},
		{"3.5 targeted", honour, []string{"CDN-Cache-Control: max-age=60"}, true, true},
		{"3.5 targeted public", honour, []string{"CDN-Cache-Control: public"}, true, true},
		{"3.5 targeted max-age=0", honour, []string{"CDN-Cache-Control: max-age=0"}, false, false},
		{"3.5 targeted no-store", honour, []string{"CDN-Cache-Control: no-store, max-age=60"}, false, false},
		{"3.5 targeted private", honour, []string{"CDN-Cache-Control: private, max-age=60"}, false, false},
		{"3.5 targeted without a lifetime", honour, []string{"CDN-Cache-Control: foo", "Cache-Control: public"}, false, false},
		{"5.2.2.3 public, no-store, must-understand", honour, []string{"Cache-Control: public, no-store, must-understand"}, true, true},
		{"3.5 a ttl allows nothing", Policy{TTL: time.Minute, HasTTL: true}, nil, false, false},
		{"3.5 override allows nothing", override, nil, false, false},
		{"3.5 override, public", override, []string{"Cache-Control: public"}, true, true},
		{"3.5 override, public, no-cache", override, []string{"Cache-Control: public, no-cache"}, true, true},
		{"3.5 override, public, no-store", override, []string{"Cache-Control: public, no-store"}, false, false},
		{"3.5 override, must-revalidate", override, []string{"Cache-Control: max-age=60, must-revalidate"}, true, false},
		{"3.5 override, must-revalidate alone", override, []string{"Cache-Control: must-revalidate"}, true, false},
		{"3.5 override, always revalidate", override, []string{"Cache-Control: max-age=0, must-revalidate"}, false, false},
		{"3.5 override, always revalidate", override, []string{"Cache-Control: no-cache, must-revalidate"}, false, false},
		{"3.5 override, expired, must-revalidate", override, []string{"Cache-Control: must-revalidate", "Expires: 0"}, false, false},
		{"3.5 override, s-maxage=0", override, []string{"Cache-Control: s-maxage=0"}, false, false},
		{"3.5 override, s-maxage", override, []string{"Cache-Control: s-maxage=1"}, true, true},
		{"3.5 override, targeted", override, []string{"Cdn-Cache-Control: max-age=1"}, true, true},
	} {
		f := decide(200, tt.policy, tt.header...).Freshness
		if f.ForAuthorization != tt.authorization || f.ForCredentials != tt.other {
			t.Errorf("%s: %q: authorization %t, others %t", tt.section, tt.header, f.ForAuthorization, f.ForCredentials)
		}
	}
}

func TestDecideExplicit(t *testing.T) {
	honour := with(Policy{}, targets)
	for _, tt := range []struct {
		section string
		header  []string
		want    bool
	}{
		{"5.2.2.9 public", []string{"Cache-Control: public, max-age=60"}, true},
		{"5.2.2.9 public, s-maxage", []string{"Cache-Control: public, s-maxage=60"}, true},
		{"5.2.2.10 s-maxage", []string{"Cache-Control: s-maxage=60"}, false},
		{"RFC 9213 2.2 targeted", []string{"CDN-Cache-Control: max-age=60"}, false},
		{"RFC 9213 2.2 targeted public", []string{"CDN-Cache-Control: public, max-age=60"}, true},
		{"RFC 9213 2.2 targeted replaces", []string{"CDN-Cache-Control: max-age=60", "Cache-Control: public"}, false},
		{"5.2.2.7 public, private", []string{"Cache-Control: public, private, max-age=60"}, false},
		{"5.2.2.5 public, no-store", []string{"Cache-Control: public, no-store"}, false},
	} {
		if d := decide(200, honour, tt.header...); d.Explicit != tt.want {
			t.Errorf("%s: %q: explicit %t", tt.section, tt.header, d.Explicit)
		}
	}
}

func TestDecideFields(t *testing.T) {
	override := Policy{TTL: time.Minute, HasTTL: true, Override: true, Targets: []string{"CDN-Cache-Control"}}
	for _, tt := range []struct {
		section     string
		policy      Policy
		header      []string
		vary, strip []string
	}{
		{"4.1 Vary", Policy{}, []string{"Vary: b", "Vary: A,B"}, []string{"A", "B"}, nil},
		{"5.2.2.4 no-cache", Policy{}, []string{`Cache-Control: no-cache="b, A"`}, nil, []string{"A", "B"}},
		{"5.2.2.7 private", Policy{}, []string{`Cache-Control: private="b", no-cache="B"`}, nil, []string{"B"}},
		{"5.2.2.4 override", override, []string{`Cache-Control: no-cache="a", private="b"`}, nil, []string{"A", "B"}},
		{"5.2.2.7 override and private allowed", with(override, allowPrivate), []string{`Cache-Control: no-cache="a", private="b"`}, nil, []string{"A"}},
		{"RFC 9213 2.2 replaced", with(Policy{}, targets), []string{`Cache-Control: private="a"`, `CDN-Cache-Control: private="b"`}, nil, []string{"B"}},
		{"RFC 9213 2.2 override", override, []string{`Cache-Control: private="a"`, `CDN-Cache-Control: private="b"`}, nil, []string{"A", "B"}},
	} {
		d := decide(200, tt.policy, tt.header...)
		if !slices.Equal(d.Vary, tt.vary) || !slices.Equal(d.Strip, tt.strip) {
			t.Errorf("%s: Vary %q, Strip %q", tt.section, d.Vary, d.Strip)
		}
	}
}

// Decide leaves the header of the response alone.
func TestDecideIsPure(t *testing.T) {
	lines := []string{"Cache-Control: MAX-AGE=60, private=\"b,a\"", "Vary: b, a", "CDN-Cache-Control: max-age=1"}
	header := headerLines(lines...)
	Decide(Response{Status: 200, Header: header, ResponseTime: arrival}, with(Policy{}, targets))
	if want := headerLines(lines...); !reflect.DeepEqual(header, want) {
		t.Errorf("the header became %q", header)
	}
}

func TestRefusalString(t *testing.T) {
	seen := map[string]bool{}
	for r := range numRefusals {
		if s := r.String(); seen[s] || s == "" && r != RefusalNone {
			t.Errorf("refusal %d is called %q", r, s)
		}
		seen[r.String()] = true
	}
	if got := numRefusals.String(); got != "unknown" {
		t.Errorf("%q", got)
	}
}
