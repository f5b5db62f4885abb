package rfc9111

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

// today is when the tests take place.
var today = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

const (
	sunday       = "Sun, 01 Feb 2026 08:00:00 GMT"
	sundayLater  = "Sun, 01 Feb 2026 08:00:01 GMT"
	sundayBefore = "Sun, 01 Feb 2026 07:59:59 GMT"
	sunday850    = "Sunday, 01-Feb-26 08:00:00 GMT"
	sundayC      = "Sun Feb  1 08:00:00 2026"
)

// newHeader builds a header from pairs of name and value.
func newHeader(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

func TestNotModified(t *testing.T) {
	tagged := newHeader("ETag", `"a"`, "Last-Modified", sunday)
	for _, c := range []struct {
		section, name string
		req, stored   http.Header
		want          bool
	}{
		{"9111 4.3.2", "no condition", newHeader("Accept", "*/*"), tagged, false},
		{"9111 4.3.2", "If-Match is not for caches", newHeader("If-Match", `"a"`), tagged, false},
		{"9111 4.3.2", "If-Unmodified-Since is not for caches", newHeader("If-Unmodified-Since", sunday), tagged, false},

		{"9110 13.1.2", "same tag", newHeader("If-None-Match", `"a"`), tagged, true},
		{"9110 13.1.2", "other tag", newHeader("If-None-Match", `"b"`), tagged, false},
		{"9110 13.1.2", "white space around", newHeader("If-None-Match", " \t\"a\" "), tagged, true},
		{"9110 13.1.2", "first of a list", newHeader("If-None-Match", `"a", "b"`), tagged, true},
		{"9110 13.1.2", "last of a list", newHeader("If-None-Match", `"b" ,W/"c","a"`), tagged, true},
		{"9110 13.1.2", "not in the list", newHeader("If-None-Match", `"b", "c"`), tagged, false},
		{"9110 5.3", "second line", newHeader("If-None-Match", `"b"`, "If-None-Match", `"a"`), tagged, true},
		{"9110 5.6.1.2", "empty members", newHeader("If-None-Match", `, ,"a",`), tagged, true},
		{"9110 5.6.1.2", "nothing but empty members", newHeader("If-None-Match", ", ,"), tagged, false},
		{"9110 13.1.2", "any", newHeader("If-None-Match", "*"), tagged, true},
		{"9110 13.1.2", "any, nothing but a body stored", newHeader("If-None-Match", " * "), newHeader(), true},
		{"9110 13.1.2", "any is no list member", newHeader("If-None-Match", `*, "b"`), tagged, false},
		{"9110 13.1.2", "any is not repeated", newHeader("If-None-Match", "*", "If-None-Match", "*"), tagged, false},
		{"9110 13.1.2", "no stored tag", newHeader("If-None-Match", `"a"`), newHeader(), false},
		{"9110 13.1.2", "empty against no stored tag", newHeader("If-None-Match", ""), newHeader(), false},
		{"9110 8.8.3", "only a weak prefix against no stored tag", newHeader("If-None-Match", "W/"), newHeader(), false},
		{"9110 8.8.3.2", "weak request", newHeader("If-None-Match", `W/"a"`), tagged, true},
		{"9110 8.8.3.2", "weak stored", newHeader("If-None-Match", `"a"`), newHeader("ETag", `W/"a"`), true},
		{"9110 8.8.3.2", "both weak", newHeader("If-None-Match", `W/"a"`), newHeader("ETag", `W/"a"`), true},
		{"9110 8.8.3.2", "weak, another", newHeader("If-None-Match", `W/"b"`), newHeader("ETag", `W/"a"`), false},
		{"9110 8.8.3", "lower-case weak", newHeader("If-None-Match", `w/"a"`), tagged, false},
		{"9110 8.8.3", "comma inside", newHeader("If-None-Match", `"x", "a,b"`), newHeader("ETag", `"a,b"`), true},
		{"9110 8.8.3", "a part of a tag with a comma", newHeader("If-None-Match", `"x,"a",y"`), tagged, false},
		{"9110 8.8.3", "backslash escapes nothing", newHeader("If-None-Match", `"a\", "b"`), newHeader("ETag", `"a\"`), true},
		{"9110 8.8.3", "obs-text", newHeader("If-None-Match", "\"\xe4\""), newHeader("ETag", "\"\xe4\""), true},
		{"9110 8.8.3", "case matters", newHeader("If-None-Match", `"A"`), tagged, false},
		{"9110 8.8.3", "unclosed", newHeader("If-None-Match", `"a`), tagged, false},
		{"9110 8.8.3", "unquoted against quoted", newHeader("If-None-Match", `a`), tagged, false},
		{"9110 8.8.3", "unquoted on both sides", newHeader("If-None-Match", `a`), newHeader("ETag", `a`), true},

		{"9110 13.1.3", "If-None-Match wins", newHeader("If-None-Match", `"b"`, "If-Modified-Since", sunday), tagged, false},
		{"9110 13.1.3", "If-None-Match wins over an older date", newHeader("If-None-Match", `"a"`, "If-Modified-Since", sundayBefore), tagged, true},
		{"9110 13.1.3", "malformed If-None-Match wins too", newHeader("If-None-Match", "", "If-Modified-Since", sunday), tagged, false},

		{"9110 13.1.3", "same date", newHeader("If-Modified-Since", sunday), tagged, true},
		{"9110 13.1.3", "later date", newHeader("If-Modified-Since", sundayLater), tagged, true},
		{"9110 13.1.3", "earlier date", newHeader("If-Modified-Since", sundayBefore), tagged, false},
		{"9110 5.6.7", "RFC 850 date", newHeader("If-Modified-Since", sunday850), tagged, true},
		{"9110 5.6.7", "asctime date", newHeader("If-Modified-Since", sundayC), tagged, true},
		{"9110 13.1.3", "malformed date", newHeader("If-Modified-Since", "yesterday"), tagged, false},
		{"9110 13.1.3", "two dates", newHeader("If-Modified-Since", sunday, "If-Modified-Since", sunday), tagged, false},
		{"9111 4.3.2", "Date stands in", newHeader("If-Modified-Since", sunday), newHeader("Date", sunday), true},
		{"9111 4.3.2", "later Date stands in", newHeader("If-Modified-Since", sunday), newHeader("Date", sundayLater), false},
		{"9111 4.3.2", "Date is no substitute for a later Last-Modified", newHeader("If-Modified-Since", sunday), newHeader("Last-Modified", sundayLater, "Date", sunday), false},
		{"9111 4.3.2", "malformed Last-Modified", newHeader("If-Modified-Since", sunday), newHeader("Last-Modified", "0", "Date", sunday), false},
		{"9111 4.3.2", "neither stored", newHeader("If-Modified-Since", sunday), newHeader(), false},
	} {
		if got := NotModified(c.req, c.stored, today); got != c.want {
			t.Errorf("RFC %s %s: got %v, want %v", c.section, c.name, got, c.want)
		}
	}
}

func TestNotModifiedAllocates(t *testing.T) {
	req := newHeader("Accept", "*/*", "User-Agent", "x")
	stored := newHeader("ETag", `"a"`, "Last-Modified", sunday)
	if n := testing.AllocsPerRun(100, func() { NotModified(req, stored, today) }); n != 0 {
		t.Errorf("without conditions: %v allocations", n)
	}
	req = newHeader("If-None-Match", `W/"x", "a"`)
	if n := testing.AllocsPerRun(100, func() { NotModified(req, stored, today) }); n != 0 {
		t.Errorf("with If-None-Match: %v allocations", n)
	}
}

func FuzzNotModified(f *testing.F) {
	for _, seed := range [][4]string{
		{`"a"`, "", `"a"`, sunday},
		{`W/"a", "b,c"`, sunday, `"b,c"`, sunday},
		{"*", "", "", ""},
		{"", sunday850, "", sundayC},
		{`"a`, "0", `a"`, "Sun Feb  1"},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3])
	}
	f.Fuzz(func(t *testing.T, match, since, tag, modified string) {
		stored := http.Header{"Etag": {tag}, "Last-Modified": {modified}}
		byTag := NotModified(http.Header{"If-None-Match": {match}}, stored, today)
		both := NotModified(http.Header{"If-None-Match": {match}, "If-Modified-Since": {since}}, stored, today)
		if byTag != both {
			t.Errorf("If-Modified-Since %q changed the answer to If-None-Match %q", since, match)
		}
		if weak := NotModified(http.Header{"If-None-Match": {"W/" + tag}}, stored, today); strongTag(tag) && !weak {
			t.Errorf("%q does not match its own weak form", tag)
		}
		none := NotModified(http.Header{"If-None-Match": {match}}, http.Header{}, today)
		if none && strings.TrimSpace(match) != "*" {
			t.Errorf("%q matches without a stored tag", match)
		}
		if byTag && strings.TrimSpace(match) != "*" && !strings.Contains(match, strings.TrimPrefix(strings.TrimSpace(tag), "W/")) {
			t.Errorf("%q matches %q", match, tag)
		}
		NotModified(http.Header{"If-Modified-Since": {since}}, stored, today)
		IfRangeHolds(http.Header{"If-Range": {match}}, stored, today)
	})
}

