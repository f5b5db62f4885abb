package engine

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestMissThenHit(t *testing.T) { synctest.Test(t, testMissThenHit) }

func testMissThenHit(t *testing.T) {
	s := newSite(t, `{"ttl":{"duration":60000000000},"jitter":0}`, answer("hello", "Content-Type", "text/plain"))
	miss := expect(t, s.get("/a"), Miss, "fwd=uri-miss; fwd-status=200; stored; ttl=60")
	hit := expect(t, s.get("/a"), Hit, "redis_cache; hit; ttl=60; detail=memory")
	if s.fetches.Load() != 1 || hit.Body.String() != "hello" || hit.Code != 200 {
		t.Errorf("%d fetches, then %d %q", s.fetches.Load(), hit.Code, hit.Body)
	}
	for _, name := range []string{"X-Cache-Key", "X-Cache-Ttl-Remaining", "X-Cache-Date", "Date", "Content-Type", "Server"} {
		if miss.Header().Get(name) == "" || miss.Header().Get(name) != hit.Header().Get(name) {
			t.Errorf("%s is %q on the miss and %q on the hit", name, miss.Header().Get(name), hit.Header().Get(name))
		}
	}
	if hit.Header().Get("Age") != "0" || miss.Header().Get("Age") != "" {
		t.Errorf("Age is %q on the miss and %q on the hit", miss.Header().Get("Age"), hit.Header().Get("Age"))
	}
}

// Every row is a request, or a response, that is not stored: asked twice, it is
// fetched twice.
func TestNotStored(t *testing.T) {
	fresh := []string{"Cache-Control", "max-age=60"}
	for _, c := range []struct {
		name, config, method string
		request              []string
		origin               http.HandlerFunc
		outcome              Result
		detail               string
	}{
		{"no lifetime", `{}`, "GET", nil, answer("x"), Miss, "detail=no-lifetime"},
		{"no-store", `{"ttl":{"duration":1000000000}}`, "GET", nil, answer("x", "Cache-Control", "no-store"), Miss, "detail=no-store"},
		{"private", `{}`, "GET", nil, answer("x", "Cache-Control", "private, max-age=60"), Miss, "detail=private"},
		{"Vary *", `{}`, "GET", nil, answer("x", "Cache-Control", "max-age=60", "Vary", "*"), Miss, "detail=vary-any"},
		{"method", `{}`, "DELETE", nil, answer("x", fresh...), Bypass, "fwd=method; fwd-status=200; detail=method"},
		{"HEAD", `{}`, "HEAD", nil, answer("x", fresh...), Miss, "detail=method"},
		{"upgrade", `{}`, "GET", []string{"Upgrade", "websocket"}, answer("x", fresh...), Bypass, "detail=upgrade"},
		{"override", `{}`, "GET", []string{"X-Http-Method-Override", "DELETE"}, answer("x", fresh...), Bypass, "detail=override-field"},
		{"range", `{}`, "GET", []string{"Range", "bytes=0-1"}, answer("x", fresh...), Miss, "fwd=uri-miss; fwd-status=200; detail=range"},
		{"cookie", `{}`, "GET", []string{"Cookie", "session=1"}, answer("x", fresh...), Bypass, `detail="credentials cookie session"`},
		{"authorization", `{}`, "GET", []string{"Authorization", "Basic x"}, answer("x", fresh...), Bypass, `detail="credentials Authorization"`},
		{"must-revalidate does not open cookies", `{}`, "GET", []string{"Cookie", "session=1"}, answer("x", "Cache-Control", "max-age=60, must-revalidate"), Bypass, `cookie session`},
		{"Set-Cookie", `{}`, "GET", nil, answer("x", "Cache-Control", "max-age=60", "Set-Cookie", "a=b"), Miss, "detail=set-cookie"},
		{"no identity", `{"by_user":"{http.request.cookie.uid}"}`, "GET", nil, answer("x", fresh...), Bypass, "detail=no-identity"},
		{"too large", `{"max_body":2}`, "GET", nil, answer("xyz", fresh...), Miss, "stored"},
		{"stated too large", `{"max_body":2}`, "GET", nil, answer("xyz", "Cache-Control", "max-age=60", "Content-Length", "3"), Miss, "detail=too-large"},
		{"event stream", `{"ttl":{"duration":1000000000}}`, "GET", nil, answer("x", "Content-Type", "text/event-stream"), Miss, "detail=streaming"},
		{"trailers", `{}`, "GET", nil, answer("x", "Cache-Control", "max-age=60", "Trailer", "X-Sum"), Miss, "detail=trailers"},
		{"no_store rule", `{"no_store":["X-Private"]}`, "GET", nil, answer("x", "Cache-Control", "max-age=60", "X-Private", "1"), Miss, "detail=no-store-rule"},
		{"shorter than stated", `{}`, "GET", nil, answer("x", "Cache-Control", "max-age=60", "Content-Length", "3"), Miss, "stored"},
		{"nothing written", `{"ttl":{"duration":1000000000}}`, "GET", nil, func(http.ResponseWriter, *http.Request) {}, Miss, "detail=error"},
		{"unstated trailer", `{}`, "GET", nil, func(w http.ResponseWriter, _ *http.Request) {
			answer("x", fresh...)(w, nil)
			w.Header().Set(http.TrailerPrefix+"X-Sum", "1")
		}, Miss, "stored"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, c.config, c.origin)
			s.do(c.method, "/a", c.request...)
			expect(t, s.do(c.method, "/a", c.request...), c.outcome, c.detail)
			if s.fetches.Load() != 2 {
				t.Errorf("%d fetches", s.fetches.Load())
			}
		})
	}
}

