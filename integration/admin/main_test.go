// Package admin tests what the admin API, the metrics and the logs tell: statistics, entries,
// explain, tail, warming and switches.
package admin

import (
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
