// Package handlers tests the cache with other handlers of Caddy beside it.
package handlers

import (
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
