package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
	"github.com/gplus-recycling/caddy-redis-cache/internal/node"
)

// readTimeout bounds a call of the journal.
const readTimeout = time.Second

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
	lines := make([]node.Entry, 0, len(entries))
	for _, e := range entries {
		lines = append(lines, node.EntryOf(&e))
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
	answer := map[string]any{"nodes": lines, "disabled": a.Node.Off()}
	if waiting := a.Node.Waiting(); waiting != nil {
		answer["waiting"] = waiting
	}
	return WriteJSON(w, http.StatusOK, answer)
}
