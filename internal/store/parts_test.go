package store_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store/storetest"
)

// large returns a record with a body that nothing can compress.
func large(id string, size int, seed uint64) *store.Record {
	rec := storetest.Response("shop", id)
	rec.Body = make([]byte, size)
	rng := rand.New(rand.NewPCG(seed, 1))
	for i := range rec.Body {
		rec.Body[i] = byte(rng.Uint32())
	}
	return rec
}

// partsIn lists the keys of parts, and checks that no value is too large and that
// each will expire.
func partsIn(t *testing.T, server *miniredis.Miniredis) (parts []string) {
	t.Helper()
	for _, key := range server.Keys() {
		value, err := server.Get(key)
		if err != nil {
			t.Fatal(err)
		}
		if len(value) > 600<<10 || server.TTL(key) <= 0 {
			t.Errorf("%s has %d bytes and lives for %s", key, len(value), server.TTL(key))
		}
		if strings.HasPrefix(key, storetest.Prefix+"::part:") {
			parts = append(parts, key)
		}
	}
	return parts
}

func TestParts(t *testing.T) {
	r, server := newRedis(t)
	for size, want := range map[int]int{100 << 10: 0, 255 << 10: 0, 257 << 10: 1, 700 << 10: 1, 800 << 10: 2, 8 << 20: 16} {
		rec := large("1", size, 1)
		if err := r.Put(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
		got, err := r.Get(t.Context(), rec.Key)
		if err != nil || got == nil || !bytes.Equal(got.Body, rec.Body) || got.URL != rec.URL {
			t.Fatalf("%d bytes: %v, %v", size, got != nil, err)
		}
		if n := len(partsIn(t, server)); n != want {
			t.Errorf("%d bytes: %d parts, want %d", size, n, want)
		}
		seen := 0
		err = r.Walk(t.Context(), func(_ string, head *store.Record, total int64) bool {
			if seen++; head == nil || total < int64(size) {
				t.Errorf("%d bytes: a walk sees %v of %d bytes", size, head != nil, total)
			}
			return true
		})
		if err != nil || seen != 1 {
			t.Errorf("%d bytes: a walk sees %d records, %v", size, seen, err)
		}
		if n, err := r.Delete(t.Context(), func(*store.Record) bool { return true }); n != 1 || err != nil {
			t.Errorf("%d bytes: %d deleted, %v", size, n, err)
		}
		if keys := server.Keys(); len(keys) != 0 {
			t.Errorf("%d bytes: %v left", size, keys)
		}
	}
}

// A record of which a part is missing, or is another response's, is absent.
func TestPartsMixedUp(t *testing.T) {
	for name, damage := range map[string]func(*miniredis.Miniredis, string){
		"missing": func(s *miniredis.Miniredis, key string) { s.Del(key) },
		"cut":     func(s *miniredis.Miniredis, key string) { v, _ := s.Get(key); s.Set(key, v[:len(v)/2]) },
		"empty":   func(s *miniredis.Miniredis, key string) { s.Set(key, "") },
		"changed": func(s *miniredis.Miniredis, key string) { v, _ := s.Get(key); s.Set(key, v[:len(v)-1]+"x") },
	} {
		r, server := newRedis(t)
		rec := large("1", 2<<20, 1)
		if err := r.Put(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
		damage(server, partsIn(t, server)[1])
		if got, err := r.Get(t.Context(), rec.Key); got != nil || err != nil {
			t.Errorf("%s: %v, %v", name, got != nil, err)
		}
	}

	r, server := newRedis(t)
	old, newer := large("1", 2<<20, 1), large("1", 2<<20, 2)
	newer.Freshness.ResponseTime = newer.Freshness.ResponseTime.Add(1)
	newer.Position.ID.Ms = 7
	if err := r.Put(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	part := partsIn(t, server)[2]
	value, _ := server.Get(part)
	if err := r.Put(t.Context(), newer); err != nil {
		t.Fatal(err)
	}
	if got, _ := r.Get(t.Context(), newer.Key); got == nil || !bytes.Equal(got.Body, newer.Body) {
		t.Error("the newer response is not there")
	}
	server.Set(part, value)
	if got, err := r.Get(t.Context(), newer.Key); got != nil || err != nil {
		t.Errorf("two responses were glued together: %v, %v", got != nil, err)
	}
	if r.Corrupt() != 0 {
		t.Errorf("%d corrupt: parts of another response are no damage", r.Corrupt())
	}
}

// A record that Redis cannot hold takes none along that it was written with.
func TestWrittenTogether(t *testing.T) {
	r, _ := newRedis(t)
	s := newTiered(t, nil, r, store.Options{Writers: 1})
	var written sync.WaitGroup
	for i := range 40 {
		rec := storetest.Response("shop", fmt.Sprint(i))
		if i%2 == 1 {
			rec.Key = store.Key{Full: "other" + rec.Key.Full, Name: "other" + rec.Key.Name}
		}
		written.Add(1)
		s.PutThen(written.Done, rec)
	}
	written.Wait()
	for i := range 40 {
		rec := storetest.Response("shop", fmt.Sprint(i))
		if got, err := r.Get(t.Context(), rec.Key); (got != nil) != (i%2 == 0) || err != nil {
			t.Errorf("record %d: %v, %v", i, got != nil, err)
		}
	}
	if n := s.Stats().DroppedWrites; n != 20 {
		t.Errorf("%d dropped, want 20", n)
	}
}
