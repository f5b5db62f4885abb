package store_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/gplus-recycling/caddy-redis-cache/internal/redistest"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store/storetest"
)

// newPaged returns one server and a cluster with the same hundred records.
func newPaged(t *testing.T) map[string]*store.Redis {
	t.Helper()
	single, _ := newRedis(t)
	client := newCluster(t)
	t.Cleanup(func() { _ = client.Close() })
	cluster := store.NewRedis(client, storetest.Prefix)
	for i := range 100 {
		rec := storetest.Response("shop", fmt.Sprint(i))
		if err := errors.Join(single.Put(t.Context(), rec), cluster.Put(t.Context(), rec)); err != nil {
			t.Fatal(err)
		}
	}
	return map[string]*store.Redis{"single": single, "cluster": cluster}
}

func TestPage(t *testing.T) {
	for name, r := range newPaged(t) {
		seen := make(map[string]bool)
		for cursor, pages := "", 0; cursor != "" || pages == 0; pages++ {
			next, err := r.Page(t.Context(), cursor, 7, func(rec *store.Record, _ int64) bool {
				seen[rec.Key.Full] = true
				return true
			})
			if err != nil || pages > 100 {
				t.Fatalf("%s: page %d: %v", name, pages, err)
			}
			cursor = next
		}
		if len(seen) != 100 {
			t.Errorf("%s: %d records on all pages", name, len(seen))
		}
		for _, cursor := range []string{"x", "eA", "\xff"} {
			if _, err := r.Page(t.Context(), cursor, 1, nil); !errors.Is(err, store.ErrCursor) {
				t.Errorf("%s: the cursor %q: %v", name, cursor, err)
			}
		}
	}
}

// TestPageEnds has a context that ends on the way: what comes behind is on the next
// page, and a page that got nowhere is an error.
func TestPageEnds(t *testing.T) {
	r := newPaged(t)["cluster"]
	seen := 0
	ctx, cancel := context.WithCancel(t.Context())
	cursor, err := r.Page(ctx, "", 1000, func(*store.Record, int64) bool {
		seen++
		cancel()
		return true
	})
	if err != nil || cursor == "" {
		t.Fatalf("the first page ends with the cursor %q and %v", cursor, err)
	}
	if _, err := r.Page(ctx, cursor, 1000, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("a page without time: %v", err)
	}
	cursor, err = r.Page(t.Context(), cursor, 1000, func(*store.Record, int64) bool {
		seen++
		return true
	})
	if err != nil || cursor != "" || seen != 100 {
		t.Errorf("%d records, the cursor %q and %v", seen, cursor, err)
	}
}

// TestPageSteps looks for one record among many keys of others: that takes a step
// for some hundred keys, whatever the limit is.
func TestPageSteps(t *testing.T) {
	client := redistest.Start(t).Client()
	r := store.NewRedis(client, storetest.Prefix)
	if err := r.Put(t.Context(), storetest.Response("shop", "only")); err != nil {
		t.Fatal(err)
	}
	const others = 5000
	_, err := client.Pipelined(t.Context(), func(pipe redis.Pipeliner) error {
		for i := range others {
			pipe.Set(t.Context(), fmt.Sprintf("other:%d", i), "", 0)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, limit := range []int{1, 2, 1000} {
		if err := client.ConfigResetStat(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		seen := 0
		for cursor, pages := "", 0; cursor != "" || pages == 0; pages++ {
			cursor, err = r.Page(t.Context(), cursor, limit, func(*store.Record, int64) bool { seen++; return true })
			if err != nil {
				t.Fatal(err)
			}
		}
		_, calls, _ := strings.Cut(client.Info(t.Context(), "commandstats").Val(), "cmdstat_scan:calls=")
		calls, _, _ = strings.Cut(calls, ",")
		if n, err := strconv.Atoi(calls); err != nil || seen != 1 || n > others/100 {
			t.Errorf("limit %d: %d records in %q steps", limit, seen, calls)
		}
	}
}
