package rediscache

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
)

// versioned is an origin with one entity tag and ten seconds of freshness; it
// answers conditions.
func versioned(tag *string, fields ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=10")
		w.Header().Set("Etag", *tag)
		for i := 0; i < len(fields); i += 2 {
			w.Header().Set(fields[i], fields[i+1])
		}
		w.Header().Set("X-Seen", fmt.Sprint(r.Header["If-None-Match"], r.Header["Range"]))
		if r.Header.Get("If-None-Match") == *tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = io.WriteString(w, "body "+*tag)
	}
}

func TestRevalidation(t *testing.T) {
	for _, c := range []struct {
		name         string
		fields       []string // of the second request
		change       string   // of the entity tag before it
		outcome      engine.Result
		detail       string
		status       int
		body, within string
		next         engine.Result
	}{
		{"confirmed", nil, `"1"`, engine.Revalidated, "fwd=stale; fwd-status=304; stored; ttl=10", 200, `body "1"`, "", engine.Hit},
		{"replaced", nil, `"2"`, engine.Miss, "fwd=stale; fwd-status=200; stored; ttl=10", 200, `body "2"`, "", engine.Hit},
		{"own condition holds", []string{"If-None-Match", `"1"`}, `"1"`, engine.Revalidated, "fwd-status=304", 304, "", "", engine.Hit},
		{"own condition does not", []string{"If-None-Match", `"0"`}, `"1"`, engine.Revalidated, "fwd-status=304", 200, `body "1"`, "", engine.Hit},
		{"range", []string{"Range", "bytes=0-3"}, `"1"`, engine.Revalidated, "fwd-status=304", 206, "body", "bytes 0-3/8", engine.Hit},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tag := `"1"`
				s := newSite(t, `{}`, versioned(&tag))
				s.get("/a")
				time.Sleep(11 * time.Second)
				tag = c.change
				w := expect(t, s.get("/a", c.fields...), c.outcome, c.detail)
				if w.Code != c.status || w.Body.String() != c.body || w.Header().Get("Content-Range") != c.within {
					t.Errorf("got %d %q %s", w.Code, w.Body, w.Header().Get("Content-Range"))
				}
				if w.Header().Get("X-Seen") != `["1"] []` && w.Code == 200 {
					t.Errorf("the origin saw %s", w.Header().Get("X-Seen"))
				}
				expect(t, s.get("/a"), c.next, "hit")
			})
		})
	}
}

// A 304 that speaks of another response than the stored one must not make that
// fresh: the whole is fetched, by a second call of the handlers behind.
func TestRevalidationMismatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tag := `"1"`
		s := newSite(t, `{}`, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=10")
			w.Header().Set("Etag", tag)
			if r.Header.Get("If-None-Match") != "" {
				w.WriteHeader(http.StatusNotModified)
				return
			}
			_, _ = io.WriteString(w, "body "+tag)
		})
		s.get("/a")
		time.Sleep(11 * time.Second)
		tag = `"2"`
		w := expect(t, s.get("/a"), engine.Miss, "fwd-status=200; stored")
		if w.Code != 200 || w.Body.String() != `body "2"` || s.fetches.Load() != 3 {
			t.Errorf("%d %q after %d fetches", w.Code, w.Body, s.fetches.Load())
		}
	})
}

func TestFreshening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kind := "one"
		s := newSite(t, `{}`, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=10")
			w.Header().Set("Etag", `"1"`)
			w.Header().Set("X-Kind", kind)
			if r.Header.Get("If-None-Match") != "" {
				w.Header().Set("Set-Cookie", "id=2")
				w.WriteHeader(http.StatusNotModified)
				return
			}
			w.Header().Set("X-First", "yes")
			_, _ = io.WriteString(w, "body")
		})
		s.get("/a")
		time.Sleep(11 * time.Second)
		kind = "two"
		w := expect(t, s.get("/a"), engine.Revalidated, "fwd-status=304")
		if w.Header().Get("Set-Cookie") != "id=2" {
			t.Error("the client does not get its cookie")
		}
		hit := expect(t, s.get("/a"), engine.Hit, "hit")
		if got := hit.Header(); got.Get("X-Kind") != "two" || got.Get("X-First") != "yes" || got.Get("Set-Cookie") != "" || got.Get("Content-Length") != "4" {
			t.Errorf("the freshened response has %v", got)
		}
	})
}

func TestNoCacheIsRevalidatedEachTime(t *testing.T) {
	tag := `"1"`
	s := newSite(t, `{}`, versioned(&tag, "Cache-Control", "no-cache"))
	expect(t, s.get("/a"), engine.Miss, "stored")
	expect(t, s.get("/a"), engine.Revalidated, "fwd-status=304")
	expect(t, s.get("/a"), engine.Revalidated, "fwd-status=304")
}

