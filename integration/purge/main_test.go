// Package purge tests purges of one or two nodes: selectors, what requests purge, and purges
// while Redis is away.
package purge

import (
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
