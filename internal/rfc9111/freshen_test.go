package rfc9111

import (
	"net/http"
	"reflect"
	"testing"
)

func TestMatches304(t *testing.T) {
	both := newHeader("ETag", `"a"`, "Last-Modified", sunday)
	for _, c := range []struct {
		section, name string
		h, stored     http.Header
		want          bool
	}{
		{"9111 4.3.4", "same strong tag", newHeader("ETag", `"a"`), both, true},
		{"9111 4.3.4", "other strong tag", newHeader("ETag", `"b"`), both, false},
		{"9111 4.3.4", "other tag, same date", newHeader("ETag", `"b"`, "Last-Modified", sunday), both, false},
		{"9111 4.3.4", "same tag, other date", newHeader("ETag", `"a"`, "Last-Modified", sundayLater), both, true},
		{"9111 4.3.4", "strong tag, none stored", newHeader("ETag", `"a"`), newHeader("Last-Modified", sunday), false},
		{"9111 4.3.4", "strong tag, nothing stored", newHeader("ETag", `"a"`), newHeader(), false},
		{"9111 4.3.4", "new tag, same date", newHeader("ETag", `"a"`, "Last-Modified", sunday), newHeader("Last-Modified", sunday), true},
		{"9111 4.3.4", "weak tags", newHeader("ETag", `W/"a"`), newHeader("ETag", `W/"a"`), true},
		{"9111 4.3.4", "other weak tag", newHeader("ETag", `W/"b"`), newHeader("ETag", `W/"a"`), false},
		{"9111 4.3.4", "weak of the strong one stored", newHeader("ETag", `W/"a"`), both, true},
		{"9111 4.3.4", "strong of the weak one stored, lenient", newHeader("ETag", `"a"`), newHeader("ETag", `W/"a"`), true},
		{"9111 4.3.4", "coded one stored, lenient", newHeader("ETag", `"a"`), newHeader("ETag", `"a-gzip"`, "Content-Encoding", "gzip"), true},
		{"9111 4.3.4", "other coding stored", newHeader("ETag", `"a"`), newHeader("ETag", `"a-gzip"`, "Content-Encoding", "br"), false},
		{"9111 4.3.4", "no coding stored", newHeader("ETag", `"a"`), newHeader("ETag", `"a-gzip"`), false},
		{"9111 4.3.4", "another coded one stored", newHeader("ETag", `"b"`), newHeader("ETag", `"a-gzip"`, "Content-Encoding", "gzip"), false},
		{"9111 4.3.4", "same date", newHeader("Last-Modified", sunday), both, true},
		{"9111 4.3.4", "other date", newHeader("Last-Modified", sundayLater), both, false},
		{"9111 4.3.4", "date, none stored", newHeader("Last-Modified", sunday), newHeader("ETag", `"a"`), false},
		{"9111 4.3.4", "no validator, none stored", newHeader(), newHeader(), true},
		{"9111 4.3.4", "no validator, lenient", newHeader("Date", sunday), both, true},
	} {
		if got := Matches304(c.h, c.stored); got != c.want {
			t.Errorf("RFC %s %s: got %v, want %v", c.section, c.name, got, c.want)
		}
	}
}

