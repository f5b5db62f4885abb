package rfc9111

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

// testNow is when the tests take place.
var testNow = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

const (
	sunday       = "Sun, 01 Feb 2026 08:00:00 GMT"
	sundayLater  = "Sun, 01 Feb 2026 08:00:01 GMT"
	sundayBefore = "Sun, 01 Feb 2026 07:59:59 GMT"
	sunday850    = "Sunday, 01-Feb-26 08:00:00 GMT"
	sundayC      = "Sun Feb  1 08:00:00 2026"
)

// fields builds a header from pairs of name and value.
func fields(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

func TestNotModified(t *testing.T) {
	tagged := fields("ETag", `"a"`, "Last-Modified", sunday)
	for _, c := range []struct {
		section, name string
		req, stored   http.Header
		want          bool
	}{
		{"9111 4.3.2", "no condition", fields("Accept", "*/*"), tagged, false},
		{"9111 4.3.2", "If-Match is not for caches", fields("If-Match", `"a"`), tagged, false},
		{"9111 4.3.2", "If-Unmodified-Since is not for caches", fields("If-Unmodified-Since", sunday), tagged, false},

		{"9110 13.1.2", "same tag", fields("If-None-Match", `"a"`), tagged, true},
		{"9110 13.1.2", "other tag", fields("If-None-Match", `"b"`), tagged, false},
		{"9110 13.1.2", "white space around", fields("If-None-Match", " \t\"a\" "), tagged, true},
		{"9110 13.1.2", "first of a list", fields("If-None-Match", `"a", "b"`), tagged, true},
		{"9110 13.1.2", "last of a list", fields("If-None-Match", `"b" ,W/"c","a"`), tagged, true},
		{"9110 13.1.2", "not in the list", fields("If-None-Match", `"b", "c"`), tagged, false},
		{"9110 5.3", "second line", fields("If-None-Match", `"b"`, "If-None-Match", `"a"`), tagged, true},
		{"9110 5.6.1.2", "empty members", fields("If-None-Match", `, ,"a",`), tagged, true},
		{"9110 5.6.1.2", "nothing but empty members", fields("If-None-Match", ", ,"), tagged, false},
		{"9110 13.1.2", "any", fields("If-None-Match", "*"), tagged, true},
		{"9110 13.1.2", "any, nothing but a body stored", fields("If-None-Match", " * "), fields(), true},
		{"9110 13.1.2", "any is no list member", fields("If-None-Match", `*, "b"`), tagged, false},
		{"9110 13.1.2", "any is not repeated", fields("If-None-Match", "*", "If-None-Match", "*"), tagged, false},
		{"9110 13.1.2", "no stored tag", fields("If-None-Match", `"a"`), fields(), false},
		{"9110 13.1.2", "empty against no stored tag", fields("If-None-Match", ""), fields(), false},
		{"9110 8.8.3.2", "weak request", fields("If-None-Match", `W/"a"`), tagged, true},
		{"9110 8.8.3.2", "weak stored", fields("If-None-Match", `"a"`), fields("ETag", `W/"a"`), true},
		{"9110 8.8.3.2", "both weak", fields("If-None-Match", `W/"a"`), fields("ETag", `W/"a"`), true},
		{"9110 8.8.3.2", "weak, another", fields("If-None-Match", `W/"b"`), fields("ETag", `W/"a"`), false},
		{"9110 8.8.3", "lower-case weak", fields("If-None-Match", `w/"a"`), tagged, false},
		{"9110 8.8.3", "comma inside", fields("If-None-Match", `"x", "a,b"`), fields("ETag", `"a,b"`), true},
		{"9110 8.8.3", "a part of a tag with a comma", fields("If-None-Match", `"x,"a",y"`), tagged, false},
		{"9110 8.8.3", "backslash escapes nothing", fields("If-None-Match", `"a\", "b"`), fields("ETag", `"a\"`), true},
		{"9110 8.8.3", "obs-text", fields("If-None-Match", "\"\xe4\""), fields("ETag", "\"\xe4\""), true},
		{"9110 8.8.3", "case matters", fields("If-None-Match", `"A"`), tagged, false},
		{"9110 8.8.3", "unclosed", fields("If-None-Match", `"a`), tagged, false},
		{"9110 8.8.3", "unquoted against quoted", fields("If-None-Match", `a`), tagged, false},
		{"9110 8.8.3", "unquoted on both sides", fields("If-None-Match", `a`), fields("ETag", `a`), true},

		{"9110 13.1.3", "If-None-Match wins", fields("If-None-Match", `"b"`, "If-Modified-Since", sunday), tagged, false},
		{"9110 13.1.3", "If-None-Match wins over an older date", fields("If-None-Match", `"a"`, "If-Modified-Since", sundayBefore), tagged, true},
		{"9110 13.1.3", "malformed If-None-Match wins too", fields("If-None-Match", "", "If-Modified-Since", sunday), tagged, false},

		{"9110 13.1.3", "same date", fields("If-Modified-Since", sunday), tagged, true},
		{"9110 13.1.3", "later date", fields("If-Modified-Since", sundayLater), tagged, true},
		{"9110 13.1.3", "earlier date", fields("If-Modified-Since", sundayBefore), tagged, false},
		{"9110 5.6.7", "RFC 850 date", fields("If-Modified-Since", sunday850), tagged, true},
		{"9110 5.6.7", "asctime date", fields("If-Modified-Since", sundayC), tagged, true},
		{"9110 13.1.3", "malformed date", fields("If-Modified-Since", "yesterday"), tagged, false},
		{"9110 13.1.3", "two dates", fields("If-Modified-Since", sunday, "If-Modified-Since", sunday), tagged, false},
		{"9111 4.3.2", "Date stands in", fields("If-Modified-Since", sunday), fields("Date", sunday), true},
		{"9111 4.3.2", "later Date stands in", fields("If-Modified-Since", sunday), fields("Date", sundayLater), false},
		{"9111 4.3.2", "Date is no substitute for a later Last-Modified", fields("If-Modified-Since", sunday), fields("Last-Modified", sundayLater, "Date", sunday), false},
		{"9111 4.3.2", "malformed Last-Modified", fields("If-Modified-Since", sunday), fields("Last-Modified", "0", "Date", sunday), false},
		{"9111 4.3.2", "neither stored", fields("If-Modified-Since", sunday), fields(), false},
	} {
		if got := NotModified(c.req, c.stored, testNow); got != c.want {
			t.Errorf("RFC %s %s: got %v, want %v", c.section, c.name, got, c.want)
		}
	}
}

func TestNotModifiedAllocates(t *testing.T) {
	req := fields("Accept", "*/*", "User-Agent", "x")
	stored := fields("ETag", `"a"`, "Last-Modified", sunday)
	if n := testing.AllocsPerRun(100, func() { NotModified(req, stored, testNow) }); n != 0 {
		t.Errorf("without conditions: %v allocations", n)
	}
	req = fields("If-None-Match", `W/"x", "a"`)
	if n := testing.AllocsPerRun(100, func() { NotModified(req, stored, testNow) }); n != 0 {
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
		byTag := NotModified(http.Header{"If-None-Match": {match}}, stored, testNow)
		both := NotModified(http.Header{"If-None-Match": {match}, "If-Modified-Since": {since}}, stored, testNow)
		if byTag != both {
			t.Errorf("If-Modified-Since %q changed the answer to If-None-Match %q", since, match)
		}
		if weak := NotModified(http.Header{"If-None-Match": {"W/" + tag}}, stored, testNow); strongTag(tag) && !weak {
			t.Errorf("%q does not match its own weak form", tag)
		}
		if byTag && strings.TrimSpace(match) != "*" && !strings.Contains(match, strings.TrimPrefix(strings.TrimSpace(tag), "W/")) {
			t.Errorf("%q matches %q", match, tag)
		}
		NotModified(http.Header{"If-Modified-Since": {since}}, stored, testNow)
		IfRangeHolds(http.Header{"If-Range": {match}}, stored, testNow)
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
		{"9111 4.3.1", fields(), false},
		{"9111 4.3.1", nil, false},
		{"9111 4.3.1", fields("ETag", `"a"`), true},
		{"9111 4.3.1", fields("Last-Modified", sunday), true},
		{"9111 4.3.1", fields("ETag", "", "Last-Modified", " "), false},
		{"9111 4.3.1", fields("Date", sunday), false},
	} {
		if got := HasValidator(c.h); got != c.want {
			t.Errorf("RFC %s %v: got %v, want %v", c.section, c.h, got, c.want)
		}
	}
}

func TestSetConditions(t *testing.T) {
	client := func() http.Header {
		return fields("Accept", "*/*", "If-Match", `"x"`, "If-None-Match", `"x"`, "If-None-Match", `"y"`,
			"If-Modified-Since", sundayLater, "If-Unmodified-Since", sunday, "If-Range", `"x"`)
	}
	for _, c := range []struct {
		section      string
		stored, want http.Header
	}{
		{"9111 4.3.1", fields("ETag", `W/"a"`, "Last-Modified", sunday), fields("Accept", "*/*", "If-None-Match", `W/"a"`, "If-Modified-Since", sunday)},
		{"9111 4.3.1 verbatim", fields("ETag", `a`), fields("Accept", "*/*", "If-None-Match", "a")},
		{"9111 4.3.1 verbatim", fields("Last-Modified", sunday850), fields("Accept", "*/*", "If-Modified-Since", sunday850)},
		{"9111 4.3.1 no validator", fields(), fields("Accept", "*/*")},
	} {
		req := client()
		SetConditions(req, c.stored)
		if !reflect.DeepEqual(req, c.want) {
			t.Errorf("RFC %s: got %v, want %v", c.section, req, c.want)
		}
	}
}

func TestIfRangeHolds(t *testing.T) {
	stored := fields("ETag", `"a"`, "Last-Modified", sunday, "Date", sundayLater)
	for _, c := range []struct {
		section, name string
		req, stored   http.Header
		want          bool
	}{
		{"9110 13.1.5", "no condition", fields("Range", "bytes=0-1"), stored, true},
		{"9110 13.1.5", "same tag", fields("If-Range", ` "a" `), stored, true},
		{"9110 13.1.5", "other tag", fields("If-Range", `"b"`), stored, false},
		{"9110 13.1.5", "two lines", fields("If-Range", `"a"`, "If-Range", `"a"`), stored, false},
		{"9110 13.1.5", "a list", fields("If-Range", `"a", "b"`), stored, false},
		{"9110 13.1.5", "empty", fields("If-Range", ""), fields(), false},
		{"9110 13.1.5", "no stored tag", fields("If-Range", `"a"`), fields("Date", sunday), false},
		{"9110 8.8.3.2", "weak", fields("If-Range", `W/"a"`), fields("ETag", `W/"a"`), false},
		{"9110 8.8.3.2", "weak stored", fields("If-Range", `"a"`), fields("ETag", `W/"a"`), false},
		{"9110 8.8.3", "unquoted", fields("If-Range", "a"), fields("ETag", "a"), false},
		{"9110 8.8.3", "one quote", fields("If-Range", `"`), fields("ETag", `"`), false},
		{"9110 8.8.3", "empty tag", fields("If-Range", `""`), fields("ETag", `""`), true},
		{"9110 13.1.5", "same date", fields("If-Range", sunday), stored, true},
		{"9110 5.6.7", "same date in RFC 850 form", fields("If-Range", sunday850), stored, true},
		{"9110 13.1.5", "later date is no exact match", fields("If-Range", sundayLater), stored, false},
		{"9110 13.1.5", "no Last-Modified", fields("If-Range", sunday), fields("Date", sundayLater), false},
		{"9110 8.8.2.2", "Last-Modified in the second of Date", fields("If-Range", sunday), fields("Last-Modified", sunday, "Date", sunday), false},
		{"9110 8.8.2.2", "no Date", fields("If-Range", sunday), fields("Last-Modified", sunday), false},
	} {
		if got := IfRangeHolds(c.req, c.stored, testNow); got != c.want {
			t.Errorf("RFC %s %s: got %v, want %v", c.section, c.name, got, c.want)
		}
	}
}
