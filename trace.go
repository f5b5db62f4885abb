package rediscache

import (
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
)

// trace adds what became of the request to the span of Caddy's directive
// `tracing`, where that records.
func (c *call) trace(out *engine.Outcome) {
	span := trace.SpanFromContext(c.r.Context())
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(
		attribute.String("redis_cache.outcome", out.Result.String()),
		attribute.String("redis_cache.reason", out.Text()),
		attribute.String("redis_cache.tier", out.AnsweredBy().String()),
		attribute.String("redis_cache.namespace", c.h.Namespace),
	)
}
