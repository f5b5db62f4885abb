package journal

import (
	"slices"
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc3986"
)

// TestSpellings purges by one spelling what was stored by another.
func TestSpellings(t *testing.T) {
	for _, tt := range []struct{ selector, stored string }{
		{"url http://shop.test/café", "http://shop.test/caf%C3%A9"},
		{"url http://shop.test/caf%c3%a9", "http://shop.test/café"},
		{"url http://shop.test/a b", "http://shop.test/a%20b"},
		{"url http://shop.test/~joe", "http://shop.test/%7Ejoe"},
		{"url http://shop.test/%7ejoe", "http://shop.test/~joe?page=2"},
		{"url HTTP://SHOP.test:80/x/../a", "http://shop.test/./a"},
		{"url http://shop.test", "http://shop.test/"},
		{"url http://user@shop.test/a#b", "http://shop.test/a"},
		{"url http://shop.test/a?q=é&r[]=~", "http://shop.test/a?q=%C3%A9&r%5b%5D=%7e"},
		{"url https://münchen.test/a", "https://xn--mnchen-3ya.test/a"},
		{"url https://xn--mnchen-3ya.test/a", "https://m%c3%bcnchen.test/a"},
		{"prefix http://shop.test/café", "http://shop.test/caf%c3%a9s/1"},
		{"prefix http://shop.test/x/./%7e", "http://shop.test/x/~joe"},
		{"prefix https://MÜNCHEN.test/", "https://xn--mnchen-3ya.test/a"},
		{"prefix http://shop.test/a/../b", "http://shop.test/b/c"},
		{"prefix http://shop.test/" + strings.Repeat("x", maxValue) + "/../b/", "http://shop.test/b/c"},
		{"url http://shop.test/" + strings.Repeat("x/", maxValue) + strings.Repeat("../", maxValue) + "b", "http://shop.test/b"},
		{"host MÜNCHEN.test", "https://xn--mnchen-3ya.test:8443/a"},
		{"host xn--mnchen-3ya.test", "https://xn--mnchen-3ya.test/a"},
		{"host münchen.test:08443", "https://xn--mnchen-3ya.test:8443/a"},
		{"host 0:0::1", "http://[::1]:8080/a"},
	} {
		kind, value, _ := strings.Cut(tt.selector, " ")
		s, err := Selector{kindOf(kind), value}.Normalize("cache")
		if err != nil {
			t.Errorf("%.80s: %v", tt.selector, err)
			continue
		}
		table := newTable("cache", nil, maxMarks)
		for _, part := range []Selector{s, s.compact()} {
			table.apply([]Selector{part}, false, ID{1, 0})
			if v := table.check(&Subject{Key: "cache:x", BaseKey: "cache:x", URL: tt.stored}, ID{}); v != Covered {
				t.Errorf("%.80s: %s is %s", tt.selector, tt.stored, v)
			}
		}
	}
	for _, s := range []Selector{
		{KindURL, "http://shop.test/a\x00"},
		{KindURL, "http://shop.test/%zz"},
		{KindURL, "http://shop.test:port/"},
		{KindURL, "http://sh op.test/"},
		{KindURL, "http:///a"},
		{KindURL, "http://\xff.test/"},
		{KindURL, "http://\u00ad/"},
		{KindURL, `http://shop.test\a`},
		{KindURL, "shop.test/a"},
		{KindPrefix, "http://shop.test/%c3%"},
		{KindPrefix, "http://shop.test:x/"},
		{KindPrefix, "//shop.test/"},
		{KindHost, "shop.test/a"},
		{KindHost, "shop test"},
		{KindHost, "shop.test:http"},
		{KindHost, "[::1"},
		{KindHost, "a\nb"},
		{KindHost, "\u200d.test"},
	} {
		if got, err := s.Normalize("cache"); err == nil {
			t.Errorf("%q is accepted as %q", s, got)
		}
	}
}

func kindOf(name string) Kind {
	return Kind(slices.Index(kindNames[:], name))
}

// FuzzSpellings: what RFC 3986 calls the same URL is purged by any spelling, and what
// it does not stays.
func FuzzSpellings(f *testing.F) {
	f.Add("http://h.test/caf%c3%a9?q=~", "http://h.test/café?q=%7E")
	f.Add("http://h.test/a/../b", "http://h.test/b")
	f.Add("http://h.test/a;b", "http://h.test/a%3Bb")
	f.Add("https://h.test:443", "https://H.test/")
	f.Fuzz(func(t *testing.T, purged, stored string) {
		s, err := Selector{KindURL, purged}.Normalize("cache")
		if err != nil {
			return
		}
		if other, err := (Selector{KindURL, stored}).Normalize("cache"); err != nil || len(s.Value) > maxValue || strings.Contains(other.Value, "@") {
			return
		} else if stored = other.Value; strings.HasSuffix(stored, "?") {
			return // no record holds such a one
		}
		path, query, _ := strings.Cut(rfc3986.Normal(stored), "?")
		purgedPath, purgedQuery, exact := strings.Cut(rfc3986.Normal(s.Value), "?")
		want := Valid
		if path == purgedPath && (!exact || query == purgedQuery) {
			want = Covered
		}
		table := newTable("cache", nil, maxMarks)
		table.apply([]Selector{s}, false, ID{1, 0})
		record := &Subject{Key: "cache:x", BaseKey: "cache:x", URL: stored}
		if got := table.check(record, ID{}); got != want && !strings.HasSuffix(s.Value, "?") {
			t.Errorf("a purge of %q: %q is %s, want %s", s.Value, stored, got, want)
		}
		if want == Covered && !exact {
			table = newTable("cache", nil, maxMarks)
			table.apply([]Selector{{KindPrefix, s.Value}}, false, ID{1, 0})
			if got := table.check(record, ID{}); got != Covered {
				t.Errorf("a purge of the prefix %q: %q is %s", s.Value, stored, got)
			}
		}
	})
}
