package engine

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
)

func TestRefreshAhead(t *testing.T) {
	const config = `{"refresh_ahead":"on"}`
	coalesceTest(t, "hot", config, func(t *testing.T, s *site, fetches *atomic.Int32) {
		s.get("/a")
		for range 10 * 60 * 5 { // five times a second
			expect(t, s.get("/a"), Hit, "hit")
			time.Sleep(200 * time.Millisecond)
		}
		// A fetch takes two seconds, and what it brings lives for a minute.
		if n := fetches.Load(); n < 10 || n > 20 {
			t.Errorf("%d fetches in ten minutes", n)
		}
		synctest.Wait()
		time.Sleep(time.Minute)
	})

	coalesceTest(t, "cold", config, func(t *testing.T, s *site, fetches *atomic.Int32) {
		for range 20 {
			s.get("/a")
			time.Sleep(10 * time.Second)
			expect(t, s.get("/a"), Hit, "hit")
			time.Sleep(80 * time.Second)
		}
		if n := fetches.Load(); n != 20 {
			t.Errorf("%d fetches, want those that were asked for", n)
		}
	})

	coalesceTest(t, "off", `{}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		s.get("/a")
		time.Sleep(58*time.Second - time.Millisecond)
		for range 100 {
			expect(t, s.get("/a"), Hit, "hit")
		}
		if n := fetches.Load(); n != 1 {
			t.Errorf("%d fetches", n)
		}
	})
}

// A background refresh fetches all of the response, whatever the client wanted.
func TestRefreshFetchesTheWhole(t *testing.T) {
	for _, c := range []struct {
		method string
		fields []string
	}{
		{http.MethodGet, []string{"Range", "bytes=0-1"}},
		{http.MethodGet, []string{"If-None-Match", `"other"`}},
		{http.MethodGet, []string{"If-Modified-Since", "Thu, 01 Jan 1998 00:00:00 GMT"}},
		{http.MethodHead, nil},
	} {
		synctestRun(t, fmt.Sprint(c), func(t *testing.T) {
			s := newSite(t, `{"stale_while_revalidate":600000000000}`, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Cache-Control", "max-age=10")
				switch {
				case r.Header.Get("Range") != "":
					w.WriteHeader(http.StatusPartialContent)
				case r.Header.Get("If-None-Match")+r.Header.Get("If-Modified-Since") != "":
					w.WriteHeader(http.StatusNotModified)
				case r.Method == http.MethodGet:
					_, _ = io.WriteString(w, "0123456789")
				}
			})
			s.get("/a")
			time.Sleep(11 * time.Second)
			before := s.fetches.Load()
			expect(t, s.do(c.method, "/a", c.fields...), Stale, "")
			synctest.Wait()
			expect(t, s.get("/a"), Hit, "")
			if n := s.fetches.Load() - before; n != 1 {
				t.Errorf("%d fetches", n)
			}
		})
	}
}

// hanging is an origin that never answers: it ends with its request, as a proxy
// would.
func hanging(running *atomic.Int32) http.HandlerFunc {
	return func(_ http.ResponseWriter, r *http.Request) {
		running.Add(1)
		defer running.Add(-1)
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	}
}

// A sick origin gets a bounded number of refreshes, whatever clients ask for, and
// none of the clients notices.
func TestRefreshBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, `{"stale_while_revalidate":600000000000}`, answer("x", "Cache-Control", "max-age=10"))
		const stored = maxRefreshes + 37
		for i := range stored {
			s.get(fmt.Sprint("/", i))
		}
		time.Sleep(11 * time.Second)
		s.fetches.Store(0)
		var running atomic.Int32
		s.origin = hanging(&running)
		for range 2 {
			for i := range stored {
				start := time.Now()
				if w := expect(t, s.get(fmt.Sprint("/", i)), Stale, "hit"); w.Body.String() != "x" || time.Since(start) != 0 {
					t.Errorf("got %q after %s", w.Body, time.Since(start))
				}
			}
			synctest.Wait()
			if n, now := s.fetches.Load(), running.Load(); n != maxRefreshes || now != maxRefreshes {
				t.Fatalf("%d refreshes, %d of them running: want %d", n, now, maxRefreshes)
			}
		}

		// Those that end make room.
		time.Sleep(refreshTimeout + 15*time.Second) // a failing origin is left alone for a while
		s.origin = answer("y", "Cache-Control", "max-age=600")
		for i := range stored {
			s.get(fmt.Sprint("/", i))
			synctest.Wait()
			if w := expect(t, s.get(fmt.Sprint("/", i)), Hit, "hit"); w.Body.String() != "y" {
				t.Fatalf("/%d is %q, want it refreshed", i, w.Body)
			}
		}
	})
}

// A refresh that hangs is given up, and then another one can begin.
func TestRefreshDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, `{"stale_while_revalidate":600000000000}`, answer("x", "Cache-Control", "max-age=10"))
		s.get("/a")
		time.Sleep(11 * time.Second)
		var running atomic.Int32
		s.origin = hanging(&running)
		s.fetches.Store(0)
		begun := time.Now()
		for time.Since(begun) < refreshTimeout {
			expect(t, s.get("/a"), Stale, "hit")
			synctest.Wait()
			if n, now := s.fetches.Load(), running.Load(); n != 1 || now != 1 {
				t.Fatalf("%d refreshes after %s, %d of them running", n, time.Since(begun), now)
			}
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if now, flights := running.Load(), s.flights(); now != 0 || flights != 0 {
			t.Errorf("after %s %d refreshes are running, %d flights left", time.Since(begun), now, flights)
		}
		time.Sleep(15 * time.Second) // a failing origin is left alone for a while
		s.origin = answer("y", "Cache-Control", "max-age=10")
		expect(t, s.get("/a"), Stale, "hit")
		synctest.Wait()
		if w := expect(t, s.get("/a"), Hit, "hit"); w.Body.String() != "y" || s.fetches.Load() != 2 {
			t.Errorf("got %q after %d refreshes", w.Body, s.fetches.Load())
		}
	})
}

// colorKey is for what handlers in front tell those behind.
type colorKey struct{}

func TestStaleWhileRevalidate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		version := "one"
		s := newSite(t, `{"stale_while_revalidate":60000000000,"vary_header":["Accept"]}`, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=10")
			_, _ = io.WriteString(w, version+r.Header.Get("Accept")+r.Context().Value(colorKey{}).(string)) //nolint:forcetypeassert // set below
		})
		get := func() *httptest.ResponseRecorder {
			r := httptest.NewRequest(http.MethodGet, "/a", http.NoBody)
			r.Header.Set("Accept", "/x/")
			return s.send(r.WithContext(context.WithValue(r.Context(), colorKey{}, "red")))
		}
		get()
		time.Sleep(11 * time.Second)
		version = "two"
		if w := expect(t, get(), Stale, "redis_cache; hit; ttl=-1; detail=memory"); w.Body.String() != "one/x/red" || w.Header().Get("X-Cache-Ttl-Remaining") != "0" {
			t.Errorf("got %q %v", w.Body, w.Header())
		}
		synctest.Wait()
		if w := expect(t, get(), Hit, "hit"); w.Body.String() != "two/x/red" || s.fetches.Load() != 2 {
			t.Errorf("got %q after %d fetches", w.Body, s.fetches.Load())
		}
		time.Sleep(2 * time.Minute)
		expect(t, get(), Miss, "fwd=stale")
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
			expect(t, s.get("/a"), Stale, "hit")
		}
		synctest.Wait()
		if s.fetches.Load() != 2 {
			t.Errorf("%d fetches", s.fetches.Load())
		}
		time.Sleep(2 * time.Second)
		s.origin = answer("y", "Cache-Control", "max-age=10")
		expect(t, s.get("/a"), Stale, "hit")
		synctest.Wait()
		if w := expect(t, s.get("/a"), Hit, "hit"); w.Body.String() != "y" {
			t.Errorf("got %q", w.Body)
		}
	})
}

func TestRefreshIsOlderThanAPurge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tag := `"1"`
		s := newSite(t, `{"stale_while_revalidate":60000000000}`, versioned(&tag))
		s.get("/a")
		time.Sleep(11 * time.Second)
		done := false
		s.route.Lifetime = func(*http.Request, bool) *TTL {
			if !done {
				done = true
				s.purge(hard(journal.KindAll, ""))
			}
			return nil
		}
		expect(t, s.get("/a"), Stale, "") // looked up, then purged, then refreshed
		synctest.Wait()
		w := s.get("/a")
		if seen := w.Header().Get("X-Seen"); w.Header().Get("X-Cache") == "HIT" && seen != "[] []" {
			t.Error("PURGED RESPONSE IS A HIT, confirmed by a 304 to", seen, w.Header()["Cache-Status"])
		}
	})
}