// Every row is a pair of requests of which the second is a hit.
func TestStored(t *testing.T) {
	for _, c := range []struct {
		name, config  string
		first, second []string
		origin        http.HandlerFunc
	}{
		{"max-age", `{}`, nil, nil, answer("x", "Cache-Control", "max-age=60")},
		{"public opens cookies", `{}`, []string{"Cookie", "session=1"}, []string{"Cookie", "session=2"}, answer("x", "Cache-Control", "public, max-age=60")},
		{"must-revalidate opens Authorization", `{}`, []string{"Authorization", "a"}, []string{"Authorization", "b"}, answer("x", "Cache-Control", "max-age=60, must-revalidate")},
		{"shared", `{"shared":true}`, []string{"Cookie", "session=1"}, nil, answer("x", "Cache-Control", "max-age=60")},
		{"several ignored cookies", `{"ignore_cookies":["_ga", "_ga_*"]}`, []string{"Cookie", "_ga=1; _ga_X=2"}, nil, answer("x", "Cache-Control", "max-age=60")},
		{"ignored cookie", `{"ignore_cookies":["theme_*"]}`, []string{"Cookie", "theme_dark=1"}, nil, answer("x", "Cache-Control", "max-age=60")},
		{"override", `{"ttl":{"duration":60000000000,"override":true}}`, nil, nil, answer("x", "Cache-Control", "no-store")},
		{"by_user", `{"by_user":"{http.request.cookie.uid}"}`, []string{"Cookie", "uid=1"}, []string{"Cookie", "uid=1"}, answer("x", "Cache-Control", "max-age=60")},
		{"Set-Cookie strip", `{"set_cookie":"strip"}`, nil, nil, answer("x", "Cache-Control", "max-age=60", "Set-Cookie", "a=b")},
		{"same variant", `{}`, []string{"Accept", "a"}, []string{"Accept", "a"}, answer("x", "Cache-Control", "max-age=60", "Vary", "Accept")},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, c.config, c.origin)
			expect(t, s.get("/a", c.first...), Miss, "stored")
			hit := expect(t, s.get("/a", c.second...), Hit, "hit")
			if hit.Header().Get("Set-Cookie") != "" {
				t.Error("the hit sets a cookie")
			}
		})
	}
}

func TestCredentialsAreNotServedFromAnonymous(t *testing.T) {
	s := newSite(t, `{"ignore_cookies":["_ga"]}`, answer("x", "Cache-Control", "max-age=60"))
	s.get("/a")
	expect(t, s.get("/a", "Cookie", "session=1"), Bypass, "detail=\"credentials cookie session\"")
	expect(t, s.get("/a", "Cookie", "_ga=1; secret"), Bypass, "detail=\"credentials cookie without a name\"")
	expect(t, s.get("/a"), Hit, "hit")
}

func TestUsersDoNotShare(t *testing.T) {
	s := newSite(t, `{"by_user":"{http.request.cookie.uid}","ttl":{"duration":60000000000}}`, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("Cookie"))
	})
	one, two := s.get("/a", "Cookie", "uid=1"), s.get("/a", "Cookie", "uid=2")
	if one.Body.String() != "uid=1" || two.Body.String() != "uid=2" || strings.Contains(one.Header().Get("X-Cache-Key"), "uid") {
		t.Errorf("got %q and %q under %s", one.Body, two.Body, one.Header().Get("X-Cache-Key"))
	}
	expect(t, s.get("/a", "Cookie", "uid=2"), Hit, "hit")
}

