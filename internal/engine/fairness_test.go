package engine

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A leader whose client does not read holds nobody up when the stored response
// stands in, or turns out to be good still.
func TestSlowLeaderOfWhatIsStored(t *testing.T) {
	for name, origin := range map[string]http.HandlerFunc{
		"failed":    func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"confirmed": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) },
	} {
		coalesceTest(t, name, `{}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
			s.origin = answer("stored", "Cache-Control", forAMinute, "Etag", `"1"`)
			s.get("/a")
			time.Sleep(61 * time.Second)
			s.origin = func(w http.ResponseWriter, r *http.Request) {
				fetches.Add(1)
				pause(r.Context(), time.Second)
				origin(w, r)
			}
			stall := make(chan struct{})
			leader := s.visitBy(&client{stall: stall}, "/a")
			synctest.Wait()
			follower := s.visit("/a")
			time.Sleep(3 * time.Second)
			late := s.visit("/a")
			time.Sleep(time.Second)
			synctest.Wait()
			for who, v := range map[string]*visit{"follower": follower, "late": late} {
				if !v.done.Load() || v.took > 2*time.Second || v.w.text() != "stored" {
					t.Errorf("%s: done %t after %s, got %q", who, v.done.Load(), v.took, v.w.text())
				}
			}
			if leader.done.Load() {
				t.Error("the leader's client was not slow")
			}
			close(stall)
			synctest.Wait()
			if leader.w.text() != "stored" {
				t.Errorf("the leader got %q", leader.w.text())
			}
		})
	}
}

// Any good answer ends the row of failures, also one that is not stored.
func TestBackOffEndsWithAnAnswer(t *testing.T) {
	for name, good := range map[string]func(*string) http.HandlerFunc{
		"304": func(tag *string) http.HandlerFunc { return versioned(tag) },
		"not stored": func(*string) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) }
		},
	} {
		synctestRun(t, name, func(t *testing.T) {
			tag := `"1"`
			s := newSite(t, `{}`, versioned(&tag))
			s.get("/a")
			for round := range 5 {
				time.Sleep(time.Minute)
				s.origin = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }
				expect(t, s.get("/a"), Stale, "error")
				s.origin = good(&tag)
				start := time.Now()
				for s.get("/a").Header().Get("X-Cache") == Stale.String() {
					time.Sleep(100 * time.Millisecond)
				}
				if left := time.Since(start); left > time.Second {
					t.Errorf("round %d: left alone for %s", round, left)
				}
			}
		})
	}
}

// Whether a stale response may stand in is decided when the upstream has failed,
// not when the request came.
func TestStaleIfErrorEndsWhileTheUpstreamHangs(t *testing.T) {
	for name, fail := range map[string]http.HandlerFunc{
		"504":        func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGatewayTimeout) },
		"broken off": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		synctestRun(t, name, func(t *testing.T) {
			s := newSite(t, `{"stale_if_error":60000000000}`, answer("x", "Cache-Control", "max-age=10"))
			s.get("/a")
			hang := func(d time.Duration) {
				s.origin = func(w http.ResponseWriter, r *http.Request) {
					time.Sleep(d)
					fail(w, r)
				}
			}
			time.Sleep(19 * time.Second)
			hang(30 * time.Second)
			if w := s.get("/a"); w.Header().Get("X-Cache") != "STALE" || w.Header().Get("Age") != "49" {
				t.Errorf("%s, Age %s", w.Header().Get("X-Cache"), w.Header().Get("Age"))
			}
			time.Sleep(11 * time.Second) // it is 60 s old
			hang(30 * time.Second)
			v := s.visit("/a")
			time.Sleep(31 * time.Second)
			synctest.Wait()
			if v.w.header.Get("X-Cache") == "STALE" {
				t.Errorf("STALE with Age %s", v.w.header.Get("Age"))
			}
		})
	}
}

// What an answer to a request with credentials says holds for such requests.
func TestCoalescingAfterACredentialedLeader(t *testing.T) {
	coalesceTest(t, "private", `{}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		s.origin = func(w http.ResponseWriter, r *http.Request) {
			n := fetches.Add(1)
			pause(r.Context(), time.Second)
			w.Header().Set("Cache-Control", "public, max-age=60")
			if r.Header.Get("Authorization") != "" {
				w.Header().Set("Cache-Control", "private")
			}
			fmt.Fprint(w, n)
		}
		s.visit("/a", "Authorization", "Basic x")
		synctest.Wait()
		var visits []*visit
		for range 50 {
			visits = append(visits, s.visit("/a"))
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		for _, v := range visits {
			if v.w.text() != "2" {
				t.Errorf("got %q", v.w.text())
			}
		}
		if n := fetches.Load(); n != 2 {
			t.Errorf("%d fetches", n)
		}
	})
}

