package rediscache

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/gplus-recycling/caddy-redis-cache/internal/admin"
	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
)

// The tests of this file send what a client may send so that others get a wrong
// response, none, or one that is out of date.

// A GET over HTTP/3 never states that it has no content.
func TestContentOfUnknownLength(t *testing.T) {
	s := newSite(t, `{}`, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Cache-Control", forAMinute)
		_, _ = io.WriteString(w, "got "+string(body))
	})
	send := func(major int, content string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, "/a", io.NopCloser(strings.NewReader(content)))
		r.ProtoMajor, r.ContentLength = major, -1
		return s.send(r)
	}
	expect(t, send(3, ""), engine.Miss, "stored")
	expect(t, send(3, ""), engine.Hit, "hit")
	expect(t, send(2, ""), engine.Hit, "hit")
	for major := 1; major <= 3; major++ {
		if w := expect(t, send(major, "content"), engine.Bypass, "request-body"); w.Body.String() != "got content" {
			t.Errorf("HTTP/%d: %q", major, w.Body)
		}
	}
}

// Proxies leave out what Connection names, so that the origin does not see it.
func TestConnectionOptions(t *testing.T) {
	s := newSite(t, `{}`, answer("x", "Cache-Control", forAMinute))
	for _, options := range []string{"X-Tenant", "close, x-tenant", "keep-alive,,Accept-Language"} {
		expect(t, s.get("/a", "Connection", options), engine.Bypass, "override-field")
	}
	expect(t, s.get("/a", "Connection", "keep-alive"), engine.Miss, "stored")
	for _, options := range []string{"Keep-Alive", "close", "TE, Trailer", ""} {
		expect(t, s.get("/a", "Connection", options), engine.Hit, "hit")
	}
}

// The field is set behind the cache, for each client.
func TestVaryOnWhatProxiesSet(t *testing.T) {
	for _, name := range []string{"X-Forwarded-For", "x-real-ip", "Forwarded", "Accept, Via"} {
		s := newSite(t, `{}`, answer("x", "Cache-Control", forAMinute, "Vary", name))
		for range 2 {
			expect(t, s.get("/a"), engine.Miss, rfc9111.RefusalVaryAny.String())
		}
	}
}

// What a handler behind makes of the conditions of a client is not for others.
func TestConditionsFillNothing(t *testing.T) {
	s := newSite(t, `{}`, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", forAMinute)
		w.WriteHeader(http.StatusOK)
		if r.Header.Get("If-None-Match") == "" { // or an include is a 304
			_, _ = io.WriteString(w, "the navigation")
		}
	})
	expect(t, s.get("/a", "If-None-Match", `"nav"`), engine.Miss, "precondition")
	if w := expect(t, s.get("/a"), engine.Miss, "stored"); w.Body.String() != "the navigation" {
		t.Errorf("got %q", w.Body)
	}
}

// An answer that may not be stored takes the place of what is stored, RFC 9111
// section 4.3.3; one that may be about the client does not.
func TestReplacedByWhatMayNotBeStored(t *testing.T) {
	for name, c := range map[string]struct {
		answer   http.HandlerFunc
		replaces bool
	}{
		"no-cache":   {answer("new", "Cache-Control", "no-cache"), true},
		"max-age=0":  {answer("new", "Cache-Control", "max-age=0"), true},
		"Vary: *":    {answer("new", "Cache-Control", forAMinute, "Vary", "*"), true},
		"Set-Cookie": {answer("new", "Cache-Control", forAMinute, "Set-Cookie", "a=b"), true},
		"trailers":   {answer("new", "Cache-Control", forAMinute, "Trailer", "X-Sum"), true},
		"not found":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }, true},
		"gone":       {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) }, true},
		"forbidden":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, false},
		"too many":   {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) }, false},
		"login":      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusFound) }, false},
	} {
		synctestRun(t, name, func(t *testing.T) {
			s := newSite(t, `{}`, answer("old", "Cache-Control", "max-age=1, stale-while-revalidate=600"))
			s.get("/a")
			time.Sleep(2 * time.Second)
			s.origin = c.answer
			expect(t, s.get("/a"), engine.Stale, "")
			synctest.Wait()
			want := engine.Stale
			if c.replaces {
				want = engine.Miss
			}
			expect(t, s.get("/a"), want, "")
			synctest.Wait()
		})
	}
}

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
			v.want(t, engine.Stale, "old", "", failureLimit)
		})
	}
}

// Nobody needs a fetch whose client has left before there was a header.
func TestStrayWithoutHeader(t *testing.T) {
	for _, sends := range []bool{false, true} {
		coalesceTest(t, "header "+map[bool]string{false: "missing", true: "sent"}[sends], `{}`, func(t *testing.T, s *site, _ *atomic.Int32) {
			var ended atomic.Bool
			s.origin = func(w http.ResponseWriter, r *http.Request) {
				defer ended.Store(true)
				w.Header().Set("Cache-Control", forAMinute)
				if sends {
					_, _ = io.WriteString(w, "some")
				}
				pause(r.Context(), time.Hour)
			}
			leader := s.visit("/a")
			synctest.Wait()
			leader.leave()
			time.Sleep(strayWait + time.Second)
			synctest.Wait()
			if ended.Load() == sends {
				t.Errorf("after %s: ended %t", strayWait, ended.Load())
			}
			time.Sleep(strayLimit - strayWait)
			synctest.Wait()
			if !ended.Load() {
				t.Error("the fetch goes on for nobody")
			}
		})
	}
}

