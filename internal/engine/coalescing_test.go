package engine

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
)

func TestCoalescing(t *testing.T) {
	coalesceTest(t, "one fetch", `{}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		var visits []*visit
		for range 50 {
			visits = append(visits, s.visit("/a"))
		}
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		for _, v := range visits {
			if v.w.text() != "1: one " {
				t.Errorf("got %q so far, want the first half", v.w.text())
			}
		}
		visits = append(visits, s.visit("/a")) // takes up what is there
		time.Sleep(time.Second)
		collapsed := 0
		for i, v := range visits {
			took := 2 * time.Second
			if i == 50 {
				took = 500 * time.Millisecond
			}
			v.want(t, Miss, "1: one two", "fwd=uri-miss; fwd-status=200;", took)
			if strings.Contains(v.w.header.Get("Cache-Status"), "; collapsed") {
				collapsed++
			}
		}
		if n := fetches.Load(); n != 1 || collapsed != 50 || s.collapsed.Load() != 50 {
			t.Errorf("%d fetches, %d followers, %d counted", n, collapsed, s.collapsed.Load())
		}
		expect(t, s.get("/a"), Hit, "hit")
		if n := s.flights(); n != 0 {
			t.Errorf("%d flights left", n)
		}
	})

	// Handlers in front evaluate placeholders when the header is passed on, which
	// must not happen beside the handlers behind.
	coalesceTest(t, "header by the fetch itself", `{}`, func(t *testing.T, s *site, _ *atomic.Int32) {
		var c client
		s.origin = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Cache-Control", forAMinute)
			io.WriteString(w, "x")
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.status != http.StatusOK {
				t.Error("the body is on its way and the header is not")
			}
		}
		s.visitBy(&c, "/a").want(t, Miss, "x", "stored", 0)
	})

	coalesceTest(t, "off", `{"coalesce":"off"}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		a, b := s.visit("/a"), s.visit("/a")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if fetches.Load() != 2 || a.w.text() == b.w.text() {
			t.Errorf("%d fetches, %q and %q", fetches.Load(), a.w.text(), b.w.text())
		}
	})

	coalesceTest(t, "private", `{}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		s.origin = slow(fetches, "Cache-Control", "private")
		for round, took := range []time.Duration{3 * time.Second, 2 * time.Second} {
			var visits []*visit
			for range 5 {
				visits = append(visits, s.visit("/a"))
			}
			time.Sleep(3 * time.Second)
			synctest.Wait()
			bodies := make(map[string]bool)
			late := 0
			for _, v := range visits {
				bodies[v.w.text()] = true
				if v.took == took {
					late++
				}
			}
			// The first time they wait for the header to know; then it is known.
			if want := []int{4, 5}[round]; len(bodies) != 5 || late != want {
				t.Errorf("%d bodies for 5 clients, %d of them took %s, want %d", len(bodies), late, took, want)
			}
		}
	})

	coalesceTest(t, "leader leaves", `{}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		leader := s.visit("/a")
		synctest.Wait()
		follower := s.visit("/a")
		time.Sleep(500 * time.Millisecond)
		leader.leave()
		synctest.Wait()
		late := s.visit("/a") // somebody still waits for it: it has not been given up
		time.Sleep(1500 * time.Millisecond)
		follower.want(t, Miss, "1: one two", "collapsed", 2*time.Second)
		late.want(t, Miss, "1: one two", "collapsed", 1500*time.Millisecond)
		expect(t, s.get("/a"), Hit, "hit")
	})

	coalesceTest(t, "leader leaves alone", `{}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		leader := s.visit("/a")
		synctest.Wait()
		leader.leave()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		expect(t, s.get("/a"), Hit, "hit")
	})

	coalesceTest(t, "given up", `{}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		first := s.visit("/a")
		synctest.Wait()
		first.leave()
		synctest.Wait()
		alone := s.visit("/a") // which ends a little later
		time.Sleep(time.Second)
		synctest.Wait()
		if n := fetches.Load(); n != 2 {
			t.Errorf("%d fetches: want nobody to wait for what was given up", n)
		}
		time.Sleep(time.Second)
		alone.want(t, Miss, "2: one two", "stored", 2*time.Second)
		s.memory.Clear()
		a, b := s.visit("/a"), s.visit("/a")
		time.Sleep(2 * time.Second)
		a.want(t, Miss, "3: one two", "", 2*time.Second)
		b.want(t, Miss, "3: one two", "", 2*time.Second)
	})

	// A client that leaves when everything has been fetched has given nothing up.
	coalesceTest(t, "slow client leaves at the end", `{}`, func(t *testing.T, s *site, _ *atomic.Int32) {
		stall := make(chan struct{})
		v := s.visitBy(&client{stall: stall}, "/a")
		time.Sleep(3 * time.Second)
		synctest.Wait()
		v.leave()
		synctest.Wait()
		close(stall)
		synctest.Wait()
		if known := s.isHitForMiss(v.w.header.Get("X-Cache-Key")); known {
			t.Error("what is stored is taken for given up")
		}
	})

	coalesceTest(t, "leader is slow", `{}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		stall := make(chan struct{})
		leader := s.visitBy(&client{stall: stall}, "/a")
		synctest.Wait()
		follower := s.visit("/a")
		time.Sleep(2 * time.Second)
		follower.want(t, Miss, "1: one two", "collapsed", 2*time.Second)
		expect(t, s.get("/a"), Hit, "hit")
		time.Sleep(time.Hour)
		close(stall)
		leader.want(t, Miss, "1: one two", "stored", 2*time.Second+time.Hour)
	})

	coalesceTest(t, "follower leaves", `{}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		leader := s.visit("/a")
		synctest.Wait()
		early, late := s.visit("/a"), s.visit("/a")
		time.Sleep(500 * time.Millisecond)
		early.leave()
		time.Sleep(time.Second)
		late.leave()
		synctest.Wait()
		if early.took != 500*time.Millisecond || late.took != 1500*time.Millisecond {
			t.Errorf("they left after %s and %s", early.took, late.took)
		}
		time.Sleep(time.Second)
		leader.want(t, Miss, "1: one two", "stored", 2*time.Second)
	})

	coalesceTest(t, "nobody is left", `{}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		var ended atomic.Bool
		s.origin = func(_ http.ResponseWriter, r *http.Request) {
			defer ended.Store(true)
			pause(r.Context(), time.Hour)
		}
		leader := s.visit("/a")
		synctest.Wait()
		follower := s.visit("/a")
		leader.leave()
		time.Sleep(strayLimit / 2)
		follower.leave()
		time.Sleep(strayLimit/2 + time.Second)
		synctest.Wait()
		if !ended.Load() || !leader.done.Load() {
			t.Error("the fetch goes on for nobody")
		}
	})
}

func TestCoalescingWithoutAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		fail    func(w http.ResponseWriter)
		fetches int32
	}{
		"panic":      {func(http.ResponseWriter) { panic("broken") }, 3},
		"abort":      {func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, 3},
		"error page": {func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway) }, 3},
	} {
		coalesceTest(t, name, `{}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
			s.origin = func(w http.ResponseWriter, r *http.Request) {
				fetches.Add(1)
				pause(r.Context(), time.Second)
				c.fail(w)
			}
			for range 3 {
				s.visit("/a")
			}
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if n := fetches.Load(); n != c.fetches {
				t.Errorf("%d fetches, want %d", n, c.fetches)
			}
			s.origin = slow(fetches, "Cache-Control", forAMinute)
			expect(t, s.get("/a"), Miss, "stored")
			if n := s.flights(); n != 0 {
				t.Errorf("%d flights left", n)
			}
		})
	}

	coalesceTest(t, "take-over", `{}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		good := s.origin
		var first atomic.Bool
		s.origin = func(w http.ResponseWriter, r *http.Request) {
			if first.CompareAndSwap(false, true) {
				pause(r.Context(), time.Second)
				panic(http.ErrAbortHandler)
			}
			good(w, r)
		}
		visits := []*visit{s.visit("/a")}
		synctest.Wait()
		for range 9 {
			visits = append(visits, s.visit("/a"))
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if visits[0].thrown != http.ErrAbortHandler || fetches.Load() != 1 {
			t.Errorf("the leader threw %v, %d fetches by others", visits[0].thrown, fetches.Load())
		}
		for _, v := range visits[1:] {
			v.want(t, Miss, "1: one two", "", 3*time.Second)
		}
	})

	coalesceTest(t, "body breaks off", `{}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		s.origin = func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", forAMinute)
			pause(r.Context(), time.Second)
			io.WriteString(w, "half")
			pause(r.Context(), time.Second)
			panic(http.ErrAbortHandler)
		}
		for _, v := range []*visit{s.visit("/a"), s.visit("/a")} {
			defer func() {
				if v.thrown != http.ErrAbortHandler || v.w.text() != "half" {
					t.Errorf("threw %v, %q: want half of it, broken off", v.thrown, v.w.text())
				}
			}()
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
	})

	coalesceTest(t, "header takes too long", `{}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		s.origin = func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", forAMinute)
			n := fetches.Add(1)
			pause(r.Context(), []time.Duration{time.Hour, time.Second}[n-1])
			fmt.Fprint(w, n)
		}
		leader := s.visit("/a")
		synctest.Wait()
		follower := s.visit("/a")
		time.Sleep(followLimit + time.Second)
		follower.want(t, Miss, "2", "stored", followLimit+time.Second)
		time.Sleep(time.Hour)
		leader.want(t, Miss, "1", "", time.Hour)
	})
}

func TestCoalescingVariants(t *testing.T) {
	coalesceTest(t, "vary", `{}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		s.origin = func(w http.ResponseWriter, r *http.Request) {
			fetches.Add(1)
			pause(r.Context(), time.Second)
			w.Header().Set("Cache-Control", forAMinute)
			w.Header().Set("Vary", "X-Colour")
			io.WriteString(w, r.Header.Get("X-Colour"))
		}
		leader := s.visit("/a", "X-Colour", "red")
		synctest.Wait()
		same := s.visit("/a", "X-Colour", "red")
		other, another := s.visit("/a", "X-Colour", "blue"), s.visit("/a", "X-Colour", "blue")
		time.Sleep(2 * time.Second)
		leader.want(t, Miss, "red", "stored", time.Second)
		same.want(t, Miss, "red", "collapsed", time.Second)
		other.want(t, Miss, "blue", "fwd=vary-miss", 2*time.Second)
		another.want(t, Miss, "blue", "fwd=vary-miss", 2*time.Second)
		if n := fetches.Load(); n != 2 {
			t.Errorf("%d fetches for two variants", n)
		}
	})

	coalesceTest(t, "credentials", `{}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		leader := s.visit("/a")
		synctest.Wait()
		private := s.visit("/a", "Authorization", "Basic x")
		anonymous := s.visit("/a")
		time.Sleep(3 * time.Second)
		leader.want(t, Miss, "1: one two", "stored", 2*time.Second)
		anonymous.want(t, Miss, "1: one two", "collapsed", 2*time.Second)
		private.want(t, Bypass, "2: one two", "detail=\"credentials Authorization\"", 3*time.Second)
	})

	coalesceTest(t, "leader with credentials", `{}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		private := s.visit("/a", "Authorization", "Basic x")
		synctest.Wait()
		a, b := s.visit("/a"), s.visit("/a")
		time.Sleep(3 * time.Second)
		private.want(t, Bypass, "1: one two", "credentials", 2*time.Second)
		a.want(t, Miss, "2: one two", "", 3*time.Second)
		b.want(t, Miss, "2: one two", "", 3*time.Second)
		if !strings.Contains(a.w.header.Get("Cache-Status")+b.w.header.Get("Cache-Status"), "collapsed") {
			t.Error("two anonymous clients, two fetches")
		}
	})

	coalesceTest(t, "conditional", `{}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		s.origin = slow(fetches, "Cache-Control", forAMinute, "Etag", `"1"`)
		leader := s.visit("/a")
		synctest.Wait()
		conditional := s.visit("/a", "If-None-Match", `"1"`)
		time.Sleep(2 * time.Second)
		leader.want(t, Miss, "1: one two", "stored", 2*time.Second)
		conditional.want(t, Miss, "", "collapsed", time.Second)
		if conditional.w.status != http.StatusNotModified {
			t.Errorf("status %d, want 304", conditional.w.status)
		}
	})

	// What the origin says to the conditions of one client is nobody else's.
	coalesceTest(t, "conditional first", `{}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		s.origin = func(w http.ResponseWriter, r *http.Request) {
			pause(r.Context(), time.Second)
			w.Header().Set("Cache-Control", forAMinute)
			if r.Header.Get("If-None-Match") != "" {
				w.WriteHeader(http.StatusNotModified)
				return
			}
			io.WriteString(w, "x")
		}
		conditional := s.visit("/a", "If-None-Match", `"1"`)
		synctest.Wait()
		a, b := s.visit("/a"), s.visit("/a")
		time.Sleep(time.Second)
		conditional.want(t, Miss, "", "fwd-status=304", time.Second)
		a.want(t, Miss, "x", "", time.Second)
		b.want(t, Miss, "x", "", time.Second)
		if s.fetches.Load() != 2 {
			t.Errorf("%d fetches", s.fetches.Load())
		}
	})
}

