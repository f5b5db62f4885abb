package rediscache

import (
	"cmp"
	"fmt"
	"maps"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strconv"

	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// serve answers from the stored response. A reason says why it is no hit.
func (x *exchange) serve(outcome Outcome, reason Reason) error {
	x.outcome, x.reason, x.freshness = outcome, reason, &x.rec.Freshness
	header := x.w.Header()
	applyFields(header, x.rec.Fields)
	header["Age"] = x.single(valueAge, seconds(x.freshness.CurrentAge(x.now)))
	x.annotate(header)
	if x.rec.Status == http.StatusOK {
		if rfc9111.NotModified(x.r.Header, header, x.now) {
			return x.serveNotModified(header)
		}
		if x.method == http.MethodGet && len(x.r.Header["Range"]) > 0 && rfc9111.IfRangeHolds(x.r.Header, header, x.now) {
			switch ranges, result := rfc9111.ParseRange(x.r.Header, int64(len(x.rec.Body))); result {
			case rfc9111.RangeOK:
				return x.serveRanges(header, ranges)
			case rfc9111.RangeUnsatisfiable:
				return x.serveUnsatisfiable(header)
			case rfc9111.RangeNone:
			}
		}
	}
	x.writeHeader(x.rec.Status)
	return x.writeBody(x.rec.Body)
}

// writeHeader answers from the stored response, with its status or another one that
// conditions and ranges make of it.
func (x *exchange) writeHeader(status int) {
	if status != x.rec.Status {
		maps.DeleteFunc(x.w.Header(), func(name string, _ []string) bool { return rfc9111.StatesStatus(name) })
	}
	x.sent = status
	x.noteHeader()
	x.w.WriteHeader(status)
}

// sentStatus is the status that the client was sent; 0 if none was.
func (x *exchange) sentStatus() int { return cmp.Or(x.sent, x.status) }

// writeBody writes to a client that may have gone; that is no error of the
// request.
func (x *exchange) writeBody(body []byte) error {
	if x.method != http.MethodHead && len(body) > 0 {
		_, _ = x.w.Write(body) //nolint:gosec // it is the response of the upstream
	}
	return nil
}

// serveNotModified answers 304, RFC 9110 section 15.4.5.
func (x *exchange) serveNotModified(header http.Header) error {
	for name := range header {
		if !rfc9111.NotModifiedField(name) {
			delete(header, name)
		}
	}
	x.writeHeader(http.StatusNotModified)
	return nil
}

// serveRanges answers 206, RFC 9110 section 15.3.7.
func (x *exchange) serveRanges(header http.Header, ranges []rfc9111.ByteRange) error {
	body := x.rec.Body
	if len(ranges) == 1 {
		r := ranges[0]
		header["Content-Range"] = []string{contentRange(r, len(body))}
		header["Content-Length"] = []string{strconv.FormatInt(r.Length, 10)}
		x.writeHeader(http.StatusPartialContent)
		return x.writeBody(body[r.Start : r.Start+r.Length])
	}
	contentType := header.Get("Content-Type")
	parts := multipart.NewWriter(x.w)
	header["Content-Type"] = []string{"multipart/byteranges; boundary=" + parts.Boundary()}
	delete(header, "Content-Length")
	x.writeHeader(http.StatusPartialContent)
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
func (x *exchange) serveUnsatisfiable(header http.Header) error {
	for _, name := range []string{"Content-Type", "Content-Encoding", "Etag", "Last-Modified", "Cache-Control", "Expires"} {
		delete(header, name)
	}
	header["Content-Range"] = []string{fmt.Sprintf("bytes */%d", len(x.rec.Body))}
	header["Content-Length"] = []string{"0"}
	x.writeHeader(http.StatusRequestedRangeNotSatisfiable)
	return nil
}

// applyFields does to the header what the upstream did when the response was
// stored. The values are copied: other handlers may change them in place.
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

// annotate sets the cache's own fields.
func (x *exchange) annotate(header http.Header) {
	level := x.level
	if level == diagnosticsOff {
		return
	}
	header["X-Cache"] = x.single(valueOutcome, x.outcome.String())
	if level == diagnosticsMinimal {
		return
	}
	if x.answered.Full != "" {
		header["X-Cache-Key"] = x.single(valueKey, x.answered.Full)
	}
	if f := x.freshness; f != nil {
		header["X-Cache-Ttl-Remaining"] = x.single(valueTTL, seconds(f.Remaining(x.now)))
		header["X-Cache-Date"] = x.single(valueDate, f.ResponseTime.UTC().Format(http.TimeFormat))
	}
	if others := header["Cache-Status"]; len(others) > 0 {
		header["Cache-Status"] = append(others, x.cacheStatus())
	} else {
		header["Cache-Status"] = x.single(valueStatus, x.cacheStatus())
	}
}

// The places of the cache's own field values in an exchange.
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
func (x *exchange) single(place int, value string) []string {
	x.values[place] = value
	return x.values[place : place+1 : place+1]
}

// cacheStatus is this cache's member of Cache-Status, RFC 9211.
func (x *exchange) cacheStatus() string {
	s := rfc9111.CacheStatus{Detail: x.reasonText()}
	if f := x.freshness; f != nil {
		s.HasTTL, s.TTL = true, f.Lifetime-f.CurrentAge(x.now)
	}
	if !x.asked.IsZero() || x.collapsed {
		s.Fwd, s.FwdStatus, s.Stored, s.Collapsed = x.forward.Fwd(), x.status, x.storing, x.collapsed
	} else if s.Hit = x.outcome == OutcomeHit || x.outcome == OutcomeStale; s.Hit && x.reason != ReasonError {
		s.Detail = x.tier.String()
	}
	var stack [128]byte
	return string(s.Append(stack[:0]))
}
