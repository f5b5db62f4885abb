package rfc9111

import (
	"net/http"
	"reflect"
	"testing"
)

func TestMatches304(t *testing.T) {
	both := fields("ETag", `"a"`, "Last-Modified", sunday)
	for _, c := range []struct {
		section, name string
		h, stored     http.Header
		want          bool
	}{
		{"9111 4.3.4", "same strong tag", fields("ETag", `"a"`), both, true},
		{"9111 4.3.4", "other strong tag", fields("ETag", `"b"`), both, false},
		{"9111 4.3.4", "other tag, same date", fields("ETag", `"b"`, "Last-Modified", sunday), both, false},
		{"9111 4.3.4", "same tag, other date", fields("ETag", `"a"`, "Last-Modified", sundayLater), both, true},
		{"9111 4.3.4", "strong tag, none stored", fields("ETag", `"a"`), fields("Last-Modified", sunday), false},
		{"9111 4.3.4", "strong tag, nothing stored", fields("ETag", `"a"`), fields(), false},
		{"9111 4.3.4", "new tag, same date", fields("ETag", `"a"`, "Last-Modified", sunday), fields("Last-Modified", sunday), true},
		{"9111 4.3.4", "weak tags", fields("ETag", `W/"a"`), fields("ETag", `W/"a"`), true},
		{"9111 4.3.4", "other weak tag", fields("ETag", `W/"b"`), fields("ETag", `W/"a"`), false},
		{"9111 4.3.4", "weak of the strong one stored", fields("ETag", `W/"a"`), both, true},
		{"9111 4.3.4", "strong of the weak one stored, lenient", fields("ETag", `"a"`), fields("ETag", `W/"a"`), true},
		{"9111 4.3.4", "same date", fields("Last-Modified", sunday), both, true},
		{"9111 4.3.4", "other date", fields("Last-Modified", sundayLater), both, false},
		{"9111 4.3.4", "date, none stored", fields("Last-Modified", sunday), fields("ETag", `"a"`), false},
		{"9111 4.3.4", "no validator, none stored", fields(), fields(), true},
		{"9111 4.3.4", "no validator, lenient", fields("Date", sunday), both, true},
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
			fields("Cache-Control", "max-age=1", "X-Old", "1", "Vary", "A"),
			fields("Cache-Control", "max-age=9", "Cache-Control", "public", "X-New", "2", "Content-Foo", "3"),
			fields("Cache-Control", "max-age=9", "Cache-Control", "public", "X-Old", "1", "X-New", "2", "Vary", "A", "Content-Foo", "3"),
		},
		{
			"9111 3.2", "keeps what describes the stored bytes",
			fields("Content-Length", "5", "Content-Encoding", "gzip", "Content-Type", "text/html"),
			fields("Content-Length", "0", "Content-Encoding", "br", "Content-Type", "text/plain", "Content-Range", "bytes 0-1/5", "Content-Language", "de"),
			fields("Content-Length", "5", "Content-Encoding", "gzip", "Content-Type", "text/html", "Content-Language", "de"),
		},
		{
			"9111 3.1", "not what must not be stored",
			fields("X-Hop", "1", "X-Kept", "1"),
			fields("Connection", "x-hop", "X-Hop", "2", "X-Kept", "2", "Proxy-Authenticate", "Basic"),
			fields("X-Hop", "1", "X-Kept", "2"),
		},
		{
			"9111 4.2.3", "Age and Date of the earlier message go",
			fields("Age", "500", "Date", sunday, "Expires", sunday),
			fields("X-New", "1"),
			fields("Expires", sunday, "X-New", "1"),
		},
		{
			"9111 4.2.3", "Age and Date of the later message come",
			fields("Age", "500", "Date", sunday),
			fields("Age", "3", "Date", sundayLater),
			fields("Age", "3", "Date", sundayLater),
		},
		{"9111 3.2", "a new tag", fields("ETag", `W/"a"`), fields("ETag", `"b"`), fields("ETag", `"b"`)},
		{"9111 3.2", "a weak tag stays weak", fields("ETag", `W/"a"`), fields("ETag", `"a"`), fields("ETag", `W/"a"`)},
		{"9111 3.2", "a strong tag may become weak", fields("ETag", `"a"`), fields("ETag", `W/"a"`), fields("ETag", `W/"a"`)},
		{"9111 3.2", "a tag the 304 does not have", fields("ETag", `W/"a"`), fields(), fields("ETag", `W/"a"`)},
		{"9111 3.2", "nothing stored", nil, fields("X-New", "1"), fields("X-New", "1")},
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
	stored := fields("ETag", `"a"`, "Last-Modified", sunday, "Content-Length", "5")
	for _, c := range []struct {
		section, name string
		head, stored  http.Header
		want          bool
	}{
		{"9111 4.3.5", "all the same", stored, stored, true},
		{"9111 4.3.5", "nothing received", fields(), stored, true},
		{"9111 4.3.5", "other tag", fields("ETag", `"b"`), stored, false},
		{"9111 4.3.5", "weak form of the tag", fields("ETag", `W/"a"`), stored, true},
		{"9111 4.3.5", "other date", fields("ETag", `"a"`, "Last-Modified", sundayLater), stored, false},
		{"9111 4.3.5", "other length", fields("ETag", `"a"`, "Content-Length", "6"), stored, false},
		{"9111 4.3.5", "tag, none stored", fields("ETag", `"a"`), fields("Content-Length", "5"), false},
		{"9111 4.3.5", "date, none stored", fields("Last-Modified", sunday), fields(), false},
		{"9111 4.3.5", "length, none stored", fields("Content-Length", "5"), fields("ETag", `"a"`), false},
		{"9111 4.3.5", "other type", fields("Content-Type", "text/plain"), stored, true},
	} {
		if got := HeadAgrees(c.head, c.stored); got != c.want {
			t.Errorf("RFC %s %s: got %v, want %v", c.section, c.name, got, c.want)
		}
	}
}