func TestFreshen(t *testing.T) {
	for _, c := range []struct {
		section, name         string
		stored, received, out http.Header
	}{
		{
			"9111 3.2", "replaces and adds",
			newHeader("Cache-Control", "max-age=1", "X-Old", "1", "Vary", "A"),
			newHeader("Cache-Control", "max-age=9", "Cache-Control", "public", "X-New", "2", "Content-Foo", "3"),
			newHeader("Cache-Control", "max-age=9", "Cache-Control", "public", "X-Old", "1", "X-New", "2", "Vary", "A", "Content-Foo", "3"),
		},
		{
			"9111 3.2", "keeps what describes the stored bytes",
			newHeader("Content-Length", "5", "Content-Encoding", "gzip", "Content-Type", "text/html"),
			newHeader("Content-Length", "0", "Content-Encoding", "br", "Content-Type", "text/plain", "Content-Range", "bytes 0-1/5", "Content-Language", "de"),
			newHeader("Content-Length", "5", "Content-Encoding", "gzip", "Content-Type", "text/html", "Content-Language", "de"),
		},
		{
			"9111 3.2", "keeps the entity-tag of the coded representation",
			newHeader("Content-Encoding", "gzip", "ETag", `"a-gzip"`),
			newHeader("ETag", `"a"`),
			newHeader("Content-Encoding", "gzip", "ETag", `"a-gzip"`),
		},
		{
			"9111 3.1", "not what must not be stored",
			newHeader("X-Hop", "1", "X-Kept", "1"),
			newHeader("Connection", "x-hop", "X-Hop", "2", "X-Kept", "2", "Proxy-Authenticate", "Basic"),
			newHeader("X-Hop", "1", "X-Kept", "2"),
		},
		{
			"9111 3.2", "what states the status of the 304",
			newHeader("Status", "200 OK"),
			newHeader("Status", "304 Not Modified", "X-HTTP-Status", "304", "X-Cache-Status", "304"),
			newHeader("Status", "200 OK", "X-Cache-Status", "304"),
		},
		{
			"9111 4.2.3", "Age and Date of the earlier message go",
			newHeader("Age", "500", "Date", sunday, "Expires", sunday),
			newHeader("X-New", "1"),
			newHeader("Expires", sunday, "X-New", "1"),
		},
		{
			"9111 4.2.3", "Age and Date of the later message come",
			newHeader("Age", "500", "Date", sunday),
			newHeader("Age", "3", "Date", sundayLater),
			newHeader("Age", "3", "Date", sundayLater),
		},
		{"9111 3.2", "a new tag", newHeader("ETag", `W/"a"`), newHeader("ETag", `"b"`), newHeader("ETag", `"b"`)},
		{"9111 3.2", "a weak tag stays weak", newHeader("ETag", `W/"a"`), newHeader("ETag", `"a"`), newHeader("ETag", `W/"a"`)},
		{"9111 3.2", "a strong tag may become weak", newHeader("ETag", `"a"`), newHeader("ETag", `W/"a"`), newHeader("ETag", `W/"a"`)},
		{"9111 3.2", "a tag the 304 does not have", newHeader("ETag", `W/"a"`), newHeader(), newHeader("ETag", `W/"a"`)},
		{"9111 3.2", "nothing stored", nil, newHeader("X-New", "1"), newHeader("X-New", "1")},
	} {
		stored, received := c.stored.Clone(), c.received.Clone()
		got := Freshen(c.stored, c.received)
		if !reflect.DeepEqual(got, c.out) {
			t.Errorf("RFC %s %s: got %v, want %v", c.section, c.name, got, c.out)
		}
		for _, values := range got {
			values[0] = "changed"
		}
		if !reflect.DeepEqual(stored, c.stored) || !reflect.DeepEqual(received, c.received) {
			t.Errorf("RFC %s %s: an argument was changed", c.section, c.name)
		}
	}
}

func TestHeadAgrees(t *testing.T) {
	stored := newHeader("ETag", `"a"`, "Last-Modified", sunday, "Content-Length", "5")
	for _, c := range []struct {
		section, name string
		head, stored  http.Header
		want          bool
	}{
		{"9111 4.3.5", "all the same", stored, stored, true},
		{"9111 4.3.5", "nothing received", newHeader(), stored, true},
		{"9111 4.3.5", "other tag", newHeader("ETag", `"b"`), stored, false},
		{"9111 4.3.5", "weak form of the tag", newHeader("ETag", `W/"a"`), stored, true},
		{"9111 4.3.5", "other date", newHeader("ETag", `"a"`, "Last-Modified", sundayLater), stored, false},
		{"9111 4.3.5", "other length", newHeader("ETag", `"a"`, "Content-Length", "6"), stored, false},
		{"9111 4.3.5", "tag, none stored", newHeader("ETag", `"a"`), newHeader("Content-Length", "5"), false},
		{"9111 4.3.5", "date, none stored", newHeader("Last-Modified", sunday), newHeader(), false},
		{"9111 4.3.5", "length, none stored", newHeader("Content-Length", "5"), newHeader("ETag", `"a"`), false},
		{"9111 4.3.5", "other type", newHeader("Content-Type", "text/plain"), stored, true},
	} {
		if got := HeadAgrees(c.head, c.stored); got != c.want {
			t.Errorf("RFC %s %s: got %v, want %v", c.section, c.name, got, c.want)
		}
	}
}
