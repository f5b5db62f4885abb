package rediscache

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gplus-recycling/caddy-redis-cache/internal/coalesce"
)

// This file is the only place that calls the handlers behind the cache. They
// must not be called twice with one request: the context of a request remembers
// which routes it has been through, and a second call would find them all done.
// Every further call takes a request from again.

// passThrough is for requests that this handler has no part in.
func passThrough(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return next.ServeHTTP(w, r)
}

// callNext calls the handlers behind the cache with a request.
//
// An upstream that breaks off panics. Where a stale response may stand in for
// it and nothing has been sent, this is an error like others.
func (x *exchange) callNext(w *captureWriter, r *http.Request) (err error) {
	if x.waited = true; x.asked.IsZero() {
		x.asked = time.Now()
	}
	defer func() {
		if w.status != 0 && !w.pending && !w.failed {
			return
		}
		if x.now = time.Now(); x.mayServeOnError() {
			if recovered := recover(); recovered == http.ErrAbortHandler { //nolint:errorlint // the value itself is what is thrown
				w.abandon()
				err = errBrokeOff
			} else if recovered != nil {
				panic(recovered)
			}
		}
	}()
	if err = x.next.ServeHTTP(w, r); err == nil {
		w.commit()
	}
	return err
}

var errBrokeOff = errors.New("the upstream broke off")

// again prepares a request for a further call of the handlers behind: as it came
// in, with the variables and placeholders that the handlers in front have set,
// but for those of the exchange, which are x's.
func (x *exchange) again(ctx context.Context, w http.ResponseWriter, outer *caddy.Replacer) *http.Request {
	r := x.came.Clone(ctx)
	r.Body = http.NoBody
	if len(x.body) > 0 {
		r.Body = io.NopCloser(bytes.NewReader(x.body))
	}
	server := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	original := ctx.Value(caddyhttp.OriginalRequestCtxKey)
	vars, _ := ctx.Value(caddyhttp.VarsCtxKey).(map[string]any)
	repl := caddy.NewReplacer()
	prepared := caddyhttp.PrepareRequest(r, repl, w, server)
	if copied, ok := prepared.Context().Value(caddyhttp.VarsCtxKey).(map[string]any); ok {
		maps.Copy(copied, vars)
	}
	// In place, because the replacer is bound to the request.
	*prepared = *prepared.WithContext(context.WithValue(prepared.Context(), caddyhttp.OriginalRequestCtxKey, original))
	repl.Map(x.placeholder)
	repl.Map(outer.Get)
	return prepared
}

const (
	refreshTimeout = time.Minute
	maxRefreshes   = 64 // background refreshes of a node at a time
)

// refresh fetches the stored response anew in the background, once at a time
// for each key and fleet, unless the upstream has failed lately. The client that
// triggered it is not kept waiting.
func (x *exchange) refresh() {
	n := x.h.node
	id := coalesce.IDOf(x.answered.Full)
	if n.failures.Recent(id, x.now) || !n.refreshes.begin(id) {
		return
	}
	// All of it is fetched, whatever this client wants of it.
	came := x.came.Clone(x.came.Context())
	for _, name := range conditionFields {
		delete(came.Header, name)
	}
	method := x.method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	came.Method = method
	// What the outer handlers prepared is still untouched, and only what the
	// upstream makes of it will be stored.
	w := &discardWriter{header: x.w.Header().Clone()}
	y := &exchange{
		h: x.h, w: w, next: x.next, now: x.now, method: method, credentials: x.credentials, userID: x.userID,
		position: x.position, user: x.user, soft: x.soft, tier: x.tier, ended: x.ended, id: id, background: true,
		key: x.key, base: x.base, stored: cmp.Or(x.stored, x.rec), answered: x.answered, forward: ReasonExpired,
		q: x.q, level: x.level, came: came, reqHead: came.Header, url: x.url, ttl: x.ttl, body: x.body,
	}
	y.r = y.again(context.WithoutCancel(x.r.Context()), w, x.repl)
	y.repl = y.r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	go func() {
		defer n.refreshes.end(id)
		defer func() {
			if recovered := recover(); recovered != nil && recovered != http.ErrAbortHandler { //nolint:errorlint // see callNext
				x.h.logger.Error("a background refresh panicked", zap.Any("panic", recovered))
			}
		}()
		ctx, cancel := context.WithTimeout(y.r.Context(), refreshTimeout)
		defer cancel()
		*y.r = *y.r.WithContext(ctx)
		if err := y.renew(); err != nil {
			x.h.logger.Debug("a background refresh failed", zap.Error(err))
		}
	}()
}

// renew fetches in the background what is stored, unless somebody else does.
func (x *exchange) renew() error {
	x.outcome = OutcomeMiss
	if !x.mayFollow() {
		return x.fetchFor(nil)
	}
	f, leads := x.h.node.flights.Join(x.id, true)
	if leads {
		return x.lead(f)
	}
	if f != nil {
		f.Leave()
	}
	return nil
}
