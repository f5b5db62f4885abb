package rediscache

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
)

// site is a handler in front of a scripted origin, in memory only.
type site struct {
	t       testing.TB
	handler *Handler
	origin  http.HandlerFunc
	err     error // of the handlers behind, in place of the origin
	// errAfter is what they return after the origin has answered.
	errAfter error
	vars     map[string]any // that the handlers in front set
	fetches  atomic.Int32
}

var notPrefix = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// newSite provisions a handler from its JSON. Every test has a node of its own.
func newSite(t testing.TB, config string, origin http.HandlerFunc) *site {
	t.Helper()
	app, err := json.Marshal(map[string]any{
		"prefix": notPrefix.ReplaceAllString(t.Name(), "-"), "redis": map[string]any{"off": true},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, err := caddy.ProvisionContext(&caddy.Config{
		Admin:   &caddy.AdminConfig{Disabled: true},
		AppsRaw: caddy.ModuleMap{appID: app},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, handler: new(Handler), origin: origin}
	if err := json.Unmarshal([]byte(config), s.handler); err != nil {
		t.Fatal(err)
	}
	if err := s.handler.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.handler.app.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s
}

// close ends the node, so that the next site of the test begins with an empty
// cache.
func (s *site) close() {
	if err := errors.Join(s.handler.app.Stop(), s.handler.app.Cleanup()); err != nil {
		s.t.Error(err)
	}
}

// ServeHTTP serves as Caddy would, with an error as the answer of an error route.
func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", "Caddy")
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
	for name, value := range s.vars {
		caddyhttp.SetVar(r.Context(), name, value)
	}
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		s.fetches.Add(1)
		if s.err != nil {
			return s.err
		}
		s.origin(w, r)
		return s.errAfter
	})
	if err := s.handler.ServeHTTP(w, r, next); err != nil {
		w.WriteHeader(http.StatusBadGateway)
	}
}

// prepare makes a request as Caddy would, with a recorder.
func (s *site) prepare(r *http.Request) (*http.Request, *httptest.ResponseRecorder) {
	w := httptest.NewRecorder()
	return caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server)), w
}

// get sends a GET request.
func (s *site) get(uri string, fields ...string) *httptest.ResponseRecorder {
	return s.do(http.MethodGet, uri, fields...)
}

func (s *site) do(method, uri string, fields ...string) *httptest.ResponseRecorder {
	return s.send(httptest.NewRequest(method, uri, http.NoBody), fields...)
}

