package engine

import (
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestCoalescingRevalidation(t *testing.T) {
	coalesceTest(t, "304", `{}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		s.origin = func(w http.ResponseWriter, r *http.Request) {
			fetches.Add(1)
			pause(r.Context(), time.Second)
			w.Header().Set("Cache-Control", forAMinute)
			w.Header().Set("Etag", `"1"`)
			if r.Header.Get("If-None-Match") != "" {
				w.WriteHeader(http.StatusNotModified)
				return
			}
			io.WriteString(w, "x")
		}
		s.get("/a")
		time.Sleep(2 * time.Minute)
		var visits []*visit
		for range 5 {
			visits = append(visits, s.visit("/a"))
		}
		time.Sleep(time.Second)
		for _, v := range visits {
			v.want(t, Revalidated, "x", "fwd=stale; fwd-status=", time.Second)
		}
		if n := fetches.Load(); n != 2 {
			t.Errorf("%d fetches", n)
		}
	})

	coalesceTest(t, "304 for one who found nothing", `{}`, func(t *testing.T, s *site, _ *atomic.Int32) {
		s.origin = func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", forAMinute)
			w.Header().Set("Etag", `"1"`)
			if r.Header.Get("If-None-Match") != "" {
				pause(r.Context(), time.Second)
				w.WriteHeader(http.StatusNotModified)
				return
			}
			io.WriteString(w, "x")
		}
		s.get("/a")
		time.Sleep(2 * time.Minute)
		leader := s.visit("/a")
		synctest.Wait()
		s.memory.Clear()
		follower := s.visit("/a")
		time.Sleep(time.Second)
		leader.want(t, Revalidated, "x", "fwd=stale", time.Second)
		follower.want(t, Revalidated, "x", "fwd=uri-miss", time.Second)
		if want := []string{"MISS ", "REVALIDATED memory", "REVALIDATED memory"}; !slices.Equal(s.outcomes, want) {
			t.Errorf("requests are counted as %q, want %q", s.outcomes, want)
		}
	})

	coalesceTest(t, "304 of a variant", `{}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		s.origin = func(w http.ResponseWriter, r *http.Request) {
			fetches.Add(1)
			pause(r.Context(), time.Second)
			w.Header().Set("Cache-Control", forAMinute)
			w.Header().Set("Vary", "X-Colour")
			w.Header().Set("Etag", `"1"`)
			if r.Header.Get("If-None-Match") != "" {
				w.WriteHeader(http.StatusNotModified)
				return
			}
			io.WriteString(w, r.Header.Get("X-Colour"))
		}
		s.get("/a", "X-Colour", "red")
		s.get("/a", "X-Colour", "blue")
		time.Sleep(2 * time.Minute)
		var visits []*visit
		for range 3 {
			visits = append(visits, s.visit("/a", "X-Colour", "red"), s.visit("/a", "X-Colour", "blue"))
		}
		time.Sleep(time.Second)
		for i, v := range visits {
			v.want(t, Revalidated, []string{"red", "blue"}[i%2], "fwd=stale", time.Second)
		}
		if n := fetches.Load(); n != 4 {
			t.Errorf("%d fetches of two variants, each twice", n)
		}
	})

	coalesceTest(t, "dead origin", `{}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		s.get("/a")
		time.Sleep(2 * time.Minute)
		s.origin = func(http.ResponseWriter, *http.Request) {
			fetches.Add(1)
			time.Sleep(time.Second)
			panic(http.ErrAbortHandler)
		}
		fetches.Store(0)
		var visits []*visit
		for range 5 {
			visits = append(visits, s.visit("/a"))
		}
		time.Sleep(time.Second)
		for _, v := range visits {
			v.want(t, Stale, "1: one two", "detail=error", time.Second)
		}
		visit := s.visit("/a")
		visit.want(t, Stale, "1: one two", "detail=error", 0)
		if n := fetches.Load(); n != 1 {
			t.Errorf("a sick origin was asked %d times", n)
		}
		time.Sleep(time.Second)
		s.origin = slow(fetches, "Cache-Control", forAMinute)
		expect(t, s.get("/a"), Miss, "stored")
	})

	coalesceTest(t, "stale while revalidate", `{"stale_while_revalidate":600000000000}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		s.get("/a")
		time.Sleep(2 * time.Minute)
		for range 20 {
			s.visit("/a").want(t, Stale, "1: one two", "hit", 0)
			time.Sleep(100 * time.Millisecond)
		}
		synctest.Wait()
		if w := expect(t, s.get("/a"), Hit, "hit"); w.Body.String() != "2: one two" || fetches.Load() != 2 {
			t.Errorf("%q after %d fetches", w.Body, fetches.Load())
		}
	})

	// A page that must be revalidated each time is nothing to wait for.
	coalesceTest(t, "no-cache", `{}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		s.origin = slow(fetches, "Cache-Control", "no-cache", "Etag", `"1"`)
		s.get("/a")
		a, b := s.visit("/a"), s.visit("/a")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if a.took != 2*time.Second || b.took != 2*time.Second || a.w.text() == b.w.text() {
			t.Errorf("%q after %s, %q after %s", a.w.text(), a.took, b.w.text(), b.took)
		}
	})
}
