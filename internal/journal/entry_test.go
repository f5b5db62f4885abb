package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

func message(id string, fields ...string) []redis.XMessage {
	values := make(map[string]any)
	for i := 0; i < len(fields); i += 2 {
		values[fields[i]] = fields[i+1]
	}
	return []redis.XMessage{{ID: id, Values: values}}
}

func TestPurgeSurvivesItsEntries(t *testing.T) {
	many := make([]Selector, 0, 500)
	for i := range 500 {
		many = append(many, Selector{KindTag, fmt.Sprintf("tag-%d", i)})
	}
	for name, selectors := range map[string][]Selector{
		"one":      {{KindNamespace, "pickup"}},
		"all":      {{KindAll, ""}, {KindHost, "example.com"}},
		"several":  {{KindTag, "a"}, {KindTag, "b"}, {KindPattern, "x:*"}, {KindPattern, "y:*"}, {KindUser, someUser}, {KindURL, "https://example.com/?a=<b>&c"}},
		"no text":  {{KindTag, "\xff"}, {KindTag, "b"}},
		"too many": many,
	} {
		p := Purge{Selectors: selectors, Soft: true, By: "me", Reason: strings.Repeat("ü", maxNote)}
		entries, err := p.encode("cache")
		if err != nil {
			t.Fatal(err)
		}
		var got []Selector
		for _, f := range entries {
			e := mustDecode(t, f)
			if !e.Soft() || e.By != "me" || len(e.Reason) > maxNote || !strings.HasSuffix(e.Reason, "ü") {
				t.Errorf("%s: %+v", name, e)
			}
			got = append(got, e.Selectors...)
		}
		if len(got) != len(selectors) || slices.ContainsFunc(selectors, func(s Selector) bool { return !slices.Contains(got, s) }) {
			t.Errorf("%s: %v, want %v", name, got, selectors)
		}
		if name == "several" && len(entries) != 1 {
			t.Errorf("%d entries for one purge", len(entries))
		}
	}
}

func TestInvalidSelectors(t *testing.T) {
	for _, s := range []Selector{
		{KindNamespace, ""},
		{KindURL, "/path"},
		{KindURL, "ftp://example.com/"},
		{KindPrefix, "example.com"},
		{KindHost, "https://example.com"},
		{KindKey, "cache:"},
		{Kind(numKinds), "x"},
	} {
		if got, err := s.Normalize("cache"); err == nil {
			t.Errorf("%v is accepted as %v", s, got)
		}
	}
	if _, err := (&Purge{}).encode("cache"); err == nil {
		t.Error("a purge of nothing is accepted")
	}
}