// An upstream that hangs is asked by few where a stale response stands in.
func TestHangingUpstream(t *testing.T) {
	coalesceTest(t, "stale", `{}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		s.get("/a")
		time.Sleep(61 * time.Second)
		fetches.Store(0)
		s.origin = func(w http.ResponseWriter, r *http.Request) {
			fetches.Add(1)
			pause(r.Context(), 40*time.Second)
			w.WriteHeader(http.StatusGatewayTimeout)
		}
		var visits []*visit
		for range 30 {
			for range 10 {
				visits = append(visits, s.visit("/a"))
			}
			time.Sleep(time.Second)
		}
		time.Sleep(60 * time.Second)
		synctest.Wait()
		for _, v := range visits {
			if v.w.header.Get("X-Cache") != "STALE" {
				t.Fatalf("got %s after %s", v.w.header.Get("X-Cache"), v.took)
			}
		}
		if n := fetches.Load(); n != 1 {
			t.Errorf("%d fetches for %d requests", n, len(visits))
		}
	})
}

// While others keep the memory for bodies, responses pass through and followers
// fetch for themselves; what a request has taken it gives back.
func TestBodiesAreBoundedTogether(t *testing.T) {
	body := strings.Repeat("x", 100)
	for name, config := range map[string]string{"flight": `{}`, "no flight": `{"coalesce":"off"}`} {
		for _, declared := range []bool{true, false} {
			coalesceTest(t, fmt.Sprintf("%s, declared %t", name, declared), config, func(t *testing.T, s *site, fetches *atomic.Int32) {
				s.origin = func(w http.ResponseWriter, r *http.Request) {
					fetches.Add(1)
					w.Header().Set("Cache-Control", forAMinute)
					if declared {
						w.Header().Set("Content-Length", "100")
					}
					_, _ = io.WriteString(w, body[:30])
					pause(r.Context(), time.Second)
					_, _ = io.WriteString(w, body[30:])
				}
				flights := &s.route.Cache.flights
				visitTwice := func(want int32) {
					t.Helper()
					before := fetches.Load()
					visits := []*visit{s.visit("/a"), s.visit("/a")}
					time.Sleep(3 * time.Second)
					synctest.Wait()
					for _, v := range visits {
						if !v.done.Load() || v.thrown != nil || v.w.text() != body {
							t.Errorf("done %t, threw %v, got %q", v.done.Load(), v.thrown, v.w.text())
						}
					}
					if n := fetches.Load() - before; n != want {
						t.Errorf("%d fetches, want %d", n, want)
					}
				}
				const others = 160<<20 - 50
				flights.Take(others, 1<<40)
				visitTwice(2)
				if held := flights.Held(); held != others {
					t.Errorf("%d bytes were not given back", held-others)
				}
				flights.Give(others)
				const large = 128 << 20 // what only small bodies may go beyond
				flights.Take(large, 1<<40)
				defer flights.Give(large)
				visitTwice(map[string]int32{"flight": 1, "no flight": 2}[name])
				if held := flights.Held(); held != large {
					t.Errorf("%d bytes were not given back", held-large)
				}
				expect(t, s.get("/a"), Hit, "")
			})
		}
	}
	synctestRun(t, "broken off", func(t *testing.T) {
		for _, config := range []string{`{}`, `{"coalesce":"off"}`} {
			s := newSite(t, config, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Cache-Control", forAMinute)
				_, _ = io.WriteString(w, body)
				panic(http.ErrAbortHandler)
			})
			v := s.visit("/a")
			synctest.Wait()
			if held := s.held(); v.thrown == nil || held != 0 {
				t.Errorf("threw %v, %d bytes were not given back", v.thrown, held)
			}
		}
	})
}
