package engine

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
func (v *visit) want(t *testing.T, outcome Result, body, detail string, took time.Duration) {
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

func synctestRun(t *testing.T, name string, test func(*testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}
