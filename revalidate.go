package rediscache

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gplus-recycling/caddy-redis-cache/internal/coalesce"
	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// maxRetention bounds how long a response that can be revalidated is kept
// beyond its use without: as long again as it was fresh, a minute at least. This
// counts from its arrival if it was stale by then.
const maxRetention = 24 * time.Hour

// expires is the end of every use of a stored response.
func expires(f *rfc9111.Freshness, status int, header http.Header) time.Time {
	end := f.DropAfter()
	if rfc9111.CanValidate(status, header) {
		retention := min(max(f.Lifetime, time.Minute), maxRetention)
		end = latest(end, f.ResponseTime.Add(f.Remaining(f.ResponseTime)+retention))
	}
	if limit := f.ResponseTime.Add(maxLifetime); end.After(limit) {
		return limit
	}
	return end
}

// bound shortens a lifetime to the time for which purges are remembered.
func bound(f *rfc9111.Freshness) { f.Lifetime = min(f.Lifetime, f.InitialAge+maxLifetime) }

// mayServeOnError reports whether the stored response may stand in for an
// upstream that fails, RFC 5861 section 4.
func (x *exchange) mayServeOnError() bool {
	if x.stored == nil || x.stored.Status >= http.StatusInternalServerError {
		return false
	}
	if x.directives != nil {
		return rfc9111.RequestServesOnError(*x.directives, &x.stored.Freshness, x.now)
	}
	return x.stored.Freshness.ServeOnError(x.now)
}

// failureLimit is how long the rest of a failure may take that a stored response
// stands in for. The client waits for it: handlers cannot be told to return.
const failureLimit = time.Second

// abortable lets such a failure be ended. The result puts the request back.
func (x *exchange) abortable(w *captureWriter) (restore func()) {
	if x.stored == nil {
		return func() {}
	}
	before := x.r.Context()
	ctx, cancel := context.WithCancel(before)
	*x.r = *x.r.WithContext(ctx)
	w.abort = cancel
	return func() {
		w.abort = nil
		cancel()
		*x.r = *x.r.WithContext(before)
	}
}

// finish does what is left when the upstream is through.
func (x *exchange) finish(w *captureWriter, err error) error {
	n := x.h.node
	if x.stored != nil && err == nil && !w.failed && w.status < http.StatusInternalServerError {
		n.failures.Remove(x.id)
	}
	switch {
	case w.notModified != nil:
		return x.serveRevalidated(w)
	case w.failed || (err != nil && (w.status == 0 || w.pending) && x.mayServeOnError() && isFailure(err)):
		n.failures.Add(x.id, time.Now())
		x.yield(w, coalesce.Again)
		return x.serveFailed()
	case w.unasked:
		x.yield(w, coalesce.Again)
		x.refuse(ReasonError)
		x.annotate(x.w.Header())
		return caddyhttp.Error(http.StatusBadGateway, errUnasked)
	case w.status == 0 || w.pending:
		if w.status == 0 {
			if err == nil { // the server answers 200
				x.invalidate(http.StatusOK, w.Header())
			}
			w.passHeader() // the error route writes the response
		}
		x.refuse(ReasonError)
		x.annotate(x.w.Header())
	case w.head:
		x.freshenByHead(w)
	}
	if err != nil {
		w.drop(ReasonIncomplete)
	}
	rec := w.record()
	switch {
	case rec != nil:
		n.put(w, rec)
		if w.rec = nil; rec.Freshness.Fresh(x.now) {
			n.misses.Remove(x.id)
		}
	case x.stored != nil && x.forward == ReasonExpired && replaces(w.status) && cmp.Or(w.dropped, x.reason).is(ofResponse):
		x.forget(x.stored)
	}
	return x.close(w, err)
}

var errUnasked = errors.New("the upstream answers 304 to a request without conditions")

// replaces reports whether an answer with this status says what has become of what
// was stored, RFC 9111 section 4.3.3. Other statuses may be about the client that
// asked.
func replaces(status int) bool {
	return status == http.StatusOK || status == http.StatusNotFound || status == http.StatusGone
}

// yield lets others go on before the client is served, which may take its time.
func (x *exchange) yield(w *captureWriter, how coalesce.Ending) {
	x.releaseLease(nil)
	if w.flight != nil {
		w.flight.End(how)
	}
}

