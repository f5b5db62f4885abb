package rfc9111

import (
	"slices"
	"strings"
	"testing"
)

func TestParseVary(t *testing.T) {
	for _, tt := range []struct {
		section string
		in      []string
		want    []string
		any     bool
	}{
		{"4.1 absent", nil, nil, false},
		{"4.1 empty", []string{"", " , "}, nil, false},
		{"4.1 one", []string{"accept-ENCODING"}, []string{"Accept-Encoding"}, false},
		{"4.1 sorted, no duplicates", []string{"b, a,B"}, []string{"A", "B"}, false},
		{"4.1 all lines", []string{"b", "a, ,"}, []string{"A", "B"}, false},
		{"4.1 star", []string{"*"}, nil, true},
		{"4.1 star among others", []string{"a, *, b"}, nil, true},
		{"4.1 star on another line", []string{"a", "", " *"}, nil, true},
		{"4.1 not a name", []string{"accept accept-encoding"}, nil, true},
		{"4.1 star in a name", []string{"a*"}, []string{"A*"}, false},
	} {
		got, star := ParseVary(tt.in)
		if !slices.Equal(got, tt.want) || star != tt.any {
			t.Errorf("%s: ParseVary(%q) = %q, %t, want %q, %t", tt.section, tt.in, got, star, tt.want, tt.any)
		}
	}
}

func TestVaryValue(t *testing.T) {
	for _, tt := range []struct {
		section, name string
		in            []string
		want          string
	}{
		{"4.1 verbatim", "X", []string{"Foo bar"}, "Foo bar"},
		{"4.1 empty", "X", []string{""}, ""},
		{"4.1 white space around it", "X", []string{" a\t"}, "a"},
		{"4.1 white space around commas", "X", []string{"a , b\t,\tc"}, "a,b,c"},
		{"4.1 lines", "X", []string{"a, b", " c "}, "a,b,c"},
		{"4.1 an empty line", "X", []string{"", "a"}, ",a"},
		{"4.1 quoted comma", "X", []string{`"a , b" , c`}, `"a , b",c`},
		{"4.1 quote not closed", "X", []string{`"a , b`}, `"a,b`},
		{"4.1 empty members are kept", "X", []string{"a,,b,"}, "a,,b,"},
		{"4.1 case matters", "X", []string{"A, b"}, "A,b"},
		{"4.1 Accept-Language", "accept-LANGUAGE", []string{"de-AT, EN;Q=0.5"}, "de-at,en;q=0.5"},
		{"4.1 Accept-Language in lower case", "Accept-Language", []string{"de"}, "de"},
		{"4.1 Accept-Language, no UTF-8", "Accept-Language", []string{"A\xff"}, "a\xff"},
	} {
		got, present := VaryValue(tt.name, tt.in)
		if got != tt.want || !present {
			t.Errorf("%s: VaryValue(%q, %q) = %q, %t, want %q", tt.section, tt.name, tt.in, got, present, tt.want)
		}
	}
	for _, lines := range [][]string{nil, {}} {
		if got, present := VaryValue("X", lines); got != "" || present {
			t.Errorf("4.1 absent: VaryValue = %q, %t", got, present)
		}
	}
}

// RFC 9110 §12.5.3: what means the same selects the same.
func TestVaryAcceptEncoding(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", ""},
		{"gzip, deflate, br", "br,deflate,gzip"},
		{"br,gzip,deflate", "br,deflate,gzip"},
		{"GZip, , gzip", "gzip"},
		{"gzip;q=1.0, br;q=1", "br,gzip"},
		{"gzip ; Q=0.5", "gzip"}, // the only one
		{"gzip;q=0.5, br;q=0.500", "br,gzip"},
		{"gzip;q=0.5, br", "br,gzip;q=0.5"},
		{"br;q=1., gzip;q=0.55", "br,gzip;q=0.55"},
		{"gzip;q=0.001, br;q=0.01", "br;q=0.01,gzip;q=0.001"},
		{"gzip, br;q=0", "gzip"},
		{"gzip;q=0", ""},
		{"gzip, identity;q=0", "gzip,identity;q=0"},
		{"gzip, *;q=0", "*;q=0,gzip"},
		{"*", "*"},
		{"*, br;q=0", "*,br;q=0"},
		{"*;q=0.1, gzip, br;q=0.000", "*;q=0.1,br;q=0,gzip"},
		{"identity", "identity"},

		// Malformed or contradictory: left alone.
		{"gzip;q=0, gzip", "gzip;q=0,gzip"},
		{"gzip;q=2, br", "gzip;q=2,br"},
		{"gzip;q=1.001", "gzip;q=1.001"},
		{"gzip;q=0.1234", "gzip;q=0.1234"},
		{"gzip;q=05, br", "gzip;q=05,br"},
		{"gzip;q=0.x, br", "gzip;q=0.x,br"},
		{"gzip;q=, br", "gzip;q=,br"},
		{"gzip;level=9, br", "gzip;level=9,br"},
		{"g zip, br", "g zip,br"},
		{";q=1, br", ";q=1,br"},
	} {
		got, present := VaryValue("Accept-Encoding", []string{tt.in})
		if got != tt.want || !present {
			t.Errorf("VaryValue(%q) = %q, %t, want %q", tt.in, got, present, tt.want)
		}
	}
}

func TestVaryValueAllocs(t *testing.T) {
	lines := []string{"gzip, deflate, br, zstd"}
	if n := testing.AllocsPerRun(100, func() { VaryValue("Accept-Encoding", lines) }); n > 2 {
		t.Errorf("%v allocations for Accept-Encoding", n)
	}
	lines = []string{"Mozilla/5.0 (X11; Linux x86_64)"}
	if n := testing.AllocsPerRun(100, func() { VaryValue("User-Agent", lines) }); n != 0 {
		t.Errorf("%v allocations for User-Agent", n)
	}
}

func FuzzVary(f *testing.F) {
	for _, s := range []string{"gzip, deflate, br", "*;q=0.1, gzip", `"a , b`, "a\\\", b", "*", "identity;q=0"} {
		f.Add(s, "Accept-Encoding")
	}
	f.Fuzz(func(t *testing.T, s, name string) {
		names, star := ParseVary([]string{s, name})
		if !slices.IsSorted(names) || star && names != nil {
			t.Errorf("ParseVary(%q, %q) = %q, %t", s, name, names, star)
		}
		for _, name := range []string{name, "Accept-Encoding", "Accept-Language"} {
			value, _ := VaryValue(name, []string{s})
			// A normalised value is its own normal form, on one line or two.
			if again, _ := VaryValue(name, []string{value}); again != value {
				t.Errorf("VaryValue(%q, %q) = %q, then %q", name, s, value, again)
			}
			if first, second, ok := strings.Cut(s, ","); ok && !strings.Contains(s, `"`) {
				if split, _ := VaryValue(name, []string{first, second}); split != value {
					t.Errorf("VaryValue(%q, %q) = %q, split %q", name, s, value, split)
				}
			}
		}
	})
}