// send sends a request with the given fields, as name and value in turn.
func (s *site) send(r *http.Request, fields ...string) *httptest.ResponseRecorder {
	for i := 0; i < len(fields); i += 2 {
		r.Header.Add(fields[i], fields[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// expect checks the outcome, and returns the response for more.
func expect(t *testing.T, w *httptest.ResponseRecorder, outcome engine.Result, detail string) *httptest.ResponseRecorder {
	t.Helper()
	if got := w.Header().Get("X-Cache"); got != outcome.String() {
		t.Errorf("X-Cache is %s, want %s; %s", got, outcome, w.Header()["Cache-Status"])
	}
	if status := w.Header().Get("Cache-Status"); !strings.Contains(status, detail) {
		t.Errorf("Cache-Status is %s, want %q in it", status, detail)
	}
	return w
}

// answer is an origin with one response.
func answer(body string, fields ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(fields); i += 2 {
			w.Header().Add(fields[i], fields[i+1])
		}
		_, _ = io.WriteString(w, body)
	}
}

func TestMissThenHit(t *testing.T) { synctest.Test(t, testMissThenHit) }

func testMissThenHit(t *testing.T) {
	s := newSite(t, `{"ttl":{"duration":60000000000},"jitter":0}`, answer("hello", "Content-Type", "text/plain"))
	miss := expect(t, s.get("/a"), engine.Miss, "fwd=uri-miss; fwd-status=200; stored; ttl=60")
	hit := expect(t, s.get("/a"), engine.Hit, "redis_cache; hit; ttl=60; detail=memory")
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
		outcome              engine.Result
		detail               string
	}{
		{"no lifetime", `{}`, "GET", nil, answer("x"), engine.Miss, "detail=no-lifetime"},
		{"no-store", `{"ttl":{"duration":1000000000}}`, "GET", nil, answer("x", "Cache-Control", "no-store"), engine.Miss, "detail=no-store"},
		{"private", `{}`, "GET", nil, answer("x", "Cache-Control", "private, max-age=60"), engine.Miss, "detail=private"},
		{"Vary *", `{}`, "GET", nil, answer("x", "Cache-Control", "max-age=60", "Vary", "*"), engine.Miss, "detail=vary-any"},
		{"method", `{}`, "DELETE", nil, answer("x", fresh...), engine.Bypass, "fwd=method; fwd-status=200; detail=method"},
		{"HEAD", `{}`, "HEAD", nil, answer("x", fresh...), engine.Miss, "detail=method"},
		{"upgrade", `{}`, "GET", []string{"Upgrade", "websocket"}, answer("x", fresh...), engine.Bypass, "detail=upgrade"},
		{"override", `{}`, "GET", []string{"X-Http-Method-Override", "DELETE"}, answer("x", fresh...), engine.Bypass, "detail=override-field"},
		{"range", `{}`, "GET", []string{"Range", "bytes=0-1"}, answer("x", fresh...), engine.Miss, "fwd=uri-miss; fwd-status=200; detail=range"},
		{"cookie", `{}`, "GET", []string{"Cookie", "session=1"}, answer("x", fresh...), engine.Bypass, `detail="credentials cookie session"`},
		{"authorization", `{}`, "GET", []string{"Authorization", "Basic x"}, answer("x", fresh...), engine.Bypass, `detail="credentials Authorization"`},
		{"must-revalidate does not open cookies", `{}`, "GET", []string{"Cookie", "session=1"}, answer("x", "Cache-Control", "max-age=60, must-revalidate"), engine.Bypass, `cookie session`},
		{"Set-Cookie", `{}`, "GET", nil, answer("x", "Cache-Control", "max-age=60", "Set-Cookie", "a=b"), engine.Miss, "detail=set-cookie"},
		{"no identity", `{"by_user":"{http.request.cookie.uid}"}`, "GET", nil, answer("x", fresh...), engine.Bypass, "detail=no-identity"},
		{"too large", `{"max_body":2}`, "GET", nil, answer("xyz", fresh...), engine.Miss, "stored"},
		{"stated too large", `{"max_body":2}`, "GET", nil, answer("xyz", "Cache-Control", "max-age=60", "Content-Length", "3"), engine.Miss, "detail=too-large"},
		{"event stream", `{"ttl":{"duration":1000000000}}`, "GET", nil, answer("x", "Content-Type", "text/event-stream"), engine.Miss, "detail=streaming"},
		{"trailers", `{}`, "GET", nil, answer("x", "Cache-Control", "max-age=60", "Trailer", "X-Sum"), engine.Miss, "detail=trailers"},
		{"no_store rule", `{"no_store":[{"headers":{"X-Private":[]}}]}`, "GET", nil, answer("x", "Cache-Control", "max-age=60", "X-Private", "1"), engine.Miss, "detail=no-store-rule"},
		{"shorter than stated", `{}`, "GET", nil, answer("x", "Cache-Control", "max-age=60", "Content-Length", "3"), engine.Miss, "stored"},
		{"nothing written", `{"ttl":{"duration":1000000000}}`, "GET", nil, func(http.ResponseWriter, *http.Request) {}, engine.Miss, "detail=error"},
		{"unstated trailer", `{}`, "GET", nil, func(w http.ResponseWriter, _ *http.Request) {
			answer("x", fresh...)(w, nil)
			w.Header().Set(http.TrailerPrefix+"X-Sum", "1")
		}, engine.Miss, "stored"},
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
		{"analytics cookie", `{}`, []string{"Cookie", "_ga=1; _ga_X=2"}, nil, answer("x", "Cache-Control", "max-age=60")},
		{"ignored cookie", `{"ignore_cookies":["theme_*"]}`, []string{"Cookie", "theme_dark=1"}, nil, answer("x", "Cache-Control", "max-age=60")},
		{"override", `{"ttl":{"duration":60000000000,"override":true}}`, nil, nil, answer("x", "Cache-Control", "no-store")},
		{"by_user", `{"by_user":"{http.request.cookie.uid}"}`, []string{"Cookie", "uid=1"}, []string{"Cookie", "uid=1"}, answer("x", "Cache-Control", "max-age=60")},
		{"Set-Cookie strip", `{"set_cookie":"strip"}`, nil, nil, answer("x", "Cache-Control", "max-age=60", "Set-Cookie", "a=b")},
		{"same variant", `{}`, []string{"Accept", "a"}, []string{"Accept", "a"}, answer("x", "Cache-Control", "max-age=60", "Vary", "Accept")},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, c.config, c.origin)
			expect(t, s.get("/a", c.first...), engine.Miss, "stored")
			hit := expect(t, s.get("/a", c.second...), engine.Hit, "hit")
			if hit.Header().Get("Set-Cookie") != "" {
				t.Error("the hit sets a cookie")
			}
		})
	}
}

