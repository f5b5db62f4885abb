package engine

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

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
			expect(t, s.get("/a"), Stale, "")
			synctest.Wait()
			want := Stale
			if c.replaces {
				want = Miss
			}
			expect(t, s.get("/a"), want, "")
			synctest.Wait()
		})
	}
}

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
		outcome      Result
		detail       string
		status       int
		body, within string
		next         Result
	}{
		{"confirmed", nil, `"1"`, Revalidated, "fwd=stale; fwd-status=304; stored; ttl=10", 200, `body "1"`, "", Hit},
		{"replaced", nil, `"2"`, Miss, "fwd=stale; fwd-status=200; stored; ttl=10", 200, `body "2"`, "", Hit},
		{"own condition holds", []string{"If-None-Match", `"1"`}, `"1"`, Revalidated, "fwd-status=304", 304, "", "", Hit},
		{"own condition does not", []string{"If-None-Match", `"0"`}, `"1"`, Revalidated, "fwd-status=304", 200, `body "1"`, "", Hit},
		{"range", []string{"Range", "bytes=0-3"}, `"1"`, Revalidated, "fwd-status=304", 206, "body", "bytes 0-3/8", Hit},
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
		w := expect(t, s.get("/a"), Miss, "fwd-status=200; stored")
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
		w := expect(t, s.get("/a"), Revalidated, "fwd-status=304")
		if w.Header().Get("Set-Cookie") != "id=2" {
			t.Error("the client does not get its cookie")
		}
		hit := expect(t, s.get("/a"), Hit, "hit")
		if got := hit.Header(); got.Get("X-Kind") != "two" || got.Get("X-First") != "yes" || got.Get("Set-Cookie") != "" || got.Get("Content-Length") != "4" {
			t.Errorf("the freshened response has %v", got)
		}
	})
}

func TestNoCacheIsRevalidatedEachTime(t *testing.T) {
	tag := `"1"`
	s := newSite(t, `{}`, versioned(&tag, "Cache-Control", "no-cache"))
	expect(t, s.get("/a"), Miss, "stored")
	expect(t, s.get("/a"), Revalidated, "fwd-status=304")
	expect(t, s.get("/a"), Revalidated, "fwd-status=304")
}

func TestNoStoreIn304Removes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tag := `"1"`
		s := newSite(t, `{}`, versioned(&tag))
		s.get("/a")
		time.Sleep(11 * time.Second)
		s.origin = versioned(&tag, "Cache-Control", "no-store")
		if w := expect(t, s.get("/a"), Revalidated, "fwd-status=304"); w.Body.String() != `body "1"` {
			t.Errorf("got %q", w.Body)
		}
		expect(t, s.get("/a"), Miss, "fwd=uri-miss; fwd-status=200; detail=no-store")
	})
}

func TestHeadFreshens(t *testing.T) {
	for name, c := range map[string]struct {
		tag  string
		next Result
	}{"agrees": {`"1"`, Hit}, "proves wrong": {`"2"`, Miss}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tag := `"1"`
				s := newSite(t, `{}`, versioned(&tag, "Content-Length", "8"))
				s.get("/a")
				time.Sleep(11 * time.Second)
				tag = c.tag
				expect(t, s.do(http.MethodHead, "/a"), Miss, "fwd=stale")
				expect(t, s.get("/a"), c.next, "")
			})
		})
	}
}

func TestOnlyIfCached(t *testing.T) {
	s := newSite(t, `{}`, answer("x", "Cache-Control", "max-age=60"))
	var own *Error
	r := httptest.NewRequest(http.MethodGet, "/a", http.NoBody)
	r.Header.Set("Cache-Control", "only-if-cached")
	if err := s.serve(httptest.NewRecorder(), r); !errors.As(err, &own) || own.Status != http.StatusGatewayTimeout {
		t.Errorf("got %v", err)
	}
	s.get("/a")
	expect(t, s.get("/a", "Cache-Control", "only-if-cached"), Hit, "hit")
}

