package http

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// TestCutOff lets the origin break off: the client has to notice, and nobody
// else may ever get the piece.
func TestCutOff(t *testing.T) {
	t.Parallel()
	rds := harness.StartRedis(t)
	web := harness.NewOrigin(t)
	const head = "HTTP/1.1 200 OK\r\nCache-Control: public, max-age=600\r\n"
	cases := map[string]string{
		"/length":  head + "Content-Length: 100\r\n\r\nonly this",
		"/chunked": head + "Transfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n",
	}
	node := harness.StartCaddy(t, harness.Layout{Redis: rds, Origin: web, Site: `redis_cache`})
	for path, raw := range cases {
		t.Run(path, func(t *testing.T) {
			web.Handle(path, harness.CutOff(raw))
			for range 2 {
				r, err := node.Try(t.Context(), http.MethodGet, path, "")
				if err == nil && r.Broken == nil {
					t.Errorf("the client took %q for a whole response", r.Body)
				}
				if r.Outcome() == "HIT" {
					t.Error("a piece was stored")
				}
			}
			if got := web.Count(path); got < 2 {
				t.Errorf("%d requests at the origin, want one for each", got)
			}
			if keys := rds.Keys(t, "cache:general:*"+path+":*"); len(keys) != 0 {
				t.Errorf("stored: %q", keys)
			}
			web.Answer(path, 200, "whole", "Cache-Control: public, max-age=600")
			for _, outcome := range []string{"MISS", "HIT"} {
				if r := node.Want(t, outcome, path); r.Body != "whole" {
					t.Errorf("body %q after recovery", r.Body)
				}
			}
		})
	}
}

// TestFirstByte takes responses that come slowly: what has arrived passes at once.
func TestFirstByte(t *testing.T) {
	t.Parallel()
	web := harness.NewOrigin(t)
	// A known length is only passed on piece by piece where the route asks for it.
	node := harness.StartCaddy(t, harness.Layout{Origin: web, Site: `
		redis_cache {
			ttl 5m
		}
		reverse_proxy /slow/length ` + web.Addr + ` {
			flush_interval -1
		}`})
	for _, tt := range []struct {
		name, field string
		second      string // outcome of the next request
	}{
		{"chunked", "Content-Type: text/plain", "HIT"},
		{"length", "Content-Length: 12", "HIT"},
		{"events", "Content-Type: text/event-stream", "MISS"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := "/slow/" + tt.name
			hold := harness.NewGate(t)
			web.Handle(path, func(w http.ResponseWriter, _ *http.Request) {
				name, value, _ := strings.Cut(tt.field, ": ")
				w.Header().Set(name, value)
				io.WriteString(w, "first\n")
				http.NewResponseController(w).Flush()
				hold.Wait()
				io.WriteString(w, "second")
			})
			req, err := node.Request(t.Context(), http.MethodGet, path, "")
			if err != nil {
				t.Fatal(err)
			}
			resp, err := node.Client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body := bufio.NewReader(resp.Body)
			if line, err := body.ReadString('\n'); err != nil || line != "first\n" {
				t.Fatalf("%q, %v while the origin holds back the rest", line, err)
			}
			hold.Open()
			if rest, err := io.ReadAll(body); err != nil || string(rest) != "second" {
				t.Fatalf("rest %q, %v", rest, err)
			}
			harness.Eventually(t, "the next request is a "+tt.second, func() bool {
				r := node.Get(t, path)
				if r.Body != "first\nsecond" {
					t.Fatalf("body %q", r.Body)
				}
				return r.Outcome() == tt.second
			})
		})
	}
}

// TestClientLeaves lets the client go in the middle of a miss. What is stored
// then is whole, or nothing is.
func TestClientLeaves(t *testing.T) {
	t.Parallel()
	web := harness.NewOrigin(t)
	node := harness.StartCaddy(t, harness.Layout{Origin: web, Site: "redis_cache {\nttl 5m\n}"})
	hold := harness.NewGate(t)
	web.Handle("/left", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "first ")
		http.NewResponseController(w).Flush()
		select {
		case <-hold.C:
		case <-r.Context().Done():
			return
		}
		io.WriteString(w, "second")
	})
	ctx, leave := context.WithCancel(t.Context())
	req, err := node.Request(ctx, http.MethodGet, "/left", "")
	if err != nil {
		t.Fatal(err)
	}
	resp, err := node.Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	io.ReadFull(resp.Body, make([]byte, 6))
	leave()
	resp.Body.Close()
	hold.Open()
	for range 3 {
		if r := node.Get(t, "/left"); r.Body != "first second" {
			t.Errorf("%s with the body %q", r.Outcome(), r.Body)
		}
	}
	harness.Eventually(t, "a hit", func() bool { return node.Get(t, "/left").Outcome() == "HIT" })
}