func TestNoStoreIn304Removes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tag := `"1"`
		s := newSite(t, `{}`, versioned(&tag))
		s.get("/a")
		time.Sleep(11 * time.Second)
		s.origin = versioned(&tag, "Cache-Control", "no-store")
		if w := expect(t, s.get("/a"), engine.Revalidated, "fwd-status=304"); w.Body.String() != `body "1"` {
			t.Errorf("got %q", w.Body)
		}
		expect(t, s.get("/a"), engine.Miss, "fwd=uri-miss; fwd-status=200; detail=no-store")
	})
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
		outcome               engine.Result
		detail                string
		status                int
	}{
		{"503", `{}`, "max-age=10", status(503), nil, engine.Stale, "fwd=stale; fwd-status=503; ttl=-1; detail=error", 200},
		{"dead", `{}`, "max-age=10", nil, caddyhttp.Error(502, errors.New("dead")), engine.Stale, "fwd=stale; ttl=-1; detail=error", 200},
		{"plain error", `{}`, "max-age=10", nil, errors.New("dead"), engine.Stale, "detail=error", 200},
		{"broken off", `{}`, "max-age=10", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, nil, engine.Stale, "detail=error", 200},
		{"broken off behind the header", `{}`, "max-age=10", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Failure", "yes")
			w.Header().Set("Content-Length", "10")
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, nil, engine.Stale, "detail=error", 200},
		{"late body", `{}`, "max-age=10", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusOK)
			_, _ = io.WriteString(w, "new")
		}, nil, engine.Miss, "fwd-status=200", 200},
		{"no body", `{}`, "max-age=10", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
		}, nil, engine.Miss, "fwd-status=404", 404},
		{"the error route's", `{}`, "max-age=10", nil, caddyhttp.Error(404, errors.New("gone")), engine.Miss, "detail=error", 502},
		{"404", `{}`, "max-age=10", status(404), nil, engine.Miss, "fwd-status=404", 404},
		{"must-revalidate", `{}`, "max-age=10, must-revalidate", status(503), nil, engine.Miss, "fwd-status=503", 503},
		{"s-maxage", `{}`, "s-maxage=10", status(503), nil, engine.Miss, "fwd-status=503", 503},
		{"switched off", `{"stale_if_error":0}`, "max-age=10", status(503), nil, engine.Miss, "fwd-status=503", 503},
		{"stated too short", `{}`, "max-age=10, stale-if-error=0", status(503), nil, engine.Miss, "fwd-status=503", 503},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, c.config, answer("good", "Cache-Control", c.control))
				s.get("/a")
				time.Sleep(11 * time.Second)
				s.origin, s.err = c.origin, c.err
				w := expect(t, s.get("/a"), c.outcome, c.detail)
				if w.Code != c.status || (c.outcome == engine.Stale && (w.Body.String() != "good" || w.Header().Get("X-Failure") != "")) {
					t.Errorf("got %d %q %v", w.Code, w.Body, w.Header())
				}
			})
		})
	}
}

func TestStaleWhileRevalidate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		version := "one"
		s := newSite(t, `{"stale_while_revalidate":60000000000,"vary_header":["Accept"]}`, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=10")
			_, _ = io.WriteString(w, version+r.Header.Get("Accept")+caddyhttp.GetVar(r.Context(), "color").(string)) //nolint:forcetypeassert // set below
		})
		get := func() *httptest.ResponseRecorder {
			r := httptest.NewRequest(http.MethodGet, "/a", http.NoBody)
			r.Header.Set("Accept", "/x/")
			return s.send(r)
		}
		s.vars = map[string]any{"color": "red"}
		get()
		time.Sleep(11 * time.Second)
		version = "two"
		if w := expect(t, get(), engine.Stale, "redis_cache; hit; ttl=-1; detail=memory"); w.Body.String() != "one/x/red" || w.Header().Get("X-Cache-Ttl-Remaining") != "0" {
			t.Errorf("got %q %v", w.Body, w.Header())
		}
		synctest.Wait()
		if w := expect(t, get(), engine.Hit, "hit"); w.Body.String() != "two/x/red" || s.fetches.Load() != 2 {
			t.Errorf("got %q after %d fetches", w.Body, s.fetches.Load())
		}
		time.Sleep(2 * time.Minute)
		expect(t, get(), engine.Miss, "fwd=stale")
	})
}

