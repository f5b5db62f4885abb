// Package storetest is the acceptance suite of every tier.
package storetest

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// Tier is one place where stored responses live.
type Tier interface {
	// Get returns nil for a record that is absent, expired or stored under
	// another full key of the same name.
	Get(ctx context.Context, key store.Key) (*store.Record, error)

	// Put stores the records under their keys, replacing what is there.
	Put(ctx context.Context, records ...*store.Record) error

	// Delete removes every record that matches, base records included, and
	// returns how many. match may be given metadata only; it must not use the tier.
	Delete(ctx context.Context, match func(*store.Record) bool) (int, error)
}

// Prefix is what the key names of the suite begin with.
const Prefix = "cache"

// Response returns a stored response as a site would have it. Its times have no
// more precision than a tier keeps.
func Response(namespace, id string) *store.Record {
	now := time.Now().UTC().Truncate(time.Millisecond)
	full := fmt.Sprintf("%s:%s:%s:0123456789abcdef0123456789abcdef", Prefix, namespace, id)
	return &store.Record{
		Key:        store.Key{Full: full, Name: full},
		Namespace:  namespace,
		Identifier: id,
		URL:        "https://www.example.com/" + namespace + "/" + id + "?page=1",
		Tags:       []string{"all-" + namespace, id},
		Position:   journal.Position{Epoch: 1},
		Freshness: rfc9111.Freshness{
			ResponseTime:         now,
			InitialAge:           3 * time.Second,
			Lifetime:             time.Minute,
			StaleWhileRevalidate: time.Minute,
			MustRevalidate:       true,
			ForCredentials:       true,
		},
		Expires: now.Add(time.Hour),
		Status:  200,
		Fields: []store.Field{
			{Op: store.FieldSet, Name: "Content-Type", Values: []string{"application/json; charset=utf-8"}},
			{Op: store.FieldSet, Name: "Cache-Control", Values: []string{"public, max-age=60, stale-while-revalidate=60"}},
			{Op: store.FieldSet, Name: "Etag", Values: []string{`"5f3b-6125a7e1c0b40"`}},
			{Op: store.FieldSet, Name: "Last-Modified", Values: []string{"Tue, 04 Mar 2025 09:15:00 GMT"}},
			{Op: store.FieldAdd, Name: "Vary", Values: []string{"Accept-Encoding", "Origin"}},
			{Op: store.FieldDel, Name: "Server"},
		},
		Body: []byte(strings.Repeat(`{"id":"`+id+`"}`, 50)),
	}
}

// Base returns the base record of a URL with two variants.
func Base(namespace, id string) *store.Record {
	r := Response(namespace, id)
	r.Status, r.Fields, r.Body, r.Freshness = 0, nil, nil, rfc9111.Freshness{ResponseTime: r.Freshness.ResponseTime}
	r.Vary = []string{"Accept-Encoding", "Accept-Language"}
	r.Variants = []store.Variant{{Hash: "aa11", Expires: r.Expires}, {Hash: "bb22", Expires: r.Expires.Add(-time.Minute)}}
	return r
}

