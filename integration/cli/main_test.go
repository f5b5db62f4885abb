// Package cli tests the commands of `caddy redis-cache`, in terminals and in scripts.
package cli

import (
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