// One refresh at a time, and one that fails or panics leaves the way free.
func TestRefreshes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, `{"stale_while_revalidate":60000000000}`, answer("x", "Cache-Control", "max-age=10"))
		s.get("/a")
		time.Sleep(11 * time.Second)
		s.origin = func(http.ResponseWriter, *http.Request) {
			time.Sleep(time.Second)
			panic("unexpected")
		}
		for range 5 {
			expect(t, s.get("/a"), engine.Stale, "hit")
		}
		synctest.Wait()
		if s.fetches.Load() != 2 {
			t.Errorf("%d fetches", s.fetches.Load())
		}
		time.Sleep(2 * time.Second)
		s.origin = answer("y", "Cache-Control", "max-age=10")
		expect(t, s.get("/a"), engine.Stale, "hit")
		synctest.Wait()
		if w := expect(t, s.get("/a"), engine.Hit, "hit"); w.Body.String() != "y" {
			t.Errorf("got %q", w.Body)
		}
	})
}

func TestHeadFreshens(t *testing.T) {
	for name, c := range map[string]struct {
		tag  string
		next engine.Result
	}{"agrees": {`"1"`, engine.Hit}, "proves wrong": {`"2"`, engine.Miss}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tag := `"1"`
				s := newSite(t, `{}`, versioned(&tag, "Content-Length", "8"))
				s.get("/a")
				time.Sleep(11 * time.Second)
				tag = c.tag
				expect(t, s.do(http.MethodHead, "/a"), engine.Miss, "fwd=stale")
				expect(t, s.get("/a"), c.next, "")
			})
		})
	}
}

func TestOnlyIfCached(t *testing.T) {
	s := newSite(t, `{}`, answer("x", "Cache-Control", "max-age=60"))
	var handlerError caddyhttp.HandlerError
	r, w := s.prepare(httptest.NewRequest(http.MethodGet, "/a", http.NoBody))
	r.Header.Set("Cache-Control", "only-if-cached")
	if err := s.handler.ServeHTTP(w, r, nil); !errors.As(err, &handlerError) || handlerError.StatusCode != http.StatusGatewayTimeout {
		t.Errorf("got %v", err)
	}
	s.get("/a")
	expect(t, s.get("/a", "Cache-Control", "only-if-cached"), engine.Hit, "hit")
}

func TestClientCacheControl(t *testing.T) {
	for _, c := range []struct {
		config, control string
		want            engine.Result
		detail          string
	}{
		{`{}`, "no-cache", engine.Hit, "hit"},
		{`{"client_cache_control":"honor"}`, "no-cache", engine.Miss, "fwd=request; fwd-status=200; stored"},
		{`{"client_cache_control":"honor"}`, "max-age=0", engine.Miss, "fwd=request"},
		{`{"client_cache_control":"honor"}`, "min-fresh=100", engine.Miss, "fwd=request"},
		{`{"client_cache_control":"honor"}`, "max-age=100", engine.Hit, "hit"},
	} {
		s := newSite(t, c.config, answer("x", "Cache-Control", "max-age=60"))
		s.get("/a")
		expect(t, s.get("/a", "Cache-Control", c.control), c.want, c.detail)
		s.close()
	}
	s := newSite(t, `{"client_cache_control":"honor"}`, answer("x", "Cache-Control", "max-age=60"))
	expect(t, s.get("/b", "Cache-Control", "no-store"), engine.Miss, "detail=request-directive")
	expect(t, s.get("/b"), engine.Miss, "stored")
}

func TestMaxStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, `{"client_cache_control":"honor"}`, answer("x", "Cache-Control", "max-age=10"))
		s.get("/a")
		time.Sleep(15 * time.Second)
		expect(t, s.get("/a", "Cache-Control", "max-stale=10"), engine.Stale, "hit; ttl=-5")
		expect(t, s.get("/a", "Cache-Control", "max-stale=1"), engine.Miss, "fwd=stale")
	})
}

func TestUnsafeMethodsInvalidate(t *testing.T) {
	for _, c := range []struct {
		name, method, path, field, value string
		status                           int
		want                             engine.Result
	}{
		{"POST", "POST", "/a", "", "", 200, engine.Miss},
		{"redirect", "POST", "/a", "", "", 303, engine.Miss},
		{"unknown method", "FROBNICATE", "/a", "", "", 200, engine.Miss},
		{"error", "POST", "/a", "", "", 500, engine.Hit},
		{"safe", "OPTIONS", "/a", "", "", 200, engine.Hit},
		{"elsewhere", "POST", "/b", "", "", 200, engine.Hit},
		{"Location", "POST", "/b", "Location", "/a", 201, engine.Miss},
		{"Content-Location", "POST", "/b", "Content-Location", "http://example.com/a", 200, engine.Miss},
		{"foreign Location", "POST", "/b", "Location", "http://example.org/a", 201, engine.Hit},
		{"group", "POST", "/b", "Cache-Group-Invalidation", `"g"`, 200, engine.Miss},
		{"other group", "POST", "/b", "Cache-Group-Invalidation", `"h"`, 200, engine.Hit},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, `{}`, answer("x", "Cache-Control", "max-age=60", "Vary", "Accept", "Cache-Groups", `"g"`))
			s.get("/a", "Accept", "a")
			s.get("/a", "Accept", "b")
			origin := s.origin
			s.origin = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set(c.field, c.value)
				w.WriteHeader(c.status)
			}
			s.do(c.method, c.path)
			s.origin = origin
			expect(t, s.get("/a", "Accept", "a"), c.want, "")
			expect(t, s.get("/a", "Accept", "b"), c.want, "")
		})
	}
}

