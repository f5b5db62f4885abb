package rediscache

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
)

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
				if w := expect(t, s.get(fmt.Sprint("/", i)), engine.Stale, "hit"); w.Body.String() != "x" || time.Since(start) != 0 {
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
			if w := expect(t, s.get(fmt.Sprint("/", i)), engine.Hit, "hit"); w.Body.String() != "y" {
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
			expect(t, s.get("/a"), engine.Stale, "hit")
			synctest.Wait()
			if n, now := s.fetches.Load(), running.Load(); n != 1 || now != 1 {
				t.Fatalf("%d refreshes after %s, %d of them running", n, time.Since(begun), now)
			}
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if now, flights := running.Load(), s.handler.node.Flights(); now != 0 || flights != 0 {
			t.Errorf("after %s %d refreshes are running, %d flights left", time.Since(begun), now, flights)
		}
		time.Sleep(15 * time.Second) // a failing origin is left alone for a while
		s.origin = answer("y", "Cache-Control", "max-age=10")
		expect(t, s.get("/a"), engine.Stale, "hit")
		synctest.Wait()
		if w := expect(t, s.get("/a"), engine.Hit, "hit"); w.Body.String() != "y" || s.fetches.Load() != 2 {
			t.Errorf("got %q after %d refreshes", w.Body, s.fetches.Load())
		}
	})
}

// The handlers behind return an error to a leader that others follow.
func TestCoalescingError(t *testing.T) {
	const clients = 50
	begin := func(s *site) (visits []*visit) {
		for range clients {
			visits = append(visits, s.visit("/a"))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		return visits
	}
	ended := func(t *testing.T, s *site, visits []*visit, thrown any) {
		t.Helper()
		for _, v := range visits {
			if !v.done.Load() || v.thrown != thrown || v.took > 3*time.Second {
				t.Errorf("done %t, threw %v, after %s", v.done.Load(), v.thrown, v.took)
			}
		}
		if n := s.handler.node.Flights(); n != 0 {
			t.Errorf("%d flights left", n)
		}
	}

	coalesceTest(t, "before the header", `{}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		good := s.origin
		s.origin = func(_ http.ResponseWriter, r *http.Request) {
			fetches.Add(1)
			pause(r.Context(), time.Second)
		}
		s.errAfter = errors.New("no upstream")
		visits := begin(s)
		ended(t, s, visits, nil)
		for _, v := range visits {
			if v.w.status != http.StatusBadGateway {
				t.Errorf("status %d, want that of the error route", v.w.status)
			}
		}
		if n := fetches.Load(); n == 0 || n > clients {
			t.Errorf("%d fetches for %d clients", n, clients)
		}
		s.origin, s.errAfter = good, nil
		expect(t, s.get("/a"), engine.Miss, "stored")
	})

	coalesceTest(t, "within the body", `{}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		good := s.origin
		s.origin = func(w http.ResponseWriter, r *http.Request) {
			fetches.Add(1)
			pause(r.Context(), time.Second)
			w.Header().Set("Cache-Control", forAMinute)
			io.WriteString(w, "half")
			pause(r.Context(), time.Second)
		}
		s.errAfter = errors.New("broke off")
		visits := begin(s)
		ended(t, s, visits, http.ErrAbortHandler)
		for _, v := range visits {
			if v.w.text() != "half" || v.w.status != http.StatusOK {
				t.Errorf("got %d %q, want the half that came", v.w.status, v.w.text())
			}
		}
		if n := fetches.Load(); n != 1 {
			t.Errorf("%d fetches", n)
		}
		s.origin, s.errAfter = good, nil
		expect(t, s.get("/a"), engine.Miss, "stored")
	})

	coalesceTest(t, "with a stale response", `{}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		s.get("/a")
		time.Sleep(2 * time.Minute)
		fetches.Store(0)
		s.origin = func(_ http.ResponseWriter, r *http.Request) {
			fetches.Add(1)
			pause(r.Context(), time.Second)
		}
		s.errAfter = errors.New("no upstream")
		visits := begin(s)
		ended(t, s, visits, nil)
		for _, v := range visits {
			v.want(t, engine.Stale, "1: one two", "detail=error", time.Second)
		}
		if n := fetches.Load(); n != 1 {
			t.Errorf("%d fetches of an origin that fails", n)
		}
	})
}
