package safety

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// Streams, slow origins and failing handlers: cases 21 and 22.

// streams is the short form of the tests of protocols: each kind passes, and
// nothing is stored.
func streams(t *testing.T, s *safety) {
	s.web.Handle("/streams/socket", func(w http.ResponseWriter, _ *http.Request) {
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		line, _ := buf.ReadString('\n')
		fmt.Fprintf(conn, "echo %s", line)
	})
	s.web.With("/streams/events", "Content-Type: text/event-stream")
	for range 2 {
		conn, err := net.Dial("tcp", s.Site)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(harness.Patience))
		fmt.Fprintf(conn, "GET /streams/socket HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello\n", harness.SiteHost)
		in := bufio.NewReader(conn)
		resp, err := http.ReadResponse(in, nil)
		if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("%v, %v", resp, err)
		}
		if line, err := in.ReadString('\n'); err != nil || line != "echo hello\n" {
			t.Errorf("%q, %v", line, err)
		}
		conn.Close()
	}
	s.web.Handle("/streams/events", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "data: 1\n\n")
	})
	s.script(t, "MISS /streams/events\nMISS /streams/events")
}

const flowSite = `
	redis_cache /flow/* s
	handle /flow/dead {
		reverse_proxy $DEAD
	}
	handle /flow/error {
		error "no" 418
	}
	handle /flow/abort {
		abort
	}
	handle_errors 418 502 {
		header X-Page yes
		respond "page {err.status_code}"
	}`

func slowAndFailing(t *testing.T, s *safety) {
	t.Run("slow", func(t *testing.T) {
		if err := <-s.slow; err != nil {
			t.Errorf("a slow origin was cut off: %v", err)
		}
		harness.Eventually(t, "a hit", func() bool { return s.Get(t, "/flow/slow").Outcome() == "HIT" })
	})
	t.Run("error", func(t *testing.T) {
		for path, status := range map[string]int{"/flow/dead": 502, "/flow/error": 418} {
			for range 2 {
				r := s.Get(t, path)
				if r.Status != status || r.Header.Get("X-Page") != "yes" || r.Body != fmt.Sprintf("page %d", status) {
					t.Errorf("%s: %d %q, want the error page", path, r.Status, r.Body)
				}
				if r.Outcome() != "MISS" || len(s.stored(t, path)) > 0 {
					t.Errorf("%s: %s, stored %q", path, r.Outcome(), s.stored(t, path))
				}
			}
		}
	})
	t.Run("abort", func(t *testing.T) {
		for range 2 {
			if r, err := s.Try(t.Context(), http.MethodGet, "/flow/abort", ""); err == nil {
				t.Errorf("%d %q instead of a closed connection", r.Status, r.Body)
			}
		}
	})
	// reverse_proxy panics when the body breaks off: with many waiting for it.
	t.Run("panic", func(t *testing.T) {
		hold := harness.NewGate(t)
		s.web.Handle("/flow/panic", func(w http.ResponseWriter, r *http.Request) {
			hold.Wait()
			harness.CutOff("HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nContent-Length: 9\r\n\r\npie")(w, r)
		})
		ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
		defer cancel()
		var clients sync.WaitGroup
		for range 8 {
			clients.Go(func() {
				r, err := s.Try(ctx, http.MethodGet, "/flow/panic", "")
				if ctx.Err() != nil || (err == nil && r.Broken == nil) {
					t.Errorf("%q, %v, %v", r.Body, err, r.Broken)
				}
			})
		}
		harness.Eventually(t, "one is at the origin", func() bool { return s.web.Count("/flow/panic") > 0 })
		hold.Open()
		clients.Wait()
		s.web.Answer("/flow/panic", 200, "well")
		s.want(t, "MISS", "/flow/panic")
		s.want(t, "HIT", "/flow/panic")
	})
}

// goSlowly sends a request whose origin takes longer than any timeout of Redis
// has by default, before the header and within the body. The other cases go on
// meanwhile.
func (s *safety) goSlowly(t *testing.T) {
	t.Helper()
	s.web.Handle("/flow/slow", func(w http.ResponseWriter, r *http.Request) {
		for _, piece := range []string{"first ", "second"} {
			select {
			case <-time.After(3 * time.Second):
			case <-r.Context().Done():
			}
			io.WriteString(w, piece)
			http.NewResponseController(w).Flush()
		}
	})
	s.slow = make(chan error, 1)
	go func() {
		r, err := s.Try(t.Context(), http.MethodGet, "/flow/slow", "")
		if err == nil {
			err = r.Broken
		}
		if err == nil && r.Body != "first second" {
			err = fmt.Errorf("%d %q", r.Status, r.Body)
		}
		s.slow <- err
	}()
	// Where requests are counted, this one has been.
	harness.Eventually(t, "the slow request is at the origin", func() bool { return s.web.Count("/flow/slow") == 1 })
}