func TestBody(t *testing.T) {
	var b Body
	if err := json.Unmarshal([]byte(`{"namespace":"a","namespaces":["b","c"],"pattern":["p:*","q:*"],"all":true}`), &b); err != nil {
		t.Fatal(err)
	}
	want := []Selector{{KindNamespace, "a"}, {KindNamespace, "b"}, {KindNamespace, "c"}, {KindPattern, "p:*"}, {KindPattern, "q:*"}, {Kind: KindAll}}
	if got := b.Selectors(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	out, err := json.Marshal(want)
	if err != nil || !strings.HasPrefix(string(out), `[{"namespace":"a"},`) || !strings.HasSuffix(string(out), `{"all":true}]`) {
		t.Errorf("%s, %v", out, err)
	}
}

func TestIDs(t *testing.T) {
	for _, s := range []string{"0-0", "1-2", maxID.String()} {
		id, err := ParseID(s)
		if err != nil || id.String() != s {
			t.Errorf("%s became %s, %v", s, id, err)
		}
	}
	for _, s := range []string{"", "1", "1-", "-1", "1-x", "18446744073709551616-0"} {
		if id, err := ParseID(s); err == nil {
			t.Errorf("%q is accepted as %s", s, id)
		}
	}
	if !(ID{1, 9}).Before(ID{2, 0}) || (ID{2, 0}).Before(ID{2, 0}) {
		t.Error("order")
	}
}

// FuzzDecode: anybody may write entries. Whatever they write, what is understood
// can be written again and means the same.
func FuzzDecode(f *testing.F) {
	f.Add("purge", "namespace", "pickup")
	f.Add("soft_purge", "selectors", `{"tags":["a","b"],"url":"https://x/?q"}`)
	f.Add("purge", "pattern", `[\`)
	f.Add("purge", "prefix", "http://[::1]:80/")
	f.Add("event", "data", `{"a":1}`)
	f.Fuzz(func(t *testing.T, op, field, value string) {
		e, err := decode(ID{1, 0}, message("1-0", "op", op, field, value, "event", "x")[0].Values, "cache")
		if err != nil || len(e.Selectors) == 0 {
			return
		}
		table := newTable("cache", nil, maxMarks)
		table.apply(e.Selectors, e.Soft(), e.ID)
		table.check(subjectAt(Position{}), ID{})
		p := Purge{Selectors: e.Selectors}
		entries, err := p.encode("cache")
		if err != nil {
			t.Fatalf("%v cannot be written again: %v", e.Selectors, err)
		}
		var written []Selector
		for _, s := range e.Selectors {
			written = append(written, s.compact())
		}
		var again []Selector
		for _, f := range entries {
			again = append(again, mustDecode(t, f).Selectors...)
		}
		if len(again) != len(written) {
			t.Errorf("%q was written, %q read", written, again)
		}
	})
}

// FuzzSelector: what a selector covers, its entry covers on every node.
func FuzzSelector(f *testing.F) {
	for _, unit := range []string{"%D0%B0", "a%D0%B0", "aa%D0%B0", "ж", "aж", "?a=%20", "*", "cache:"} {
		for kind := range KindAll {
			f.Add(uint8(kind), "http://a/"+strings.Repeat(unit, 300), "")
			f.Add(uint8(kind), strings.Repeat(unit, 300), "x")
			f.Add(uint8(kind), "http://a"+strings.Repeat(unit, 300)+":8080", "/x")
		}
	}
	f.Add(uint8(KindURL), "http://a%25b/x", "")
	f.Add(uint8(KindURL), "http://[fe80::1%25en0]:80/x", "")
	f.Add(uint8(KindPrefix), "http://a:80:80", "/x")
	f.Add(uint8(KindPrefix), "http://a?b@c", "")
	f.Add(uint8(KindKey), "cache:cache:x", "")
	f.Fuzz(func(t *testing.T, kind uint8, value, rest string) {
		normal, err := Selector{Kind(kind), value}.Normalize("cache")
		if err != nil || normal.Kind == KindUser { // an identity is hashed after it was normalized
			return
		}
		if again, err := normal.Normalize("cache"); err != nil || again != normal {
			t.Fatalf("%q became %q, and then %q: %v", value, normal, again, err)
		}
		entries, err := (&Purge{Selectors: []Selector{normal}}).encode("cache")
		if err != nil {
			t.Fatal(err)
		}
		at := normal.Value + rest
		s := &Subject{Namespace: normal.Value, Key: "cache:" + at, BaseKey: "cache:" + normal.Value, Tags: []string{normal.Value}}
		if kind := normal.Kind; kind == KindURL || kind == KindPrefix {
			s.URL = at
		} else if kind == KindHost {
			s.URL = "http://" + at + "/"
		}
		whole := newTable("cache", nil, maxMarks)
		whole.apply([]Selector{normal}, false, ID{1, 0})
		if whole.check(s, ID{}) == Covered && !checkAfterDecoding(t, entries, s) {
			t.Errorf("%q covers %q, its entry %q does not", normal, at, entries)
		}
	})
}

func TestUserThatIsNotHashed(t *testing.T) {
	j := New(Options{Prefix: "cache"})
	if _, err := j.newItems(Purge{Selectors: []Selector{{KindTag, "a"}, {KindUser, "4711"}}}); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v: every node would skip the entry", err)
	}
}
