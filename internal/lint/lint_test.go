package lint

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gplus-recycling/caddy-redis-cache/internal/routes"
)

// cache stands for a redis_cache.
type cache struct{}

func (cache) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return next.ServeHTTP(w, r)
}

// TestLintUninvoked has a named route that a configuration in JSON may hold.
func TestLintUninvoked(t *testing.T) {
	route := &caddyhttp.Route{Handlers: []caddyhttp.MiddlewareHandler{cache{}, &caddyhttp.Invoke{Name: "gone"}}}
	c := Config{
		Servers: map[string]*caddyhttp.Server{"s": {NamedRoutes: map[string]*caddyhttp.Route{"a": route}}},
		Directive: func(handler any, _ *caddyhttp.Server) *Directive {
			if handler != any(cache{}) {
				return nil
			}
			return &Directive{Namespace: "n", SetCookie: "store", Front: new(routes.Front)}
		},
	}
	if found := c.Lint(); len(found) != 1 || !strings.HasPrefix(found[0].Detail, "server s, namespace n: set_cookie store") {
		t.Errorf("found %v", found)
	}
}
