package rediscache

import (
	"net/http"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/internal/config"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
)

func TestSwitchedOff(t *testing.T) {
	s := newSite(t, `{"ttl":{"duration":"1h"}}`, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("x")) })
	s.get("/a")
	turn := func(enable bool, namespace string) {
		t.Helper()
		if _, err := s.handler.node.Journal.Switch(t.Context(), enable, namespace, "", "", 0); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(want string) {
		t.Helper()
		if got := s.get("/a").Header(); got.Get("X-Cache") != want {
			t.Errorf("%q, want %s (%q)", got.Get("X-Cache"), want, got.Get("Cache-Status"))
		}
	}
	turn(false, "other")
	expect("HIT")
	turn(false, config.DefaultNamespace)
	expect("BYPASS")
	turn(true, config.DefaultNamespace)
	expect("HIT")
	turn(false, "")
	expect("BYPASS")
	if _, err := s.handler.node.Journal.Append(t.Context(), journal.Purge{Selectors: []journal.Selector{{Kind: journal.KindAll}}}, 0); err != nil {
		t.Fatal(err)
	}
	turn(true, "")
	expect("MISS") // it was purged while the cache was off
}