// Run runs the suite. open returns an empty tier, which has shut down by the
// end of the test. What Put was given must be readable when it returns.
func Run(t *testing.T, open func(t *testing.T) Tier) {
	for name, test := range map[string]func(*testing.T, Tier){
		"Absent":          testAbsent,
		"RoundTrip":       testRoundTrip,
		"Replace":         testReplace,
		"FullKey":         testFullKey,
		"Expiry":          testExpiry,
		"Delete":          testDelete,
		"DeleteByPart":    testDeleteByPart,
		"DeleteMany":      testDeleteMany,
		"UnusualKeys":     testUnusualKeys,
		"LongMetadata":    testLongMetadata,
		"ConcurrentUsers": testConcurrentUsers,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func put(t *testing.T, tier Tier, records ...*store.Record) {
	t.Helper()
	if err := tier.Put(t.Context(), records...); err != nil {
		t.Fatalf("Put: %v", err)
	}
}

func get(t *testing.T, tier Tier, key store.Key) *store.Record {
	t.Helper()
	r, err := tier.Get(t.Context(), key)
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	return r
}

func remove(t *testing.T, tier Tier, want int, match func(*store.Record) bool) {
	t.Helper()
	n, err := tier.Delete(t.Context(), match)
	if err != nil {
		t.Fatalf("Delete: %v", err)
	}
	if n != want {
		t.Errorf("Delete removed %d records, want %d", n, want)
	}
}

// wantStored checks that the tier has exactly what was put.
func wantStored(t *testing.T, tier Tier, want *store.Record) {
	t.Helper()
	if got := get(t, tier, want.Key); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func wantAbsent(t *testing.T, tier Tier, key store.Key) {
	t.Helper()
	if r := get(t, tier, key); r != nil {
		t.Errorf("found %q", r.Key.Full)
	}
}

func testAbsent(t *testing.T, tier Tier) {
	wantAbsent(t, tier, Response("shop", "1").Key)
	remove(t, tier, 0, func(*store.Record) bool { return true })
}

func testRoundTrip(t *testing.T, tier Tier) {
	empty := Response("shop", "empty")
	empty.Status, empty.Fields, empty.Tags, empty.Body = 204, nil, nil, nil
	large := Response("shop", "large")
	large.Body = make([]byte, 1<<20)
	for _, r := range []*store.Record{Response("shop", "1"), Base("shop", "2"), empty, large} {
		put(t, tier, r)
		wantStored(t, tier, r)
	}
	first, second := Base("shop", "3"), Response("shop", "3:aa11")
	put(t, tier, first, second)
	wantStored(t, tier, first)
	wantStored(t, tier, second)
}

func testReplace(t *testing.T, tier Tier) {
	r := Response("shop", "1")
	put(t, tier, r)
	newer := *r
	newer.Body = []byte("newer")
	put(t, tier, &newer)
	wantStored(t, tier, &newer)
}

// testFullKey stores a key whose name is cut: another full key of that name is
// another stored response.
func testFullKey(t *testing.T, tier Tier) {
	r := Response("shop", strings.Repeat("x", 300))
	r.Key.Name = Prefix + ":shop:" + strings.Repeat("x", 200) + ":0123456789abcdef0123456789abcdef"
	put(t, tier, r)
	wantStored(t, tier, r)
	wantAbsent(t, tier, store.Key{Full: r.Key.Full + "y", Name: r.Key.Name})
}

func testExpiry(t *testing.T, tier Tier) {
	for _, left := range []time.Duration{-time.Hour, 0, 100 * time.Microsecond} {
		r := Response("shop", left.String())
		r.Expires = time.Now().Add(left)
		put(t, tier, r)
		for time.Now().Before(r.Expires) { // 100 µs at most
		}
		wantAbsent(t, tier, r.Key)
	}
	eternal := Response("shop", "eternal")
	eternal.Expires = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	put(t, tier, eternal)
	wantStored(t, tier, eternal)
}

func testDelete(t *testing.T, tier Tier) {
	gone, base, stays := Response("shop", "1"), Base("shop", "2"), Response("blog", "1")
	put(t, tier, gone, base, stays)
	remove(t, tier, 2, func(r *store.Record) bool { return r.Namespace == "shop" })
	wantAbsent(t, tier, gone.Key)
	wantAbsent(t, tier, base.Key)
	wantStored(t, tier, stays)

	put(t, tier, gone)
	wantStored(t, tier, gone)
}

// testDeleteByPart checks that match sees all metadata.
func testDeleteByPart(t *testing.T, tier Tier) {
	r := Response("shop", "1")
	want := *r
	want.Body = nil
	put(t, tier, r)
	remove(t, tier, 1, func(got *store.Record) bool {
		meta := *got
		meta.Body = nil
		return reflect.DeepEqual(&meta, &want)
	})
}

func testDeleteMany(t *testing.T, tier Tier) {
	const n = 1200 // more than one step of a walk
	var records []*store.Record
	for i := range n {
		records = append(records, Response(fmt.Sprintf("n%d", i%2), fmt.Sprint(i)))
	}
	for len(records) > 0 {
		put(t, tier, records[:100]...)
		records = records[100:]
	}
	remove(t, tier, n/2, func(r *store.Record) bool { return r.Namespace == "n1" })
	remove(t, tier, n/2, func(*store.Record) bool { return true })
}

func testUnusualKeys(t *testing.T, tier Tier) {
	ids := []string{"*", "[a-z]", "{x}", "a\x00b", "line\nbreak", "ü", `\`, "%25", strings.Repeat("long", 2500)}
	stored := make([]*store.Record, 0, len(ids))
	for _, id := range ids {
		r := Response("odd", id)
		stored = append(stored, r)
		put(t, tier, r)
	}
	remove(t, tier, 1, func(r *store.Record) bool { return r.Identifier == "*" })
	wantAbsent(t, tier, stored[0].Key)
	for _, r := range stored[1:] {
		wantStored(t, tier, r)
	}
}

func testLongMetadata(t *testing.T, tier Tier) {
	r := Response("shop", "1")
	for i := range 200 {
		r.Fields = append(r.Fields, store.Field{
			Op: store.FieldAdd, Name: fmt.Sprintf("X-Field-%d", i), Values: []string{strings.Repeat("v", i)},
		})
	}
	put(t, tier, r)
	wantStored(t, tier, r)
	remove(t, tier, 1, func(got *store.Record) bool { return len(got.Fields) == len(r.Fields) })
}

func testConcurrentUsers(t *testing.T, tier Tier) {
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 25 {
				r := Response(fmt.Sprintf("n%d", i), fmt.Sprint(j%5))
				if err := tier.Put(t.Context(), r); err != nil {
					t.Error(err)
				}
				if _, err := tier.Get(t.Context(), r.Key); err != nil {
					t.Error(err)
				}
				if j%10 == 9 {
					if _, err := tier.Delete(t.Context(), func(r *store.Record) bool { return r.Identifier == "1" }); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
}
