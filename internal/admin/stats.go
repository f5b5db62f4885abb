package admin

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
)

// Stats is GET /redis_cache/stats.
func (a *API) Stats(w http.ResponseWriter, r *http.Request) error {
	window := api.Window(cmp.Or(r.URL.Query().Get("window"), string(api.Hour)))
	if window != api.Hour && window != api.Day {
		return Error(http.StatusBadRequest, fmt.Errorf("window: %q is neither %s nor %s", string(window), api.Hour, api.Day))
	}
	return WriteJSON(w, http.StatusOK, a.Node.Statistics(r.Context(), window))
}

// tailTimeout is that of a client that does not read.
const tailTimeout = 10 * time.Second

// Tail is GET /redis_cache/tail: it streams lines until the client leaves or the
// configuration is unloaded.
func (a *API) Tail(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	outcome := query.Get("outcome")
	if outcome != "" && !slices.Contains(engine.ResultNames(), outcome) {
		return Error(http.StatusBadRequest, fmt.Errorf("outcome: %q is none of %q", outcome, engine.ResultNames()))
	}
	stream := http.NewResponseController(w)
	// The admin server's deadline for reading a request would end this one.
	if err := stream.SetReadDeadline(time.Time{}); err != nil {
		return Error(http.StatusInternalServerError, err)
	}
	one := a.Node.Tails.Join(query.Get("namespace"), outcome)
	if one == nil {
		return Error(http.StatusServiceUnavailable, errors.New("too many tails are running"))
	}
	defer a.Node.Tails.Leave(one)
	write := func(text []byte) error {
		_ = stream.SetWriteDeadline(time.Now().Add(tailTimeout))
		if _, err := w.Write(text); err != nil { //nolint:gosec // it is JSON, and says so
			return err
		}
		return stream.Flush()
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	for err := stream.Flush(); err == nil; {
		select {
		case <-r.Context().Done():
			return nil
		case <-a.Context.Done():
			return nil
		case <-a.Node.Done():
			return nil
		case text := <-one.Lines:
			if dropped := one.Dropped.Swap(0); dropped > 0 {
				text = fmt.Appendf(slices.Clone(text), "{\"dropped\":%d}\n", dropped)
			}
			err = write(text)
		}
	}
	return nil // the client has gone
}
