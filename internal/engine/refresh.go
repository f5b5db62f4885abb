package engine

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/cachekey"
	"github.com/gplus-recycling/caddy-redis-cache/internal/coalesce"
	"github.com/gplus-recycling/caddy-redis-cache/internal/reason"
)

const (
	refreshTimeout = time.Minute
	maxRefreshes   = 64 // background refreshes of a node at a time
)

// refreshes are the keys that are being refreshed in the background. mu guards keys.
type refreshes struct {
	mu   sync.Mutex
	keys map[coalesce.ID]struct{}
}

// begin reports whether the caller is to refresh the key.
func (f *refreshes) begin(key coalesce.ID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, running := f.keys[key]; running || len(f.keys) >= maxRefreshes {
		return false
	}
	if f.keys == nil {
		f.keys = make(map[coalesce.ID]struct{})
	}
	f.keys[key] = struct{}{}
	return true
}

func (f *refreshes) running(key coalesce.ID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, running := f.keys[key]
	return running || len(f.keys) >= maxRefreshes
}

func (f *refreshes) end(key coalesce.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.keys, key)
}

// refreshes reports whether what is stored needs no refresh, because there is one already
// or the upstream has failed lately, or can be fetched anew without this client.
func (a *Answer) refreshes() bool {
	id, c := a.Found.id(), a.Request.Route.Cache
	return c.failures.Recent(id, a.Found.At) || c.refreshes.running(id) || a.canRefresh()
}

// canRefresh reports whether what is stored can be fetched anew by nobody, and prepares
// that. Who was authenticated in front triggers no such fetch: nobody would not have come
// this far. Nor does who carries what may open a door that was closed to nobody of late:
// it would stay stale for as long as that is allowed. Nor can nobody fetch what is stored
// for one user, or for request fields that nobody sends.
func (a *Answer) canRefresh() bool {
	if a.refresh != nil {
		return true
	}
	q := &a.Request
	if q.Route.ByUser || q.presents() && q.Route.Cache.doors.Recent(a.Found.id(), a.Found.At) {
		return false
	}
	b := new(Answer)
	// What the outer handlers prepared is still untouched, and only what the upstream makes
	// of it will be stored.
	b.w = &nowhere{header: a.w.Header().Clone()}
	r, up := q.Upstream.Nobody(q.HTTP, b.w, q.Body, b.Outcome)
	if r == nil {
		return false
	}
	b.Request = Request{
		Route: q.Route, Upstream: up, HTTP: r, Began: q.Began, Method: r.Method, Target: q.Target, Diagnostics: q.Diagnostics,
		Key: q.Key, Body: q.Body, Operation: q.Operation, Position: q.Position, ended: q.ended,
	}
	if base := a.Found.Base; base != nil {
		if variant, _ := cachekey.Variant(q.Key.Key, base.Vary, r.Header); variant != a.Found.Key {
			return false
		}
	}
	if q.Route.bypasses(r, q.hasParams()) {
		return false
	}
	found := a.Found
	found.Answers, found.Why = false, reason.Expired
	b.out.Began, b.out.At, b.out.Result = q.Began, found.At, Miss
	f := newFetch(b, &b.Request, &found)
	f.background, f.id = true, found.id()
	f.moveTo(&found)
	a.refresh = f
	return true
}

// presents reports whether the request carries something by which it may get more than
// nobody, whatever the route makes of it.
func (q *Request) presents() bool {
	return q.Credentials.Any() || len(q.HTTP.Header["Authorization"]) > 0 || len(q.HTTP.Header["Cookie"]) > 0 || q.Upstream.Presents(q.HTTP)
}

// startRefresh fetches the stored response anew in the background, once at a time for each
// key and fleet. The client that triggered it is not kept waiting.
func (a *Answer) startRefresh() {
	f, c := a.refresh, a.Request.Route.Cache
	if f == nil || !c.refreshes.begin(f.id) {
		return
	}
	id := f.id
	go func() {
		defer c.refreshes.end(id)
		defer func() {
			logPanic(f.q.Route.Log, "a background refresh", recover())
		}()
		ctx, cancel := context.WithTimeout(f.r.Context(), refreshTimeout)
		defer cancel()
		*f.r = *f.r.WithContext(ctx)
		err := f.renew()
		if err != nil {
			f.q.Route.Log.Debug("a background refresh failed", "error", err)
		}
		f.noteDoor(err)
	}()
}

// renew fetches in the background what is stored, unless somebody else does.
func (f *fetch) renew() error {
	if !f.mayFollow() {
		return f.run(nil)
	}
	flight, leads := f.cache().flights.Join(f.id, true)
	if leads {
		return leader{f, flight}.lead()
	}
	if flight != nil {
		flight.Leave()
	}
	return nil
}

// noteDoor notes whether nobody got what is stored anew, and not, say, the way to a login.
func (f *fetch) noteDoor(err error) {
	switch out := &f.a.out; {
	case out.Stored:
		f.cache().doors.Remove(f.id)
	case err == nil && !out.Asked.IsZero() && out.Status != 0 && out.Status < http.StatusInternalServerError:
		f.cache().doors.Add(f.id, time.Now())
	}
}

// aheadShare is the least part of its lifetime by which a response may be refreshed ahead,
// as a divisor: where the upstream is quick, what is often asked for should not expire all
// the same.
const aheadShare = 100

// refreshAhead refreshes a response that is about to expire, the sooner the longer its
// fetch takes. Each request decides by chance, so that the more often it is asked for the
// surer it is refreshed in time, and one that hardly anybody asks for is not. This is
// XFetch, with β = 2 because a refresh has to end in time: Vattani, Chierichetti and
// Lowenstein, Optimal Probabilistic Cache Stampede Prevention, VLDB 2015.
func (a *Answer) refreshAhead() {
	if !a.Request.Route.RefreshAhead {
		return
	}
	rec, now, c := a.Found.Record, a.Found.At, a.Request.Route.Cache
	f := &rec.Freshness
	delta := max(rec.FetchTime, f.Lifetime/aheadShare)
	if float64(f.Remaining(now)) >= 2*float64(delta)*rand.ExpFloat64() { //nolint:gosec // it spreads load
		return
	}
	if id := a.Found.id(); !c.failures.Recent(id, now) && !c.refreshes.running(id) && a.canRefresh() {
		a.startRefresh()
	}
}

// nowhere is the client of a fetch that has none.
type nowhere struct{ header http.Header }

func (w *nowhere) Header() http.Header { return w.header }

func (*nowhere) WriteHeader(int) {}

func (*nowhere) Write(p []byte) (int, error) { return len(p), nil }

// logPanic tells of a panic where it was recovered, with the stack that led to it, unless a
// handler has broken its response off by it.
func logPanic(log *slog.Logger, what string, recovered any) {
	if recovered == nil || recovered == http.ErrAbortHandler { //nolint:errorlint // the value itself is what is thrown
		return
	}
	log.Error(what+" panicked", "panic", recovered, "stack", string(debug.Stack()))
}
