// Package http tests the cache as an HTTP cache: RFC 9110 and 9111 in conversations, all
// protocols, and requests at random that are answered with and without it.
package http

import (
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
