package rediscache

import (
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// observe tells whoever watches how the request was answered.
func (x *exchange) observe() {
	n := x.h.node
	if x.collapsed {
		n.coalesced.Add(1)
	}
	took := time.Since(x.began)
	x.h.counter.Add(uint8(x.outcome), uint8(x.answeredBy()), took)
	if x.cacheable() {
		x.countEndpoint(took)
		x.h.credentialed.count(x)
	}
	x.log(took)
	x.tail(took)
	x.trace()
}

// answeredBy is the tier that the answer came from; none if it came from the
// upstream.
func (x *exchange) answeredBy() store.TierName {
	if x.outcome == OutcomeBypass || x.outcome == OutcomeMiss {
		return store.TierNone
	}
	return x.tier
}
