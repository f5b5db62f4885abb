package node

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/internal/cachekey"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
)

func TestURLForms(t *testing.T) {
	n := new(Node)
	n.settings.Store(&Settings{Queries: func() []*cachekey.Query {
		return []*cachekey.Query{nil, {Mode: cachekey.QueryOnly, Names: []string{"a"}}}
	}})
	got := n.urlForms("http://example.com/x?b=1&a=2")
	if want := []string{"http://example.com/x?a=2&b=1", "http://example.com/x?a=2"}; !slices.Equal(got, want) {
		t.Errorf("forms are %q, want %q", got, want)
	}
}

// What an event purges is logged like every purge.
func TestPurgesOfEventsAreLogged(t *testing.T) {
	var logged bytes.Buffer
	n := New(Options{Prefix: "cache", Memory: 1 << 20}, &Settings{
		Log:   slog.New(slog.NewJSONHandler(&logged, nil)),
		Emits: func(string) bool { return false },
		Shown: func(e *journal.Entry) []string { return []string{e.Selectors[0].String()} },
		Expand: func(string, json.RawMessage) ([]journal.Purge, []string, error) {
			return []journal.Purge{
				{Selectors: []journal.Selector{{Kind: journal.KindKey, Value: "general:7"}}},
				{Selectors: []journal.Selector{{Kind: journal.KindTag, Value: "t"}}, Soft: true},
			}, nil, nil
		},
	})
	defer n.Memory.Close()
	n.onEntry(journal.Entry{ID: journal.ID{Ms: 1}, Op: journal.OpEvent, Event: "changed", Data: json.RawMessage(`{"user":7}`)})
	var got []string
	for decoder := json.NewDecoder(&logged); ; {
		var line struct {
			Msg       string
			Selectors []string
			Soft      bool
			By        string
		}
		if err := decoder.Decode(&line); err != nil {
			break
		}
		got = append(got, fmt.Sprintf("%s %v %v %s", line.Msg, line.Selectors, line.Soft, line.By))
	}
	want := "cache_event [] false , cache_invalidate [key general:7] false event changed, cache_invalidate [tag t] true event changed"
	if strings.Join(got, ", ") != want {
		t.Errorf("%q, want %s", got, want)
	}
}
