package cachekey

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// plainKept is kept in the fewest words.
func plainKept(v *Query, query string) []string {
	if query == "" {
		return nil
	}
	var only []string
	if v != nil {
		for _, name := range v.Names {
			only = append(only, folded(name))
		}
	}
	var pairs []string
	for pair := range strings.SplitSeq(query, "&") {
		if v == nil || strings.Contains(pair, ";") || v.keeps(ParamName(pair), only) {
			pairs = append(pairs, pair)
		}
	}
	slices.SortStableFunc(pairs, func(a, b string) int { return strings.Compare(ParamName(a), ParamName(b)) })
	return pairs
}

// plainKeptRewritten is keptRewritten in the fewest words.
func plainKeptRewritten(v *Query, query, rewritten string) []string {
	kept := plainKept(v, rewritten)
	for pair := range strings.SplitSeq(rewritten, "&") {
		if !slices.Contains(strings.Split(query, "&"), pair) && !slices.Contains(kept, pair) {
			kept = append(kept, pair)
		}
	}
	return kept
}

var queryRules = []*Query{
	nil,
	{Mode: QueryAll},
	{Mode: QueryNone},
	{Mode: QueryOnly, Names: []string{"a", "page", "user_id"}},
	{Mode: QueryExcept, Names: []string{"tracking", "x_*"}},
}

// FuzzKept: keys stay what they are, however they are made.
func FuzzKept(f *testing.F) {
	f.Add("b=2&a=1&a=0&utm_id=3", "a=1&device=tablet&device=tablet&b=2")
	f.Add("user.id=1&user_id[]=2&%61=3&;x=1&=&&", "&&a;b&x_1=1&%zz=2")
	f.Add(strings.Repeat("b&a=1&", 30), strings.Repeat("a&c&", 20))
	f.Fuzz(func(t *testing.T, query, rewritten string) {
		for _, rule := range queryRules {
			if got, want := rule.Kept(query), plainKept(rule, query); !slices.Equal(got, want) {
				t.Errorf("%v keeps %q of %q, want %q", rule, got, query, want)
			}
			if got, want := rule.keptRewritten(query, rewritten), plainKeptRewritten(rule, query, rewritten); !slices.Equal(got, want) {
				t.Errorf("%v keeps %q of %q rewritten to %q, want %q", rule, got, query, rewritten, want)
			}
		}
	})
}

// BenchmarkQuery shows what the key of a query costs: as a multiple of what
// url.ParseQuery takes for the same one, and of what the plainest code does.
func BenchmarkQuery(b *testing.B) {
	many := func(format string) string {
		var pairs []string
		for size := 0; size < 16<<10; size += len(pairs[len(pairs)-1]) + 1 {
			pairs = append(pairs, fmt.Sprintf(format, 7919*len(pairs)%100000))
		}
		return strings.Join(pairs, "&")
	}
	queries := map[string]string{
		"short": "page=2&sort=price&q=shoes", "one": "id=17", "16KiB": many("p%d=1"), "16KiB-escaped": many("%%70%d=%%20"),
	}
	for name, query := range queries {
		for mode, rule := range map[string]*Query{"all": nil, "names": queryRules[3], "except": queryRules[4]} {
			b.Run(name+"/"+mode, func(b *testing.B) {
				compare(b, query, func() { rule.Kept(query) }, func() { plainKept(rule, query) })
			})
		}
		rewritten := query + "&device=tablet"
		b.Run(name+"/rewritten", func(b *testing.B) {
			compare(b, rewritten, func() { (*Query)(nil).keptRewritten(query, rewritten) }, func() { plainKeptRewritten(nil, query, rewritten) })
		})
	}
}

// compare reports how much longer than url.ParseQuery f takes, and than f the plain
// one: the shortest of some rounds of each, in turn.
func compare(b *testing.B, query string, f, plain func()) {
	b.Helper()
	b.ReportAllocs()
	for b.Loop() {
		f()
	}
	const rounds = 9
	turns := []func(){f, plain, func() { _, _ = url.ParseQuery(query) }}
	runs := max(1, min(b.N, int(time.Millisecond/max(b.Elapsed()/time.Duration(b.N), 1))))
	shortest := make([]time.Duration, len(turns))
	for range rounds {
		for i, turn := range turns {
			began := time.Now()
			for range runs {
				turn()
			}
			if took := time.Since(began); shortest[i] == 0 || took < shortest[i] {
				shortest[i] = took
			}
		}
	}
	b.ReportMetric(float64(shortest[0])/float64(shortest[2]), "×ParseQuery")
	b.ReportMetric(float64(shortest[1])/float64(shortest[0]), "×faster")
}
