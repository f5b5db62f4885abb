package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
	"github.com/gplus-recycling/caddy-redis-cache/internal/doctor"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/lint"
	"github.com/gplus-recycling/caddy-redis-cache/internal/node"
)

// API answers the admin routes for the configuration that runs when a request comes.
// It is set once and never changed.
type API struct {
	// The cache of this process.
	doctor.Subject
	Node *node.Node

	// The configuration.
	Context caddy.Context
	Off     bool // it switches this node off
	Named   bool // it names a Redis
	Config  func() *lint.Config
	// Expand expands the rules for an event, which fail with ErrNoRule if there are none.
	// It names what they read and data lacks.
	Expand func(event string, data json.RawMessage) (purges []journal.Purge, missing []string, err error)
	// HashUser is the hash under which records hold an identity.
	HashUser func(identity string) string

	// Jobs are the warm jobs of the process.
	Jobs *Jobs
	// Thrown is told, on its stack, of a panic, and of what has panicked.
	Thrown func(what string, recovered any)
	// Caches reports whether a route caches responses to a method.
	Caches func(method string) bool
	// Warmed is told of the end of a job.
	Warmed func(end *api.WarmProgress)
	// Confirmed is told how long it took until every node had applied a purge.
	Confirmed func(took time.Duration)
	// Waits is told of a purge that waits to be recorded, and why.
	Waits func(err error)
}

// Doctor is GET /redis_cache/doctor.
func (a *API) Doctor(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), doctor.Timeout)
	defer cancel()
	checks := a.Examine(ctx)
	checks = append(checks, doctor.Errors(a.Node.ErrorCounts(), a.Node.LatestErrors(), time.Now())...)
	checks = append(checks, a.Config().Lint()...)
	ok := !slices.ContainsFunc(checks, func(c api.Check) bool { return c.Status == api.Fail })
	return WriteJSON(w, http.StatusOK, map[string]any{"ok": ok, "checks": checks})
}
