package rediscache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
)

// Each test here is a bug that was found by reading; it failed before the mend.

func TestRegressionFreshenPrivateField(t *testing.T) {
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

func TestRegressionRetryRewritten(t *testing.T) {
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

func TestRegressionErrorAfterHeader(t *testing.T) {
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

func TestRegressionPostBypass(t *testing.T) {
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

func TestRegressionPostBypassMatcher(t *testing.T) {
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

func TestRegressionWithheldAbort(t *testing.T) {
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
		expect(t, s.get("/a"), engine.Stale, "")
	})
}

func TestRegressionRefreshPosition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tag := `"1"`
		s := newSite(t, `{"stale_while_revalidate":60000000000}`, versioned(&tag))
		s.get("/a")
		time.Sleep(11 * time.Second)
		done := false
		s.handler.route.Lifetime = func(*http.Request, bool) *engine.TTL {
			if !done {
				done = true
				s.purge(hard(journal.KindAll, ""))
			}
			return nil
		}
		expect(t, s.get("/a"), engine.Stale, "") // looked up, then purged, then refreshed
		synctest.Wait()
		w := s.get("/a")
		if seen := w.Header().Get("X-Seen"); w.Header().Get("X-Cache") == "HIT" && seen != "[] []" {
			t.Error("PURGED RESPONSE IS A HIT, confirmed by a 304 to", seen, w.Header()["Cache-Status"])
		}
	})
}

func TestRegressionInvalidSelector(t *testing.T) {
	s := newSite(t, `{"ttl":{"duration":60000000000},"tags":["t"],"invalidate":[{"selector":"tag","values":["t"]},{"selector":"url","values":["{http.request.uri.query.u}"]}]}`, answer("x"))
	s.get("/a")
	s.do("POST", "/a?u=garbage")
	if w := s.get("/a"); w.Header().Get("X-Cache") == "HIT" {
		t.Error("nothing was purged")
	}
}

func TestRegressionManyTags(t *testing.T) {
	var tags []string
	for i := range 130 {
		tags = append(tags, fmt.Sprint("t", i))
	}
	s := newSite(t, `{"ttl":{"duration":60000000000}}`, answer("x", "Surrogate-Key", strings.Join(tags, " ")))
	s.get("/a")
	s.purge(hard(journal.KindTag, "t129"))
	if w := s.get("/a"); w.Header().Get("X-Cache") == "HIT" {
		t.Error("HIT after a purge of its tag")
	}
}

func TestRegressionTags304(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		group := "one"
		s := newSite(t, `{}`, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=10")
			w.Header().Set("Etag", `"1"`)
			w.Header().Set("Surrogate-Key", group)
			if r.Header.Get("If-None-Match") != "" {
				w.WriteHeader(304)
				return
			}
			io.WriteString(w, "x")
		})
		s.get("/a")
		time.Sleep(11 * time.Second)
		group = "two"
		s.get("/a")
		s.purge(hard(journal.KindTag, "two"))
		if w := s.get("/a"); w.Header().Get("X-Cache") == "HIT" {
			t.Error("HIT after a purge of the tag that the 304 gave")
		}
	})
}

func TestRegressionHostChanged(t *testing.T) {
	s := newSite(t, `{"ttl":{"duration":60000000000}}`, func(w http.ResponseWriter, r *http.Request) { r.Host = "internal"; io.WriteString(w, "x") })
	s.get("/a")
	s.do("POST", "/a")
	if w := s.get("/a"); w.Header().Get("X-Cache") == "HIT" {
		t.Error("HIT after POST: the purge was for http://internal/a")
	}
}

func TestRegressionSemicolon(t *testing.T) {
	s := newSite(t, `{"ttl":{"duration":60000000000},"vary_query":{"mode":"except","names":["tracking"]}}`, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.URL.RawQuery) })
	s.get("/a?utm_source=x;callback=evil")
	if w := s.get("/a"); w.Header().Get("X-Cache") == "HIT" {
		t.Errorf("poisoned: %q", w.Body)
	}
}

func TestRegressionBodyType(t *testing.T) {
	s := newSite(t, `{"ttl":{"duration":60000000000},"methods":["GET","HEAD","POST"],"vary_body":1000}`, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Header.Get("Content-Type")) })
	post := func(ct string) *httptest.ResponseRecorder {
		return s.send(httptest.NewRequest("POST", "/a", strings.NewReader("q=1")), "Content-Type", ct)
	}
	post("text/plain")
	if w := post("application/x-www-form-urlencoded"); w.Header().Get("X-Cache") == "HIT" {
		t.Errorf("answer to another type: %q", w.Body)
	}
}

func TestRegressionHijackFails(t *testing.T) {
	s := newSite(t, `{}`, func(w http.ResponseWriter, r *http.Request) {
		if _, _, err := http.NewResponseController(w).Hijack(); err != nil {
			w.WriteHeader(500)
			io.WriteString(w, "no")
		}
	})
	if w := s.get("/a"); w.Code != 500 {
		t.Error(w.Code, w.Header())
	}
}

func TestRegressionDiagnostics(t *testing.T) {
	s := newSite(t, `{"ttl":{"duration":60000000000},"diagnostics_rules":[{"match":[{"path":["/api/*"]}],"level":"off"}]}`, func(w http.ResponseWriter, r *http.Request) {
		r.URL.Path = strings.TrimPrefix(r.URL.Path, "/api")
		io.WriteString(w, "x")
	})
	if w := s.get("/api/a"); w.Header().Get("X-Cache-Key") != "" {
		t.Error("diagnostics off, but", w.Header().Get("X-Cache-Key"))
	}
}

func TestRegressionFreshenNoStoreRule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		secret := false
		s := newSite(t, `{"no_store":[{"headers":{"X-Secret":["*"]}}]}`, func(w http.ResponseWriter, r *http.Request) {
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

func TestRegressionFreshenIdentityBelow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		user := ""
		s := newSite(t, `{}`, func(w http.ResponseWriter, r *http.Request) {
			if user != "" {
				r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer).Set("http.auth.user.id", user)
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

func TestRegressionCompleteButGone(t *testing.T) {
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

func TestRegressionClientPurges(t *testing.T) {
	for _, status := range []int{400, 401, 429, 304} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, `{}`, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/plain")
				if r.Header.Get("X-Bad") != "" {
					w.WriteHeader(status)
					return
				}
				w.Header().Set("Cache-Control", "max-age=10")
				io.WriteString(w, "x")
			})
			s.get("/a")
			time.Sleep(11 * time.Second)
			s.get("/a", "X-Bad", "1")
			s.err = errors.New("down")
			if w := s.get("/a"); w.Header().Get("X-Cache") != "STALE" {
				t.Error(status, "to one client purged it for all:", w.Code)
			}
		})
	}
}

// A client that wants nothing stored must not take from others what is.
func TestRegressionNoStoreOfOneClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tag := `"1"`
		s := newSite(t, `{"client_cache_control":"honor"}`, versioned(&tag))
		s.get("/a")
		time.Sleep(11 * time.Second)
		expect(t, s.get("/a", "Cache-Control", "no-store"), engine.Revalidated, "fwd-status=304")
		expect(t, s.get("/a"), engine.Revalidated, "fwd=stale; fwd-status=304")
	})
}
