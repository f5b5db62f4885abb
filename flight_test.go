package rediscache

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
)

// visit is a request on its way, and what it got.
type visit struct {
	w      *client
	done   atomic.Bool
	thrown any
	took   time.Duration
	leave  context.CancelFunc
}

// client is a response writer that shows what has arrived so far, and may be slow.
type client struct {
	mu      sync.Mutex
	header  http.Header // as it was when it was sent
	status  int
	body    bytes.Buffer
	current http.Header
	stall   chan struct{} // writes wait until it is closed
}

func (c *client) Header() http.Header { return c.current }

func (c *client) WriteHeader(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status < 200 {
		c.status, c.header = status, c.current.Clone()
	}
}

func (c *client) Write(p []byte) (int, error) {
	c.WriteHeader(http.StatusOK)
	if c.stall != nil {
		<-c.stall
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.body.Write(p)
}

func (c *client) Flush() {}

func (c *client) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.body.String()
}

// visit sends a request and returns at once.
func (s *site) visit(uri string, fields ...string) *visit {
	return s.visitBy(&client{}, uri, fields...)
}

func (s *site) visitBy(w *client, uri string, fields ...string) *visit {
	w.current = make(http.Header)
	v := &visit{w: w}
	ctx, cancel := context.WithCancel(s.t.Context())
	v.leave = cancel
	r := httptest.NewRequest(http.MethodGet, uri, http.NoBody).WithContext(ctx)
	for i := 0; i < len(fields); i += 2 {
		r.Header.Add(fields[i], fields[i+1])
	}
	go func() {
		start := time.Now()
		defer func() {
			v.thrown = recover()
			v.took = time.Since(start)
			v.done.Store(true)
			cancel()
		}()
		s.ServeHTTP(w, r)
	}()
	return v
}

// want checks a visit that has ended.
func (v *visit) want(t *testing.T, outcome engine.Result, body, detail string, took time.Duration) {
	t.Helper()
	synctest.Wait()
	status := strings.Join(v.w.header["Cache-Status"], ", ")
	if !v.done.Load() || v.thrown != nil || v.w.header.Get("X-Cache") != outcome.String() || v.w.text() != body ||
		!strings.Contains(status, detail) || v.took != took {
		t.Errorf("done %t, threw %v, %s %q after %s, %s: want %s %q after %s, %s",
			v.done.Load(), v.thrown, v.w.header.Get("X-Cache"), v.w.text(), v.took, status, outcome, body, took, detail)
	}
}

// slow is an origin that takes a second for the header and another one for the
// body, in two pieces.
func slow(fetches *atomic.Int32, fields ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		n := fetches.Add(1)
		pause(r.Context(), time.Second)
		for i := 0; i < len(fields); i += 2 {
			w.Header().Add(fields[i], fields[i+1])
		}
		fmt.Fprintf(w, "%d: one ", n)
		http.NewResponseController(w).Flush()
		pause(r.Context(), time.Second)
		io.WriteString(w, "two")
	}
}

// pause is what an origin does that takes its time; it ends with its request, as
// a proxy's would.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
		panic(http.ErrAbortHandler)
	}
}

const forAMinute = "max-age=60"