func TestCoalescingAndPurges(t *testing.T) {
	coalesceTest(t, "purge in flight", `{}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		old := s.visit("/a")
		synctest.Wait()
		s.purge(hard(journal.KindAll, ""))
		synctest.Wait()
		a, b := s.visit("/a"), s.visit("/a")
		time.Sleep(3 * time.Second)
		old.want(t, Miss, "1: one two", "", 2*time.Second)
		// They see at the header that it is too old, and share a newer one.
		a.want(t, Miss, "2: one two", "", 3*time.Second)
		b.want(t, Miss, "2: one two", "", 3*time.Second)
		w := expect(t, s.get("/a"), Hit, "hit")
		if w.Body.String() != "2: one two" || fetches.Load() != 2 {
			t.Errorf("%q after %d fetches", w.Body, fetches.Load())
		}
	})

	coalesceTest(t, "purged twice", `{}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		s.visit("/a")
		time.Sleep(500 * time.Millisecond)
		v := s.visit("/a")
		s.purge(hard(journal.KindAll, ""))
		time.Sleep(600 * time.Millisecond) // a newer flight has begun
		s.purge(hard(journal.KindAll, ""))
		last := s.visit("/a")
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if v.w.text() != "2: one two" || last.w.text() == "2: one two" || last.w.text() == "1: one two" {
			t.Errorf("%q before and %q after the last purge", v.w.text(), last.w.text())
		}
	})

	coalesceTest(t, "a purge ends a miss", `{}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		s.origin = slow(fetches, "Cache-Control", "private")
		s.get("/a")
		s.origin = slow(fetches, "Cache-Control", forAMinute)
		s.purge(hard(journal.KindAll, ""))
		before := fetches.Load()
		a, b := s.visit("/a"), s.visit("/a")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if fetches.Load() != before+1 || a.w.text() != b.w.text() {
			t.Errorf("%d fetches, %q and %q", fetches.Load()-before, a.w.text(), b.w.text())
		}
	})
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
		if n := s.flights(); n != 0 {
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
		expect(t, s.get("/a"), Miss, "stored")
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
		expect(t, s.get("/a"), Miss, "stored")
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
			v.want(t, Stale, "1: one two", "detail=error", time.Second)
		}
		if n := fetches.Load(); n != 1 {
			t.Errorf("%d fetches of an origin that fails", n)
		}
	})
}
