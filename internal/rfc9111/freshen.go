package rfc9111

import (
	"net/http"
	"slices"
	"strings"
)

// Matches304 reports whether a 304 with header h may freshen the stored
// response (§4.3.4). A validator in it that is not the stored one belongs to
// another representation and updates nothing. Entity-tags decide before
// modification dates, which cannot tell two changes in one second apart.
//
// It is more lenient than the section in two cases that are common and
// harmless, as the 304 answers the stored validators: a 304 without any
// validator matches, and so does an entity-tag whose weak form, or one with the
// content coding behind it, is stored. Servers change the tag of a 200 when they
// compress it, but have nothing to compress in a 304.
func Matches304(h, stored http.Header) bool {
	tag, modified := trimmed(h, "Etag"), trimmed(h, "Last-Modified")
	if ours := trimmed(stored, "Etag"); tag != "" && ours != "" {
		return weaklyEqual(tag, ours) || coded(tag, ours, stored)
	}
	if modified != "" {
		return modified == trimmed(stored, "Last-Modified")
	}
	return tag == ""
}

// coded reports whether the stored entity-tag is the other one with the coding of
// the stored response, such as "v1-gzip".
func coded(tag, ours string, stored http.Header) bool {
	coding := trimmed(stored, "Content-Encoding")
	plain, ok := strings.CutSuffix(ours, "-"+coding+`"`)
	return ok && coding != "" && weaklyEqual(tag, plain+`"`)
}

// Freshen returns the stored header updated with the fields of a 304, or of a
// 200 to HEAD, that validated it (§3.2). It modifies neither argument and
// shares no values with them.
//
// Every received field replaces the stored one, except those that must not be
// stored (§3.1) and those that describe the bytes which remain stored:
// Content-Length, and by the allowance of §3.2 Content-Encoding, Content-Type
// and Content-Range. For the same reason a weak entity-tag does not become
// strong. Age and Date tell of one message only, so the stored ones never
// outlive it; and what states a status states that of its own message.
func Freshen(stored, notModified http.Header) http.Header {
	fresh := stored.Clone()
	if fresh == nil {
		fresh = make(http.Header, len(notModified))
	}
	delete(fresh, "Age")
	delete(fresh, "Date")

	excluded := NotStored(notModified)
	for name, values := range notModified {
		if updates(name) && !StatesStatus(name) && !containsFold(excluded, name) {
			fresh[name] = slices.Clone(values)
		}
	}
	tag, received := trimmed(stored, "Etag"), trimmed(fresh, "Etag")
	if strings.HasPrefix(tag, "W/") && weaklyEqual(tag, received) || coded(received, tag, stored) {
		fresh["Etag"] = []string{tag}
	}
	return fresh
}

// updates reports whether a validation may replace the stored field (§3.2).
func updates(name string) bool {
	switch name {
	case "Content-Length", "Content-Encoding", "Content-Type", "Content-Range":
		return false
	}
	return true
}

// StatesStatus reports whether a field repeats the status of the message that it came
// with: Status of CGI (RFC 3875 §6.3.3), which FastCGI servers pass on, and its like.
func StatesStatus(name string) bool {
	switch http.CanonicalHeaderKey(name) {
	case "Status", "X-Status", "X-Status-Code", "X-Http-Status", "X-Http-Status-Code":
		return true
	}
	return false
}

// containsFold reports whether names has the field name, in any case.
func containsFold(names []string, name string) bool {
	return slices.ContainsFunc(names, func(s string) bool { return strings.EqualFold(s, name) })
}

// HeadAgrees reports whether a 200 answer to HEAD agrees with the stored GET
// response, which it may then freshen, or proves it invalid (§4.3.5). Each
// validator and the Content-Length it has must be the stored one; a stored
// response without the field does not agree.
func HeadAgrees(head, stored http.Header) bool {
	if tag := trimmed(head, "Etag"); tag != "" && !weaklyEqual(tag, trimmed(stored, "Etag")) {
		return false
	}
	return sameIfSent(head, stored, "Last-Modified") && sameIfSent(head, stored, "Content-Length")
}

func sameIfSent(received, stored http.Header, name string) bool {
	value := trimmed(received, name)
	return value == "" || value == trimmed(stored, name)
}
