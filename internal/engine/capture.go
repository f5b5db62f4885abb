package engine

import (
	"bufio"
	"cmp"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/coalesce"
	"github.com/gplus-recycling/caddy-redis-cache/internal/reason"
	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// phase is how far the response has come that a capture passes on. It only goes forward.
type phase uint8

const (
	phaseAsked    phase = iota // there is no header yet
	phasePending               // the header waits for the first of the body: the upstream may break off before it
	phaseReady                 // decided, for others, too: the header is shared with the first of the body
	phaseFlying                // the body goes into the flight, from where a pump serves the client
	phasePassed                // the header has been sent; the body goes to the client as it comes
	phaseWithheld              // nothing of it reaches the client, which is answered from the store; see instead
)

// instead is why a response is withheld.
type instead uint8

const (
	insteadNothing      instead = iota
	insteadConfirmed            // the 304 confirms the stored response
	insteadContradicted         // the 304 speaks of another response
	insteadFailed               // a stale response stands in for a failure
	insteadMisplaced            // a 304 to a request without conditions
)

// capture passes a response on while it streams and keeps a copy of one that may be stored.
// It holds nothing back: header, body, flushes and interim responses reach the client when
// the upstream sends them. The exception is a response in place of which the stored one is
// answered: a 304 to the conditions of the cache, and a failure that a stale response
// stands in for.
//
// A response that others may have, too, takes off: its body goes into the flight, from
// where its own client and all followers are served.
//
// Only the goroutine of the handlers behind it uses it.
type capture struct {
	clientWriter

	f     *fetch
	judge *judge      // nil where nothing is stored, whatever comes
	own   http.Header // that the upstream works on; nil without judge: it works on the client's

	flight *flight // that this fetch leads; nil when it answers one client only
	pump   *pump   // writes to the client while the phase is flying

	phase       phase
	instead     instead
	status      int         // final status, once written
	validator   http.Header // of the stored response that is being revalidated, or nil
	notModified http.Header // that confirms it
	compared    http.Header // of an answer to HEAD, to be compared with it
	abort       func()      // ends the fetch; nil where no response can stand in

	rec      *store.Record // being captured; nil when the response is not to be stored
	place    place         // of it
	declared int64         // Content-Length; -1 when not stated
	spoils   bool          // its body must not tell of errors
	body     captured
}

// newPasser returns a writer that only sets the cache's fields.
func newPasser(f *fetch) *capture {
	return &capture{clientWriter: clientWriter{f.a.w}, f: f}
}

// newCapture returns a writer that captures. validator is the header of the stored response
// that may be answered instead, or nil.
func newCapture(f *fetch, validator http.Header) *capture {
	c := newPasser(f)
	c.body.cache, c.body.route = f.cache(), f.q.Route
	before := f.a.w.Header()
	c.own = before.Clone()
	c.judge = &judge{q: f.q, came: f.came, ttl: f.ttl, base: f.found.Base, key: f.found.Key, before: before, began: time.Now()}
	c.validator = validator
	return c
}

// Header returns the header that the upstream works on. The client's is left alone until
// the response is passed on, and then belongs to whoever writes to the client.
func (c *capture) Header() http.Header {
	if c.own != nil {
		return c.own
	}
	return c.ResponseWriter.Header()
}

// failureLimit is how long the rest of a failure may take that a stored response stands in
// for. The client waits for it: handlers cannot be told to return.
const failureLimit = time.Second

// WriteHeader decides about the response. Of several final headers only the first counts.
func (c *capture) WriteHeader(status int) {
	if status >= 100 && status < 200 && status != http.StatusSwitchingProtocols {
		if c.status == 0 { // later ones are nobody's any more
			c.passInterim(status, c.own)
		}
		return
	}
	if c.status != 0 {
		return
	}
	out := &c.f.a.out
	c.status, out.Status, out.At = status, status, time.Now()
	if why := c.whyInstead(); why != insteadNothing {
		if c.withhold(why); why == insteadFailed && c.abort != nil {
			time.AfterFunc(failureLimit, c.abort)
		}
		return
	}
	if c.f.mayServeOnError() {
		c.phase = phasePending
		return
	}
	c.pass()
}

// whyInstead says why the stored response is answered in place of this one.
func (c *capture) whyInstead() instead {
	switch {
	case c.judge != nil && c.judge.revalidates && c.status == http.StatusNotModified:
		if rfc9111.Matches304(c.own, c.validator) {
			return insteadConfirmed
		}
		return insteadContradicted
	case (c.status >= http.StatusInternalServerError || c.misplaced()) && c.f.mayServeOnError():
		return insteadFailed
	case c.misplaced():
		return insteadMisplaced
	}
	return insteadNothing
}

// misplaced reports whether the status is a 304 that nobody asked for: there is nothing that
// the client could take it for, RFC 9110 section 15.4.5.
func (c *capture) misplaced() bool {
	return c.status == http.StatusNotModified && c.judge != nil && !c.f.q.AnswersGet &&
		len(c.f.came.Header["If-None-Match"]) == 0 && len(c.f.came.Header["If-Modified-Since"]) == 0
}

// withhold lets nothing of the response reach the client.
func (c *capture) withhold(why instead) {
	c.phase, c.instead = phaseWithheld, why
	if why == insteadConfirmed {
		c.notModified = c.own.Clone()
	}
}

// commit passes a header on that waited for the first byte of the body.
func (c *capture) commit() {
	if c.phase == phasePending {
		c.pass()
	}
	if c.phase == phaseReady {
		c.takeOff()
	}
}

// pass decides about the response and passes its header on. Placeholders of the response
// see the client's header, so that this one changes first.
func (c *capture) pass() {
	if c.judge == nil {
		c.f.invalidate(c.status, c.Header())
		c.sendHeader()
		return
	}
	c.judge.before = maps.Clone(c.judge.before)
	c.clientWriter.pass(c.own)
	c.f.invalidate(c.status, c.own)
	if stored := c.f.found.stored(); c.validator != nil && stored.Status == http.StatusOK &&
		c.f.q.Method == http.MethodHead && c.status == http.StatusOK {
		c.compared = c.own.Clone()
	}
	c.decide()
	if c.f.a.out.Result != Bypass {
		// So that a miss looks like a hit. Where the cache took no part they stay.
		for _, name := range c.f.q.Route.RemovedTagFields {
			delete(c.ResponseWriter.Header(), name)
		}
	}
	if c.mayShare() {
		c.phase = phaseReady
	} else {
		c.sendHeader()
	}
}

// decide starts the capture of a response that may be stored, or notes why it may not.
func (c *capture) decide() {
	out := &c.f.a.out
	c.declared = contentLength(c.own)
	v := c.judge.response(c.status, c.own, out.At, c.f.later())
	c.place, out.Key = v.place, v.place.key
	if c.rec = v.Record; c.rec == nil {
		c.f.refuse(v)
		return
	}
	if v.Date != "" {
		c.own["Date"] = []string{v.Date}
		c.ResponseWriter.Header()["Date"] = c.own["Date"]
	}
	c.spoils = v.Spoils
	if c.flight == nil {
		c.body.reserve(c.declared)
	}
	freshness := c.rec.Freshness // not of the record, which need not live as long as a slow client reads
	out.Stored, out.Freshness, out.Unstated = true, &freshness, v.Unstated
}

// mayShare reports whether followers may have the response. If not, nobody waits any longer.
func (c *capture) mayShare() bool {
	f, out := c.f, &c.f.a.out
	if c.rec != nil && c.rec.Freshness.Fresh(out.At) {
		return c.flight != nil
	}
	if out.Stored || out.Reason.Is(reason.NotShared) {
		f.noteUnshared(c.status, out.Reason)
	}
	f.releaseLease(nil)
	if c.flight != nil {
		how := coalesce.Alone
		if f.q.Credentials.Any() {
			how = coalesce.Again // to other requests the answer may be another one
		}
		c.flight.End(how)
		c.ground()
	}
	return false
}

// sendHeader passes the header on to the client, with the cache's own fields.
func (c *capture) sendHeader() {
	if c.phase != phaseFlying {
		c.phase = phasePassed
	}
	c.f.a.annotate()
	c.f.a.noteHeader()
	c.ResponseWriter.WriteHeader(c.status)
}

// passed reports whether the response is the client's, or has been answered by another one.
func (c *capture) passed() bool {
	switch c.phase {
	case phaseAsked, phasePending:
		return false
	case phaseWithheld:
		return c.instead != insteadFailed
	case phaseReady, phaseFlying, phasePassed:
	}
	return true
}

// silent reports whether the client has seen nothing, and nothing has been decided.
func (c *capture) silent() bool { return c.phase == phaseAsked || c.phase == phasePending }

// sent reports whether the client has the header of a response that might be stored.
func (c *capture) sent() bool {
	return c.judge != nil && (c.phase == phaseFlying || c.phase == phasePassed)
}

func (c *capture) Write(p []byte) (int, error) {
	if c.status == 0 {
		c.WriteHeader(http.StatusOK)
	}
	if c.phase == phaseWithheld {
		return len(p), nil
	}
	if c.phase == phasePending {
		c.pass()
	}
	c.lookFirst(p)
	c.commit()
	if c.phase == phaseFlying {
		return c.fly(p)
	}
	n, err := c.ResponseWriter.Write(p)
	switch {
	case c.rec == nil:
	case err != nil:
		c.drop(reason.Incomplete)
	default:
		if why := c.body.keep(p[:n]); why != reason.None {
			c.drop(why)
		}
	}
	return n, err
}

// ReadFrom lets a response that is not stored go out by sendfile.
func (c *capture) ReadFrom(r io.Reader) (int64, error) {
	if c.status == 0 {
		c.WriteHeader(http.StatusOK)
	}
	if c.phase == phasePassed && c.rec == nil {
		return io.Copy(c.ResponseWriter, r)
	}
	return io.Copy(writerOnly{c}, r)
}

// FlushError writes the header before the inner writer would do so without us.
func (c *capture) FlushError() error {
	if c.status == 0 {
		c.WriteHeader(http.StatusOK)
	}
	if c.phase == phaseWithheld {
		return nil
	}
	if c.phase == phasePending {
		if contentLength(c.own) > 0 {
			// The body has yet to begin. Proxies flush, too, before they break off.
			return nil
		}
		c.pass()
	}
	c.keepUntyped()
	c.commit()
	if c.phase == phaseFlying {
		c.flight.Flush()
		return nil
	}
	//nolint:bodyclose // there is no body
	return http.NewResponseController(c.ResponseWriter).Flush()
}

// keepUntyped notes that the header goes out before any of the body, so that the server
// cannot guess a Content-Type from it; on a hit it must not either.
func (c *capture) keepUntyped() {
	if _, typed := c.Header()["Content-Type"]; c.rec != nil && c.body.Len() == 0 && c.phase != phaseFlying && !typed {
		c.rec.Fields = append(c.rec.Fields, store.Field{Op: store.FieldSet, Name: "Content-Type"})
	}
}

// Hijack gives the connection away; what is sent over it is no response.
func (c *capture) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if c.phase == phaseWithheld { // the client is answered from the store
		return nil, nil, http.ErrNotSupported
	}
	c.stayGrounded()
	//nolint:bodyclose // there is no body
	conn, rw, err := http.NewResponseController(c.ResponseWriter).Hijack()
	if err == nil {
		c.f.a.noteHeader()
		c.drop(reason.Upgrade)
		c.phase, c.status = phasePassed, cmp.Or(c.status, http.StatusSwitchingProtocols)
	}
	return conn, rw, err
}

