package rediscache

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

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gplus-recycling/caddy-redis-cache/internal/coalesce"
	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// captureWriter passes a response on while it streams and keeps a copy of one
// that may be stored. It holds nothing back: header, body, flushes and interim
// responses reach the client when the upstream sends them. The exception is a
// response in place of which the stored one is answered: a 304 to the
// conditions of the cache, and a failure that a stale response stands in for.
//
// A response that others may have, too, takes off: its body goes into the
// flight, from where its own client and all followers are served (flight.go).
//
// Only the goroutine of the handlers behind it uses it.
type captureWriter struct {
	*caddyhttp.ResponseWriterWrapper
	x *exchange

	// The header as the outer handlers prepared it, so that only what the
	// upstream made of it is stored, and the one that the upstream works on; nil
	// when nothing will be stored, and the upstream works on the client's.
	before, header http.Header

	flight *flight // that this fetch leads; nil when it answers one client only
	ready  bool    // to take off: the header is shared with the first of the body
	pump   *pump   // writes to the client, once the flight has taken off

	stored       http.Header // of the response that is being revalidated
	revalidating bool        // the conditions of the request are the cache's

	began    time.Time
	status   int  // final status, once written
	pending  bool // the header has not been passed on yet
	withheld bool
	// Why it is withheld:
	notModified http.Header // the 304 confirms the stored response
	retry       bool        // the 304 speaks of another response
	failed      bool        // a stale response stands in
	unasked     bool        // a 304 to a request without conditions
	abort       func()      // ends the fetch; nil where no response can stand in

	head           bool        // an answer to HEAD, to be compared with the stored response
	upstreamHeader http.Header // of that answer

	rec         *store.Record // being captured; nil when the response is not to be stored
	declared    int64         // Content-Length; -1 when not stated
	maySpoil    bool          // only the configuration lets it be stored: see graphql.go
	dropped     Reason        // why it was given up while the pump was at work
	body        coalesce.Buffer
	taken       int64    // of what all bodies may take, for body
	varyNames   []string // that select the variant, when it is one
	variantHash string
}

// newPassWriter returns a writer that only sets the cache's fields.
func newPassWriter(x *exchange) *captureWriter {
	return &captureWriter{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: x.w}, x: x}
}

// newCaptureWriter returns a writer that captures. stored is the header of the
// stored response that may be answered instead, or nil.
func newCaptureWriter(x *exchange, stored http.Header) *captureWriter {
	c := newPassWriter(x)
	c.before = x.w.Header()
	c.header = c.before.Clone()
	c.stored, c.began = stored, time.Now()
	return c
}

// Header returns the header that the upstream works on. The client's is left
// alone until the response is passed on, and then belongs to whoever writes to
// the client.
func (c *captureWriter) Header() http.Header {
	if c.header != nil {
		return c.header
	}
	return c.ResponseWriter.Header()
}

// passHeader makes the client's header what the upstream made of it.
func (c *captureWriter) passHeader() {
	if c.header != nil {
		client := c.ResponseWriter.Header()
		clear(client)
		maps.Copy(client, c.header.Clone())
	}
}

// passInterim passes a 1xx response on with the fields that it has now.
func (c *captureWriter) passInterim(status int) {
	client := c.ResponseWriter.Header()
	was := maps.Clone(client)
	c.passHeader()
	c.ResponseWriter.WriteHeader(status)
	if c.header != nil {
		clear(client)
		maps.Copy(client, was)
	}
}

// passTrailers gives the client the trailers that the upstream has set since the
// header was passed on.
func (c *captureWriter) passTrailers() {
	if c.header == nil || c.status == 0 || c.withheld || c.pending {
		return
	}
	client := c.ResponseWriter.Header()
	for name, values := range c.header {
		if strings.HasPrefix(name, http.TrailerPrefix) {
			client[name] = values
		}
	}
	for _, line := range c.header["Trailer"] {
		for name := range strings.SplitSeq(line, ",") {
			name = http.CanonicalHeaderKey(strings.TrimSpace(name))
			if values, ok := c.header[name]; ok {
				client[name] = values
			}
		}
	}
}

// WriteHeader decides about the response. Of several final headers only the
// first counts, as everywhere in Caddy.
func (c *captureWriter) WriteHeader(status int) {
	if status >= 100 && status < 200 && status != http.StatusSwitchingProtocols {
		if c.status == 0 { // later ones are nobody's any more
			c.passInterim(status)
		}
		return
	}
	if c.status != 0 {
		return
	}
	c.status = status
	c.x.status = status
	c.x.now = time.Now()
	if c.withhold() {
		return
	}
	if c.x.mayServeOnError() {
		c.pending = true // until there is a body: the upstream may break off before it
		return
	}
	c.pass()
}

