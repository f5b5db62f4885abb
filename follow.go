package rediscache

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gplus-recycling/caddy-redis-cache/internal/coalesce"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// step says how a request goes on that has followed a flight.
type step uint8

const (
	stepDone  step = iota // it has been answered
	stepAgain             // by another flight, or by one of its own
	stepAlone             // by a fetch for itself alone
)

// follow answers from a flight that another request leads.
func (x *exchange) follow(f *flight) (step, error) {
	defer f.Leave()
	x.waited = true
	s, how, err := f.Header(x.r.Context(), followLimit)
	x.now = time.Now()
	switch {
	case errors.Is(err, coalesce.ErrTooSlow):
		if x.forward == ReasonExpired && x.mayServeOnError() {
			x.h.node.failures.Add(x.id, x.now) // those who come next need not wait as long
		}
		return x.standIn(stepAlone)
	case err != nil:
		x.refuse(ReasonIncomplete)
		return stepDone, caddyhttp.Error(statusClientGone, err)
	case s == nil && how == coalesce.Again:
		return x.standIn(stepAgain)
	case s == nil:
		return stepAlone, nil
	}
	if next := x.accept(f, s); next != stepDone {
		return next, nil
	}
	return stepDone, x.serveShared(f, s)
}

// standIn answers with what is stored where the leader has got nothing.
func (x *exchange) standIn(otherwise step) (step, error) {
	if !x.backsOff() {
		return otherwise, nil
	}
	return stepDone, x.serveFailed()
}

// backsOff reports whether the upstream has failed lately and the stored response
// can stand in for it.
func (x *exchange) backsOff() bool {
	return x.forward == ReasonExpired && x.mayServeOnError() &&
		x.h.node.failures.Recent(coalesce.IDOf(x.answered.Full), x.now)
}

// serveFailed answers with the stored response in place of an upstream that fails.
func (x *exchange) serveFailed() error {
	x.rec = x.stored
	return x.serve(OutcomeStale, ReasonError)
}

// accept reports whether the response of a flight is good for this request.
func (x *exchange) accept(f *flight, s *share) step {
	rec := s.rec
	answered := x.key.Key
	if len(s.names) > 0 {
		answered, _ = variantKey(x.key, s.names, x.reqHead)
	}
	if rec.Key.Full != answered.Full {
		x.answered, x.forward = answered, ReasonVariant
		return stepAgain
	}
	if rec.User != x.user || !x.credentials.allowed(&rec.Freshness) {
		return stepAlone
	}
	if !x.suits(x.reqHead, rec, s.names) {
		f.Retire() // one with an Origin can begin
		return stepAgain
	}
	if verdict, _ := x.h.node.check(rec, journal.Checked{}); verdict != journal.Valid || !rec.Freshness.Fresh(x.now) {
		f.Retire() // a newer one can begin
		return stepAgain
	}
	x.answered = answered
	return stepDone
}

// serveShared answers a follower.
func (x *exchange) serveShared(f *flight, s *share) error {
	x.rec, x.collapsed, x.status = s.rec, true, s.rec.Status
	if s.whole {
		x.tier = s.tier
		return x.serve(s.outcome, x.forward)
	}
	x.outcome, x.reason, x.freshness = s.outcome, x.forward, &s.rec.Freshness
	header := x.w.Header()
	applyFields(header, s.rec.Fields)
	header["Age"] = x.single(valueAge, seconds(x.freshness.CurrentAge(x.now)))
	if s.length >= 0 {
		header["Content-Length"] = []string{strconv.FormatInt(s.length, 10)}
	}
	x.annotate(header)
	if s.rec.Status == http.StatusOK && rfc9111.NotModified(x.r.Header, header, x.now) {
		return x.serveNotModified(header)
	}
	x.writeHeader(s.rec.Status)
	size, how, err := copyBody(x.r.Context(), x.w, f.Reader(), followLimit)
	switch {
	case errors.Is(err, coalesce.ErrTooSlow):
		f.Retire() // nobody else need wait as long
		return x.resume(s.rec, f.Reader(), size)
	case err != nil:
		return nil // the client has left
	case how == coalesce.TooLarge:
		return x.resume(s.rec, f.Reader(), size)
	case how != coalesce.Complete:
		panic(http.ErrAbortHandler)
	}
	return nil
}

// resumeWriter goes on with a response of which the client has a part already. It
// lets through what follows the part, if the new response is of the same version
// and begins with the part.
type resumeWriter struct {
	*caddyhttp.ResponseWriterWrapper
	header http.Header
	began  bool
	first  *store.Record // without its body
	part   *coalesce.Reader[share]
	size   int    // of the part, as far as it has not been read
	left   []byte // of the part, to be compared next; the part is over when it is empty
}

// more reads on in the part, which ends where the client's does: the flight may go on.
func (w *resumeWriter) more() {
	w.left = w.part.More()
	w.left = w.left[:min(len(w.left), w.size)]
	w.size -= len(w.left)
}

func (w *resumeWriter) Header() http.Header { return w.header }

func (w *resumeWriter) WriteHeader(status int) {
	if status < http.StatusOK || w.began {
		return
	}
	w.began = true
	same := status == w.first.Status
	for _, name := range []string{"Etag", "Last-Modified", "Content-Encoding"} {
		same = same && slices.Equal(w.header[name], w.first.Header()[name])
	}
	if !same {
		panic(http.ErrAbortHandler)
	}
}

func (w *resumeWriter) Write(p []byte) (int, error) {
	if !w.began {
		w.WriteHeader(http.StatusOK)
	}
	size := len(p)
	for len(p) > 0 && len(w.left) > 0 {
		n := min(len(p), len(w.left))
		if !bytes.Equal(p[:n], w.left[:n]) {
			panic(http.ErrAbortHandler)
		}
		p = p[n:]
		if w.left = w.left[n:]; len(w.left) == 0 {
			w.more()
		}
	}
	if len(p) == 0 {
		return size, nil
	}
	n, err := w.ResponseWriter.Write(p)
	return size - len(p) + n, err
}

func (w *resumeWriter) ReadFrom(r io.Reader) (int64, error) { return io.Copy(writerOnly{w}, r) }

func (w *resumeWriter) FlushError() error {
	if len(w.left) > 0 {
		return nil
	}
	//nolint:bodyclose // there is no body
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// resume fetches for a follower whose flight ended because the body was too large
// to be kept, or goes on without bringing any of it. The client has a part of this
// size.
func (x *exchange) resume(first *store.Record, part *coalesce.Reader[share], size int) error {
	w := &resumeWriter{
		ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: x.w},
		header:                make(http.Header), first: first, part: part, size: size,
	}
	for _, name := range conditionFields {
		delete(x.r.Header, name) // they were answered with the part
	}
	w.more()
	err := passThrough(w, x.r, x.next)
	if err != nil {
		x.h.logger.Debug("a response could not be resumed", zap.Error(err))
	}
	if err != nil || len(w.left) > 0 {
		panic(http.ErrAbortHandler)
	}
	return nil
}
