package store_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

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
