package engine

import (
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A follower does not wait for more of the body than he waits for a header.
func TestCoalescingStalledBodies(t *testing.T) {
	for name, second := range map[string]string{"same": "one two", "other": "another one"} {
		coalesceTest(t, name, `{}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
			s.origin = func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Cache-Control", forAMinute)
				if fetches.Add(1) > 1 {
					io.WriteString(w, second)
					return
				}
				for _, piece := range []string{"o", "n", "e "} {
					pause(r.Context(), followLimit-time.Second)
					io.WriteString(w, piece)
					http.NewResponseController(w).Flush()
				}
				pause(r.Context(), followLimit+time.Second)
				io.WriteString(w, "t")
				http.NewResponseController(w).Flush()
				pause(r.Context(), time.Hour)
				io.WriteString(w, "wo")
			}
			leader := s.visit("/a")
			synctest.Wait()
			follower := s.visit("/a")
			time.Sleep(4*followLimit + time.Second)
			synctest.Wait()
			if name == "same" {
				follower.want(t, Miss, second, "collapsed", 4*followLimit-3*time.Second)
			} else if follower.thrown != http.ErrAbortHandler || follower.w.text() != "one " {
				t.Errorf("threw %v after %q: want it to break off", follower.thrown, follower.w.text())
			}
			late := s.visit("/a") // nor does anybody join what has stalled
			late.want(t, Miss, second, "stored", 0)
			time.Sleep(2 * time.Hour)
			leader.want(t, Miss, "one two", "", time.Hour+4*followLimit-2*time.Second)
		})
	}
}

func TestCoalescingLargeBodies(t *testing.T) {
	grow := func(fetches *atomic.Int32, same bool) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			n := fetches.Add(1)
			w.Header().Set("Cache-Control", forAMinute)
			if r.Header.Get("If-None-Match") != "" {
				w.WriteHeader(http.StatusNotModified)
				return
			}
			for i := range 4 {
				if same {
					n = 0
				}
				fmt.Fprintf(w, "%d%d.......", n, i)
				http.NewResponseController(w).Flush()
				pause(r.Context(), time.Second)
			}
		}
	}
	coalesceTest(t, "resumed", `{"max_body":20}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		s.origin = grow(fetches, true)
		leader := s.visit("/a")
		synctest.Wait()
		follower := s.visit("/a", "If-None-Match", `"other"`)
		time.Sleep(7 * time.Second)
		synctest.Wait()
		body := "00.......01.......02.......03......."
		leader.want(t, Miss, body, "", 4*time.Second)
		follower.want(t, Miss, body, "collapsed", 6*time.Second)
		if fetches.Load() != 2 {
			t.Errorf("%d fetches", fetches.Load())
		}
		if known := s.isHitForMiss(leader.w.header.Get("X-Cache-Key")); !known {
			t.Error("the next ones would follow again")
		}
	})
	coalesceTest(t, "changed", `{"max_body":20}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		s.origin = grow(fetches, false)
		s.visit("/a")
		synctest.Wait()
		follower := s.visit("/a")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if follower.thrown != http.ErrAbortHandler || follower.w.text() != "10.......11......." {
			t.Errorf("threw %v, %q: want two responses never glued together", follower.thrown, follower.w.text())
		}
	})
	coalesceTest(t, "another version", `{"max_body":20}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		grown := grow(fetches, true)
		s.origin = func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Etag", fmt.Sprintf(`"%d"`, fetches.Load()))
			grown(w, r)
		}
		s.visit("/a")
		synctest.Wait()
		follower := s.visit("/a")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if follower.thrown != http.ErrAbortHandler || follower.w.text() != "00.......01......." {
			t.Errorf("threw %v, %q: want no other body under the first ETag", follower.thrown, follower.w.text())
		}
	})
	coalesceTest(t, "leader left", `{"max_body":20}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		s.origin = grow(fetches, true)
		leader := s.visit("/a")
		synctest.Wait()
		leader.leave()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !leader.done.Load() {
			t.Error("a fetch too large to be stored goes on for nobody")
		}
	})
}
