package engine

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
)

func TestHijackThatFails(t *testing.T) {
	s := newSite(t, `{}`, func(w http.ResponseWriter, r *http.Request) {
		if _, _, err := http.NewResponseController(w).Hijack(); err != nil {
			w.WriteHeader(500)
			io.WriteString(w, "no")
		}
	})
	if w := s.get("/a"); w.Code != 500 {
		t.Error(w.Code, w.Header())
	}
}

// TestHijack has a handler take the connection at each moment of a response that may be
// stored, with a stale response that could stand in and without: what it sends is all that
// its client gets, nobody else gets any of it, and nobody waits for its end.
func TestHijack(t *testing.T) {
	const raw = "raw bytes\n"
	for _, stale := range []bool{false, true} {
		for name, begin := range map[string]func(w http.ResponseWriter){
			"at once":          func(http.ResponseWriter) {},
			"after the header": func(w http.ResponseWriter) { w.WriteHeader(http.StatusOK) },
			"after a flush": func(w http.ResponseWriter) {
				w.WriteHeader(http.StatusOK)
				_ = http.NewResponseController(w).Flush()
			},
			"after some of the body": func(w http.ResponseWriter) {
				io.WriteString(w, "part")
				_ = http.NewResponseController(w).Flush()
			},
			"after switching": func(w http.ResponseWriter) { w.WriteHeader(http.StatusSwitchingProtocols) },
		} {
			t.Run(fmt.Sprintf("%s, stale %t", name, stale), func(t *testing.T) {
				hijack, hijacked, end := false, make(chan struct{}), make(chan struct{})
				s := newSite(t, `{}`, func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Cache-Control", "max-age=60")
					if !hijack || r.Header.Get("X-Plain") != "" {
						io.WriteString(w, "plain")
						return
					}
					begin(w)
					conn, _, err := http.NewResponseController(w).Hijack()
					if err != nil {
						t.Error(err)
						return
					}
					defer conn.Close()
					io.WriteString(conn, raw)
					close(hijacked)
					<-end
					io.WriteString(conn, raw)
				})
				server := httptest.NewServer(s)
				t.Cleanup(server.Close)
				if stale {
					s.get("/a")
					purge := hard(journal.KindAll, "1")
					purge.Soft = true
					s.purge(purge)
				}
				hijack = true
				conn, err := net.Dial("tcp", server.Listener.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				fmt.Fprint(conn, "GET /a HTTP/1.1\r\nHost: example.com\r\n\r\n")
				<-hijacked
				// Another one, while the connection is still in use.
				if w := s.get("/a", "X-Plain", "1"); w.Body.String() != "plain" {
					t.Errorf("another client gets %q, %v", w.Body, w.Header())
				}
				close(end)
				got, err := io.ReadAll(conn)
				if err != nil || !strings.HasSuffix(string(got), raw+raw) || strings.Count(string(got), "HTTP/1.1") > 1 {
					t.Errorf("the client gets %q, %v", got, err)
				}
				if begun := strings.Contains(name, "body"); begun != strings.Contains(string(got), "part") {
					t.Errorf("the client gets %q", got)
				}
			})
		}
	}
}
