package engine

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

func TestConditionalAndRange(t *testing.T) {
	s := newSite(t, `{}`, answer("0123456789", "Cache-Control", "max-age=60", "Etag", `"v"`, "Content-Type", "text/plain"))
	s.get("/a")
	for _, c := range []struct {
		field, value string
		status       int
		body, within string
	}{
		{"If-None-Match", `"v"`, 304, "", ""},
		{"If-None-Match", `"w"`, 200, "0123456789", ""},
		{"Range", "bytes=2-4", 206, "234", "bytes 2-4/10"},
		{"Range", "bytes=-1", 206, "9", "bytes 9-9/10"},
		{"Range", "bytes=20-", 416, "", "bytes */10"},
		{"Range", "lines=1-2", 200, "0123456789", ""},
	} {
		w := expect(t, s.get("/a", c.field, c.value), Hit, "hit")
		if w.Code != c.status || w.Body.String() != c.body || w.Header().Get("Content-Range") != c.within {
			t.Errorf("%s: %s gets %d %q %s", c.field, c.value, w.Code, w.Body, w.Header().Get("Content-Range"))
		}
	}
	several := s.get("/a", "Range", "bytes=0-1,5-6")
	if several.Code != 206 || !strings.Contains(several.Body.String(), "Content-Range: bytes 5-6/10\r\nContent-Type: text/plain\r\n\r\n56") {
		t.Errorf("two ranges get %d %s", several.Code, several.Body)
	}
	head := expect(t, s.do("HEAD", "/a"), Hit, "hit")
	if head.Body.Len() != 0 || head.Header().Get("Content-Length") != "10" {
		t.Errorf("HEAD gets %v", head.Header())
	}
}

// Fields of outer handlers belong to the current request; those of the upstream
// to the stored response.
func TestFieldsOfOuterHandlers(t *testing.T) {
	s := newSite(t, `{}`, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Del("Server")
		w.Header().Add("Link", "</style.css>")
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, "x")
	})
	get := func(link string) http.Header {
		r := httptest.NewRequest(http.MethodGet, "/a", http.NoBody)
		w := httptest.NewRecorder()
		w.Header().Set("Link", link)
		w.Header().Set("X-Request", link)
		s.ServeHTTP(w, r)
		return w.Header()
	}
	get("</one>")
	hit := get("</two>")
	if got := strings.Join(hit["Link"], ","); got != "</two>,</style.css>" || hit.Get("X-Request") != "</two>" || hit.Get("Server") != "" {
		t.Errorf("the hit has %v", hit)
	}
}

// A handler outside may change values in place.
func TestStoredFieldsAreNotShared(t *testing.T) {
	s := newSite(t, `{}`, answer("x", "Cache-Control", "max-age=60", "X-A", "1"))
	s.get("/a")
	s.get("/a").Header()["X-A"][0] = "changed"
	if got := s.get("/a").Header().Get("X-A"); got != "1" {
		t.Errorf("X-A is %s", got)
	}
}

func TestDiagnostics(t *testing.T) {
	for level, want := range map[string]string{"full": "X-Cache,X-Cache-Key,Cache-Status", "minimal": "X-Cache", "off": ""} {
		s := newSite(t, `{"diagnostics":"`+level+`"}`, answer("x", "Cache-Control", "max-age=60"))
		s.get("/a")
		header := s.get("/a").Header()
		var got []string
		for _, name := range []string{"X-Cache", "X-Cache-Key", "Cache-Status"} {
			if header.Get(name) != "" {
				got = append(got, name)
			}
		}
		if strings.Join(got, ",") != want || header.Get("Age") == "" {
			t.Errorf("%s sends %v and Age %q", level, got, header.Get("Age"))
		}
	}
}

// Interim responses after the final header are nobody's.
func TestLateInterimResponse(t *testing.T) {
	coalesceTest(t, "late", `{}`, func(t *testing.T, s *site, _ *atomic.Int32) {
		s.origin = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Cache-Control", forAMinute)
			_, _ = io.WriteString(w, "one")
			w.Header().Set("Link", "</late.css>")
			w.WriteHeader(http.StatusEarlyHints)
			_, _ = io.WriteString(w, " two")
		}
		v := s.visit("/a")
		synctest.Wait()
		if v.w.text() != "one two" || v.w.header.Get("Link") != "" {
			t.Errorf("%q, Link %q", v.w.text(), v.w.header.Get("Link"))
		}
	})
}
