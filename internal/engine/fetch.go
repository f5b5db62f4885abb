package engine

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/coalesce"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/reason"
	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// fetch asks the upstream for a response: for the client of its answer, for followers, too,
// or in the background for the store alone. It belongs to one goroutine, that of the
// request or of the refresh.
type fetch struct {
	a   *Answer  // whose client gets the response; it has none in the background
	q   *Request // what is asked for: that of the answer, or a POST as the GET that it answers
	w   *capture
	ttl *TTL
	url string

	borrowed // the request that the handlers behind get

	found      Found // the latest look; see moveTo
	id         coalesce.ID
	shares     bool // it may answer others, or another one this
	background bool // there is no client
	overtaken  bool // its own purge covers its response, too
	lease      *coalesce.Lease
}

// newFetch prepares to ask for q, of which found is stored.
func newFetch(a *Answer, q *Request, found *Found) *fetch {
	f := &fetch{a: a, q: q, borrowed: borrowed{r: q.HTTP}, found: *found}
	f.came = f.r.Clone(f.r.Context())
	f.url = q.Target.URL(&q.Route.Key)
	f.ttl = q.Route.lifetime(f.r, q.hasParams())
	return f
}

func (f *fetch) cache() *Cache { return f.q.Route.Cache }

// now is the time of the latest decision.
func (f *fetch) now() time.Time { return f.a.out.At }

// moveTo makes another look the one that counts.
func (f *fetch) moveTo(found *Found) {
	f.found = *found
	f.a.out.Key, f.a.out.Forward, f.a.out.Tier = found.Key, found.Why, found.Tier
}

// lookAgain is the second look.
func (f *fetch) lookAgain(fleet bool) bool {
	found, answers := f.found.again(f.r.Context(), f.q, fleet, func(key store.Key, now time.Time, fleet bool) (*store.Record, store.TierName, bool) {
		return f.cache().Store.Recheck(context.WithoutCancel(f.r.Context()), key, now, fleet)
	})
	f.moveTo(&found)
	if answers {
		f.a.out.At = found.At
	}
	return answers
}

// mayServeOnError reports whether what is stored may stand in for an upstream that fails.
func (f *fetch) mayServeOnError() bool { return mayServeOnError(f.q, f.found.stored(), f.now()) }

// run answers from upstream and stores the response if it may be; followers of the flight,
// if there is one, get it, too. What is stored already is revalidated, and stands in for an
// upstream that fails.
func (f *fetch) run(flight *flight) (err error) {
	returned := false
	defer func() { f.end(!returned || err != nil) }()
	f.w = newCapture(f, f.validator())
	if f.w.flight = flight; flight != nil && !f.background {
		f.detach(f.watch(flight))
	}
	if f.q.Method != http.MethodHead && f.found.validates() {
		f.setConditions(f.w.validator)
		f.w.judge.revalidates = true
	}
	if f.found.stored() != nil {
		f.w.abort = f.allowAbort()
	}
	err = f.ask(f.r)
	if f.w.phase != phaseFlying {
		f.restore()
	}
	if f.w.instead == insteadContradicted {
		// The 304 speaks of a response that is not the stored one. The next answer may be
		// about the conditions of the client, and tells nothing of other requests then.
		f.shares = f.shares && !isConditional(f.came.Header)
		f.w = newCapture(f, nil)
		f.w.flight = flight
		err = f.ask(f.q.Upstream.Again(f.came.Clone(f.r.Context()), f.w, f.q.Body))
	}
	err = f.finish(err)
	returned = true
	return err
}

// end leaves everything as it was, also where the upstream panics. The order matters:
// whoever writes to the client may read the request until it has landed, and handlers in
// front look at the request after.
func (f *fetch) end(failed bool) {
	f.w.crash()
	f.restore()
	f.reattach()
	if failed || f.a.out.Reason == reason.Incomplete {
		f.noteIncomplete()
	}
	f.w.body.release()
}

// ask lets the handlers behind the cache answer a request. They must not be asked twice with
// one request: every further time takes one from Again.
//
// An upstream that breaks off panics. Where a stale response may stand in for it and
// nothing has been sent, this is an error like others.
func (f *fetch) ask(r *http.Request) (err error) {
	a, w := f.a, f.w
	if a.out.Waited = true; a.out.Asked.IsZero() {
		a.out.Asked = time.Now()
	}
	a.publish()
	defer func() {
		if w.passed() {
			return
		}
		if a.out.At = time.Now(); f.mayServeOnError() {
			if recovered := recover(); recovered == http.ErrAbortHandler { //nolint:errorlint // the value itself is what is thrown
				w.withhold(insteadFailed)
				err = errBrokeOff
			} else if recovered != nil {
				panic(recovered)
			}
		}
	}()
	if err = f.q.Upstream.Serve(w, r); err == nil {
		w.commit()
	}
	return err
}