func TestIdentityBelow(t *testing.T) {
	s := newSite(t, `{"ttl":{"duration":60000000000}}`, func(w http.ResponseWriter, r *http.Request) {
		authenticate(r, "ada")
		_, _ = io.WriteString(w, "for ada")
	})
	expect(t, s.get("/a"), Miss, "detail=identity-below")
	expect(t, s.get("/a"), Miss, "detail=identity-below")
}

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
	expect(t, send(3, ""), Miss, "stored")
	expect(t, send(3, ""), Hit, "hit")
	expect(t, send(2, ""), Hit, "hit")
	for major := 1; major <= 3; major++ {
		if w := expect(t, send(major, "content"), Bypass, "request-body"); w.Body.String() != "got content" {
			t.Errorf("HTTP/%d: %q", major, w.Body)
		}
	}
}

// Proxies leave out what Connection names, so that the origin does not see it.
func TestConnectionOptions(t *testing.T) {
	s := newSite(t, `{}`, answer("x", "Cache-Control", forAMinute))
	for _, options := range []string{"X-Tenant", "close, x-tenant", "keep-alive,,Accept-Language"} {
		expect(t, s.get("/a", "Connection", options), Bypass, "override-field")
	}
	expect(t, s.get("/a", "Connection", "keep-alive"), Miss, "stored")
	for _, options := range []string{"Keep-Alive", "close", "TE, Trailer", ""} {
		expect(t, s.get("/a", "Connection", options), Hit, "hit")
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
	expect(t, s.get("/a", "If-None-Match", `"nav"`), Miss, "precondition")
	if w := expect(t, s.get("/a"), Miss, "stored"); w.Body.String() != "the navigation" {
		t.Errorf("got %q", w.Body)
	}
}

// An exact key is nothing but its template.
func TestExactKeyWithoutValue(t *testing.T) {
	s := newSite(t, `{"key":{"template":"{http.request.header.X-Tenant}:page","exact":true}}`, answer("x", "Cache-Control", forAMinute))
	for range 2 {
		expect(t, s.get("/a"), Bypass, "no-identity")
	}
	expect(t, s.get("/a", "X-Tenant", "one"), Miss, "stored")
	expect(t, s.get("/b", "X-Tenant", "one"), Hit, "")
}

// No response is used for longer than purges are remembered.
func TestLongestLifetime(t *testing.T) {
	s := newSite(t, `{}`, answer("x", "Cache-Control", "max-age=31536000, stale-if-error=31536000", "Age", "100", "Etag", `"1"`))
	w := expect(t, s.get("/a"), Miss, "stored; ttl=2592000")
	if ttl := w.Header().Get("X-Cache-Ttl-Remaining"); ttl != "2592000" {
		t.Errorf("%s seconds remain", ttl)
	}
	rec, _ := s.memory.Lookup(w.Header().Get("X-Cache-Key"), time.Now())
	if rec == nil {
		t.Fatal("it is not in memory")
	}
	if kept := rec.Expires.Sub(rec.Freshness.ResponseTime); kept != MaxLifetime {
		t.Errorf("kept for %s", kept)
	}
}

// A path that looks like a static file does not make a page storable.
func TestWebCacheDeception(t *testing.T) {
	ttl := `{"ttl":{"duration":60000000000}}`
	for _, path := range []string{"/account/x.css", "/account%2fx.css", "/account;x.css", "/account%00.css", "/account/x.JS", "/account/x.png"} {
		s := newSite(t, ttl, answer("<html>", "Content-Type", "text/html"))
		expect(t, s.get(path), Miss, "detail=type-mismatch")
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
		expect(t, s.get(c.path), Miss, "stored")
		s.close()
	}
}

func TestHostChangedByTheUpstream(t *testing.T) {
	s := newSite(t, `{"ttl":{"duration":60000000000}}`, func(w http.ResponseWriter, r *http.Request) { r.Host = "internal"; io.WriteString(w, "x") })
	s.get("/a")
	s.do("POST", "/a")
	if w := s.get("/a"); w.Header().Get("X-Cache") == "HIT" {
		t.Error("HIT after POST: the purge was for http://internal/a")
	}
}

func TestSemicolonInAQuery(t *testing.T) {
	s := newSite(t, `{"ttl":{"duration":60000000000},"vary_query":{"mode":"except","names":["tracking"]}}`, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.URL.RawQuery) })
	s.get("/a?utm_source=x;callback=evil")
	if w := s.get("/a"); w.Header().Get("X-Cache") == "HIT" {
		t.Errorf("poisoned: %q", w.Body)
	}
}

func TestCompleteButGone(t *testing.T) {
	s := newSite(t, `{"ttl":{"duration":60000000000}}`, nil)
	ctx, cancel := context.WithCancel(context.Background())
	s.origin = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1")
		io.WriteString(w, "x")
		cancel()
	}
	s.send(httptest.NewRequest("GET", "/a", nil).WithContext(ctx))
	if w := s.get("/a"); w.Header().Get("X-Cache") != "HIT" {
		t.Error("a complete response with its Content-Length was dropped")
	}
}
