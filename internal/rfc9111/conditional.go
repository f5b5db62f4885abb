package rfc9111

import (
	"net/http"
	"strings"
	"time"
)

// NotModified reports whether a conditional request is answered with a 304
// from the stored 200 response (§4.3.2).
//
// If-None-Match is compared weakly and, when present at all, silences
// If-Modified-Since. If-Match and If-Unmodified-Since are not for caches.
// An entity-tag without quotes, which no grammar allows but many servers
// send, matches only its own text.
func NotModified(req, stored http.Header, now time.Time) bool {
	if lines := req["If-None-Match"]; len(lines) > 0 {
		return matchesAny(lines, trimmed(stored, "Etag"))
	}
	if lines := req["If-Modified-Since"]; len(lines) > 0 {
		return unmodifiedSince(lines, stored, now)
	}
	return false
}

// matchesAny evaluates If-None-Match against the stored entity-tag
// (RFC 9110 §13.1.2). A sole `*` matches whatever is stored.
func matchesAny(lines []string, stored string) bool {
	if len(lines) == 1 && trimOWS(lines[0]) == "*" {
		return true
	}
	for _, list := range lines {
		for list != "" {
			var tag string
			tag, list = nextTag(list)
			if weaklyEqual(tag, stored) {
				return true
			}
		}
	}
	return false
}

// nextTag cuts the first member off a list of entity-tags. An opaque tag may
// contain commas, and a backslash escapes nothing in it (RFC 9110 §8.8.3).
func nextTag(list string) (tag, rest string) {
	quoted := false
	for i := range len(list) {
		switch {
		case list[i] == '"':
			quoted = !quoted
		case list[i] == ',' && !quoted:
			return trimOWS(list[:i]), list[i+1:]
		}
	}
	return trimOWS(list), ""
}

// weaklyEqual is the weak comparison of RFC 9110 §8.8.3.2. The prefix W/ is
// case-sensitive. Nothing equals a missing entity-tag.
func weaklyEqual(a, b string) bool {
	return a != "" && b != "" && strings.TrimPrefix(a, "W/") == strings.TrimPrefix(b, "W/")
}

// unmodifiedSince evaluates If-Modified-Since (RFC 9110 §13.1.3): several
// lines or a malformed date count as no condition. Without Last-Modified the
// stored Date stands in (§4.3.2).
func unmodifiedSince(lines []string, stored http.Header, now time.Time) bool {
	if len(lines) > 1 {
		return false
	}
	since, ok := ParseDate(trimOWS(lines[0]), now)
	if !ok {
		return false
	}
	name := "Last-Modified"
	if len(stored[name]) == 0 {
		name = "Date"
	}
	modified, ok := ParseDate(trimmed(stored, name), now)
	return ok && !modified.After(since)
}

// NotModifiedField reports whether a field of the stored response belongs
// into a 304 that the cache generates (RFC 9110 §15.4.5).
//
// Fields that describe the content do not, since a 304 has none; the client
// keeps those it stored. ETag, Content-Location, Cache-Control, Date, Expires
// and Vary must be sent, and everything that is no representation metadata
// may be.
func NotModifiedField(name string) bool {
	switch http.CanonicalHeaderKey(name) {
	case "Content-Type", "Content-Length", "Content-Encoding", "Content-Language",
		"Content-Range", "Content-Disposition", "Content-Md5", "Content-Digest",
		"Repr-Digest", "Digest", "Last-Modified", "Trailer":
		return false
	}
	return true
}

// HasValidator reports whether a response can be revalidated, that is, has an
// ETag or a Last-Modified field (§4.3.1).
func HasValidator(h http.Header) bool {
	return trimmed(h, "Etag") != "" || trimmed(h, "Last-Modified") != ""
}

// CanValidate reports whether the origin can be asked if a stored response is still
// good. Servers ignore conditions unless the answer without them would be a 2xx
// (RFC 9110 §13.2.1), so that a 304 never speaks of another one (§15.4.5).
func CanValidate(status int, h http.Header) bool {
	return status >= 200 && status <= 299 && HasValidator(h)
}

// SetConditions makes the request header ask whether the stored response is
// still good (§4.3.1): its validators, verbatim, take the place of every
// condition the client sent. A Range field stays, although its If-Range goes.
func SetConditions(req, stored http.Header) {
	for _, name := range [...]string{
		"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range",
	} {
		delete(req, name)
	}
	if tag := stored.Get("Etag"); tag != "" {
		req["If-None-Match"] = []string{tag}
	}
	if modified := stored.Get("Last-Modified"); modified != "" {
		req["If-Modified-Since"] = []string{modified}
	}
}

// IfRangeHolds reports whether a Range field is to be honoured: there is no
// If-Range, or its one validator is strong and is the stored response's own
// (RFC 9110 §13.1.5).
func IfRangeHolds(req, stored http.Header, now time.Time) bool {
	lines := req["If-Range"]
	if len(lines) == 0 {
		return true
	}
	if len(lines) > 1 {
		return false
	}
	value := trimOWS(lines[0])
	if date, ok := ParseDate(value, now); ok {
		return strongDate(date, stored, now)
	}
	return strongTag(value) && value == trimmed(stored, "Etag")
}

// strongTag reports whether s is a well-formed entity-tag that is not weak
// (RFC 9110 §8.8.3).
func strongTag(s string) bool {
	return len(s) >= 2 && s[0] == '"' && strings.IndexByte(s[1:], '"') == len(s)-2
}

// strongDate reports whether date is the stored Last-Modified and a strong
// validator. It is strong when the response was made at least a second later,
// as nothing else rules out two changes within one second (RFC 9110 §8.8.2.2).
func strongDate(date time.Time, stored http.Header, now time.Time) bool {
	modified, ok := ParseDate(trimmed(stored, "Last-Modified"), now)
	if !ok || !modified.Equal(date) {
		return false
	}
	made, ok := ParseDate(trimmed(stored, "Date"), now)
	return ok && made.Sub(modified) >= time.Second
}

// trimmed returns the first line of a field that has only one value, without
// surrounding white space. The name is canonical.
func trimmed(h http.Header, name string) string {
	if lines := h[name]; len(lines) > 0 {
		return trimOWS(lines[0])
	}
	return ""
}