func TestClientCacheControl(t *testing.T) {
	for _, c := range []struct {
		config, control string
		want            Result
		detail          string
	}{
		{`{}`, "no-cache", Hit, "hit"},
		{`{"client_cache_control":"honor"}`, "no-cache", Miss, "fwd=request; fwd-status=200; stored"},
		{`{"client_cache_control":"honor"}`, "max-age=0", Miss, "fwd=request"},
		{`{"client_cache_control":"honor"}`, "min-fresh=100", Miss, "fwd=request"},
		{`{"client_cache_control":"honor"}`, "max-age=100", Hit, "hit"},
	} {
		s := newSite(t, c.config, answer("x", "Cache-Control", "max-age=60"))
		s.get("/a")
		expect(t, s.get("/a", "Cache-Control", c.control), c.want, c.detail)
		s.close()
	}
	s := newSite(t, `{"client_cache_control":"honor"}`, answer("x", "Cache-Control", "max-age=60"))
	expect(t, s.get("/b", "Cache-Control", "no-store"), Miss, "detail=request-directive")
	expect(t, s.get("/b"), Miss, "stored")
}

func TestMaxStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, `{"client_cache_control":"honor"}`, answer("x", "Cache-Control", "max-age=10"))
		s.get("/a")
		time.Sleep(15 * time.Second)
		expect(t, s.get("/a", "Cache-Control", "max-stale=10"), Stale, "hit; ttl=-5")
		expect(t, s.get("/a", "Cache-Control", "max-stale=1"), Miss, "fwd=stale")
	})
}

func TestFreshenedPrivateField(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, `{}`, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", `public, max-age=10, private="X-User"`)
			w.Header().Set("Etag", `"1"`)
			w.Header().Set("X-User", r.Header.Get("Cookie"))
			if r.Header.Get("If-None-Match") != "" {
				w.WriteHeader(304)
				return
			}
			io.WriteString(w, "x")
		})
		s.get("/a")
		time.Sleep(11 * time.Second)
		s.get("/a", "Cookie", "session=alice")
		w := s.get("/a")
		if w.Header().Get("X-User") != "" {
			t.Error("LEAK", w.Header().Get("X-User"), w.Header().Get("X-Cache"))
		}
	})
}

func TestFreshenedNoStoreRule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		secret := false
		s := newSite(t, `{"no_store":["X-Secret"]}`, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=10")
			w.Header().Set("Etag", `"1"`)
			if secret {
				w.Header().Set("X-Secret", "s3")
			}
			if r.Header.Get("If-None-Match") != "" {
				w.WriteHeader(304)
				return
			}
			io.WriteString(w, "x")
		})
		s.get("/a")
		time.Sleep(11 * time.Second)
		secret = true
		s.get("/a")
		if w := s.get("/a"); w.Header().Get("X-Cache") == "HIT" {
			t.Error("no_store rule ignored by 304:", w.Header().Get("X-Secret"))
		}
	})
}

func TestFreshenedIdentityBelow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		user := ""
		s := newSite(t, `{}`, func(w http.ResponseWriter, r *http.Request) {
			if user != "" {
				authenticate(r, user)
			}
			w.Header().Set("Cache-Control", "max-age=10")
			w.Header().Set("Etag", `"1"`)
			w.Header().Set("X-Greeting", "hello "+user)
			if r.Header.Get("If-None-Match") != "" {
				w.WriteHeader(304)
				return
			}
			io.WriteString(w, "x")
		})
		s.get("/a")
		time.Sleep(11 * time.Second)
		user = "alice"
		s.get("/a")
		if w := s.get("/a"); w.Header().Get("X-Cache") == "HIT" {
			t.Error("identity below ignored by 304:", w.Header().Get("X-Greeting"))
		}
	})
}

// A client that wants nothing stored must not take from others what is.
func TestNoStoreOfOneClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tag := `"1"`
		s := newSite(t, `{"client_cache_control":"honor"}`, versioned(&tag))
		s.get("/a")
		time.Sleep(11 * time.Second)
		expect(t, s.get("/a", "Cache-Control", "no-store"), Revalidated, "fwd-status=304")
		expect(t, s.get("/a"), Revalidated, "fwd=stale; fwd-status=304")
	})
}
