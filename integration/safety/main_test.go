// Package safety tests that nobody gets what is not theirs: identities, credentials, keys and
// bodies that a careless cache would mix up.
package safety

import (
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