// A class of statuses does not mean those that are about one request.
func TestStatusesOfOneClient(t *testing.T) {
	status := http.StatusExpectationFailed
	s := newSite(t, `{"ttl_status":[{"status":[4],"duration":60000000000}]}`, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
	})
	for range 2 {
		expect(t, s.get("/a"), engine.Miss, "")
	}
	status = http.StatusNotFound
	expect(t, s.get("/a"), engine.Miss, "stored")
	expect(t, s.get("/a"), engine.Hit, "")
	named := newSite(t, `{"ttl_status":[{"status":[417],"duration":60000000000}]}`, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusExpectationFailed)
	})
	named.get("/a")
	expect(t, named.get("/a"), engine.Hit, "")
}

// An exact key is nothing but its template.
func TestExactKeyWithoutValue(t *testing.T) {
	s := newSite(t, `{"key":{"template":"{http.request.header.X-Tenant}:page","exact":true}}`, answer("x", "Cache-Control", forAMinute))
	for range 2 {
		expect(t, s.get("/a"), engine.Bypass, "no-identity")
	}
	expect(t, s.get("/a", "X-Tenant", "one"), engine.Miss, "stored")
	expect(t, s.get("/b", "X-Tenant", "one"), engine.Hit, "")
}

// No response is used for longer than purges are remembered.
func TestLongestLifetime(t *testing.T) {
	s := newSite(t, `{}`, answer("x", "Cache-Control", "max-age=31536000, stale-if-error=31536000", "Age", "100", "Etag", `"1"`))
	w := expect(t, s.get("/a"), engine.Miss, "stored; ttl=2592000")
	if ttl := w.Header().Get("X-Cache-Ttl-Remaining"); ttl != "2592000" {
		t.Errorf("%s seconds remain", ttl)
	}
	rec, _ := s.handler.node.Memory.Lookup(w.Header().Get("X-Cache-Key"), time.Now())
	if rec == nil {
		t.Fatal("it is not in memory")
	}
	if kept := rec.Expires.Sub(rec.Freshness.ResponseTime); kept != engine.MaxLifetime {
		t.Errorf("kept for %s", kept)
	}
}

// A key may be pasted as X-Cache-Key shows it.
func TestPastedKeys(t *testing.T) {
	s := newSite(t, `{}`, answer("x", "Cache-Control", forAMinute))
	send := func(method, query string) *httptest.ResponseRecorder {
		t.Helper()
		handle := (*admin.API).Entry
		if method == http.MethodDelete {
			handle = (*admin.API).DeleteEntry
		}
		w := httptest.NewRecorder()
		if err := handle(s.handler.app.admin(), w, httptest.NewRequest(method, "/redis_cache/entry?"+query, http.NoBody)); err != nil {
			w.WriteHeader(err.(caddy.APIError).HTTPStatus) //nolint:errorlint // routes return it as it is
		}
		return w
	}
	for _, path := range []string{"http://shop.test:8080/a", "http://shop.test:8080/a%3Ab", "http://shop.test/plain"} {
		key := s.get(path).Header().Get("X-Cache-Key")
		for _, query := range []string{"key=" + key, "key=" + url.QueryEscape(key)} {
			s.get(path)
			if w := send(http.MethodGet, query); w.Code != http.StatusOK {
				t.Errorf("GET %s: %d", query, w.Code)
			}
			if w := send(http.MethodDelete, query); w.Code != http.StatusOK {
				t.Errorf("DELETE %s: %d", query, w.Code)
			}
			expect(t, s.get(path), engine.Miss, "")
		}
	}
	for _, query := range []string{"", "key=", "key=a:b&body=maybe"} {
		if w := send(http.MethodGet, query); w.Code != http.StatusBadRequest {
			t.Errorf("GET %q: %d", query, w.Code)
		}
	}
}

// An empty name, such as that of a variable which is not set, is not everything.
func TestEmptyNamespace(t *testing.T) {
	s := newSite(t, `{}`, answer("x", "Cache-Control", forAMinute))
	for _, body := range []string{`{"namespace":""}`, `{"namespace":"a,b"}`, `{"namespace":"general","all":true}`, `{"all":false}`} {
		if w := callAdmin(t, s.handler.app, does((*admin.API).Disable), http.MethodPost, body); w.Code != http.StatusBadRequest {
			t.Errorf("disable %s: %d", body, w.Code)
		}
	}
	if w := callAdmin(t, s.handler.app, does((*admin.API).Purge), http.MethodPost, `{"namespace":"a,b"}`); w.Code != http.StatusBadRequest {
		t.Errorf("purge: %d", w.Code)
	}
	expect(t, s.get("/a"), engine.Miss, "stored")
}

// A POST whose purge is not in front of its response in time stores nothing.
func TestOvertakenByItsOwnPurge(t *testing.T) {
	s := newSite(t, `{}`, answer("x", "Cache-Control", forAMinute, "Content-Location", "/a"))
	expect(t, s.do(http.MethodPost, "/a"), engine.Bypass, "stored")
	expect(t, s.get("/a"), engine.Hit, "")
	s.origin = func(w http.ResponseWriter, r *http.Request) {
		// Another purge is applied meanwhile.
		if _, err := s.handler.node.Journal.Append(r.Context(), journal.Purge{Selectors: []journal.Selector{{Kind: journal.KindAll}}}, 0); err != nil {
			t.Error(err)
		}
		answer("y", "Cache-Control", forAMinute, "Content-Location", "/a")(w, r)
	}
	w := s.do(http.MethodPost, "/a")
	stored := strings.Contains(w.Header().Get("Cache-Status"), "stored")
	hit := s.get("/a").Header().Get("X-Cache") == "HIT"
	if stored != hit {
		t.Errorf("says stored: %t, but a hit: %t", stored, hit)
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
