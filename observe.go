package rediscache

import (
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// observe tells whoever watches how the request was answered.
func (x *exchange) observe() {
	if !x.warms {
		x.count()
	}
	x.log()
	x.tail()
	x.trace()
}

// count counts the request in metrics and statistics.
func (x *exchange) count() {
	if x.collapsed {
		x.h.node.coalesced.Add(1)
	}
	x.noteHeader() // where there was none, it ends now
	x.h.counter.Add(uint8(x.outcome), uint8(x.answeredBy()), x.waited, x.headed.Sub(x.began))
	x.h.unstored.count(x)
	if x.cacheable() {
		x.countEndpoint()
		x.h.credentialed.count(x)
	}
}

// noteHeader notes that the header of the response goes out: the time that the
// request took for statistics. What comes later depends on the client and on how
// long the response is.
func (x *exchange) noteHeader() {
	if x.headed.IsZero() {
		x.headed = time.Now()
	}
}

// answeredBy is the tier that the answer came from; none if it came from the
// upstream.
func (x *exchange) answeredBy() store.TierName {
	if x.outcome == OutcomeBypass || x.outcome == OutcomeMiss {
		return store.TierNone
	}
	return x.tier
}
