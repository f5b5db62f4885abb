package engine

import (
	"github.com/gplus-recycling/caddy-redis-cache/internal/coalesce"
	"github.com/gplus-recycling/caddy-redis-cache/internal/reason"
)

// captured is the copy of a body that is passed on. It takes its memory from what the
// bodies that a node keeps may take together.
type captured struct {
	coalesce.Buffer

	cache *Cache // nil where nothing is captured
	route *Route
	taken int64
}

// reserve takes memory for a body of this size, if there is so much.
func (b *captured) reserve(size int64) {
	if b.room(size) {
		b.Reserve(size)
	}
}

// keep keeps a piece of the body, or says why it cannot.
func (b *captured) keep(p []byte) reason.Reason {
	switch size := int64(b.Len() + len(p)); {
	case size > b.route.MaxBody:
		return reason.TooLarge
	case !b.room(size - b.taken):
		return reason.Overload
	}
	_, _ = b.Write(p) // it never fails
	return reason.None
}

// room takes memory for n more bytes, which release gives back.
func (b *captured) room(n int64) bool {
	if n > 0 && !b.cache.flights.Take(n, b.route.maxHeld(int(b.taken+n))) {
		return false
	}
	b.taken += max(n, 0)
	return true
}

// release is called when the client has been served.
func (b *captured) release() {
	if b.cache != nil {
		b.cache.flights.Give(b.taken)
		b.taken = 0
	}
}

// maxHeld is how much the bodies that a node keeps for slow clients take together: 128 MiB,
// or a few of the largest that the route stores. A quarter more is kept for small bodies,
// so that large ones on slow links do not end all caching.
func (rt *Route) maxHeld(size int) int64 {
	limit := max(128<<20, 4*rt.MaxBody)
	if size <= smallBody {
		limit += limit / 4
	}
	return limit
}

const smallBody = 64 << 10