// drop gives the capture up; the response goes on.
func (c *capture) drop(why reason.Reason) {
	if c.rec == nil {
		return
	}
	c.rec, c.body.Buffer = nil, coalesce.Buffer{}
	if why.Is(reason.NotShared) {
		c.f.noteUnshared(c.status, why)
	}
	c.f.refuse(refuse(why))
}

// lookFirst gives up storing a response whose first piece tells of errors, so that its
// header does not say that it is stored.
func (c *capture) lookFirst(piece []byte) {
	complete := int64(len(piece)) == c.declared
	if c.phase != phaseReady || !c.spoils || !complete && len(c.own["Content-Encoding"]) > 0 {
		return
	}
	if c.spoils = !complete; c.f.q.tellsErrors(c.status, c.own, piece) {
		c.spoil()
		c.stayGrounded()
	}
}

// spoil is drop for a response that tells of errors. The next one may do without, so that
// nothing is remembered of this one.
func (c *capture) spoil() {
	c.rec, c.body.Buffer = nil, coalesce.Buffer{}
	c.f.refuse(Verdict{Reason: reason.GraphQL, Detail: "errors"})
}

// record returns the complete response, or nil when there is nothing to store.
func (c *capture) record() *store.Record {
	if c.rec == nil {
		return nil
	}
	flying := c.phase == phaseFlying
	size := c.body.Len()
	if flying {
		size = c.flight.Len()
	}
	switch {
	case c.declared >= 0 && c.declared != int64(size), c.declared < 0 && c.f.r.Context().Err() != nil:
		c.drop(reason.Incomplete)
		return nil
	case hasTrailers(c.own):
		c.drop(reason.Trailers)
		return nil
	}
	rec := c.rec
	rec.FetchTime = time.Since(c.judge.began)
	if flying {
		rec.Body = c.flight.Body()
	} else {
		rec.Body = c.body.Bytes()
	}
	if c.spoils && c.f.q.tellsErrors(c.status, c.own, rec.Body) {
		c.spoil()
		return nil
	}
	if c.status != http.StatusNoContent {
		rec.Fields = append(rec.Fields, store.Field{
			Op: store.FieldSet, Name: "Content-Length", Values: []string{strconv.Itoa(len(rec.Body))},
		})
	}
	return rec
}

func hasTrailers(header http.Header) bool {
	for name := range header {
		if strings.HasPrefix(name, http.TrailerPrefix) {
			return true
		}
	}
	return false
}

// Interface guards
var (
	_ http.ResponseWriter = (*capture)(nil)
	_ http.Hijacker       = (*capture)(nil)
	_ http.Pusher         = (*capture)(nil)
	_ io.ReaderFrom       = (*capture)(nil)
)
