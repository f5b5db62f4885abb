// Package redis tests what failures, limits and rights of Redis do to a node, and what
// `doctor` says of them.
package redis

import (
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
