// Package fleet tests nodes that share a Redis: what a purge that was answered has replaced is
// never seen again, whatever happens to nodes, links and servers.
package fleet

import (
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
