package engine

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/cachekey"
	"github.com/gplus-recycling/caddy-redis-cache/internal/coalesce"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/reason"
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

// follower is a fetch that waits for another one, which leads a flight.
type follower struct {
	*fetch

	flight *flight
}

// follow answers from the flight.
func (f follower) follow() (step, error) {
	flight := f.flight
	defer flight.Leave()
	f.a.out.Waited = true
	s, how, err := flight.Header(f.r.Context(), followLimit)
	f.a.out.At = time.Now()
	switch {
	case errors.Is(err, coalesce.ErrTooSlow):
		if f.found.Why == reason.Expired && f.mayServeOnError() {
			f.cache().failures.Add(f.id, f.now()) // those who come next need not wait as long
		}
		return f.standIn(stepAlone)
	case err != nil:
		f.refuse(refuse(reason.Incomplete))
		return stepDone, &Error{StatusClientGone, err}
	case s == nil && how == coalesce.Again:
		return f.standIn(stepAgain)
	case s == nil:
		return stepAlone, nil
	}
	if next := f.accept(s); next != stepDone {
		return next, nil
	}
	return stepDone, f.serve(s)
}

// standIn answers with what is stored where the leader has got nothing, and the upstream
// has failed lately.
func (f follower) standIn(otherwise step) (step, error) {
	if f.found.Why != reason.Expired || !f.mayServeOnError() || !f.cache().failures.Recent(f.found.id(), f.now()) {
		return otherwise, nil
	}
	return stepDone, f.a.serve(f.found.stored(), Stale, reason.Error)
}

// accept reports whether the response of a flight is good for this request.
func (f follower) accept(s *share) step {
	rec, key := s.rec, f.q.Key.Key
	if len(s.names) > 0 {
		key, _ = cachekey.Variant(f.q.Key.Key, s.names, f.came.Header)
	}
	found := f.found
	if found.Key = key; rec.Key.Full != key.Full {
		found.Why = reason.Variant
		f.moveTo(&found)
		return stepAgain
	}
	if rec.User != f.q.User || !f.q.Credentials.Allow(&rec.Freshness) {
		return stepAlone
	}
	if !suits(f.q, f.came.Header, rec, s.names) {
		f.flight.Retire() // one with an Origin can begin
		return stepAgain
	}
	if f.cache().Check(rec) != journal.Valid || !rec.Freshness.Fresh(f.now()) {
		f.flight.Retire() // a newer one can begin
		return stepAgain
	}
	f.moveTo(&found)
	return stepDone
}

// serve answers with the response of the flight.
func (f follower) serve(s *share) error {
	a, out := f.a, &f.a.out
	out.Collapsed, out.Status = true, s.rec.Status
	if s.whole {
		out.Tier = s.tier
		return a.serve(s.rec, s.result, f.found.Why)
	}
	out.Result, out.Reason, out.Freshness, out.StoredStatus = s.result, f.found.Why, &s.rec.Freshness, s.rec.Status
	header := a.w.Header()
	applyFields(header, s.rec.Fields)
	header["Age"] = a.single(valueAge, Seconds(s.rec.Freshness.CurrentAge(f.now())))
	if s.length >= 0 {
		header["Content-Length"] = []string{strconv.FormatInt(s.length, 10)}
	}
	a.annotate()
	if s.rec.Status == http.StatusOK && rfc9111.NotModified(f.r.Header, header, f.now()) {
		return a.serveNotModified(s.rec.Status)
	}
	a.writeHeader(s.rec.Status, s.rec.Status)
	size, how, err := copyBody(f.r.Context(), a.w, f.flight.Reader(), followLimit)
	switch {
	case errors.Is(err, coalesce.ErrTooSlow):
		f.flight.Retire() // nobody else need wait as long
		return f.resume(s.rec, f.flight.Reader(), size)
	case err != nil:
		return nil // the client has left
	case how == coalesce.TooLarge:
		return f.resume(s.rec, f.flight.Reader(), size)
	case how != coalesce.Complete:
		panic(http.ErrAbortHandler)
	}
	return nil
}

// copyBody writes the body of a flight as it comes, until the flight has ended, the client
// is gone, or nothing has come for as long as limit. It returns how much it has written.
func copyBody(ctx context.Context, w http.ResponseWriter, r *coalesce.Reader[share], limit time.Duration) (size int, how coalesce.Ending, err error) {
	for {
		var body []byte
		var flush bool
		body, flush, how, err = r.Next(ctx, limit)
		if err == nil && len(body) > 0 {
			_, err = w.Write(body) //nolint:gosec // it is the response of the upstream
			size += len(body)
		}
		if err == nil && flush {
			// A writer that cannot flush has passed everything on.
			//nolint:bodyclose // there is no body
			_ = http.NewResponseController(w).Flush()
		}
		if err != nil || how != coalesce.Flying {
			return size, how, err
		}
	}
}

// resumeWriter goes on with a response of which the client has a part already. It lets
// through what follows the part, if the new response is of the same version and begins
// with the part.
type resumeWriter struct {
	clientWriter
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

// resume fetches for a follower whose flight ended because the body was too large to be
// kept, or goes on without bringing any of it. The client has a part of this size.
func (f follower) resume(first *store.Record, part *coalesce.Reader[share], size int) error {
	w := &resumeWriter{
		clientWriter: clientWriter{f.a.w}, header: make(http.Header), first: first, part: part, size: size,
	}
	for _, name := range conditionFields {
		delete(f.r.Header, name) // they were answered with the part
	}
	w.more()
	err := f.q.Upstream.Serve(w, f.r)
	if err != nil {
		f.q.Route.Log.Debug("a response could not be resumed", "error", err)
	}
	if err != nil || len(w.left) > 0 {
		panic(http.ErrAbortHandler)
	}
	return nil
}
