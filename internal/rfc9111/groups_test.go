package rfc9111

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/dunglas/httpsfv"
)

func TestCacheGroups(t *testing.T) {
	long := strings.Repeat("x", maxGroupLength)
	for _, c := range []struct {
		section, name string
		lines, want   []string
	}{
		{"9875 2", "no field", nil, nil},
		{"9875 2", "empty", []string{""}, nil},
		{"9875 2", "one", []string{`"a"`}, []string{"a"}},
		{"9875 2", "several", []string{`"scripts", "a b,c"`}, []string{"scripts", "a b,c"}},
		{"9875 2", "case matters", []string{`"a", "A"`}, []string{"a", "A"}},
		{"9651 4.2", "several lines", []string{`"a"`, `"b", "c"`}, []string{"a", "b", "c"}},
		{"9651 3.3.3", "escapes", []string{`"a\"b\\"`}, []string{`a"b\`}},
		{"9651 3.1.2", "parameters", []string{`"a";x=1, "b"`}, []string{"a", "b"}},
		{"9875 2", "repeated", []string{`"a", "b", "a"`}, []string{"a", "b"}},
		{"9651 4.2", "token", []string{`"a", b`}, nil},
		{"9651 4.2", "number", []string{`1`}, nil},
		{"9651 4.2", "bytes", []string{`:YQ==:`}, nil},
		{"9651 4.2", "inner list", []string{`("a" "b")`}, nil},
		{"9651 4.2", "trailing comma", []string{`"a",`}, nil},
		{"9651 4.2", "unclosed", []string{`"a`}, nil},
		{"9651 3.3.3", "non-ASCII", []string{`"ä"`}, nil},
		{"9875 2", "as long as allowed", []string{`"` + long + `"`}, []string{long}},
		{"9875 2", "too long", []string{`"a", "` + long + `x", "b"`}, []string{"a", "b"}},
	} {
		if got := CacheGroups(c.lines); !slices.Equal(got, c.want) {
			t.Errorf("RFC %s %s: got %q, want %q", c.section, c.name, got, c.want)
		}
	}
}

func TestCacheGroupsBound(t *testing.T) {
	var lines []string
	for i := range maxGroups + 10 {
		lines = append(lines, fmt.Sprintf(`"group %d"`, i))
	}
	got := CacheGroups(lines)
	if len(got) != maxGroups || got[maxGroups-1] != fmt.Sprintf("group %d", maxGroups-1) {
		t.Errorf("got %d groups", len(got))
	}
	if lines = append(lines, "token"); CacheGroups(lines) != nil {
		t.Error("a member of another type behind the bound was overlooked")
	}
}

func FuzzCacheGroups(f *testing.F) {
	f.Add(`"a", "b";c`, `"d"`)
	f.Add(`("a" "b"), 1.5`, `?1`)
	f.Add(`"\"", @1, %"x"`, `:YQ==:`)
	f.Fuzz(func(t *testing.T, a, b string) {
		groups := CacheGroups([]string{a, b})
		if len(groups) > maxGroups {
			t.Fatalf("%d groups", len(groups))
		}
		var list httpsfv.List
		for _, group := range groups {
			if len(group) > maxGroupLength {
				t.Errorf("a group of %d characters", len(group))
			}
			list = append(list, httpsfv.NewItem(group))
		}
		field, err := httpsfv.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		if again := CacheGroups([]string{field}); !slices.Equal(again, groups) {
			t.Errorf("%q became %q", groups, again)
		}
	})
}
