package rediscache

import (
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// trace adds what became of the request to the span of Caddy's directive
// `tracing`, where that records.
func (x *exchange) trace() {
	span := trace.SpanFromContext(x.r.Context())
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(
		attribute.String("redis_cache.outcome", x.outcome.String()),
		attribute.String("redis_cache.reason", x.reasonText()),
		attribute.String("redis_cache.tier", x.answeredBy().String()),
		attribute.String("redis_cache.namespace", x.h.Namespace),
	)
}
