package engine

import (
	"context"
	"net/http"

	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
)

// borrowed is a request that the handlers behind get. It is changed in place, because its
// placeholders are bound to it, and is put back as it came: what changes it says what puts
// it back, in the opposite order.
type borrowed struct {
	r    *http.Request
	came *http.Request // as it came in, for handlers behind may change r

	conditional bool            // its conditions are the cache's
	outer       context.Context // before allowAbort; or nil
	abort       context.CancelFunc

	client  context.Context // before detach; or nil
	cancel  context.CancelFunc
	unwatch func() bool // ends what watches the client
	grounds func() bool // undoes attach
}

// setConditions asks the upstream whether the stored response that came with this header is
// still good, RFC 9111 section 4.3.1. restore puts the client's conditions back.
func (b *borrowed) setConditions(validator http.Header) {
	b.conditional = true
	rfc9111.SetConditions(b.r.Header, validator)
	// The stored response will answer it, once it is known to be good.
	delete(b.r.Header, "Range")
}

// allowAbort returns what ends the request. restore takes it back.
func (b *borrowed) allowAbort() context.CancelFunc {
	b.outer = b.r.Context()
	ctx, cancel := context.WithCancel(b.outer)
	*b.r = *b.r.WithContext(ctx)
	b.abort = cancel
	return cancel
}

// restore puts back what setConditions and allowAbort have changed.
func (b *borrowed) restore() {
	if b.outer != nil {
		b.abort()
		*b.r = *b.r.WithContext(b.outer)
		b.outer = nil
	}
	if !b.conditional {
		return
	}
	b.conditional = false
	for _, name := range conditionFields {
		if values, ok := b.came.Header[name]; ok {
			b.r.Header[name] = values
		} else {
			delete(b.r.Header, name)
		}
	}
}

// detach lets the request go on without its client, whose leaving is watched by left.
// reattach gives it back.
func (b *borrowed) detach(left func(ctx context.Context, cancel context.CancelFunc)) {
	b.client = b.r.Context()
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.client))
	*b.r = *b.r.WithContext(ctx)
	b.cancel = cancel
	b.unwatch = context.AfterFunc(b.client, func() { left(ctx, cancel) })
}

// attach ties a detached request to its client again, for nobody else gets the response.
func (b *borrowed) attach() {
	if b.client != nil && b.grounds == nil {
		b.grounds = context.AfterFunc(b.client, b.cancel)
	}
}

// reattach gives the request back to its client.
func (b *borrowed) reattach() {
	if b.client == nil {
		return
	}
	*b.r = *b.r.WithContext(b.client)
	b.client = nil
	b.unwatch()
	if b.grounds != nil {
		b.grounds()
	}
	b.cancel()
}