func coalesceTest(t *testing.T, name, config string, test func(t *testing.T, s *site, fetches *atomic.Int32)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var fetches atomic.Int32
			s := newSite(t, config, slow(&fetches, "Cache-Control", forAMinute))
			test(t, s, &fetches)
		})
	})
}

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
			v.want(t, engine.Miss, "1: one two", "fwd=uri-miss; fwd-status=200;", took)
			if strings.Contains(v.w.header.Get("Cache-Status"), "; collapsed") {
				collapsed++
			}
		}
		if n := fetches.Load(); n != 1 || collapsed != 50 || s.handler.node.Coalesced.Load() != 50 {
			t.Errorf("%d fetches, %d followers, %d counted", n, collapsed, s.handler.node.Coalesced.Load())
		}
		expect(t, s.get("/a"), engine.Hit, "hit")
		if n := s.handler.node.Flights(); n != 0 {
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
		s.visitBy(&c, "/a").want(t, engine.Miss, "x", "stored", 0)
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
		follower.want(t, engine.Miss, "1: one two", "collapsed", 2*time.Second)
		late.want(t, engine.Miss, "1: one two", "collapsed", 1500*time.Millisecond)
		expect(t, s.get("/a"), engine.Hit, "hit")
	})

	coalesceTest(t, "leader leaves alone", `{}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		leader := s.visit("/a")
		synctest.Wait()
		leader.leave()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		expect(t, s.get("/a"), engine.Hit, "hit")
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
		alone.want(t, engine.Miss, "2: one two", "stored", 2*time.Second)
		s.handler.node.Memory.Clear()
		a, b := s.visit("/a"), s.visit("/a")
		time.Sleep(2 * time.Second)
		a.want(t, engine.Miss, "3: one two", "", 2*time.Second)
		b.want(t, engine.Miss, "3: one two", "", 2*time.Second)
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
		if known := s.handler.node.IsHitForMiss(v.w.header.Get("X-Cache-Key")); known {
			t.Error("what is stored is taken for given up")
		}
	})

	coalesceTest(t, "leader is slow", `{}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		stall := make(chan struct{})
		leader := s.visitBy(&client{stall: stall}, "/a")
		synctest.Wait()
		follower := s.visit("/a")
		time.Sleep(2 * time.Second)
		follower.want(t, engine.Miss, "1: one two", "collapsed", 2*time.Second)
		expect(t, s.get("/a"), engine.Hit, "hit")
		time.Sleep(time.Hour)
		close(stall)
		leader.want(t, engine.Miss, "1: one two", "stored", 2*time.Second+time.Hour)
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
		leader.want(t, engine.Miss, "1: one two", "stored", 2*time.Second)
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
			expect(t, s.get("/a"), engine.Miss, "stored")
			if n := s.handler.node.Flights(); n != 0 {
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
			v.want(t, engine.Miss, "1: one two", "", 3*time.Second)
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
		follower.want(t, engine.Miss, "2", "stored", followLimit+time.Second)
		time.Sleep(time.Hour)
		leader.want(t, engine.Miss, "1", "", time.Hour)
	})
}

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
				follower.want(t, engine.Miss, second, "collapsed", 4*followLimit-3*time.Second)
			} else if follower.thrown != http.ErrAbortHandler || follower.w.text() != "one " {
				t.Errorf("threw %v after %q: want it to break off", follower.thrown, follower.w.text())
			}
			late := s.visit("/a") // nor does anybody join what has stalled
			late.want(t, engine.Miss, second, "stored", 0)
			time.Sleep(2 * time.Hour)
			leader.want(t, engine.Miss, "one two", "", time.Hour+4*followLimit-2*time.Second)
		})
	}
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
		leader.want(t, engine.Miss, "red", "stored", time.Second)
		same.want(t, engine.Miss, "red", "collapsed", time.Second)
		other.want(t, engine.Miss, "blue", "fwd=vary-miss", 2*time.Second)
		another.want(t, engine.Miss, "blue", "fwd=vary-miss", 2*time.Second)
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
		leader.want(t, engine.Miss, "1: one two", "stored", 2*time.Second)
		anonymous.want(t, engine.Miss, "1: one two", "collapsed", 2*time.Second)
		private.want(t, engine.Bypass, "2: one two", "detail=\"credentials Authorization\"", 3*time.Second)
	})

	coalesceTest(t, "leader with credentials", `{}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		private := s.visit("/a", "Authorization", "Basic x")
		synctest.Wait()
		a, b := s.visit("/a"), s.visit("/a")
		time.Sleep(3 * time.Second)
		private.want(t, engine.Bypass, "1: one two", "credentials", 2*time.Second)
		a.want(t, engine.Miss, "2: one two", "", 3*time.Second)
		b.want(t, engine.Miss, "2: one two", "", 3*time.Second)
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
		leader.want(t, engine.Miss, "1: one two", "stored", 2*time.Second)
		conditional.want(t, engine.Miss, "", "collapsed", time.Second)
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
		conditional.want(t, engine.Miss, "", "fwd-status=304", time.Second)
		a.want(t, engine.Miss, "x", "", time.Second)
		b.want(t, engine.Miss, "x", "", time.Second)
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
		old.want(t, engine.Miss, "1: one two", "", 2*time.Second)
		// They see at the header that it is too old, and share a newer one.
		a.want(t, engine.Miss, "2: one two", "", 3*time.Second)
		b.want(t, engine.Miss, "2: one two", "", 3*time.Second)
		w := expect(t, s.get("/a"), engine.Hit, "hit")
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
			v.want(t, engine.Revalidated, "x", "fwd=stale; fwd-status=", time.Second)
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
		s.handler.node.Memory.Clear()
		follower := s.visit("/a")
		time.Sleep(time.Second)
		leader.want(t, engine.Revalidated, "x", "fwd=stale", time.Second)
		follower.want(t, engine.Revalidated, "x", "fwd=uri-miss", time.Second)
		for name, value := range samples(t, s.handler.node) {
			if strings.HasPrefix(name, "requests_total general REVALIDATED") && value != map[bool]float64{true: 2}[strings.HasSuffix(name, " memory")] {
				t.Errorf("%s is %v", name, value)
			}
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
			v.want(t, engine.Revalidated, []string{"red", "blue"}[i%2], "fwd=stale", time.Second)
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
			v.want(t, engine.Stale, "1: one two", "detail=error", time.Second)
		}
		visit := s.visit("/a")
		visit.want(t, engine.Stale, "1: one two", "detail=error", 0)
		if n := fetches.Load(); n != 1 {
			t.Errorf("a sick origin was asked %d times", n)
		}
		time.Sleep(time.Second)
		s.origin = slow(fetches, "Cache-Control", forAMinute)
		expect(t, s.get("/a"), engine.Miss, "stored")
	})

	coalesceTest(t, "stale while revalidate", `{"stale_while_revalidate":600000000000}`, func(t *testing.T, s *site, fetches *atomic.Int32) {
		s.get("/a")
		time.Sleep(2 * time.Minute)
		for range 20 {
			s.visit("/a").want(t, engine.Stale, "1: one two", "hit", 0)
			time.Sleep(100 * time.Millisecond)
		}
		synctest.Wait()
		if w := expect(t, s.get("/a"), engine.Hit, "hit"); w.Body.String() != "2: one two" || fetches.Load() != 2 {
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
		leader.want(t, engine.Miss, body, "", 4*time.Second)
		follower.want(t, engine.Miss, body, "collapsed", 6*time.Second)
		if fetches.Load() != 2 {
			t.Errorf("%d fetches", fetches.Load())
		}
		if known := s.handler.node.IsHitForMiss(leader.w.header.Get("X-Cache-Key")); !known {
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

func TestRefreshAhead(t *testing.T) {
	const config = `{"refresh_ahead":"on"}`
	coalesceTest(t, "hot", config, func(t *testing.T, s *site, fetches *atomic.Int32) {
		s.get("/a")
		for range 10 * 60 * 5 { // five times a second
			expect(t, s.get("/a"), engine.Hit, "hit")
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
			expect(t, s.get("/a"), engine.Hit, "hit")
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
			expect(t, s.get("/a"), engine.Hit, "hit")
		}
		if n := fetches.Load(); n != 1 {
			t.Errorf("%d fetches", n)
		}
	})
}
