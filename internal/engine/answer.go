package engine

import (
	"fmt"
	"maps"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/cachekey"
	"github.com/gplus-recycling/caddy-redis-cache/internal/reason"
	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// Answer is the answer to one request. Its zero value is ready for Begin. It holds what
// each stage of the request has brought, in the order of its fields, and belongs to the
// goroutine of the request; only Outcome may be called by others.
type Answer struct {
	Request Request
	Found   Found
	Plan    Plan

	w   http.ResponseWriter
	out Outcome // as it stands; see publish

	published atomic.Pointer[Outcome]
	first     Outcome           // the first that is published, so that a hit allocates none
	values    [numValues]string // of the cache's own fields; see single

	refresh *fetch // by which what is stored can be fetched anew in the background; see canRefresh
}

// Begin identifies the request. target is what it asks for.
func (a *Answer) Begin(rt *Route, w http.ResponseWriter, r *http.Request, up Upstream, target *cachekey.Target) {
	a.w = w
	a.out.Began = time.Now()
	a.out.At = a.out.Began
	a.Request.identify(rt, r, up, target, a.out.Began)
}

// Serve answers the request. An error is for the server to answer, and then nothing has
// been written; [Error] tells of its status. Where a response has broken off, it panics
// with [http.ErrAbortHandler].
func (a *Answer) Serve() error {
	a.choose(a.lookup)
	switch plan := &a.Plan; plan.Act {
	case ActBypass:
		return a.bypass()
	case ActHit:
		a.refreshAhead()
		return a.serve(plan.Record, plan.Result, plan.Reason)
	case ActStale:
		a.startRefresh()
		return a.serve(plan.Record, plan.Result, plan.Reason)
	case ActAccept, ActFailed:
		return a.serve(plan.Record, plan.Result, plan.Reason)
	case ActNothing:
		return a.fail(http.StatusGatewayTimeout, nil)
	case ActFetch:
	}
	return a.fetch()
}

// choose finds out what is to be done. It changes nothing but the answer.
func (a *Answer) choose(at look) {
	q := &a.Request
	if q.Bypass == reason.None {
		a.Found.find(q.HTTP.Context(), q, q.Began, at)
	}
	a.Plan = decide(q, &a.Found, upstreamState{refreshes: a.refreshes, fails: a.fails})
	a.out.Result, a.out.Reason, a.out.Detail = a.Plan.Result, a.Plan.Reason, q.Detail
	a.out.Forward, a.out.Key, a.out.Tier = a.Found.Why, a.Found.Key, a.Found.Tier
	a.out.Identifier = q.Key.Identifier
	if a.Plan.Act == ActBypass || a.Plan.Act == ActNothing {
		a.out.Forward = a.Plan.Reason
	}
}

// lookup is the look of a request that is answered.
func (a *Answer) lookup(key store.Key) (*store.Record, store.TierName, bool) {
	q := &a.Request
	return q.Route.Cache.Store.Lookup(q.HTTP.Context(), key, q.Began)
}

// fails reports whether the upstream of what was found has failed lately.
func (a *Answer) fails() bool { return a.Request.Route.Cache.failures.Recent(a.Found.id(), a.Found.At) }

// Outcome is how the request was, or is being, answered, as of the latest time that somebody
// may have looked at it: before the handlers behind were asked, when the header went out,
// and at the end. It may be called at any time by anybody, and is not to be changed.
func (a *Answer) Outcome() *Outcome {
	if o := a.published.Load(); o != nil {
		return o
	}
	return &Outcome{}
}

// publish lets others see the outcome as it stands.
func (a *Answer) publish() {
	o := &a.first
	if a.published.Load() != nil {
		o = new(Outcome)
	}
	*o = a.out
	a.published.Store(o)
}

// End returns the final outcome. It is called once the request has been answered, or has
// broken off.
func (a *Answer) End() *Outcome {
	a.noteHeader() // where there was none, it ends now
	return &a.out
}

// Error is an answer that is the server's to write.
type Error struct {
	Status int
	Err    error // or nil
}

func (e *Error) Error() string {
	if e.Err == nil {
		return http.StatusText(e.Status)
	}
	return e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// fail lets the server answer with a status.
func (a *Answer) fail(status int, err error) error {
	a.out.Sent = status
	a.annotate()
	return &Error{status, err}
}

// serve answers from a stored response. A reason says why it is no hit.
func (a *Answer) serve(rec *store.Record, result Result, why reason.Reason) error {
	r := a.Request.HTTP
	a.out.Result, a.out.Reason, a.out.Freshness, a.out.StoredStatus = result, why, &rec.Freshness, rec.Status
	header := a.w.Header()
	applyFields(header, rec.Fields)
	header["Age"] = a.single(valueAge, Seconds(rec.Freshness.CurrentAge(a.out.At)))
	a.annotate()
	if rec.Status == http.StatusOK {
		if rfc9111.NotModified(r.Header, header, a.out.At) {
			return a.serveNotModified(rec.Status)
		}
		if a.Request.Method == http.MethodGet && len(r.Header["Range"]) > 0 && rfc9111.IfRangeHolds(r.Header, header, a.out.At) {
			switch ranges, result := rfc9111.ParseRange(r.Header, int64(len(rec.Body))); result {
			case rfc9111.RangeOK:
				return a.serveRanges(rec, ranges)
			case rfc9111.RangeUnsatisfiable:
				return a.serveUnsatisfiable(rec)
			case rfc9111.RangeNone:
			}
		}
	}
	a.writeHeader(rec.Status, rec.Status)
	return a.writeBody(rec.Body)
}

// writeHeader answers from a stored response, with its status or another one that
// conditions and ranges make of it.
func (a *Answer) writeHeader(status, stored int) {
	if status != stored {
		maps.DeleteFunc(a.w.Header(), func(name string, _ []string) bool { return rfc9111.StatesStatus(name) })
	}
	a.out.Sent = status
	a.noteHeader()
	a.w.WriteHeader(status)
}

// noteHeader notes that the header of the answer goes out: the time that the request took
// for statistics. What comes later depends on the client and on how long the response is.
func (a *Answer) noteHeader() {
	if a.out.Headed.IsZero() {
		a.out.Headed = time.Now()
	}
}

// writeBody writes to a client that may have gone; that is no error of the request.
func (a *Answer) writeBody(body []byte) error {
	if a.Request.Method != http.MethodHead && len(body) > 0 {
		_, _ = a.w.Write(body) //nolint:gosec // it is the response of the upstream
	}
	return nil
}

// serveNotModified answers 304, RFC 9110 section 15.4.5.
func (a *Answer) serveNotModified(stored int) error {
	maps.DeleteFunc(a.w.Header(), func(name string, _ []string) bool { return !rfc9111.NotModifiedField(name) })
	a.writeHeader(http.StatusNotModified, stored)
	return nil
}

// serveRanges answers 206, RFC 9110 section 15.3.7.
func (a *Answer) serveRanges(rec *store.Record, ranges []rfc9111.ByteRange) error {
	body, header := rec.Body, a.w.Header()
	if len(ranges) == 1 {
		r := ranges[0]
		header["Content-Range"] = []string{contentRange(r, len(body))}
		header["Content-Length"] = []string{strconv.FormatInt(r.Length, 10)}
		a.writeHeader(http.StatusPartialContent, rec.Status)
		return a.writeBody(body[r.Start : r.Start+r.Length])
	}
	contentType := header.Get("Content-Type")
	parts := multipart.NewWriter(a.w)
	header["Content-Type"] = []string{"multipart/byteranges; boundary=" + parts.Boundary()}
	delete(header, "Content-Length")
	a.writeHeader(http.StatusPartialContent, rec.Status)
	for _, r := range ranges {
		partHeader := textproto.MIMEHeader{"Content-Range": {contentRange(r, len(body))}}
		if contentType != "" {
			partHeader["Content-Type"] = []string{contentType}
		}
		part, err := parts.CreatePart(partHeader)
		if err != nil {
			return nil
		}
		if _, err := part.Write(body[r.Start : r.Start+r.Length]); err != nil {
			return nil
		}
	}
	_ = parts.Close()
	return nil
}

func contentRange(r rfc9111.ByteRange, size int) string {
	return fmt.Sprintf("bytes %d-%d/%d", r.Start, r.Start+r.Length-1, size)
}

// serveUnsatisfiable answers 416, RFC 9110 section 15.5.17.
func (a *Answer) serveUnsatisfiable(rec *store.Record) error {
	header := a.w.Header()
	for _, name := range []string{"Content-Type", "Content-Encoding", "Etag", "Last-Modified", "Cache-Control", "Expires"} {
		delete(header, name)
	}
	header["Content-Range"] = []string{fmt.Sprintf("bytes */%d", len(rec.Body))}
	header["Content-Length"] = []string{"0"}
	a.writeHeader(http.StatusRequestedRangeNotSatisfiable, rec.Status)
	return nil
}

// applyFields does to the header what the upstream did when the response was stored. The
// values are copied: other handlers may change them in place.
func applyFields(header http.Header, fields []store.Field) {
	n := 0
	for i := range fields {
		n += len(fields[i].Values)
	}
	values := make([]string, 0, n)
	for i := range fields {
		f := &fields[i]
		start := len(values)
		values = append(values, f.Values...)
		own := values[start:len(values):len(values)]
		switch f.Op {
		case store.FieldSet:
			header[f.Name] = own
		case store.FieldAdd:
			header[f.Name] = append(header[f.Name], own...)
		case store.FieldDel:
			delete(header, f.Name)
		}
	}
}

// annotate sets the cache's own fields in the header of the client, and publishes the
// outcome that they tell of.
func (a *Answer) annotate() {
	a.publish()
	header, level := a.w.Header(), a.Request.Diagnostics
	if level == DiagnosticsOff {
		return
	}
	header["X-Cache"] = a.single(valueOutcome, a.out.Result.String())
	if level == DiagnosticsMinimal {
		return
	}
	if a.out.Key.Full != "" {
		header["X-Cache-Key"] = a.single(valueKey, a.out.Key.Full)
	}
	if f := a.out.Freshness; f != nil {
		header["X-Cache-Ttl-Remaining"] = a.single(valueTTL, Seconds(f.Remaining(a.out.At)))
		header["X-Cache-Date"] = a.single(valueDate, f.ResponseTime.UTC().Format(http.TimeFormat))
	}
	if others := header["Cache-Status"]; len(others) > 0 {
		header["Cache-Status"] = append(others, a.out.cacheStatus())
	} else {
		header["Cache-Status"] = a.single(valueStatus, a.out.cacheStatus())
	}
}

// The places of the cache's own field values in an answer.
const (
	valueOutcome = iota
	valueKey
	valueTTL
	valueDate
	valueAge
	valueStatus
	numValues
)

// single returns a list of one value that costs no allocation of its own.
func (a *Answer) single(place int, value string) []string {
	a.values[place] = value
	return a.values[place : place+1 : place+1]
}

// Seconds is a duration in whole seconds, as fields state it.
func Seconds(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) }

// bypass passes the request on without looking anything up. Nothing is stored, but for the
// response to a POST that says it answers GET, too.
func (a *Answer) bypass() error {
	q := &a.Request
	if a.Plan.Reason != reason.Method || q.Method != http.MethodPost {
		f := &fetch{a: a, q: q, borrowed: borrowed{r: q.HTTP}, found: a.Found}
		f.w = newPasser(f)
		return f.finish(f.ask(f.r))
	}
	get := q.answeringGet()
	found := Found{Position: q.Position, Key: get.Key.Key, Why: reason.Method, At: a.out.At}
	a.out.Identifier = get.Key.Identifier
	f := newFetch(a, get, &found)
	f.moveTo(&found)
	f.w = newPasser(f)
	if get.Key.Full != "" {
		f.w = newCapture(f, nil)
		defer f.w.body.release()
	}
	return f.finish(f.ask(f.r))
}
