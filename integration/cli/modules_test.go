package cli

import (
	"slices"
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

func TestListModules(t *testing.T) {
	t.Parallel()
	out, err := harness.Command(t, "list-modules")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, module := range []string{"http.handlers.redis_cache", "redis_cache", "admin.api.redis_cache"} {
		if !slices.Contains(strings.Split(out, "\n"), module) {
			t.Errorf("%s is not listed", module)
		}
	}
}
