package engine

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
)

// A POST whose purge is not in front of its response in time stores nothing.
func TestOvertakenByItsOwnPurge(t *testing.T) {
	s := newSite(t, `{}`, answer("x", "Cache-Control", forAMinute, "Content-Location", "/a"))
	expect(t, s.do(http.MethodPost, "/a"), Bypass, "stored")
	expect(t, s.get("/a"), Hit, "")
	s.origin = func(w http.ResponseWriter, r *http.Request) {
		// Another purge is applied meanwhile.
		if _, err := s.route.Cache.Journal.Append(r.Context(), journal.Purge{Selectors: []journal.Selector{{Kind: journal.KindAll}}}, 0); err != nil {
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

func TestUnsafeMethodsInvalidate(t *testing.T) {
	for _, c := range []struct {
		name, method, path, field, value string
		status                           int
		want                             Result
	}{
		{"POST", "POST", "/a", "", "", 200, Miss},
		{"redirect", "POST", "/a", "", "", 303, Miss},
		{"unknown method", "FROBNICATE", "/a", "", "", 200, Miss},
		{"error", "POST", "/a", "", "", 500, Hit},
		{"safe", "OPTIONS", "/a", "", "", 200, Hit},
		{"elsewhere", "POST", "/b", "", "", 200, Hit},
		{"Location", "POST", "/b", "Location", "/a", 201, Miss},
		{"Content-Location", "POST", "/b", "Content-Location", "http://example.com/a", 200, Miss},
		{"foreign Location", "POST", "/b", "Location", "http://example.org/a", 201, Hit},
		{"group", "POST", "/b", "Cache-Group-Invalidation", `"g"`, 200, Miss},
		{"other group", "POST", "/b", "Cache-Group-Invalidation", `"h"`, 200, Hit},
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

func TestInvalidSelectorBesideAValidOne(t *testing.T) {
	s := newSite(t, `{"ttl":{"duration":60000000000},"tags":["t"],"invalidate":[{"selector":"tag","values":["t"]},{"selector":"url","values":["{http.request.uri.query.u}"]}]}`, answer("x"))
	s.get("/a")
	s.do("POST", "/a?u=garbage")
	if w := s.get("/a"); w.Header().Get("X-Cache") == "HIT" {
		t.Error("nothing was purged")
	}
}

func TestClientPurges(t *testing.T) {
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

// What was being fetched when a purge came is covered by it.
func TestPurgeDuringFetch(t *testing.T) {
	s := newSite(t, `{}`, nil)
	s.origin = func(w http.ResponseWriter, _ *http.Request) {
		if s.fetches.Load() == 1 {
			s.purge(hard(journal.KindAll, ""))
		}
		answer("x", "Cache-Control", "max-age=60")(w, nil)
	}
	expect(t, s.get("/a"), Miss, "")
	expect(t, s.get("/a"), Miss, "stored")
	expect(t, s.get("/a"), Hit, "hit")
}

// A purge between the lookup and the 304 covers what the 304 would freshen.
func TestPurgeDuringRevalidation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tag := `"1"`
		s := newSite(t, `{}`, versioned(&tag))
		s.get("/a")
		time.Sleep(11 * time.Second)
		origin := s.origin
		s.origin = func(w http.ResponseWriter, r *http.Request) {
			s.purge(hard(journal.KindAll, ""))
			origin(w, r)
		}
		s.get("/a")
		s.origin = origin
		expect(t, s.get("/a"), Miss, "fwd=uri-miss; fwd-status=200; stored")
	})
}

func TestSoftPurge(t *testing.T) {
	soft := hard(journal.KindAll, "")
	soft.Soft = true
	tag := `"1"`
	s := newSite(t, `{}`, versioned(&tag))
	s.get("/a")
	s.purge(soft)
	expect(t, s.get("/a"), Revalidated, "fwd=stale; fwd-status=304")
	expect(t, s.get("/a"), Hit, "hit")
	s.purge(soft)
	s.origin = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }
	expect(t, s.get("/a"), Stale, "detail=error")
	s.purge(hard(journal.KindAll, ""))
	expect(t, s.get("/a"), Miss, "fwd=uri-miss; fwd-status=502")
}

func TestSoftPurgeWithGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		soft := hard(journal.KindAll, "")
		soft.Soft = true
		s := newSite(t, `{"stale_while_revalidate":60000000000}`, answer("x", "Cache-Control", "max-age=60"))
		s.get("/a")
		s.purge(soft)
		expect(t, s.get("/a"), Stale, "hit")
		synctest.Wait()
		expect(t, s.get("/a"), Hit, "hit")
	})
}

// A handler that writes nothing has answered 200.
func TestEmptyAnswerInvalidates(t *testing.T) {
	s := newSite(t, `{}`, answer("x", "Cache-Control", "max-age=60"))
	s.get("/a")
	origin := s.origin
	s.origin = func(http.ResponseWriter, *http.Request) {}
	s.do(http.MethodDelete, "/a")
	s.origin = origin
	expect(t, s.get("/a"), Miss, "absent")
}
