package journal

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// The newest hard purge is the one that a removed record is counted for.
func TestCoveredBy(t *testing.T) {
	a := startNode(t, nil, func(o *Options) { o.MaxMarks = 1000 })
	want := func(what string, s *Subject, verdict Verdict, id ID) {
		t.Helper()
		if got, by := a.CoveredBy(s); got != verdict || by != id {
			t.Errorf("%s: %s by %v, want %s by %v", what, got, by, verdict, id)
		}
	}
	s := a.subject()
	want("no purge", s, Valid, ID{})
	a.purge(t, Selector{KindTag, "other"})
	want("another purge", s, Valid, ID{})
	if _, err := a.Append(t.Context(), Purge{Selectors: []Selector{all}, Soft: true}, 0); err != nil {
		t.Fatal(err)
	}
	want("a soft purge", s, SoftCovered, ID{})
	for _, selector := range []Selector{
		{KindPrefix, "https://example.com/"},
		{KindPattern, "pickup:*"},
		{KindUser, s.User},
		all,
		{KindHost, "example.com"},
		{KindKey, "pickup:item:7"},
		{KindNamespace, "pickup"},
		{KindPattern, "*:item:7"},
		{KindTag, "pickup-7"},
		{KindPrefix, "https://example.com/pick"},
		{KindURL, "https://example.com/pickup/7"},
	} {
		want(selector.String(), s, Covered, a.purge(t, selector).ID)
	}
	later := a.subject()
	newest := a.purge(t, Selector{KindTag, "pickup-7"}).ID
	if _, err := a.Append(t.Context(), Purge{Selectors: []Selector{all}, Soft: true}, 0); err != nil {
		t.Fatal(err)
	}
	want("a soft purge after it", s, Covered, newest)
	want("fetched later", later, Covered, newest)
	other := a.subject()
	other.Position.Epoch++
	want("another epoch", other, Absent, ID{})
	for i := range 2000 {
		a.purge(t, Selector{KindTag, fmt.Sprint(i)})
	}
	want("below the floor", s, Absent, ID{})
}

func TestRemoved(t *testing.T) {
	s := newServer(t)
	for name, client := range map[string]redis.UniversalClient{"redis": s.Client(), "memory": nil} {
		t.Run(name, func(t *testing.T) {
			a := startNode(t, client, named("a"))
			if client != nil {
				a.settled(t)
			}
			first, second := a.purge(t, all).ID, a.purge(t, all).ID
			known := func() (list [2]string) {
				entries, err := a.Entries(t.Context(), 2)
				if err != nil || len(entries) != 2 {
					t.Fatalf("%v, %v", entries, err)
				}
				for i, id := range []ID{second, first} {
					if entries[i].ID != id {
						t.Fatalf("listed are %v, want %v first", entries, second)
					}
					if n := entries[i].Removed; n != nil {
						list[i] = strconv.FormatInt(*n, 10)
					}
				}
				return list
			}
			add := func(counts map[ID]int64) {
				t.Helper()
				if err := a.AddRemoved(t.Context(), counts); err != nil {
					t.Fatal(err)
				}
			}
			if got := known(); got != [2]string{} {
				t.Errorf("before a sweep: %q", got)
			}
			add(map[ID]int64{first: 0})
			if got := known(); got != [2]string{"", "0"} {
				t.Errorf("after a sweep that found nothing: %q", got)
			}
			add(map[ID]int64{first: 3, second: 4})
			add(map[ID]int64{first: 2})
			if got := known(); got != [2]string{"4", "5"} {
				t.Errorf("after more: %q", got)
			}
			// The bound costs the oldest.
			many := make(map[ID]int64)
			for i := range uint64(2 * maxRemoved) {
				many[ID{Ms: 1 + i}] = 1
			}
			add(many)
			if got := known(); got != [2]string{"4", "5"} {
				t.Errorf("when older ones were forgotten: %q", got)
			}
			if client == nil {
				if n := len(a.removals.counts); n != maxListed {
					t.Errorf("%d counts are kept", n)
				}
				return
			}
			if n := client.HLen(t.Context(), a.keys.removed).Val(); n > maxRemoved || n < maxRemoved/2 {
				t.Errorf("%d counts are kept", n)
			}
			if ttl := client.TTL(t.Context(), a.keys.removed).Val(); ttl < time.Hour {
				t.Errorf("the counts expire in %s", ttl)
			}
		})
	}
}
