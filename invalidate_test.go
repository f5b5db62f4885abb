package rediscache

import (
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

func TestSelectors(t *testing.T) {
	hash := "0123456789abcdef0123456789abcdef"
	rec := &store.Record{
		Namespace: "user", Identifier: "123:profile", URL: "http://example.com/u?a=1&b=2",
		Key: store.Key{Full: "cache:user:123:profile:" + hash + ":" + hash},
	}
	rules := []*VaryQuery{{Mode: queryOnly, Names: []string{"a", "b"}}}
	for _, c := range []struct {
		kind  selectorKind
		value string
		want  bool
	}{
		{selectNamespace, "user", true},
		{selectNamespace, "use", false},
		{selectKey, "user:123:profile", true},
		{selectKey, "cache:user:123:profile", true},
		{selectKey, "user:123", false},
		{selectKey, rec.Key.Full, true},
		{selectKey, "cache:user:123:profile:" + hash, true},
		{selectKey, "cache:user:123:profile:" + hash[:31], false},
		{selectPattern, "user:123:*", true},
		{selectPattern, "cache:user:123:*", true},
		{selectPattern, "*:" + hash, true},
		{selectPattern, "user:12:*", false},
		{selectPattern, "user:123:profil?", true},
		{selectURL, "http://example.com/u", true},
		{selectURL, "http://EXAMPLE.com:80/u", true},
		{selectURL, "https://example.com/u", false},
		{selectURL, "http://example.com/u?b=2&a=1", true},
		{selectURL, "http://example.com/u?b=2&utm_source=x&a=1#top", true},
		{selectURL, "http://example.com/u?a=1", false},
		{selectURL, "http://example.com/u?", false},
		{selectURL, "http://example.com", false},
		{selectAll, "", true},
	} {
		s, err := selector{c.kind, c.value}.normalize("cache")
		if err != nil {
			t.Errorf("%s %q: %v", c.kind, c.value, err)
			continue
		}
		if got := newPurge([]selector{s}).matcher("cache", rules)(rec); got != c.want {
			t.Errorf("%s %q matches: %v, want %v", c.kind, c.value, got, c.want)
		}
	}
}

func TestSelectorErrors(t *testing.T) {
	for _, s := range []selector{
		{selectNamespace, ""}, {selectURL, "/u"}, {selectURL, "ftp://example.com"}, {selectURL, "http://"},
	} {
		if _, err := s.normalize("cache"); err == nil {
			t.Errorf("%v is accepted", s)
		}
	}
}

func FuzzPurgeURL(f *testing.F) {
	f.Add("http://example.com:80/a%2f?x=1#f")
	f.Fuzz(func(t *testing.T, raw string) {
		normal, err := parseURL(raw)
		if err != nil {
			return
		}
		if again, err := parseURL(normal); err == nil && again != normal {
			t.Errorf("%q becomes %q, then %q", raw, normal, again)
		}
	})
}
