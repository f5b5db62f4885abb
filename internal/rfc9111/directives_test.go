package rfc9111

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

// seconds is a valid number, invalid one that is not.
func seconds(n int) Delta {
	return Delta{Present: true, Valid: true, Value: time.Duration(n) * time.Second}
}

var invalid = Delta{Present: true}

func TestParseCacheControl(t *testing.T) {
	for _, tt := range []struct {
		section string
		in      []string
		want    Directives
	}{
		{"5.2 absent", nil, Directives{}},
		{"5.2 empty", []string{"", " , ,"}, Directives{}},
		{"5.2.2 flags", []string{"public, no-store, must-revalidate, proxy-revalidate, must-understand"}, Directives{Public: true, NoStore: true, MustRevalidate: true, ProxyRevalidate: true, MustUnderstand: true}},
		{"5.2.2 numbers", []string{"max-age=1, s-maxage=2"}, Directives{MaxAge: seconds(1), SMaxAge: seconds(2)}},
		{"RFC 5861", []string{"stale-while-revalidate=3,stale-if-error=4"}, Directives{StaleWhileRevalidate: seconds(3), StaleIfError: seconds(4)}},
		{"5.2.1 request", []string{"no-cache, only-if-cached, min-fresh=5, max-stale=6"}, Directives{NoCache: true, OnlyIfCached: true, MinFresh: seconds(5), MaxStale: seconds(6)}},
		{"5.2.1.2 max-stale alone", []string{"max-stale"}, Directives{MaxStaleAny: true}},
		{"5.2.1.2 max-stale invalid", []string{"max-stale=x"}, Directives{MaxStale: invalid}},
		{"5.2.1.2 max-stale empty", []string{"max-stale="}, Directives{MaxStale: invalid}},
		{"5.2 all lines", []string{"max-age=1", "no-store"}, Directives{MaxAge: seconds(1), NoStore: true}},
		{"5.2 case", []string{"MaX-aGe=1, NO-STORE"}, Directives{MaxAge: seconds(1), NoStore: true}},
		{"5.2 ASCII case only", []string{"no-\u017ftore"}, Directives{}},
		{"5.2 quoted number", []string{`max-age="1"`}, Directives{MaxAge: seconds(1)}},
		{"5.2 single quotes", []string{"max-age='1'"}, Directives{MaxAge: invalid}},
		{"5.2 half a quote", []string{`max-age="1`}, Directives{MaxAge: invalid}},
		{"5.2 no argument", []string{"max-age"}, Directives{MaxAge: invalid}},
		{"5.2 space before =", []string{"max-age =1"}, Directives{MaxAge: invalid}},
		{"5.2 space after =", []string{"max-age= 1"}, Directives{MaxAge: invalid}},
		{"5.2 space before = of what forbids", []string{"no-store =1, private =\"X\""}, Directives{NoStore: true, Private: true}},
		{"5.2 argument of a flag", []string{"no-store=foo"}, Directives{NoStore: true}},
		{"5.2.3 unknown", []string{"foo, bar=1, a-name-that-is-longer-than-every-known-one=1, =1"}, Directives{}},
		{"1.3 negative", []string{"max-age=-7200"}, Directives{MaxAge: invalid}},
		{"1.3 decimal", []string{"max-age=7200.0"}, Directives{MaxAge: invalid}},
		{"1.3 overflow", []string{"max-age=99999999999"}, Directives{MaxAge: Delta{true, true, MaxDelta}}},
		{"4.2.1 twice the same", []string{"max-age=1, max-age=01"}, Directives{MaxAge: seconds(1)}},
		{"4.2.1 twice, not the same", []string{"max-age=1", "max-age=2"}, Directives{MaxAge: invalid}},
		{"4.2.1 not the same, then the same", []string{"max-age=2, max-age=1, max-age=1"}, Directives{MaxAge: invalid}},
		{"4.2.1 twice, one invalid", []string{"max-age=1, max-age=x"}, Directives{MaxAge: invalid}},
		{"RFC 9110 5.6.4 quoted comma", []string{`ext="a, max-age=3600", no-store`}, Directives{NoStore: true}},
		{"RFC 9110 5.6.4 quoted directive", []string{`ext="max-age=3600"`}, Directives{}},
		{"RFC 9110 5.6.4 escaped quote", []string{`ext="a\", no-store", public`}, Directives{Public: true}},
		{"RFC 9110 5.6.4 quote not closed", []string{`ext="a, no-store, max-age=1`}, Directives{NoStore: true, MaxAge: seconds(1)}},
		{"RFC 9110 5.6.4 last quote not closed", []string{`ext="a", x="b, no-store`}, Directives{NoStore: true}},
		{"RFC 9110 5.6.4 escape at the end", []string{`ext="a, no-store, x\`}, Directives{NoStore: true}},
		{"5.2.2.4 unqualified", []string{"no-cache"}, Directives{NoCache: true}},
		{"5.2.2.4 qualified", []string{`no-cache="set-cookie, , x-a"`}, Directives{NoCacheFields: []string{"Set-Cookie", "X-A"}}},
		{"5.2.2.4 both", []string{`no-cache="x", no-cache`}, Directives{NoCache: true, NoCacheFields: []string{"X"}}},
		{"5.2.2.4 qualified twice", []string{`no-cache="a"`, `no-cache="b"`}, Directives{NoCacheFields: []string{"A", "B"}}},
		{"5.2.2.4 no fields", []string{`no-cache=""`}, Directives{NoCache: true}},
		{"5.2.2.4 not a name", []string{`no-cache="a b"`}, Directives{NoCache: true}},
		{"5.2.2.7 unqualified", []string{"private"}, Directives{Private: true}},
		{"5.2.2.7 qualified", []string{`private="x-user"`}, Directives{PrivateFields: []string{"X-User"}}},
		{"5.2.2.7 token for a list", []string{"private=true"}, Directives{Private: true}},
		{"5.2.2.7 quote not closed", []string{`private="x-user, max-age=1`}, Directives{Private: true, MaxAge: seconds(1)}},
		{"5.2.2.7 one quote", []string{`private="`}, Directives{Private: true}},
	} {
		if got := ParseCacheControl(tt.in); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: ParseCacheControl(%q) =\n%+v, want\n%+v", tt.section, tt.in, got, tt.want)
		}
	}
}

func TestParseCacheControlAllocs(t *testing.T) {
	lines := []string{"Public, max-age=3600, s-maxage=60, must-revalidate", "stale-while-revalidate=30, immutable"}
	var d Directives
	if n := testing.AllocsPerRun(100, func() { d = ParseCacheControl(lines) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if d.SMaxAge != seconds(60) {
		t.Errorf("%+v", d)
	}
}

// A line of quotes and commas must not take time that grows with its square.
func TestMembersAreLinear(t *testing.T) {
	for _, part := range []string{`"\`, `,"\`, `"`, `,"`, `\"`, `",`, `a="\",`} {
		line := strings.Repeat(part, 1<<18/len(part))
		begin := time.Now()
		ParseCacheControl([]string{line})
		VaryValue("Accept-Encoding", []string{line})
		ParseVary([]string{line})
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("%q repeated took %v", part, took)
		}
	}
}

func FuzzDirectives(f *testing.F) {
	for _, s := range []string{
		"max-age=3600, public", `private="Set-Cookie", no-cache="a, b"`, `ext="max-age=1, \" no-store`, "max-stale", "MAX-AGE = 1",
	} {
		f.Add(s, "no-store")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		d := ParseCacheControl([]string{a, b})
		for _, delta := range []Delta{d.MaxAge, d.SMaxAge, d.StaleWhileRevalidate, d.StaleIfError, d.MinFresh, d.MaxStale} {
			if delta.Value < 0 || delta.Value > MaxDelta || !delta.Valid && delta.Value != 0 || delta.Valid && !delta.Present {
				t.Errorf("%q, %q: %+v", a, b, delta)
			}
		}
		for _, name := range append(d.NoCacheFields, d.PrivateFields...) {
			if !IsToken(name) {
				t.Errorf("%q, %q: field %q", a, b, name)
			}
		}
		// What forbids something is heard whatever surrounds it on other lines.
		if strings.EqualFold(trimOWS(b), "no-store") && !d.NoStore {
			t.Errorf("%q hides no-store", a)
		}
		parseTargeted([]string{a, b})
	})
}