func TestPostThatAnswersGet(t *testing.T) {
	post := func(s *site) *httptest.ResponseRecorder {
		return s.send(httptest.NewRequest(http.MethodPost, "/a?x=1", strings.NewReader("q")))
	}
	s := newSite(t, `{}`, answer("from POST", "Cache-Control", "max-age=60", "Content-Location", "/a?x=1"))
	expect(t, post(s), engine.Bypass, "fwd=method; fwd-status=200; stored")
	if w := expect(t, s.get("/a?x=1"), engine.Hit, "hit"); w.Body.String() != "from POST" {
		t.Errorf("got %q", w.Body)
	}
	for _, fields := range [][]string{
		{"Cache-Control", "max-age=60"},
		{"Cache-Control", "max-age=60", "Content-Location", "/a"},
		{"Content-Location", "/b?x=1"},
	} {
		s.origin = answer("x", fields...)
		expect(t, post(s), engine.Bypass, "detail=method")
		expect(t, s.get("/a?x=1"), engine.Miss, "")
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
		expect(t, send(method, "one"), engine.Miss, "stored")
		expect(t, send(method, "two"), engine.Miss, "stored")
		expect(t, send(method, "one"), engine.Hit, "hit")
		expect(t, send(method, "more than eight"), engine.Bypass, "detail=request-body")
	}
	expect(t, s.get("/a"), engine.Miss, "stored")
	expect(t, s.get("/a"), engine.Hit, "hit")
}

func TestTagFields(t *testing.T) {
	s := newSite(t, `{"tags":["path-{http.request.uri.path}","{http.response.header.X-Team}"]}`,
		answer("x", "Cache-Control", "max-age=60", "Surrogate-Key", "a b,c", "X-Team", "blue", "Cache-Groups", `"g"`))
	for _, outcome := range []engine.Result{engine.Miss, engine.Hit} {
		if w := expect(t, s.get("/a"), outcome, ""); w.Header().Get("Surrogate-Key") != "" || w.Header().Get("Cache-Groups") == "" {
			t.Errorf("the %s has %v", outcome, w.Header())
		}
	}
	if w := expect(t, s.do("POST", "/a"), engine.Bypass, ""); w.Header().Get("Surrogate-Key") == "" {
		t.Error("the tags are missing where the cache took no part")
	}
	s.get("/a")
	for tag, want := range map[string]engine.Result{"a": engine.Miss, "c": engine.Miss, "path-/a": engine.Miss, "blue": engine.Miss, "http://example.com#g": engine.Miss, "g": engine.Hit} {
		s.purge(hard(journal.KindTag, tag))
		expect(t, s.get("/a"), want, "")
	}
}

func TestTagFieldsKept(t *testing.T) {
	s := newSite(t, `{"tag_header":{"names":["x-tags"],"keep":true}}`, answer("x", "Cache-Control", "max-age=60", "X-Tags", "a", "Surrogate-Key", "b"))
	for _, outcome := range []engine.Result{engine.Miss, engine.Hit} {
		if w := expect(t, s.get("/a"), outcome, ""); w.Header().Get("X-Tags") != "a" || w.Header().Get("Surrogate-Key") != "b" {
			t.Errorf("the %s has %v", outcome, w.Header())
		}
	}
}

// A path that looks like a static file does not make a page storable.
func TestWebCacheDeception(t *testing.T) {
	ttl := `{"ttl":{"duration":60000000000}}`
	for _, path := range []string{"/account/x.css", "/account%2fx.css", "/account;x.css", "/account%00.css", "/account/x.JS", "/account/x.png"} {
		s := newSite(t, ttl, answer("<html>", "Content-Type", "text/html"))
		expect(t, s.get(path), engine.Miss, "detail=type-mismatch")
		s.close()
	}
	for _, c := range []struct{ path, contentType string }{
		{"/x.css", "text/css; charset=utf-8"},
		{"/x.js", "application/javascript"},
		{"/x.png", "image/webp"},
		{"/v1.2/users", "application/json"},
		{"/page.html", "text/html"},
		{"/x.map", "application/json"},
	} {
		s := newSite(t, ttl, answer("x", "Content-Type", c.contentType))
		expect(t, s.get(c.path), engine.Miss, "stored")
		s.close()
	}
}