func TestNotModifiedField(t *testing.T) {
	for _, c := range []struct {
		section, name string
		want          bool
	}{
		{"9110 15.4.5", "ETag", true},
		{"9110 15.4.5", "Content-Location", true},
		{"9110 15.4.5", "Cache-Control", true},
		{"9110 15.4.5", "Date", true},
		{"9110 15.4.5", "Expires", true},
		{"9110 15.4.5", "Vary", true},
		{"9111 5.1", "Age", true},
		{"9211 2", "Cache-Status", true},
		{"9110 15.4.5", "Set-Cookie", true},
		{"9110 15.4.5", "Content-Security-Policy", true},
		{"9110 8.3", "Content-Type", false},
		{"9110 8.3", "content-type", false},
		{"9110 8.4", "Content-Encoding", false},
		{"9110 8.5", "Content-Language", false},
		{"9110 8.6", "Content-Length", false},
		{"9110 8.8.2", "Last-Modified", false},
		{"9110 14.4", "Content-Range", false},
		{"6266 4", "Content-Disposition", false},
		{"1864 2", "Content-MD5", false},
		{"9530 2", "Content-Digest", false},
		{"9530 3", "Repr-Digest", false},
		{"3230 4.3.2", "Digest", false},
		{"9110 6.6.2", "Trailer", false},
	} {
		if got := NotModifiedField(c.name); got != c.want {
			t.Errorf("RFC %s %s: got %v, want %v", c.section, c.name, got, c.want)
		}
	}
}

