package glob

import (
	"strings"
	"testing"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true},
		{"", "a", false},
		{"*", "", true},
		{"*", "anything", true},
		{"user:123:*", "user:123:profile", true},
		{"user:123:*", "user:1234:profile", false},
		{"*:profile", "user:123:profile", true},
		{"a*b*c", "aXbYbZc", true},
		{"a*b*c", "aXbYbZ", false},
		{"a**", "a", true},
		{"?", "a", true},
		{"?", "", false},
		{"a?c", "abc", true},
		{"[abc]", "b", true},
		{"[abc]", "d", false},
		{"[^abc]", "d", true},
		{"[^abc]", "a", false},
		{"[a-c]x", "bx", true},
		{"[c-a]x", "bx", true},
		{`[\]]`, "]", true},
		{`[a\-z]`, "-", true},
		{"[abc", "b", true},
		{"[abc", "x", false},
		{`\*`, "*", true},
		{`\*`, "a", false},
		{`a\`, `a\`, true},
		{"_ga_*", "_ga_ABC", true},
		{"_ga_*", "_ga", false},
	} {
		if got := Match(c.pattern, c.s); got != c.want {
			t.Errorf("Match(%q, %q) = %v, want %v", c.pattern, c.s, got, c.want)
		}
	}
}

// A backtracking matcher needs more steps than the age of the universe here.
func TestMatchIsNotExponential(t *testing.T) {
	if Match(strings.Repeat("*a", 1000)+"b", strings.Repeat("a", 2000)) {
		t.Error("matched")
	}
}

func FuzzMatch(f *testing.F) {
	f.Add("a*[b-d]?\\*", "aXc!*")
	f.Add("[", "[")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		Match(pattern, s)
		if !strings.ContainsAny(pattern, `*?[\`) && Match(pattern, s) != (pattern == s) {
			t.Errorf("literal pattern %q against %q", pattern, s)
		}
		if !Match(pattern+"*", s) && Match(pattern, s) && !strings.Contains(pattern, "[") && !strings.HasSuffix(pattern, `\`) {
			t.Errorf("%q matches %q, but not with a star behind it", pattern, s)
		}
	})
}