// passPending decides about a response that waited for its first byte.
func (c *captureWriter) passPending() {
	if c.pending {
		c.pending = false
		c.pass()
	}
}

// commit passes a header on that waited for the first byte of the body.
func (c *captureWriter) commit() {
	c.passPending()
	if c.ready {
		c.takeOff()
	}
}

// pass decides about the response and passes its header on. Placeholders see the
// client's header, so that this one changes first.
func (c *captureWriter) pass() {
	if c.before != nil {
		c.before = maps.Clone(c.before)
		c.passHeader()
	}
	c.x.invalidate(c.status, c.Header())
	if c.before != nil {
		c.head = c.stored != nil && c.x.stored.Status == http.StatusOK && c.x.method == http.MethodHead && c.status == http.StatusOK
		if c.head {
			c.upstreamHeader = c.header.Clone()
		}
		c.decide()
		c.x.removeTagFields(c.ResponseWriter.Header())
	}
	if c.ready = c.shareable(); !c.ready {
		c.sendHeader()
	}
}

// sendHeader passes the header on to the client, with the cache's own fields.
func (c *captureWriter) sendHeader() {
	c.x.annotate(c.ResponseWriter.Header())
	c.x.noteHeader()
	c.ResponseWriter.WriteHeader(c.status)
}

// withhold reports whether the stored response is answered in place of this
// one, whose header and body then go nowhere.
func (c *captureWriter) withhold() bool {
	header := c.Header()
	switch {
	case c.revalidating && c.status == http.StatusNotModified:
		if rfc9111.Matches304(header, c.stored) {
			c.notModified = header.Clone()
		} else {
			c.retry = true
		}
	case c.failure() && c.x.mayServeOnError():
		c.failed = true
		if c.abort != nil {
			time.AfterFunc(failureLimit, c.abort)
		}
	case c.misplaced():
		c.unasked = true
	default:
		return false
	}
	c.discard()
	return true
}

// failure reports whether the upstream has failed to answer.
func (c *captureWriter) failure() bool {
	return c.status >= http.StatusInternalServerError || c.misplaced()
}

// misplaced reports whether the status is a 304 that nobody asked for: there is
// nothing that the client could take it for, RFC 9110 section 15.4.5.
func (c *captureWriter) misplaced() bool {
	asked := c.x.reqHead
	return c.status == http.StatusNotModified && c.before != nil && !c.x.asGet &&
		len(asked["If-None-Match"]) == 0 && len(asked["If-Modified-Since"]) == 0
}

// abandon withholds a response that broke off before it was passed on.
func (c *captureWriter) abandon() {
	c.failed = c.failed || c.pending
	c.pending = false
	c.discard()
}

// discard lets nothing of the response reach the client.
func (c *captureWriter) discard() { c.withheld = true }

func (c *captureWriter) Write(p []byte) (int, error) {
	if c.status == 0 {
		c.WriteHeader(http.StatusOK)
	}
	if c.withheld {
		return len(p), nil
	}
	c.passPending()
	c.lookFirst(p)
	c.commit()
	if c.pump != nil {
		return c.fly(p)
	}
	n, err := c.ResponseWriter.Write(p)
	if c.rec != nil {
		c.capture(p[:n], err)
	}
	return n, err
}

// writerOnly hides ReadFrom, which would bypass the capture.
type writerOnly struct{ io.Writer }

// ReadFrom lets a response that is not stored go out by sendfile.
func (c *captureWriter) ReadFrom(r io.Reader) (int64, error) {
	if c.status == 0 {
		c.WriteHeader(http.StatusOK)
	}
	if !c.pending && c.rec == nil && !c.withheld && c.pump == nil {
		return c.ResponseWriterWrapper.ReadFrom(r)
	}
	return io.Copy(writerOnly{c}, r)
}

// FlushError writes the header before the inner writer would do so without us.
func (c *captureWriter) FlushError() error {
	if c.status == 0 {
		c.WriteHeader(http.StatusOK)
	}
	if c.withheld {
		return nil
	}
	if c.pending && contentLength(c.Header()) > 0 {
		// The body has yet to begin. reverse_proxy flushes, too, before it breaks off.
		return nil
	}
	c.passPending()
	c.keepUntyped()
	c.commit()
	if c.pump != nil {
		c.flight.Flush()
		return nil
	}
	//nolint:bodyclose // there is no body
	return http.NewResponseController(c.ResponseWriter).Flush()
}

