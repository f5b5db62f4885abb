package rediscache

import (
	"bytes"
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
func (x *exchange) again(w http.ResponseWriter) *http.Request {
	ctx := x.r.Context()
	vars, _ := ctx.Value(caddyhttp.VarsCtxKey).(map[string]any)
	return x.prepare(x.came.Clone(ctx), w, vars, x.repl.Get)
}

// prepare makes a request that the handlers behind have not seen, with variables and
// placeholders of handlers in front.
func (x *exchange) prepare(r *http.Request, w http.ResponseWriter, vars map[string]any, outer caddy.ReplacerFunc) *http.Request {
	r.Body = http.NoBody
	if len(x.body) > 0 {
		r.Body = io.NopCloser(bytes.NewReader(x.body))
	}
	ctx := r.Context()
	server := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	original := ctx.Value(caddyhttp.OriginalRequestCtxKey)
	repl := caddy.NewReplacer()
	prepared := caddyhttp.PrepareRequest(r, repl, w, server)
	if copied, ok := prepared.Context().Value(caddyhttp.VarsCtxKey).(map[string]any); ok {
		maps.Copy(copied, vars)
	}
	// In place, because the replacer is bound to the request.
	*prepared = *prepared.WithContext(context.WithValue(prepared.Context(), caddyhttp.OriginalRequestCtxKey, original))
	repl.Map(x.placeholder)
	repl.Map(outer)
	return prepared
}

const (
	refreshTimeout = time.Minute
	maxRefreshes   = 64 // background refreshes of a node at a time
)

// refreshing reports whether what is stored needs no refresh: there is one already,
// or the upstream has failed lately.
func (x *exchange) refreshing() bool {
	id := coalesce.IDOf(x.answered.Full)
	return x.h.node.failures.Recent(id, x.now) || x.h.node.refreshes.running(id)
}

// refresh lets the deputy fetch the stored response anew in the background, once at
// a time for each key and fleet. The client that triggered it is not kept waiting.
func (x *exchange) refresh() {
	n, y := x.h.node, x.deputy
	if y == nil || !n.refreshes.begin(y.id) {
		return
	}
	go func() {
		defer n.refreshes.end(y.id)
		defer func() {
			logPanic(x.h.logger, "a background refresh", recover())
		}()
		ctx, cancel := context.WithTimeout(y.r.Context(), refreshTimeout)
		defer cancel()
		*y.r = *y.r.WithContext(ctx)
		err := y.renew()
		if err != nil {
			x.h.logger.Debug("a background refresh failed", zap.Error(err))
		}
		y.noteDoor(err)
	}()
}

// noteDoor notes whether nobody got what is stored anew, and not, say, the way to a
// login.
func (x *exchange) noteDoor(err error) {
	switch n := x.h.node; {
	case x.storing:
		n.doors.Remove(x.id)
	case err == nil && !x.asked.IsZero() && x.status != 0 && x.status < http.StatusInternalServerError:
		n.doors.Add(x.id, time.Now())
	}
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
