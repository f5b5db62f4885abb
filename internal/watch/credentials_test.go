package watch

import (
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
	"github.com/gplus-recycling/caddy-redis-cache/internal/reason"
)

// TestCredentialsCost counts hits without an allocation, and keeps no more of a name
// than it has to.
func TestCredentialsCost(t *testing.T) {
	out, c := &engine.Outcome{Result: engine.Hit}, new(credentialed)
	if got := testing.AllocsPerRun(100, func() { c.count("", out) }); got != 0 {
		t.Errorf("%v allocations", got)
	}
	out.Reason = reason.Credentials
	c.count(strings.Repeat("n", 1000), out)
	if requests, kept, name := c.counts(); requests != 102 || kept != 1 || len(name) != maxShownName {
		t.Errorf("%d requests, %d kept, a name of %d", requests, kept, len(name))
	}
}