// close lets the client have the end of the response.
func (x *exchange) close(w *captureWriter, err error) error {
	sent := w.pump != nil || (w.before != nil && w.status != 0 && !w.withheld && !w.pending && !w.ready)
	how := coalesce.Complete
	if err != nil || w.dropped == ReasonIncomplete {
		how = coalesce.Broken
	}
	x.releaseLease(nil)
	w.land(how)
	w.passTrailers()
	if sent && err != nil {
		// The header is out: an error route would write a second one.
		x.h.logger.Debug("the upstream broke off", zap.Error(err))
		panic(http.ErrAbortHandler)
	}
	return err
}

// isFailure tells an upstream that fails from one whose answer is an error
// route's, such as a file that is not there.
func isFailure(err error) bool {
	var handlerError caddyhttp.HandlerError
	return !errors.As(err, &handlerError) || handlerError.StatusCode >= http.StatusInternalServerError
}

// storedHeader is what the upstream sent with the stored response, or nil.
func (x *exchange) storedHeader() http.Header {
	if x.stored == nil {
		return nil
	}
	return x.stored.Header().Clone()
}

// validates reports whether the upstream can be asked if the stored response is
// still good. Conditions are about a 2xx: to any other answer a server ignores them,
// RFC 9110 section 13.2.1, and its 304 would be about something else, section 15.4.5.
func (x *exchange) validates() bool {
	return x.stored != nil && rfc9111.CanValidate(x.stored.Status, x.storedHeader())
}

// addConditions asks the upstream whether the stored response is still good,
// RFC 9111 section 4.3.1. The request is changed in place, because its
// placeholders are bound to it; the result puts it back.
func (x *exchange) addConditions(w *captureWriter, stored http.Header) (restore func()) {
	if x.method == http.MethodHead || !x.validates() {
		return func() {}
	}
	w.revalidating = true
	rfc9111.SetConditions(x.r.Header, stored)
	// The stored response will answer it, once it is known to be good.
	delete(x.r.Header, "Range")
	return func() {
		for _, name := range conditionFields {
			if values, ok := x.reqHead[name]; ok {
				x.r.Header[name] = values
			} else {
				delete(x.r.Header, name)
			}
		}
	}
}

var conditionFields = []string{
	"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range", "Range",
}

// aheadShare is the least part of its lifetime by which a response may be
// refreshed ahead, as a divisor: where the upstream is quick, what is often asked
// for should not expire all the same.
const aheadShare = 100

// refreshAhead refreshes a response that is about to expire, the sooner the
// longer its fetch takes. Each request decides by chance, so that the more often
// it is asked for the surer it is refreshed in time, and one that hardly anybody
// asks for is not. This is XFetch, with β = 2 because a refresh has to end in time:
// Vattani, Chierichetti and Lowenstein, Optimal Probabilistic Cache Stampede
// Prevention, VLDB 2015.
func (x *exchange) refreshAhead() {
	if x.h.policy.RefreshAhead != optionOn {
		return
	}
	f := &x.rec.Freshness
	delta := max(x.rec.FetchTime, f.Lifetime/aheadShare)
	if float64(f.Remaining(x.now)) < 2*float64(delta)*rand.ExpFloat64() && !x.refreshing() && x.deputize() {
		x.refresh()
	}
}

// serveRevalidated answers from the stored response, which the upstream has
// confirmed, RFC 9111 section 4.3.3.
func (x *exchange) serveRevalidated(w *captureWriter) error {
	var forbidden bool
	if x.rec, forbidden = x.freshened(w, w.notModified); x.rec == nil {
		x.rec = x.stored
	}
	if forbidden { // to keep the response, not to answer with it
		x.forget(x.stored)
	}
	if x.storing && x.rec.Freshness.Fresh(time.Now()) {
		x.h.node.misses.Remove(x.id)
		if w.flight != nil {
			x.shareWhole(w.flight, w.varyNames, OutcomeRevalidated)
		}
	}
	x.yield(w, coalesce.Alone)
	if cookies := w.notModified["Set-Cookie"]; len(cookies) > 0 {
		x.w.Header()["Set-Cookie"] = cookies // of this client
	}
	return x.serve(OutcomeRevalidated, x.forward)
}

