package rfc9111

import (
	"reflect"
	"testing"
)

func TestParseTargeted(t *testing.T) {
	for _, tt := range []struct {
		section string
		in      []string
		want    Directives
		ok      bool
	}{
		{"RFC 9213 2.1 one", []string{"max-age=60"}, Directives{MaxAge: seconds(60)}, true},
		{"RFC 9213 2.1 all lines", []string{"max-age=60", "no-store"}, Directives{MaxAge: seconds(60), NoStore: true}, true},
		{"RFC 9213 2.1 parameters are ignored", []string{"max-age=60;a=b, public;c"}, Directives{MaxAge: seconds(60), Public: true}, true},
		{"RFC 9213 2.1 false", []string{"no-store=?0, private=?0"}, Directives{}, true},
		{"RFC 9213 2.1 unknown", []string{`foo="bar", baz=(1 2), max-stale="x", no-cache`}, Directives{NoCache: true}, true},
		{"RFC 9213 2.1 qualified", []string{`private="x-a, b", no-cache="c"`}, Directives{PrivateFields: []string{"X-A", "B"}, NoCacheFields: []string{"C"}}, true},
		{"5.2.2.7 qualified with nothing", []string{`private=""`}, Directives{Private: true}, true},
		{"RFC 9651 4.2.2 the last counts", []string{"max-age=1, max-age=2"}, Directives{MaxAge: seconds(2)}, true},
		{"1.3 negative", []string{"max-age=-1"}, Directives{MaxAge: invalid}, true},
		{"1.3 too large", []string{"max-age=99999999999"}, Directives{MaxAge: Delta{true, true, MaxDelta}}, true},
		{"RFC 9213 2.1 empty", []string{""}, Directives{}, false},
		{"RFC 9213 2.1 not parsable", []string{"&&&&&"}, Directives{}, false},
		{"RFC 9213 2.1 upper case", []string{"Max-Age=60"}, Directives{}, false},
		{"RFC 9213 2.1 space before =", []string{"max-age =60"}, Directives{}, false},
		{"RFC 9213 2.1 trailing comma", []string{"max-age=60,"}, Directives{}, false},
		{"RFC 9213 2.1 too many digits", []string{"max-age=9999999999999999"}, Directives{}, false},
		{"RFC 9213 2.1 string for a number", []string{`max-age="60"`}, Directives{}, false},
		{"RFC 9213 2.1 decimal for a number", []string{"max-age=60.0"}, Directives{}, false},
		{"RFC 9213 2.1 flag for a number", []string{"max-age"}, Directives{}, false},
		{"RFC 9213 2.1 list for a number", []string{"max-age=(60)"}, Directives{}, false},
		{"RFC 9213 2.1 number for a flag", []string{"no-store=1"}, Directives{}, false},
		{"RFC 9213 2.1 token for names", []string{"private=a"}, Directives{}, false},
	} {
		got, ok := parseTargeted(tt.in)
		if ok != tt.ok || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: parseTargeted(%q) = %+v, %t, want %+v, %t", tt.section, tt.in, got, ok, tt.want, tt.ok)
		}
	}
}
