// Package config tests what Caddyfiles mean: options and their merging, errors, reloads, and
// the examples of the repository.
package config

import (
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
