package lint

import (
	"reflect"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// narrows reports whether matchers select less than a site.
func narrows(sets caddyhttp.MatcherSets) bool {
	return len(sets) > 0 && !slices.ContainsFunc(sets, func(set caddyhttp.MatcherSet) bool {
		return !slices.ContainsFunc(set, func(m any) bool { _, host := m.(*caddyhttp.MatchHost); return !host })
	})
}

// relations of the requests that two handlers see
const (
	disjoint = iota
	unknown
	overlap
)

// asItCame is what was matched before the request was rewritten, and whether that is
// all.
func asItCame(path []caddyhttp.MatcherSets) (_ []caddyhttp.MatcherSets, all bool) {
	i := slices.IndexFunc(path, func(sets caddyhttp.MatcherSets) bool { return len(sets) == 0 })
	if i < 0 {
		return path, true
	}
	return path[:i], !slices.ContainsFunc(path[i:], func(sets caddyhttp.MatcherSets) bool { return len(sets) > 0 })
}

// relation compares what two handlers match, beyond what leads to both.
func relation(a, b []caddyhttp.MatcherSets) int {
	a, b = beyondShared(a, b)
	a, allOfA := asItCame(a)
	b, allOfB := asItCame(b)
	all := allOfA && allOfB
	if all && (len(a) == 0 || len(b) == 0) {
		return overlap
	}
	for _, x := range a {
		for _, y := range b {
			if apart(x, y) {
				return disjoint
			}
		}
	}
	if all && len(a) == 1 && len(b) == 1 && byPath(a[0]) && byPath(b[0]) {
		return overlap
	}
	return unknown
}

// hides reports whether the first handler sees every request that the second does.
func hides(a, b []caddyhttp.MatcherSets) bool {
	a, b = beyondShared(a, b)
	if len(a) == 0 {
		return true
	}
	a, all := asItCame(a)
	b, _ = asItCame(b)
	return all && len(a) == 1 && slices.ContainsFunc(b, func(narrow caddyhttp.MatcherSets) bool {
		return byPath(narrow) && !slices.ContainsFunc(narrow, func(y caddyhttp.MatcherSet) bool {
			return len(y) == 0 || !slices.ContainsFunc(a[0], func(x caddyhttp.MatcherSet) bool { return holds(x, *y[0].(*caddyhttp.MatchPath)) })
		})
	})
}

// beyondShared leaves out what leads to both.
func beyondShared(a, b []caddyhttp.MatcherSets) (_, _ []caddyhttp.MatcherSets) {
	for len(a) > 0 && len(b) > 0 && same(a[0], b[0]) {
		a, b = a[1:], b[1:]
	}
	return a, b
}

// same reports whether two handlers are behind one route, or behind equal matchers.
func same(a, b caddyhttp.MatcherSets) bool {
	if len(a) == 0 || len(b) == 0 {
		return len(a) == len(b)
	}
	return &a[0] == &b[0] || isData(a) && isData(b) && reflect.DeepEqual(a, b)
}

// isData reports whether matchers are lists, maps and strings. Others may hold what
// changes while requests run.
func isData(sets caddyhttp.MatcherSets) bool {
	return !slices.ContainsFunc(sets, func(set caddyhttp.MatcherSet) bool {
		return slices.ContainsFunc(set, func(m any) bool {
			t := reflect.TypeOf(m)
			return t.Kind() != reflect.Pointer || !slices.Contains([]reflect.Kind{reflect.Slice, reflect.Map, reflect.String}, t.Elem().Kind())
		})
	})
}

// byPath reports whether matchers look at the path only.
func byPath(sets caddyhttp.MatcherSets) bool {
	return !slices.ContainsFunc(sets, func(set caddyhttp.MatcherSet) bool {
		return slices.ContainsFunc(set, func(m any) bool { _, ok := m.(*caddyhttp.MatchPath); return !ok })
	})
}

// apart reports whether no request can match both.
func apart(a, b caddyhttp.MatcherSets) bool {
	for _, x := range a {
		for _, y := range b {
			if !excludes(x, y) && !excludes(y, x) {
				return false
			}
		}
	}
	return true
}

// excludes reports whether a matcher of x rules out what one of y demands.
func excludes(x, y caddyhttp.MatcherSet) bool {
	for _, demanded := range y {
		paths, ok := demanded.(*caddyhttp.MatchPath)
		if !ok {
			continue
		}
		for _, m := range x {
			switch m := m.(type) {
			case *caddyhttp.MatchPath:
				if !touch(*m, *paths) {
					return true
				}
			case *caddyhttp.MatchNot:
				if slices.ContainsFunc(m.MatcherSets, func(set caddyhttp.MatcherSet) bool { return holds(set, *paths) }) {
					return true
				}
			}
		}
	}
	return false
}

// holds reports whether a set matches every path that one of the patterns does.
func holds(set caddyhttp.MatcherSet, patterns []string) bool {
	if len(set) != 1 {
		return false
	}
	wide, ok := set[0].(*caddyhttp.MatchPath)
	return ok && !slices.ContainsFunc(patterns, func(pattern string) bool {
		return !slices.ContainsFunc(*wide, func(w string) bool {
			begin, open := literal(w)
			p, _ := literal(pattern)
			return w == pattern || open && w == begin+"*" && strings.HasPrefix(p, begin)
		})
	})
}

// touch reports whether two lists of path patterns may match the same path.
func touch(a, b []string) bool {
	for _, x := range a {
		for _, y := range b {
			p, open := literal(x)
			q, wide := literal(y)
			if p == q || open && strings.HasPrefix(q, p) || wide && strings.HasPrefix(p, q) {
				return true
			}
		}
	}
	return false
}

// literal is what a path pattern begins with, and whether more may follow.
func literal(pattern string) (string, bool) {
	if i := strings.IndexAny(pattern, "*?[\\{%"); i >= 0 {
		return pattern[:i], true
	}
	return pattern, false
}