func TestCredentialsAreNotServedFromAnonymous(t *testing.T) {
	s := newSite(t, `{}`, answer("x", "Cache-Control", "max-age=60"))
	s.get("/a")
	expect(t, s.get("/a", "Cookie", "session=1"), engine.Bypass, "detail=\"credentials cookie session\"")
	expect(t, s.get("/a", "Cookie", "_ga=1; secret"), engine.Bypass, "detail=\"credentials cookie without a name\"")
	expect(t, s.get("/a"), engine.Hit, "hit")
}

func TestUsersDoNotShare(t *testing.T) {
	s := newSite(t, `{"by_user":"{http.request.cookie.uid}","ttl":{"duration":60000000000}}`, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("Cookie"))
	})
	one, two := s.get("/a", "Cookie", "uid=1"), s.get("/a", "Cookie", "uid=2")
	if one.Body.String() != "uid=1" || two.Body.String() != "uid=2" || strings.Contains(one.Header().Get("X-Cache-Key"), "uid") {
		t.Errorf("got %q and %q under %s", one.Body, two.Body, one.Header().Get("X-Cache-Key"))
	}
	expect(t, s.get("/a", "Cookie", "uid=2"), engine.Hit, "hit")
}

func TestIdentityBelow(t *testing.T) {
	s := newSite(t, `{"ttl":{"duration":60000000000}}`, func(w http.ResponseWriter, r *http.Request) {
		r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer).Set("http.auth.user.id", "ada")
		_, _ = io.WriteString(w, "for ada")
	})
	expect(t, s.get("/a"), engine.Miss, "detail=identity-below")
	expect(t, s.get("/a"), engine.Miss, "detail=identity-below")
}

func TestVariants(t *testing.T) {
	s := newSite(t, `{}`, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Vary", "Accept-Language")
		_, _ = io.WriteString(w, r.Header.Get("Accept-Language"))
	})
	for _, language := range []string{"de", "en", "fr"} {
		expect(t, s.get("/a", "Accept-Language", language), engine.Miss, "stored")
	}
	for _, language := range []string{"de", "en", "fr"} {
		if hit := expect(t, s.get("/a", "Accept-Language", language), engine.Hit, "hit"); hit.Body.String() != language {
			t.Errorf("%s gets %s", language, hit.Body)
		}
	}
	expect(t, s.get("/a"), engine.Miss, "fwd=vary-miss")
}

func TestVariantsAreBounded(t *testing.T) {
	s := newSite(t, `{}`, answer("x", "Cache-Control", "max-age=60", "Vary", "X-Any"))
	for i := range maxVariants {
		expect(t, s.get("/a", "X-Any", strings.Repeat("x", i)), engine.Miss, "stored")
	}
	expect(t, s.get("/a", "X-Any", "one more"), engine.Miss, "detail=variant-limit")
	expect(t, s.get("/a", "X-Any", "x"), engine.Hit, "hit")
}