// TestEarlyHints lets 103 pass at once on a miss; a hit sends none.
func TestEarlyHints(t *testing.T) {
	t.Parallel()
	web := harness.NewOrigin(t)
	hold := harness.NewGate(t)
	web.Handle("/hints", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		hold.Wait()
		w.Header().Set("Cache-Control", "max-age=600")
		io.WriteString(w, "page")
	})
	node := harness.StartCaddy(t, harness.Layout{Origin: web, Site: `redis_cache`})
	for _, outcome := range []string{"MISS", "HIT"} {
		hints := 0
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
				if code == http.StatusEarlyHints && h.Get("Link") != "" {
					hints++
					hold.Open() // the final response waits for the hint to arrive
				}
				return nil
			},
		})
		r, err := node.Try(ctx, http.MethodGet, "/hints", "")
		if err != nil || r.Body != "page" || r.Outcome() != outcome {
			t.Fatalf("%s %q %v, want %s", r.Outcome(), r.Body, err, outcome)
		}
		if want := map[string]int{"MISS": 1, "HIT": 0}[outcome]; hints != want {
			t.Errorf("%d hints on a %s, want %d", hints, outcome, want)
		}
		if got := r.Header.Get("Link"); got != "" {
			t.Errorf("the hint's Link %q is in the final response of a %s", got, outcome)
		}
	}
}

// TestTrailers needs them to arrive, whether such a response is stored or not.
func TestTrailers(t *testing.T) {
	t.Parallel()
	web := harness.NewOrigin(t)
	web.Handle("/trailers", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		w.Header().Set("Cache-Control", "max-age=600")
		io.WriteString(w, "body")
		http.NewResponseController(w).Flush()
		w.Header().Set("X-Sum", "42")
	})
	node := harness.StartCaddy(t, harness.Layout{Origin: web, Site: `redis_cache`})
	for range 2 {
		r := node.Get(t, "/trailers")
		if r.Body != "body" || r.Trailer.Get("X-Sum") != "42" {
			t.Errorf("%s: %q, trailer %q", r.Outcome(), r.Body, r.Trailer)
		}
		if got := r.Header.Get("X-Sum"); got != "" {
			t.Errorf("%s: the trailer is among the headers: %q", r.Outcome(), got)
		}
	}
}

// TestUpgrade changes the protocol through the cache, as WebSocket does.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	web := harness.NewOrigin(t)
	web.Handle("/socket", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "echo")
		w.WriteHeader(http.StatusSwitchingProtocols)
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		line, _ := buf.ReadString('\n')
		fmt.Fprintf(conn, "echo %s", line)
	})
	node := harness.StartCaddy(t, harness.Layout{Origin: web, Site: "redis_cache {\nttl 5m\n}"})
	for range 2 {
		conn, err := net.Dial("tcp", node.Site)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(harness.Patience))
		fmt.Fprintf(conn, "GET /socket HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", harness.SiteHost)
		in := bufio.NewReader(conn)
		resp, err := http.ReadResponse(in, nil)
		if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("%v, %v", resp, err)
		}
		fmt.Fprint(conn, "hello\n")
		if line, err := in.ReadString('\n'); err != nil || line != "echo hello\n" {
			t.Errorf("%q, %v", line, err)
		}
		conn.Close()
	}
}

// TestErrors has handlers fail below the cache in every way there is. Nothing of
// it may be stored, and nothing may stay stuck.
func TestErrors(t *testing.T) {
	t.Parallel()
	web := harness.NewOrigin(t)
	node := harness.StartCaddy(t, harness.Layout{Origin: web, Site: fmt.Sprintf(`
		redis_cache {
			ttl 5m
			ttl status 4xx 5xx 5m
		}
		abort /abort
		error /error "no" 418
		@dead path /dead
		handle @dead {
			reverse_proxy 127.0.0.1:%d
		}
		handle_errors {
			header X-Page yes
			respond "page {err.status_code}"
		}`, harness.FreePort(t))})
	for _, tt := range []struct {
		path   string
		status int
	}{{"/dead", 502}, {"/error", 418}} {
		t.Run(tt.path, func(t *testing.T) {
			for range 2 {
				r := node.Get(t, tt.path)
				if r.Status != tt.status || r.Header.Get("X-Page") == "" || r.Body != fmt.Sprintf("page %d", tt.status) {
					t.Errorf("%d %q, want the error page", r.Status, r.Body)
				}
				if o := r.Outcome(); o == "HIT" || o == "STALE" {
					t.Errorf("an error page is a %s", o)
				}
			}
		})
	}
	t.Run("abort", func(t *testing.T) {
		for range 2 {
			if r, err := node.Try(t.Context(), http.MethodGet, "/abort", ""); err == nil {
				t.Errorf("%d %q instead of a closed connection", r.Status, r.Body)
			}
		}
	})
	t.Run("recovers", func(t *testing.T) {
		web.Handle("/flaky", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		if r := node.Get(t, "/flaky"); r.Status != http.StatusBadGateway {
			t.Errorf("status %d", r.Status)
		}
		web.Answer("/flaky", 200, "up")
		node.Script(t, `
			MISS /flaky
			HIT  /flaky`)
	})
}
