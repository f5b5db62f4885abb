// Package coalesce tests what requests for the same key do together: one fetch for all of
// them, on every node, and no queue behind what cannot be shared.
package coalesce

import (
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