// A response without Vary must not hide the variants that are stored, nor be
// answered for them.
func TestVaryComesAndGoes(t *testing.T) {
	s := newSite(t, `{}`, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		if r.Header.Get("Accept") != "" {
			w.Header().Set("Vary", "Accept")
		}
		_, _ = io.WriteString(w, "for "+r.Header.Get("Accept"))
	})
	s.get("/a", "Accept", "json")
	s.get("/a")
	if hit := expect(t, s.get("/a", "Accept", "json"), engine.Hit, "hit"); hit.Body.String() != "for json" {
		t.Errorf("got %q", hit.Body)
	}
	if hit := expect(t, s.get("/a"), engine.Hit, "hit"); hit.Body.String() != "for " {
		t.Errorf("got %q", hit.Body)
	}
}

func TestEncodedVariesOnAcceptEncoding(t *testing.T) {
	s := newSite(t, `{}`, answer("zzz", "Cache-Control", "max-age=60", "Content-Encoding", "gzip"))
	s.get("/a", "Accept-Encoding", "gzip")
	expect(t, s.get("/a", "Accept-Encoding", "gzip"), engine.Hit, "hit")
	expect(t, s.get("/a"), engine.Miss, "vary-miss")
}

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
		w := expect(t, s.get("/a", c.field, c.value), engine.Hit, "hit")
		if w.Code != c.status || w.Body.String() != c.body || w.Header().Get("Content-Range") != c.within {
			t.Errorf("%s: %s gets %d %q %s", c.field, c.value, w.Code, w.Body, w.Header().Get("Content-Range"))
		}
	}
	several := s.get("/a", "Range", "bytes=0-1,5-6")
	if several.Code != 206 || !strings.Contains(several.Body.String(), "Content-Range: bytes 5-6/10\r\nContent-Type: text/plain\r\n\r\n56") {
		t.Errorf("two ranges get %d %s", several.Code, several.Body)
	}
	head := expect(t, s.do("HEAD", "/a"), engine.Hit, "hit")
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

func TestOneCacheOnly(t *testing.T) {
	s := newSite(t, `{}`, answer("x", "Cache-Control", "max-age=60"))
	inner := s.origin
	s.origin = func(w http.ResponseWriter, r *http.Request) {
		_ = s.handler.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			inner(w, r)
			return nil
		}))
	}
	if got := expect(t, s.get("/a"), engine.Miss, "stored").Header()["Cache-Status"]; len(got) != 1 {
		t.Errorf("Cache-Status is %v", got)
	}
}

func TestHandlerError(t *testing.T) {
	s := newSite(t, `{"ttl":{"duration":60000000000}}`, nil)
	s.err = errors.New("upstream is dead")
	if w := expect(t, s.get("/a"), engine.Miss, "fwd=uri-miss; detail=error"); w.Code != http.StatusBadGateway {
		t.Errorf("status %d", w.Code)
	}
}

func TestPlaceholders(t *testing.T) { synctest.Test(t, testPlaceholders) }

func testPlaceholders(t *testing.T) {
	s := newSite(t, `{}`, answer("x", "Cache-Control", "max-age=60"))
	s.get("/a")
	r := httptest.NewRequest(http.MethodGet, "/a", http.NoBody)
	w := httptest.NewRecorder()
	repl := caddy.NewReplacer()
	r = caddyhttp.PrepareRequest(r, repl, w, new(caddyhttp.Server))
	if err := s.handler.ServeHTTP(w, r, nil); err != nil {
		t.Fatal(err)
	}
	got := repl.ReplaceAll("{http.redis_cache.status} {http.redis_cache.tier} {http.redis_cache.namespace} {http.redis_cache.ttl} {http.redis_cache.age} {http.redis_cache.key}", "?")
	if want := "HIT memory general 60 0 " + w.Header().Get("X-Cache-Key"); got != want {
		t.Errorf("placeholders are %q, want %q", got, want)
	}
	time.Sleep(2 * time.Minute) // what is found is not what answers
	repl = caddy.NewReplacer()
	r = caddyhttp.PrepareRequest(httptest.NewRequest(http.MethodGet, "/a", http.NoBody), repl, w, new(caddyhttp.Server))
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error { s.origin(w, r); return nil })
	if err := s.handler.ServeHTTP(w, r, next); err != nil {
		t.Fatal(err)
	}
	if got := repl.ReplaceAll("{http.redis_cache.status} {http.redis_cache.tier}", "?"); got != "MISS ?" {
		t.Errorf("placeholders of a miss are %q", got)
	}
}
