package store_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store/storetest"
)

const ample = 64 << 20

func newMemory(t *testing.T) *store.Memory {
	m := store.NewMemory(ample, nil)
	t.Cleanup(m.Close)
	return m
}

// newRedis returns the tier and its server.
func newRedis(t *testing.T) (*store.Redis, *miniredis.Miniredis) {
	t.Helper()
	server := miniredis.RunT(t)
	return store.NewRedis(newClient(t, server.Addr()), storetest.Prefix), server
}

// newCluster returns a client of two masters that share the slots.
func newCluster(t *testing.T) *redis.ClusterClient {
	first, second := miniredis.RunT(t), miniredis.RunT(t)
	return redis.NewClusterClient(&redis.ClusterOptions{
		ClusterSlots: func(context.Context) ([]redis.ClusterSlot, error) {
			return []redis.ClusterSlot{
				{Start: 0, End: 8191, Nodes: []redis.ClusterNode{{Addr: first.Addr()}}},
				{Start: 8192, End: 16383, Nodes: []redis.ClusterNode{{Addr: second.Addr()}}},
			}, nil
		},
	})
}

func newClient(t *testing.T, addr string) *redis.Client {
	client := redis.NewClient(&redis.Options{
		Addr: addr, ContextTimeoutEnabled: true, MaxRetries: -1, DialTimeout: 10 * time.Second, DialerRetries: 1,
	})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// newTiered returns a started store whose Redis is up.
func newTiered(t *testing.T, m *store.Memory, r *store.Redis, opts store.Options) *store.Tiered {
	t.Helper()
	up := make(chan struct{}, 16)
	opts.ReadTimeout = 10 * time.Second // the machine may be slow, which is not the point here
	notify := opts.OnHealth
	opts.OnHealth = func(isUp bool, err error) {
		if notify != nil {
			notify(isUp, err)
		}
		if isUp {
			up <- struct{}{}
		}
	}
	s := store.NewTiered(m, r, opts)
	s.Start()
	t.Cleanup(s.Close)
	if r != nil {
		<-up
	}
	return s
}

// asTier makes a Tiered a tier for the suite: what is put is in both tiers.
type asTier struct {
	*store.Tiered
	memory *store.Memory
	redis  *store.Redis
}

func newAsTier(t *testing.T, m *store.Memory, r *store.Redis) asTier {
	return asTier{newTiered(t, m, r, store.Options{}), m, r}
}

func (s asTier) Delete(ctx context.Context, match func(*store.Record) bool) (n int, err error) {
	if s.redis != nil {
		n, err = s.redis.Delete(ctx, match)
	}
	if s.memory != nil {
		inMemory, _ := s.memory.Delete(ctx, match)
		n = max(n, inMemory)
	}
	return n, err
}

func (s asTier) Get(ctx context.Context, key store.Key) (*store.Record, error) {
	r, _, _ := s.Lookup(ctx, key, time.Now())
	return r, nil
}

func (s asTier) Put(ctx context.Context, records ...*store.Record) error {
	s.Tiered.Put(records...)
	if err := s.Flush(ctx); err != nil {
		return err
	}
	if n := s.Stats().DroppedWrites; n > 0 {
		return fmt.Errorf("%d writes dropped", n)
	}
	return nil
}

func TestSuite(t *testing.T) {
	t.Run("Memory", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) storetest.Tier { return newMemory(t) })
	})
	t.Run("Redis", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) storetest.Tier {
			r, _ := newRedis(t)
			return r
		})
	})
	t.Run("Cluster", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) storetest.Tier {
			client := newCluster(t)
			t.Cleanup(func() { _ = client.Close() })
			return store.NewRedis(client, storetest.Prefix)
		})
	})
	t.Run("Tiered", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) storetest.Tier {
			r, _ := newRedis(t)
			return newAsTier(t, newMemory(t), r)
		})
	})
	t.Run("TieredMemory", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) storetest.Tier { return newAsTier(t, newMemory(t), nil) })
	})
	t.Run("TieredRedis", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) storetest.Tier {
			r, _ := newRedis(t)
			return newAsTier(t, nil, r)
		})
	})
}

