package rediscache

import (
	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
	"github.com/gplus-recycling/caddy-redis-cache/internal/reason"
)

// observe tells whoever watches how the request was answered.
func (c *call) observe() {
	out := c.answer.End()
	if !c.warms {
		c.count(out)
	}
	c.log(out)
	c.tail(out)
	c.trace(out)
}

// count counts the request in metrics and statistics.
func (c *call) count(out *engine.Outcome) {
	h := c.h
	if out.Collapsed {
		h.node.coalesced.Add(1)
	}
	h.counter.Add(uint8(out.Result), uint8(out.AnsweredBy()), out.Waited, out.Headed.Sub(out.Began))
	h.unstored.count(h, out)
	if out.Result != engine.Bypass || !out.Reason.Is(reason.NotMeasured) {
		h.node.countEndpoint(c.answer.Request.Target.Path, out)
		h.credentialed.count(c.answer.Request.Credentials.Name, out)
	}
}
