package admin

import (
	"github.com/caddyserver/caddy/v2"

	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
)

// API answers the admin routes for the configuration that runs when a request comes.
// It is set once and never changed.
type API struct {
	Context caddy.Context // of that configuration
	Jobs    *Jobs         // of the process

	// Thrown is told, on its stack, of a panic of a handler that warms.
	Thrown func(recovered any)
	// Warmed is told of the end of a job.
	Warmed func(end *api.WarmProgress)
}