var (
	errBrokeOff = errors.New("the upstream broke off")
	errUnasked  = errors.New("the upstream answers 304 to a request without conditions")
)

// finish does what is left when the upstream is through.
func (f *fetch) finish(err error) error {
	a, w, stored := f.a, f.w, f.found.stored()
	if stored != nil && err == nil && w.instead != insteadFailed && w.status < http.StatusInternalServerError {
		f.cache().failures.Remove(f.id)
	}
	switch {
	case w.instead == insteadConfirmed:
		return f.serveRevalidated()
	case w.instead == insteadFailed || f.failedSilently(err):
		f.cache().failures.Add(f.id, time.Now())
		f.yield(coalesce.Again)
		return a.serve(stored, Stale, reason.Error)
	case w.instead == insteadMisplaced:
		f.yield(coalesce.Again)
		f.refuse(refuse(reason.Error))
		a.annotate()
		return &Error{http.StatusBadGateway, errUnasked}
	case w.silent():
		f.leaveToServer(err)
	case w.compared != nil:
		f.freshenByHead()
	}
	if err != nil {
		w.drop(reason.Incomplete)
	}
	f.keep(w.record(), stored)
	return f.close(err)
}

// failedSilently reports whether the upstream has failed before its response began, where a
// stale one may stand in.
func (f *fetch) failedSilently(err error) bool {
	return err != nil && f.w.silent() && f.mayServeOnError() && f.q.Route.IsFailure(err)
}

// leaveToServer prepares the client's header where the server, or an error route, writes
// the response: the upstream has written none.
func (f *fetch) leaveToServer(err error) {
	if f.w.phase == phaseAsked {
		if err == nil { // the server answers 200
			f.invalidate(http.StatusOK, f.w.Header())
		}
		f.w.clientWriter.pass(f.w.own)
	}
	f.refuse(refuse(reason.Error))
	f.a.annotate()
}

// keep stores the complete response, or forgets what a response that is not stored has
// shown to be wrong.
func (f *fetch) keep(rec, stored *store.Record) {
	switch {
	case rec != nil:
		f.put(rec, f.w.place)
		if f.w.rec = nil; rec.Freshness.Fresh(f.now()) {
			f.cache().misses.Remove(f.id)
		}
	case stored != nil && f.found.Why == reason.Expired && replaces(f.w.status) && f.a.out.Reason.Is(reason.OfResponse):
		f.q.forget(stored)
	}
}

// put stores a complete response. Other nodes that wait for it are told once it is in Redis.
func (f *fetch) put(rec *store.Record, at place) {
	lease := f.lease
	f.lease = nil
	f.name(rec, at)
	rec.MinEncode, rec.Private = f.q.Route.MinEncode, f.q.mayBePrivate(f.came)
	f.cache().put(f.q, rec, at, f.found.Base, f.now(), func() { lease.Release(nil) })
}

// name says what a record is of.
func (f *fetch) name(rec *store.Record, at place) {
	rec.Key, rec.BaseKey, rec.URL, rec.User, rec.Position = at.key, f.q.Key.Full, f.url, f.q.User, f.found.Position
}

// replaces reports whether an answer with this status says what has become of what was
// stored, RFC 9111 section 4.3.3. Other statuses may be about the client that asked.
func replaces(status int) bool {
	return status == http.StatusOK || status == http.StatusNotFound || status == http.StatusGone
}

// yield lets others go on before the client is served, which may take its time.
func (f *fetch) yield(how coalesce.Ending) {
	f.releaseLease(nil)
	if f.w.flight != nil {
		f.w.flight.End(how)
	}
}

// close lets the client have the end of the response.
func (f *fetch) close(err error) error {
	sent := f.w.sent()
	how := coalesce.Complete
	if err != nil || f.a.out.Reason == reason.Incomplete {
		how = coalesce.Broken
	}
	f.releaseLease(nil)
	f.w.land(how)
	if f.w.status != 0 && f.w.phase != phaseWithheld && f.w.phase != phasePending {
		f.w.passTrailers(f.w.own)
	}
	if sent && err != nil {
		// The header is out: an error route would write a second one.
		f.q.Route.Log.Debug("the upstream broke off", "error", err)
		panic(http.ErrAbortHandler)
	}
	return err
}

// refuse notes why a response is not stored. What carries credentials that count could not
// be cached then, and is no miss, unless the client has been told otherwise.
func (f *fetch) refuse(v Verdict) {
	out := &f.a.out
	out.Stored, out.Unstated, out.Freshness, out.Reason = false, false, nil, v.Reason
	if v.Detail != "" {
		out.Detail = v.Detail
	}
	if f.q.Credentials.Any() && out.Result == Miss && out.Headed.IsZero() {
		out.Result = Bypass
	}
	if v.Reason == reason.IdentityBelow {
		f.q.Route.IdentityBelow(f.r.URL.Path)
	}
}

