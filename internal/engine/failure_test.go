package engine

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// The client does not wait for the end of a failure that a stored response stands
// in for.
func TestFailureWithoutEnd(t *testing.T) {
	for name, config := range map[string]string{"flight": `{}`, "no flight": `{"coalesce":"off"}`} {
		coalesceTest(t, name, config, func(t *testing.T, s *site, _ *atomic.Int32) {
			s.origin = answer("old", "Cache-Control", "max-age=1, stale-if-error=600")
			s.get("/a")
			time.Sleep(2 * time.Second)
			s.origin = func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusServiceUnavailable)
				_ = http.NewResponseController(w).Flush()
				pause(r.Context(), time.Hour)
				panic(http.ErrAbortHandler) // as reverse_proxy does
			}
			v := s.visit("/a")
			time.Sleep(time.Minute)
			v.want(t, Stale, "old", "", failureLimit)
		})
	}
}

// Every row is a way for the upstream to fail while a response is stored that
// has been stale for a second.
func TestStaleIfError(t *testing.T) {
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Failure", "yes")
			w.WriteHeader(code)
			_, _ = io.WriteString(w, "failure")
		}
	}
	for _, c := range []struct {
		name, config, control string
		origin                http.HandlerFunc
		err                   error
		outcome               Result
		detail                string
		status                int
	}{
		{"503", `{}`, "max-age=10", status(503), nil, Stale, "fwd=stale; fwd-status=503; ttl=-1; detail=error", 200},
		{"dead", `{}`, "max-age=10", nil, statusError(502), Stale, "fwd=stale; ttl=-1; detail=error", 200},
		{"plain error", `{}`, "max-age=10", nil, errors.New("dead"), Stale, "detail=error", 200},
		{"broken off", `{}`, "max-age=10", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, nil, Stale, "detail=error", 200},
		{"broken off behind the header", `{}`, "max-age=10", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Failure", "yes")
			w.Header().Set("Content-Length", "10")
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, nil, Stale, "detail=error", 200},
		{"late body", `{}`, "max-age=10", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusOK)
			_, _ = io.WriteString(w, "new")
		}, nil, Miss, "fwd-status=200", 200},
		{"no body", `{}`, "max-age=10", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
		}, nil, Miss, "fwd-status=404", 404},
		{"the error route's", `{}`, "max-age=10", nil, statusError(404), Miss, "detail=error", 502},
		{"404", `{}`, "max-age=10", status(404), nil, Miss, "fwd-status=404", 404},
		{"must-revalidate", `{}`, "max-age=10, must-revalidate", status(503), nil, Miss, "fwd-status=503", 503},
		{"s-maxage", `{}`, "s-maxage=10", status(503), nil, Miss, "fwd-status=503", 503},
		{"switched off", `{"stale_if_error":0}`, "max-age=10", status(503), nil, Miss, "fwd-status=503", 503},
		{"stated too short", `{}`, "max-age=10, stale-if-error=0", status(503), nil, Miss, "fwd-status=503", 503},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, c.config, answer("good", "Cache-Control", c.control))
				s.get("/a")
				time.Sleep(11 * time.Second)
				s.origin, s.err = c.origin, c.err
				w := expect(t, s.get("/a"), c.outcome, c.detail)
				if w.Code != c.status || (c.outcome == Stale && (w.Body.String() != "good" || w.Header().Get("X-Failure") != "")) {
					t.Errorf("got %d %q %v", w.Code, w.Body, w.Header())
				}
			})
		})
	}
}

func TestRetryOfARewrittenRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tag := `"1"`
		var seen []string
		s := newSite(t, `{}`, func(w http.ResponseWriter, r *http.Request) {
			r.URL.Path = strings.TrimPrefix(r.URL.Path, "/api") // handle_path below the cache
			seen = append(seen, r.URL.Path)
			w.Header().Set("Cache-Control", "max-age=10")
			w.Header().Set("Etag", tag)
			if r.Header.Get("If-None-Match") != "" {
				w.WriteHeader(304)
				return
			}
			io.WriteString(w, "body of "+r.URL.Path)
		})
		s.get("/api/api/x")
		time.Sleep(11 * time.Second)
		tag = `"2"`
		w := s.get("/api/api/x")
		if w.Body.String() != "body of /api/x" {
			t.Error("WRONG BODY", w.Body.String())
		}
	})
}

func TestErrorAfterTheHeader(t *testing.T) {
	s := newSite(t, `{"ttl":{"duration":60000000000}}`, nil)
	s.origin = func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "half of it") }
	s.errAfter = errors.New("broke off")
	get := func() (w *httptest.ResponseRecorder, thrown any) {
		w = httptest.NewRecorder()
		defer func() { thrown = recover() }()
		s.ServeHTTP(w, httptest.NewRequest("GET", "/a", nil))
		return w, nil
	}
	for range 2 {
		w, thrown := get()
		if w.Header().Get("X-Cache") == "HIT" {
			t.Errorf("INCOMPLETE STORED: HIT %q", w.Body)
		}
		if thrown != http.ErrAbortHandler {
			t.Errorf("threw %v: the client has half of a response and must see that it broke off", thrown)
		}
	}
}

func TestWithheldFailureThatBreaksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, `{}`, answer("hello", "Cache-Control", "max-age=10"))
		s.get("/a")
		time.Sleep(11 * time.Second)
		s.origin = func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(503)
			io.WriteString(w, "half")
			panic(http.ErrAbortHandler)
		}
		defer func() {
			if r := recover(); r != nil {
				t.Error("panic reached the client though nothing was sent:", r)
			}
		}()
		expect(t, s.get("/a"), Stale, "")
	})
}
