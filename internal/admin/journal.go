package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
)

// readTimeout bounds a call of the journal.
const readTimeout = time.Second

// Entry is one line of GET /redis_cache/journal.
type Entry struct {
	ID        string             `json:"id"`
	Time      time.Time          `json:"time"`
	Op        journal.Op         `json:"op"`
	Selectors []journal.Selector `json:"selectors,omitempty"`
	Event     string             `json:"event,omitempty"`
	Data      json.RawMessage    `json:"data,omitempty"`
	By        string             `json:"by,omitempty"`
	Reason    string             `json:"reason,omitempty"`
	Removed   *int64             `json:"removed,omitempty"` // stored responses, once it is known
	Error     string             `json:"error,omitempty"`   // why it was skipped: it is malformed
}

// EntryOf is the line of an entry.
func EntryOf(e *journal.Entry) Entry {
	line := Entry{
		ID: e.ID.String(), Time: time.UnixMilli(int64(e.ID.Ms)).UTC(), Op: e.Op, Selectors: e.Selectors,
		Event: e.Event, Data: e.Data, By: e.By, Reason: e.Reason, Removed: e.Removed,
	}
	if e.Malformed != nil {
		line.Error = e.Malformed.Error()
	}
	return line
}

// maxEntries bounds a listing of the journal.
const maxEntries = 10_000

// Listing is GET /redis_cache/journal.
func (a *API) Listing(w http.ResponseWriter, r *http.Request) error {
	limit, err := ParseLimit(r, api.DefaultListed, maxEntries)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), readTimeout)
	defer cancel()
	entries, err := a.Journal.Entries(ctx, limit)
	if err != nil {
		return Error(http.StatusServiceUnavailable, err)
	}
	lines := make([]Entry, 0, len(entries))
	for _, e := range entries {
		lines = append(lines, EntryOf(&e))
	}
	return WriteJSON(w, http.StatusOK, map[string]any{"entries": lines})
}

// Nodes is GET /redis_cache/nodes.
func (a *API) Nodes(w http.ResponseWriter, r *http.Request) error {
	type line struct {
		ID       string  `json:"id"`
		Self     bool    `json:"self"`
		State    string  `json:"state"` // live, joining or lapsed
		Version  string  `json:"version"`
		Position string  `json:"position"` // the newest entry it has applied
		Lag      float64 `json:"lag_seconds"`
	}
	ctx, cancel := context.WithTimeout(r.Context(), readTimeout)
	defer cancel()
	nodes, err := a.Journal.Nodes(ctx)
	if err != nil {
		return Error(http.StatusServiceUnavailable, err)
	}
	lines := make([]line, 0, len(nodes))
	for _, n := range nodes {
		lines = append(lines, line{n.ID, n.Self, n.State, n.Version, n.Position.ID.String(), n.Lag.Seconds()})
	}
	answer := map[string]any{"nodes": lines, "disabled": a.Disabled()}
	if waiting := WaitingOf(a.Journal); waiting != nil {
		answer["waiting"] = waiting
	}
	return WriteJSON(w, http.StatusOK, answer)
}

// WaitingOf returns nil if nothing waits.
func WaitingOf(j *journal.Journal) *api.Waiting {
	count, since := j.Waiting()
	if count == 0 {
		return nil
	}
	return &api.Waiting{Purges: count, Since: since.UTC()}
}