// later is what has become known of the request since it came.
func (f *fetch) later() afterthoughts {
	return afterthoughts{
		identified: f.q.UserID == "" && f.q.Upstream.UserID() != "",
		unstorable: f.q.Upstream.Unstorable(), overtaken: f.overtaken,
	}
}

// validator is what the upstream sent with the stored response, or nil.
func (f *fetch) validator() http.Header {
	if stored := f.found.stored(); stored != nil {
		return stored.Header().Clone()
	}
	return nil
}

// validates reports whether the upstream can be asked if the stored response is still
// good. Conditions are about a 2xx: to any other answer a server ignores them, RFC 9110
// section 13.2.1, and its 304 would be about something else, section 15.4.5.
func (f *Found) validates() bool {
	stored := f.stored()
	return stored != nil && rfc9111.CanValidate(stored.Status, stored.Header())
}

// serveRevalidated answers from the stored response, which the upstream has confirmed, RFC
// 9111 section 4.3.3.
func (f *fetch) serveRevalidated() error {
	stored, w := f.found.stored(), f.w
	rec := f.freshen(w.notModified)
	if rec == nil {
		rec = stored
	}
	if f.a.out.Stored && rec.Freshness.Fresh(time.Now()) {
		f.cache().misses.Remove(f.id)
		if w.flight != nil {
			f.shareWhole(w.flight, rec, w.place.names, Revalidated)
		}
	}
	f.yield(coalesce.Alone)
	if cookies := w.notModified["Set-Cookie"]; len(cookies) > 0 {
		f.a.w.Header()["Set-Cookie"] = cookies // of this client
	}
	return f.a.serve(rec, Revalidated, f.found.Why)
}

// freshen stores the stored response with this header, or forgets it if the origin forbids
// to keep it; which is no reason not to answer with it. It returns what was stored, or nil.
func (f *fetch) freshen(header http.Header) *store.Record {
	stored, w := f.found.stored(), f.w
	v := w.judge.freshen(stored, header, time.Now(), f.later())
	w.place, f.a.out.Key = v.place, v.place.key
	if v.Forbidden {
		f.q.forget(stored)
	}
	if v.Record == nil {
		return nil
	}
	f.put(v.Record, v.place)
	f.a.out.Stored, f.a.out.Unstated = true, v.Unstated
	return v.Record
}

// freshenByHead compares the answer to HEAD with the stored response: one that agrees makes
// it fresh, one that does not proves it wrong, RFC 9111 section 4.3.5.
func (f *fetch) freshenByHead() {
	if stored := f.found.stored(); rfc9111.HeadAgrees(f.w.compared, stored.Header()) {
		f.freshen(f.w.compared)
	} else {
		f.q.forget(stored)
	}
}

// releaseLease tells other nodes that they need not wait.
func (f *fetch) releaseLease(miss *coalesce.Miss) {
	f.lease.Release(miss)
	f.lease = nil
}

// noteUnshared remembers that nobody needs to wait for responses of this key. One to a
// request with credentials says nothing about requests without.
func (f *fetch) noteUnshared(status int, why reason.Reason) {
	if !f.shares || !f.mayLead() || status >= http.StatusInternalServerError {
		return
	}
	if f.background && !replaces(status) { // others may get more
		f.releaseLease(nil)
		return
	}
	miss := f.miss(why)
	f.cache().misses.Add(f.id, miss, f.now())
	f.releaseLease(&miss)
}

// noteIncomplete remembers that the response broke off, or that the client gave it up
// before there was one: it may be polling for something that happens some day, which
// nobody else would learn of who waits for it in a queue.
func (f *fetch) noteIncomplete() {
	if f.w.status != 0 && f.w.phase != phaseWithheld || !f.background && f.came.Context().Err() != nil {
		f.noteUnshared(f.w.status, reason.Incomplete)
	}
}

func (f *fetch) miss(why reason.Reason) coalesce.Miss {
	return coalesce.Miss{Credentialed: f.q.Credentials.Any(), Why: uint8(why), Position: f.found.Position}
}

// holds reports whether a key that could not be shared still cannot, as far as this request
// is concerned.
func (q *Request) holds(m coalesce.Miss, f *Found, url string) bool {
	if m.Credentialed && !q.Credentials.Any() {
		return false
	}
	verdict, _ := q.Route.Cache.Journal.Check(&journal.Subject{
		Position: m.Position, Namespace: q.Key.Namespace, Identifier: q.Key.Identifier, Key: f.Key.Full,
		BaseKey: q.Key.Full, URL: url, User: q.User,
	}, journal.Checked{})
	return verdict == journal.Valid
}