func TestRedisLeavesOtherKeysAlone(t *testing.T) {
	r, server := newRedis(t)
	value := string(store.Encode(nil, storetest.Response("shop", "1")))
	others := []string{
		"cache", "cache:", "cache::journal", "cache::lease:x", "cach:shop:1", "cacheX:shop:1", "caches:shop:1", "Cache:shop:1",
		"other:cache:shop:1", "shop:1",
	}
	for _, name := range others {
		if err := server.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Put(t.Context(), storetest.Response("shop", "1")); err != nil {
		t.Fatal(err)
	}
	n, err := r.Delete(t.Context(), func(*store.Record) bool { return true })
	if n != 1 || err != nil {
		t.Fatalf("Delete = %d, %v; want 1", n, err)
	}
	for _, name := range others {
		if !server.Exists(name) {
			t.Errorf("%q is gone", name)
		}
	}

	for _, name := range others {
		rec := storetest.Response("shop", "1")
		rec.Key.Name = name
		if err := r.Put(t.Context(), rec); !errors.Is(err, store.ErrForeignKey) {
			t.Errorf("Put(%q) = %v, want ErrForeignKey", name, err)
		}
		if _, err := r.Get(t.Context(), rec.Key); !errors.Is(err, store.ErrForeignKey) {
			t.Errorf("Get(%q) = %v, want ErrForeignKey", name, err)
		}
	}
}

// A sweep tells of what it removed itself.
func TestRedisSweep(t *testing.T) {
	r, server := newRedis(t)
	for i := range 1200 { // several steps
		if err := r.Put(t.Context(), storetest.Response("shop", strconv.Itoa(i))); err != nil {
			t.Fatal(err)
		}
	}
	removed := make(map[string]bool)
	err := r.Sweep(t.Context(), func(rec *store.Record) bool {
		if rec.Identifier == "7" {
			server.Del(rec.Key.Name) // somebody else was faster
		}
		return strings.HasSuffix(rec.Identifier, "7")
	}, func(rec *store.Record) { removed[rec.Identifier] = true })
	if err != nil || len(removed) != 119 || removed["7"] || !removed["17"] {
		t.Errorf("%d removed, %v; want 119", len(removed), err)
	}
	if n := len(server.Keys()); n != 1080 {
		t.Errorf("%d keys left, want 1080", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Sweep(ctx, func(*store.Record) bool { return true }, func(*store.Record) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled sweep ends with %v", err)
	}
}

// A prefix is a name, not a pattern.
func TestRedisPrefixIsEscaped(t *testing.T) {
	server := miniredis.RunT(t)
	client := newClient(t, server.Addr())
	for _, prefix := range []string{"a*", "a?", "[a-z]", `a\*`} {
		other := storetest.Response("shop", "1")
		other.Key.Full = "ab:shop:1"
		other.Key.Name = other.Key.Full
		own := storetest.Response("shop", "1")
		own.Key.Full = prefix + ":shop:1"
		own.Key.Name = own.Key.Full
		r := store.NewRedis(client, prefix)
		if err := store.NewRedis(client, "ab").Put(t.Context(), other); err != nil {
			t.Fatal(err)
		}
		if err := r.Put(t.Context(), own); err != nil {
			t.Fatal(err)
		}
		if n, err := r.Delete(t.Context(), func(*store.Record) bool { return true }); n != 1 || err != nil {
			t.Errorf("prefix %q: Delete = %d, %v; want 1", prefix, n, err)
		}
		if !server.Exists(other.Key.Name) {
			t.Errorf("prefix %q: removed a key of another prefix", prefix)
		}
	}
}

func TestRedisEveryKeyHasATTL(t *testing.T) {
	r, server := newRedis(t)
	brief, eternal := storetest.Response("shop", "brief"), storetest.Response("shop", "eternal")
	brief.Expires = time.Now().Add(90 * time.Second)
	eternal.Expires = time.Unix(1<<40, 0)
	if err := r.Put(t.Context(), brief, eternal); err != nil {
		t.Fatal(err)
	}
	if ttl := server.TTL(brief.Key.Name); ttl <= 80*time.Second || ttl > 90*time.Second {
		t.Errorf("TTL %v, want about 90 s", ttl)
	}
	if ttl := server.TTL(eternal.Key.Name); ttl <= 0 || ttl > 11*365*24*time.Hour {
		t.Errorf("TTL %v of a record without end", ttl)
	}
}

func TestRedisGarbageIsAMiss(t *testing.T) {
	r, server := newRedis(t)
	rec := storetest.Response("shop", "1")
	good := string(store.Encode(nil, rec))
	flipped := []byte(good)
	flipped[len(flipped)/2] ^= 1
	future := []byte(good)
	future[3]++
	for _, c := range []struct {
		name, value              string
		wantCorrupt, wantVersion uint64
	}{
		{"empty", "", 1, 0},
		{"text", "<html>", 2, 0},
		{"cut", good[:len(good)-1], 3, 0},
		{"cut head", good[:20], 4, 0},
		{"longer", good + "x", 5, 0},
		{"flipped", string(flipped), 6, 0},
		{"other version", string(future), 6, 1},
	} {
		if err := server.Set(rec.Key.Name, c.value); err != nil {
			t.Fatal(err)
		}
		got, err := r.Get(t.Context(), rec.Key)
		if got != nil || err != nil {
			t.Errorf("%s: Get = %v, %v; want a miss", c.name, got, err)
		}
		if r.Corrupt() != c.wantCorrupt || r.OtherVersion() != c.wantVersion {
			t.Errorf("%s: %d corrupt, %d of another version; want %d, %d",
				c.name, r.Corrupt(), r.OtherVersion(), c.wantCorrupt, c.wantVersion)
		}
	}
}

func TestRedisWalk(t *testing.T) {
	r, server := newRedis(t)
	rec, base := storetest.Response("shop", "1"), storetest.Base("shop", "2")
	if err := r.Put(t.Context(), rec, base); err != nil {
		t.Fatal(err)
	}
	garbage := strings.Repeat("x", 5000)
	if err := server.Set("cache:garbage", garbage); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Lpush("cache:list", "x"); err != nil {
		t.Fatal(err)
	}
	sizes := map[string]int64{}
	err := r.Walk(t.Context(), func(name string, head *store.Record, size int64) bool {
		sizes[name] = size
		if head != nil && head.Key.Name != name {
			t.Errorf("%q has the head of %q", name, head.Key.Name)
		}
		if (head == nil) != (name == "cache:garbage" || name == "cache:list") {
			t.Errorf("%q: head %v", name, head)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, rec := range []*store.Record{rec, base} {
		if got, want := sizes[rec.Key.Name], int64(len(store.Encode(nil, rec))); got != want {
			t.Errorf("%q: size %d, want %d", rec.Key.Name, got, want)
		}
	}
	if len(sizes) != 4 {
		t.Errorf("walked %v, want 4 keys", sizes)
	}

	calls := 0
	err = r.Walk(t.Context(), func(string, *store.Record, int64) bool { calls++; return false })
	if calls != 1 || err != nil {
		t.Errorf("after false: %d calls, error %v", calls, err)
	}
	if n, err := r.Delete(t.Context(), func(*store.Record) bool { return true }); n != 2 || err != nil {
		t.Errorf("Delete = %d, %v; want 2", n, err)
	}
	if !server.Exists("cache:garbage") {
		t.Error("Delete removed what it cannot match")
	}
}

// A walk of a cluster ends on all masters, and with the error of its own.
func TestClusterWalkStops(t *testing.T) {
	client := newCluster(t)
	t.Cleanup(func() { _ = client.Close() })
	r := store.NewRedis(client, storetest.Prefix)
	for i := range 50 {
		if err := r.Put(t.Context(), storetest.Response("shop", fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	calls := 0
	if err := r.Walk(t.Context(), func(string, *store.Record, int64) bool { calls++; return calls < 5 }); err != nil {
		t.Error(err)
	}
	if calls != 5 {
		t.Errorf("%d calls, want 5", calls)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := r.Delete(ctx, func(*store.Record) bool { cancel(); return true })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Delete = %v, want the end of its context", err)
	}
}

func TestRedisRefusesWhatItCannotHold(t *testing.T) {
	r, _ := newRedis(t)
	s := newTiered(t, newMemory(t), r, store.Options{})
	rec := storetest.Response("shop", "1")
	rec.URL += strings.Repeat("x", 3<<20)
	if err := r.Put(t.Context(), rec); !errors.Is(err, store.ErrTooLarge) {
		t.Errorf("Put = %v, want ErrTooLarge", err)
	}
	s.Put(rec)
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantTier(t, s, rec.Key, store.TierMemory)
	if stats := s.Stats(); stats.DroppedWrites != 1 || stats.RedisErrors != 0 || !s.Up() {
		t.Errorf("up %v, %+v", s.Up(), stats)
	}
}

// TestReplacedMeanwhile has records replaced between the moment in which their
// metadata are read and their removal: the new ones stay, their parts included.
func TestReplacedMeanwhile(t *testing.T) {
	for _, size := range []int{10, 1 << 20} {
		r, _ := newRedis(t)
		old, newer := storetest.Response("shop", "1"), storetest.Response("shop", "1")
		for _, rec := range []*store.Record{old, newer} {
			rec.Body = make([]byte, size)
			_, _ = rand.Read(rec.Body) // it cannot be compressed, and has parts
		}
		newer.Freshness.ResponseTime = newer.Freshness.ResponseTime.Add(time.Second)
		if err := r.Put(t.Context(), old); err != nil {
			t.Fatal(err)
		}
		n, err := r.Delete(t.Context(), func(*store.Record) bool {
			if err := r.Put(t.Context(), newer); err != nil {
				t.Error(err)
			}
			return true
		})
		if n != 0 || err != nil {
			t.Errorf("%d removed, %v", n, err)
		}
		got, err := r.Get(t.Context(), newer.Key)
		if err != nil || got == nil || !bytes.Equal(got.Body, newer.Body) {
			t.Errorf("a body of %d bytes: %v, %v", size, got != nil, err)
		}
	}
}
