package rediscache

import (
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
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
		h.node.Coalesced.Add(1)
	}
	h.counter.Add(uint8(out.Result), uint8(out.AnsweredBy()), out.Waited, out.Headed.Sub(out.Began))
	h.watch.Count(out)
	if out.Result != engine.Bypass || !out.Reason.Is(reason.NotMeasured) {
		h.node.CountEndpoint(c.answer.Request.Target.Path, out)
		h.watch.CountCredential(c.answer.Request.Credentials.Name, out)
	}
}

// tail tells those who listen about the request.
func (c *call) tail(out *engine.Outcome) {
	t := &c.h.node.Tails
	if t.Listening() == 0 {
		return
	}
	t.Publish(&api.TailLine{
		Time: out.Began, Namespace: c.h.Namespace, Outcome: out.Result.String(), Reason: out.Text(),
		Tier: out.AnsweredBy().String(), Method: c.answer.Request.Method, Path: c.answer.Request.Target.Path, Status: out.SentStatus(),
		DurationMS: float64(time.Since(out.Began).Microseconds()) / 1000, Key: c.shownKey(out),
	})
}