// freshened is the stored response with the header of a 304, or of an answer to
// HEAD, RFC 9111 section 3.2. It is stored, too, or nil when it may not be. What
// this one client or its answer brings may keep it from being stored; only what
// the origin forbids makes the old response wrong, too.
func (x *exchange) freshened(w *captureWriter, header http.Header) (rec *store.Record, forbidden bool) {
	old := x.stored
	update := make(http.Header)
	ops := make(map[string]store.FieldOp)
	for _, f := range w.fields(header, nil) {
		if f.Op != store.FieldDel {
			update[f.Name] = f.Values
			ops[f.Name] = f.Op
		}
	}
	delete(update, "Set-Cookie")
	fresh, decision := x.judged(w, update)
	if !x.credentials.storable(&decision) {
		// It says that what everybody gets is still good. What else it says is to somebody.
		maps.DeleteFunc(update, func(name string, _ []string) bool { return !x.h.policy.freshens(name) })
		fresh, decision = x.judged(w, update)
	}
	if !decision.Store {
		return nil, true
	}
	bound(&decision.Freshness)
	tags, ok := x.tags(header)
	if !ok || !x.credentials.allowed(&decision.Freshness) ||
		w.unwanted(old.Status, fresh) != ReasonNone || w.address(decision.Vary, fresh) != ReasonNone {
		return nil, false
	}
	for _, name := range decision.Strip {
		delete(fresh, name)
		delete(update, name)
	}
	rec = new(store.Record)
	*rec = *old
	rec.Tags = slices.Clone(old.Tags)
	for _, tag := range tags { // a union can only purge more
		if !slices.Contains(rec.Tags, tag) {
			rec.Tags = append(rec.Tags, tag)
		}
	}
	says, _ := isAboutOrigins(update, nil)
	rec.AnyOrigin = old.AnyOrigin && !says
	rec.Freshness, rec.FetchTime = decision.Freshness, time.Since(w.began)
	rec.Expires = expires(&decision.Freshness, old.Status, fresh)
	rec.Fields = make([]store.Field, 0, len(fresh))
	for _, f := range old.Fields {
		if _, kept := fresh[f.Name]; f.Op == store.FieldDel || (kept && update[f.Name] == nil) {
			f.Values = fresh[f.Name]
			rec.Fields = append(rec.Fields, f)
		}
	}
	for name, values := range fresh {
		if !slices.ContainsFunc(rec.Fields, func(f store.Field) bool { return f.Name == name }) {
			rec.Fields = append(rec.Fields, store.Field{Op: ops[name], Name: name, Values: values})
		}
	}
	x.h.node.put(w, rec)
	x.storing, x.unstated = true, isUnstated(&decision)
	return rec, false
}

// judged is the header of the stored response with what updates it, and what the
// rules say of that.
func (x *exchange) judged(w *captureWriter, update http.Header) (http.Header, rfc9111.Decision) {
	fresh := rfc9111.Freshen(x.storedHeader(), update)
	if len(fresh["Date"]) == 0 {
		fresh["Date"] = []string{time.Now().UTC().Format(http.TimeFormat)}
	}
	rules, _ := w.rulesFor(x.stored.Status, fresh)
	return fresh, rfc9111.Decide(rfc9111.Response{
		Status: x.stored.Status, Header: fresh, RequestTime: w.began, ResponseTime: time.Now(),
	}, rules)
}

// freshens reports whether a response field is about nothing but how long and for
// which requests a response is good.
func (p *Policy) freshens(name string) bool {
	switch name {
	case "Age", "Cache-Control", "Date", "Etag", "Expires", "Last-Modified", "Vary":
		return true
	}
	return slices.ContainsFunc(p.targets(), func(target string) bool { return strings.EqualFold(target, name) })
}

// freshenByHead compares the answer to HEAD with the stored response: one that
// agrees makes it fresh, one that does not proves it wrong, RFC 9111 section
// 4.3.5.
func (x *exchange) freshenByHead(w *captureWriter) {
	header := w.upstreamHeader
	wrong := !rfc9111.HeadAgrees(header, x.storedHeader())
	if !wrong {
		_, wrong = x.freshened(w, header)
	}
	if wrong {
		x.forget(x.stored)
	}
}

// refreshes are the keys that are being refreshed in the background. mu guards
// keys.
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