func TestHasValidator(t *testing.T) {
	for _, c := range []struct {
		section string
		h       http.Header
		want    bool
	}{
		{"9111 4.3.1", newHeader(), false},
		{"9111 4.3.1", nil, false},
		{"9111 4.3.1", newHeader("ETag", `"a"`), true},
		{"9111 4.3.1", newHeader("Last-Modified", sunday), true},
		{"9111 4.3.1", newHeader("ETag", "", "Last-Modified", " "), false},
		{"9111 4.3.1", newHeader("Date", sunday), false},
	} {
		if got := HasValidator(c.h); got != c.want {
			t.Errorf("RFC %s %v: got %v, want %v", c.section, c.h, got, c.want)
		}
	}
}

func TestSetConditions(t *testing.T) {
	client := func() http.Header {
		return newHeader("Accept", "*/*", "If-Match", `"x"`, "If-None-Match", `"x"`, "If-None-Match", `"y"`,
			"If-Modified-Since", sundayLater, "If-Unmodified-Since", sunday, "If-Range", `"x"`)
	}
	for _, c := range []struct {
		section      string
		stored, want http.Header
	}{
		{"9111 4.3.1", newHeader("ETag", `W/"a"`, "Last-Modified", sunday), newHeader("Accept", "*/*", "If-None-Match", `W/"a"`, "If-Modified-Since", sunday)},
		{"9111 4.3.1 verbatim", newHeader("ETag", `a`), newHeader("Accept", "*/*", "If-None-Match", "a")},
		{"9111 4.3.1 verbatim", newHeader("Last-Modified", sunday850), newHeader("Accept", "*/*", "If-Modified-Since", sunday850)},
		{"9111 4.3.1 no validator", newHeader(), newHeader("Accept", "*/*")},
	} {
		req := client()
		SetConditions(req, c.stored)
		if !reflect.DeepEqual(req, c.want) {
			t.Errorf("RFC %s: got %v, want %v", c.section, req, c.want)
		}
	}
}

func TestIfRangeHolds(t *testing.T) {
	stored := newHeader("ETag", `"a"`, "Last-Modified", sunday, "Date", sundayLater)
	for _, c := range []struct {
		section, name string
		req, stored   http.Header
		want          bool
	}{
		{"9110 13.1.5", "no condition", newHeader("Range", "bytes=0-1"), stored, true},
		{"9110 13.1.5", "same tag", newHeader("If-Range", ` "a" `), stored, true},
		{"9110 13.1.5", "other tag", newHeader("If-Range", `"b"`), stored, false},
		{"9110 13.1.5", "two lines", newHeader("If-Range", `"a"`, "If-Range", `"a"`), stored, false},
		{"9110 13.1.5", "a list", newHeader("If-Range", `"a", "b"`), stored, false},
		{"9110 13.1.5", "empty", newHeader("If-Range", ""), newHeader(), false},
		{"9110 13.1.5", "no stored tag", newHeader("If-Range", `"a"`), newHeader("Date", sunday), false},
		{"9110 8.8.3.2", "weak", newHeader("If-Range", `W/"a"`), newHeader("ETag", `W/"a"`), false},
		{"9110 8.8.3.2", "weak stored", newHeader("If-Range", `"a"`), newHeader("ETag", `W/"a"`), false},
		{"9110 8.8.3", "unquoted", newHeader("If-Range", "a"), newHeader("ETag", "a"), false},
		{"9110 8.8.3", "one quote", newHeader("If-Range", `"`), newHeader("ETag", `"`), false},
		{"9110 8.8.3", "empty tag", newHeader("If-Range", `""`), newHeader("ETag", `""`), true},
		{"9110 13.1.5", "same date", newHeader("If-Range", sunday), stored, true},
		{"9110 5.6.7", "same date in RFC 850 form", newHeader("If-Range", sunday850), stored, true},
		{"9110 13.1.5", "later date is no exact match", newHeader("If-Range", sundayLater), stored, false},
		{"9110 13.1.5", "no Last-Modified", newHeader("If-Range", sunday), newHeader("Date", sundayLater), false},
		{"9110 8.8.2.2", "Last-Modified in the second of Date", newHeader("If-Range", sunday), newHeader("Last-Modified", sunday, "Date", sunday), false},
		{"9110 8.8.2.2", "no Date", newHeader("If-Range", sunday), newHeader("Last-Modified", sunday), false},
	} {
		if got := IfRangeHolds(c.req, c.stored, today); got != c.want {
			t.Errorf("RFC %s %s: got %v, want %v", c.section, c.name, got, c.want)
		}
	}
}
