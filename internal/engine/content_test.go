package engine

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestPostThatAnswersGet(t *testing.T) {
	post := func(s *site) *httptest.ResponseRecorder {
		return s.send(httptest.NewRequest(http.MethodPost, "/a?x=1", strings.NewReader("q")))
	}
	s := newSite(t, `{}`, answer("from POST", "Cache-Control", "max-age=60", "Content-Location", "/a?x=1"))
	expect(t, post(s), Bypass, "fwd=method; fwd-status=200; stored")
	if w := expect(t, s.get("/a?x=1"), Hit, "hit"); w.Body.String() != "from POST" {
		t.Errorf("got %q", w.Body)
	}
	for _, fields := range [][]string{
		{"Cache-Control", "max-age=60"},
		{"Cache-Control", "max-age=60", "Content-Location", "/a"},
		{"Content-Location", "/b?x=1"},
	} {
		s.origin = answer("x", fields...)
		expect(t, post(s), Bypass, "detail=method")
		expect(t, s.get("/a?x=1"), Miss, "")
	}
}

func TestVaryBody(t *testing.T) {
	s := newSite(t, `{"methods":["GET","HEAD","POST","QUERY"],"vary_body":8,"ttl":{"duration":60000000000}}`, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(append([]byte(r.Method), body...))
	})
	send := func(method, body string) *httptest.ResponseRecorder {
		w := s.send(httptest.NewRequest(method, "/a", strings.NewReader(body)))
		if want := method + body; w.Body.String() != want {
			t.Errorf("got %q, want %q", w.Body, want)
		}
		return w
	}
	for _, method := range []string{"POST", "QUERY"} {
		expect(t, send(method, "one"), Miss, "stored")
		expect(t, send(method, "two"), Miss, "stored")
		expect(t, send(method, "one"), Hit, "hit")
		expect(t, send(method, "more than eight"), Bypass, "detail=request-body")
	}
	expect(t, s.get("/a"), Miss, "stored")
	expect(t, s.get("/a"), Hit, "hit")
}

func TestPostThatBypasses(t *testing.T) {
	for _, f := range [][]string{{"X-Original-Url", "/other"}, {"X-Http-Method-Override", "GET"}} {
		s := newSite(t, `{}`, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("Content-Location", "/a")
			io.WriteString(w, "answer to "+r.Header.Get(f[0]))
		})
		s.do("POST", "/a", f...)
		if w := s.get("/a"); w.Header().Get("X-Cache") == "HIT" {
			t.Errorf("HIT %q", w.Body)
		}
		s.close()
	}
}

func TestTypeOfABody(t *testing.T) {
	s := newSite(t, `{"ttl":{"duration":60000000000},"methods":["GET","HEAD","POST"],"vary_body":1000}`, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Header.Get("Content-Type")) })
	post := func(ct string) *httptest.ResponseRecorder {
		return s.send(httptest.NewRequest("POST", "/a", strings.NewReader("q=1")), "Content-Type", ct)
	}
	post("text/plain")
	if w := post("application/x-www-form-urlencoded"); w.Header().Get("X-Cache") == "HIT" {
		t.Errorf("answer to another type: %q", w.Body)
	}
}
