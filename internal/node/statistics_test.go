package node

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
	"github.com/gplus-recycling/caddy-redis-cache/internal/cachekey"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
	"github.com/gplus-recycling/caddy-redis-cache/internal/stats"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// TestListedEndpoints sorts them three ways.
func TestListedEndpoints(t *testing.T) {
	endpoints := map[string]stats.Endpoint{
		"/rare": {Requests: 9, Origin: time.Hour}, "/never": {Requests: 10}, "/never/either": {Requests: 20, Origin: time.Second},
		"/half": {Requests: 10, Hits: 5, Origin: time.Minute}, "/always": {Requests: 1000, Hits: 1000},
	}
	top, bottom, costly := listEndpoints(endpoints)
	for name, list := range map[string]struct {
		got  []api.EndpointStatistics
		want []string
	}{
		"top": {top, []string{"/always", "/half"}}, "bottom": {bottom, []string{"/never/either", "/never", "/half", "/always"}},
		"costly": {costly, []string{"/rare", "/half", "/never/either"}},
	} {
		var names []string
		for _, line := range list.got {
			names = append(names, line.Endpoint)
		}
		if !slices.Equal(names, list.want) {
			t.Errorf("%s: %q, want %q", name, names, list.want)
		}
	}
	for i := range 100 {
		endpoints[fmt.Sprint("/", i)] = stats.Endpoint{Requests: 10, Hits: 1, Origin: time.Second}
	}
	top, bottom, costly = listEndpoints(endpoints)
	for _, list := range [][]api.EndpointStatistics{top, bottom, costly} {
		if len(list) != maxListedEndpoints {
			t.Errorf("%d are listed", len(list))
		}
	}
}

// TestListedNodes lists those first that are there.
func TestListedNodes(t *testing.T) {
	counted := map[string]*stats.Bucket{"idle": {}, "gone": {}}
	recent := map[string]*stats.Bucket{"idle": {State: &stats.State{}}}
	for i := range 150 {
		counted[fmt.Sprintf("old%03d", i)] = &stats.Bucket{Requests: map[string]*stats.Outcomes{"a": {uint64(i + 1)}}}
	}
	lines := listNodes(counted, recent, "idle")
	if len(lines) != maxListedNodes || lines[0].ID != "idle" || !lines[0].Live || lines[1].ID != "old051" {
		t.Errorf("%d lines, %v", len(lines), lines[:2])
	}
}

// TestHeld counts records that a tier has yet to drop.
func TestHeld(t *testing.T) {
	n := New(Options{Prefix: "cache", Memory: 1 << 20}, &Settings{
		Log: slog.New(slog.DiscardHandler), Emits: func(string) bool { return false }, Shown: func(*journal.Entry) []string { return nil },
		Queries: func() []*cachekey.Query { return nil }, Rules: func() string { return "" },
	})
	n.Store.Start()
	n.Journal.Start()
	defer func() {
		n.Journal.Close(t.Context())
		n.Store.Close()
	}()
	now := time.Now()
	rec := &store.Record{
		Key: store.Key{Full: "cache:general:a", Name: "cache:general:a"}, Namespace: "general", URL: "http://example.com/a", Status: 200,
		Position: n.Journal.Position(), Expires: now.Add(time.Minute), Freshness: rfc9111.Freshness{ResponseTime: now, Lifetime: time.Minute},
	}
	held := func(rec *store.Record) int {
		h := &holdings{namespaces: make(map[string]*holding), ttl: make(map[string]int)}
		n.hold(h, rec, 1, now)
		return h.keys
	}
	base, expired := *rec, *rec
	base.Vary, base.Status = []string{"X"}, 0
	expired.Expires = now
	if held(rec) != 1 || held(&expired) != 0 || held(nil) != 0 || held(&base) != 0 {
		t.Errorf("%d of one of use, %d expired, %d of no record, %d base", held(rec), held(&expired), held(nil), held(&base))
	}
	if _, err := n.Journal.Append(t.Context(), journal.Purge{Selectors: []journal.Selector{{Kind: journal.KindAll}}}, time.Second); err != nil {
		t.Fatal(err)
	}
	if held(rec) != 0 {
		t.Error("what a purge covers is counted")
	}
}

// TestInventory begins walks that take a while and may not see everything.
func TestInventory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var i inventory
		walks := 0
		// look returns what is known after some time.
		look := func(after, takes time.Duration, found holdings) *holdings {
			time.Sleep(after)
			return i.get(func() *holdings {
				walks++
				time.Sleep(takes)
				return &found
			})
		}
		for number, step := range []struct {
			after, takes time.Duration
			found, want  holdings
			walks        int
		}{
			{0, 4 * time.Second, holdings{keys: 1, partial: true}, holdings{keys: 1, partial: true}, 1},
			{40*time.Second - 1, 0, holdings{keys: 2}, holdings{keys: 1, partial: true}, 1},
			{1, 0, holdings{keys: 2}, holdings{keys: 2}, 2},
			{inventoryAge - 1, 0, holdings{keys: 3}, holdings{keys: 2}, 2},
			{1, 0, holdings{keys: 3, partial: true}, holdings{keys: 2}, 3},
			{inventoryAge, 0, holdings{keys: 4, alone: true}, holdings{keys: 2}, 4},
			{inventoryKept, 0, holdings{keys: 5, alone: true}, holdings{keys: 5, alone: true}, 5},
			{inventoryAge, 0, holdings{keys: 6}, holdings{keys: 6}, 6},
		} {
			got := look(step.after, step.takes, step.found)
			if got.keys != step.want.keys || got.partial != step.want.partial || got.alone != step.want.alone || walks != step.walks {
				t.Errorf("step %d: %+v after %d walks, want %+v, %d", number, got, walks, step.want, step.walks)
			}
		}
	})
}