// keepUntyped notes that the header goes out before any of the body, so that the
// server cannot guess a Content-Type from it; on a hit it must not either.
func (c *captureWriter) keepUntyped() {
	if _, typed := c.Header()["Content-Type"]; c.rec != nil && c.body.Len() == 0 && c.pump == nil && !typed {
		c.rec.Fields = append(c.rec.Fields, store.Field{Op: store.FieldSet, Name: "Content-Type"})
	}
}

// Hijack gives the connection away; what is sent over it is no response.
func (c *captureWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if c.withheld { // the client is answered from the store
		return nil, nil, http.ErrNotSupported
	}
	c.stayGrounded()
	//nolint:bodyclose // there is no body
	conn, rw, err := http.NewResponseController(c.ResponseWriter).Hijack()
	if err == nil {
		c.x.noteHeader()
		c.drop(ReasonUpgrade)
		c.status = cmp.Or(c.status, http.StatusSwitchingProtocols)
	}
	return conn, rw, err
}

// capture keeps a piece of the body.
func (c *captureWriter) capture(p []byte, err error) {
	switch {
	case err != nil:
		c.drop(ReasonIncomplete)
	case int64(c.body.Len()+len(p)) > c.x.h.policy.maxBody():
		c.drop(ReasonTooLarge)
	case !c.room(int64(c.body.Len()+len(p)) - c.taken):
		c.drop(ReasonOverload)
	default:
		_, _ = c.body.Write(p) // it never fails
	}
}

// maxHeld is how much the bodies that a node keeps for slow clients take together:
// 128 MiB, or a few of the largest that the route stores. A quarter more is kept for
// small bodies, so that large ones on slow links do not end all caching.
func (c *captureWriter) maxHeld(size int) int64 {
	limit := max(128<<20, 4*c.x.h.policy.maxBody())
	if size <= smallBody {
		limit += limit / 4
	}
	return limit
}

const smallBody = 64 << 10

// room takes memory for n more bytes of the copy, which release gives back.
func (c *captureWriter) room(n int64) bool {
	if n > 0 && !c.x.h.node.flights.Take(n, c.maxHeld(int(c.taken+n))) {
		return false
	}
	c.taken += max(n, 0)
	return true
}

// release is called when the client has been served.
func (c *captureWriter) release() {
	c.x.h.node.flights.Give(c.taken)
	c.taken = 0
}

// drop gives the capture up; the response goes on.
func (c *captureWriter) drop(reason Reason) {
	if c.rec != nil {
		c.rec, c.body = nil, coalesce.Buffer{}
		if reason.is(notShared) {
			c.x.noteUnshared(c.status, reason)
		}
		if c.dropped = reason; c.pump == nil {
			c.settle()
		}
	}
}

// refuse notes why a response is not stored. What carries credentials that count could
// not be cached then, and is no miss, unless the client has been told otherwise.
func (x *exchange) refuse(reason Reason) {
	x.storing, x.unstated, x.freshness, x.reason = false, false, nil, reason
	if x.credentials.count() && x.outcome == OutcomeMiss && x.headed.IsZero() {
		x.outcome = OutcomeBypass
	}
}

// record returns the complete response, or nil when there is nothing to store.
func (c *captureWriter) record() *store.Record {
	if c.rec == nil {
		return nil
	}
	size := c.body.Len()
	if c.pump != nil {
		size = c.flight.Len()
	}
	switch {
	case c.declared >= 0 && c.declared != int64(size), c.declared < 0 && c.x.r.Context().Err() != nil:
		c.drop(ReasonIncomplete)
		return nil
	case hasTrailers(c.Header()):
		c.drop(ReasonTrailers)
		return nil
	}
	rec := c.rec
	rec.FetchTime = time.Since(c.began)
	if c.pump != nil {
		rec.Body = c.flight.Body()
	} else {
		rec.Body = c.body.Bytes()
	}
	if c.maySpoil && c.tellsErrors(rec.Body) {
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

// contentLength is the stated length of the body, or -1.
func contentLength(header http.Header) int64 {
	if values := header["Content-Length"]; len(values) == 1 {
		if n, err := strconv.ParseUint(values[0], 10, 63); err == nil {
			return int64(n)
		}
	}
	return -1
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
	_ http.ResponseWriter = (*captureWriter)(nil)
	_ http.Hijacker       = (*captureWriter)(nil)
	_ http.Pusher         = (*captureWriter)(nil)
	_ io.ReaderFrom       = (*captureWriter)(nil)
)
