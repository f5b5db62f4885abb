// Package glob matches strings against the glob patterns of Redis.
package glob

import "strings"

// Match reports whether s matches the pattern as Redis understands it: `*` any
// bytes, `?` one byte, `[abc]`, `[^abc]` and `[a-z]` one byte of a class, and a
// backslash takes the next byte literally. An unclosed class matches as if it
// ended with the pattern.
//
// Only the last `*` is ever reconsidered, so that the time is bounded by
// len(pattern) × len(s), whatever the pattern.
func Match(pattern, s string) bool {
	p, i := 0, 0
	star, mark := -1, 0
	for i < len(s) {
		if p < len(pattern) && pattern[p] == '*' {
			star, mark = p, i
			p++
			continue
		}
		if n := matchOne(pattern[p:], s[i]); n > 0 {
			p += n
			i++
			continue
		}
		if star < 0 {
			return false
		}
		mark++
		p, i = star+1, mark
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// matchOne matches one byte against the first element of the pattern and
// returns the length of the element, or 0.
func matchOne(pattern string, c byte) int {
	if pattern == "" {
		return 0
	}
	switch pattern[0] {
	case '?':
		return 1
	case '[':
		n, ok := matchClass(pattern, c)
		if !ok {
			return 0
		}
		return n
	case '\\':
		if len(pattern) > 1 {
			if pattern[1] == c {
				return 2
			}
			return 0
		}
	}
	if pattern[0] == c {
		return 1
	}
	return 0
}

// matchClass matches one byte against the class at the start of the pattern and
// returns the length of the class.
func matchClass(pattern string, c byte) (int, bool) {
	i := 1
	negated := i < len(pattern) && pattern[i] == '^'
	if negated {
		i++
	}
	found := false
	for i < len(pattern) && pattern[i] != ']' {
		if pattern[i] == '\\' && i+1 < len(pattern) {
			i++
		} else if i+2 < len(pattern) && pattern[i+1] == '-' {
			lo, hi := min(pattern[i], pattern[i+2]), max(pattern[i], pattern[i+2])
			found = found || lo <= c && c <= hi
			i += 3
			continue
		}
		found = found || pattern[i] == c
		i++
	}
	return min(i+1, len(pattern)), found != negated
}
