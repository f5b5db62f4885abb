package rediscache

import (
	"encoding/json"
	"errors"
	"fmt"
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

const forAMinute = "max-age=60"

// answer is an origin with one response.
func answer(body string, fields ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(fields); i += 2 {
			w.Header().Add(fields[i], fields[i+1])
		}
		_, _ = io.WriteString(w, body)
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

// lateReader evaluates placeholders with the first of the body, as encode in front
// of deferred header operations does.
type lateReader struct {
	*httptest.ResponseRecorder
	read func()
}

func (w *lateReader) Write(p []byte) (int, error) {
	w.read()
	return w.ResponseRecorder.Write(p)
}

// The pump may run handlers in front that read the request and the exchange.
func TestPlaceholdersReadByThePump(t *testing.T) {
	for name, origin := range map[string]http.HandlerFunc{
		"conditions are put back": answer("new", "Cache-Control", forAMinute),
		"too large": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Cache-Control", forAMinute)
			for range 4 {
				_, _ = io.WriteString(w, "sixteen bytes...")
			}
		},
		"trailers": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Cache-Control", forAMinute)
			_, _ = io.WriteString(w, "some")
			w.Header().Set(http.TrailerPrefix+"X", "y")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, `{"max_body":40}`, answer("old", "Cache-Control", forAMinute, "Etag", `"old"`))
				next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
					origin(w, r)
					return nil
				})
				for i := range 20 {
					uri := fmt.Sprintf("/%d", i)
					s.get(uri)
					time.Sleep(61 * time.Second)
					r, _ := s.prepare(httptest.NewRequest(http.MethodGet, uri, http.NoBody))
					repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
					var read atomic.Int32
					w := &lateReader{httptest.NewRecorder(), func() {
						read.Add(1)
						_ = repl.ReplaceAll("{http.request.header.If-None-Match} {http.redis_cache.reason} {http.redis_cache.ttl} {http.redis_cache.age}", "")
					}}
					if err := s.handler.ServeHTTP(w, r, next); err != nil {
						t.Fatal(err)
					}
					if read.Load() == 0 {
						t.Error("nothing was read")
					}
				}
			})
		})
	}
}

// Each test here is a bug that was found by reading; it failed before the mend.

func TestBypassMatcherAndPosts(t *testing.T) {
	s := newSite(t, `{"bypass":[{"match":[{"header":{"X-Preview":["1"]}}]}]}`, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Content-Location", "/a")
		io.WriteString(w, "preview "+r.Header.Get("X-Preview"))
	})
	s.do("POST", "/a", "X-Preview", "1")
	if w := s.get("/a"); w.Header().Get("X-Cache") == "HIT" {
		t.Errorf("HIT %q", w.Body)
	}
}

func TestDiagnosticsOfTheOriginalPath(t *testing.T) {
	s := newSite(t, `{"ttl":{"duration":60000000000},"diagnostics_rules":[{"match":[{"path":["/api/*"]}],"level":"off"}]}`, func(w http.ResponseWriter, r *http.Request) {
		r.URL.Path = strings.TrimPrefix(r.URL.Path, "/api")
		io.WriteString(w, "x")
	})
	if w := s.get("/api/a"); w.Header().Get("X-Cache-Key") != "" {
		t.Error("diagnostics off, but", w.Header().Get("X-Cache-Key"))
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

// TestOptions lets options and their defaults decide what is stored, and the fields by
// which a response is not.
func TestOptions(t *testing.T) {
	for _, c := range []struct {
		name, config string
		request      []string
		origin       http.HandlerFunc
		detail       string // of the second request
	}{
		{"analytics cookie", `{}`, []string{"Cookie", "_ga=1; _ga_X=2"}, answer("x", "Cache-Control", "max-age=60"), "hit"},
		{"nameless cookie", `{}`, []string{"Cookie", "_ga=1; secret"}, answer("x", "Cache-Control", "max-age=60"), `detail="credentials cookie without a name"`},
		{"no_store with any value", `{"no_store":[{"headers":{"X-Private":[]}}]}`, nil, answer("x", "Cache-Control", "max-age=60", "X-Private", "1"), "detail=no-store-rule"},
		{"no_store with a pattern", `{"no_store":[{"headers":{"X-Private":["*"]}}]}`, nil, answer("x", "Cache-Control", "max-age=60", "X-Private", "1"), "detail=no-store-rule"},
		{"no_store of others", `{"no_store":[{"headers":{"X-Private":["2"]}}]}`, nil, answer("x", "Cache-Control", "max-age=60", "X-Private", "1"), "hit"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, c.config, c.origin)
			s.get("/a", c.request...)
			if status := s.get("/a", c.request...).Header().Get("Cache-Status"); !strings.Contains(status, c.detail) {
				t.Errorf("%s, want %s", status, c.detail)
			}
		})
	}
}

// TestVariablesOfARefresh gives what nobody fetches the variables of handlers in front.
func TestVariablesOfARefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		version := "one"
		s := newSite(t, `{"stale_while_revalidate":60000000000,"vary_header":["Accept"]}`, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=10")
			_, _ = io.WriteString(w, version+r.Header.Get("Accept")+caddyhttp.GetVar(r.Context(), "color").(string)) //nolint:forcetypeassert // set below
		})
		s.vars = map[string]any{"color": "red"}
		s.get("/a", "Accept", "/x/")
		time.Sleep(11 * time.Second)
		version = "two"
		expect(t, s.get("/a", "Accept", "/x/"), engine.Stale, "redis_cache; hit; ttl=-1; detail=memory")
		synctest.Wait()
		if w := expect(t, s.get("/a", "Accept", "/x/"), engine.Hit, "hit"); w.Body.String() != "two/x/red" || s.fetches.Load() != 2 {
			t.Errorf("got %q after %d fetches", w.Body, s.fetches.Load())
		}
	})
}
