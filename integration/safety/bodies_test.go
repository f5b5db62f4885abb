package safety

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// Wrong or broken bodies: cases 15 to 19.

func brokenUpstream(t *testing.T, s *safety) {
	const head = "HTTP/1.1 200 OK\r\nCache-Control: public, max-age=600\r\n"
	for kind, raw := range map[string]string{
		"length":  head + "Content-Length: 100\r\n\r\nonly this",
		"chunked": head + "Transfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n",
	} {
		path := "/broken/" + kind
		s.web.Handle(path, harness.CutOff(raw))
		for range 2 {
			if r, err := s.Try(t.Context(), http.MethodGet, path, ""); err == nil && r.Broken == nil {
				t.Errorf("%s: the client took %q for a whole response", kind, r.Body)
			} else if r.Outcome() == "HIT" {
				t.Errorf("%s: a piece was stored", kind)
			}
		}
		if keys := s.stored(t, path); len(keys) > 0 {
			t.Errorf("%s: stored %q", kind, keys)
		}
		s.web.Answer(path, 200, "whole", "Cache-Control: public, max-age=600")
		s.want(t, "MISS", path)
		if r := s.want(t, "HIT", path); r.Body != "whole" {
			t.Errorf("%s: %q after recovery", kind, r.Body)
		}
	}
}

// clientLeaves has clients go in the middle of a response that is of one letter,
// another one each time: a body of two letters is glued together.
func clientLeaves(t *testing.T, s *safety) {
	const size = 1 << 20
	hold := harness.NewGate(t)
	var mu sync.Mutex
	letter := byte('a' - 1)
	s.web.Handle("/leaves/x", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		letter++
		piece := bytes.Repeat([]byte{letter}, size/2)
		mu.Unlock()
		w.Write(piece)
		http.NewResponseController(w).Flush()
		select {
		case <-hold.C:
			w.Write(piece)
		case <-r.Context().Done():
		}
	})
	begin := func(ctx context.Context) *http.Response {
		req, err := s.Request(ctx, http.MethodGet, "/leaves/x", "")
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.Client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	whole := func(who string, body []byte) {
		t.Helper()
		if len(body) != size || len(bytes.Trim(body, string(body[:min(1, len(body))]))) > 0 {
			t.Errorf("%s got %d bytes, want %d of one letter", who, len(body), size)
		}
	}
	ctx, leave := context.WithCancel(t.Context())
	first, second := begin(ctx), begin(t.Context())
	io.ReadFull(first.Body, make([]byte, 1000))
	leave()
	first.Body.Close()
	hold.Open()
	body, err := io.ReadAll(second.Body)
	second.Body.Close()
	if err != nil {
		t.Errorf("the second client: %v", err)
	}
	whole("who was there already", body)
	harness.Eventually(t, "a hit", func() bool {
		r := s.Get(t, "/leaves/x")
		whole("a later client, "+r.Outcome()+",", []byte(r.Body))
		return r.Outcome() == "HIT"
	})
}

func oddResponses(t *testing.T, s *safety) {
	const control = "Cache-Control: public, max-age=600"
	raw := func(path, response string) {
		s.web.Handle(path, harness.CutOff("HTTP/1.1 "+strings.ReplaceAll(response, "\n", "\r\n")))
	}
	raw("/kinds/206", "206 Partial Content\n"+control+"\nContent-Range: bytes 0-3/10\nContent-Length: 4\n\n0123")
	raw("/kinds/304", "304 Not Modified\n"+control+"\nEtag: \"x\"\n\n")
	raw("/kinds/204", "204 No Content\n"+control+"\nX-Kind: empty\n\n")
	s.web.Answer("/kinds/null", 200, "null", control)
	s.web.Handle("/kinds/empty", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Cache-Control", "max-age=600") })
	s.web.Answer("/kinds/head", 200, "0123456789", control)
	for _, tt := range []struct {
		path, second string
		status       int
		body         string
	}{
		{"/kinds/206", "MISS", 206, "0123"},
		{"/kinds/304", "MISS", 502, "page 502"}, // nobody has asked whether it changed
		{"/kinds/204", "HIT", 204, ""},
		{"/kinds/null", "HIT", 200, "null"},
		{"/kinds/empty", "HIT", 200, ""},
	} {
		for _, outcome := range []string{"MISS", tt.second} {
			if r := s.want(t, outcome, tt.path); r.Status != tt.status || r.Body != tt.body {
				t.Errorf("%s, %s: %d %q, want %d %q", tt.path, outcome, r.Status, r.Body, tt.status, tt.body)
			}
		}
	}
	s.script(t, `
		MISS HEAD /kinds/head
		MISS HEAD /kinds/head
		MISS      /kinds/head
		HIT  HEAD /kinds/head
		HIT  HEAD /kinds/null
		HIT  HEAD /kinds/204
		HIT       /kinds/head`)
	if r := s.Get(t, "/kinds/head"); r.Body != "0123456789" {
		t.Errorf("a HEAD was stored as the body %q", r.Body)
	}
	// The client's own range or condition must not become everybody's.
	s.web.Handle("/kinds/part", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", `"p"`)
		http.ServeContent(w, r, "x.txt", time.Time{}, strings.NewReader("0123456789"))
	})
	for _, field := range []string{"Range: bytes=2-4", `If-None-Match: "p"`} {
		if r := s.Get(t, "/kinds/part", field); r.Body != "234" && r.Status != 304 {
			t.Errorf("%s: %d %q", field, r.Status, r.Body)
		}
		r := s.Get(t, "/kinds/part")
		if r.Status != 200 || r.Body != "0123456789" {
			t.Errorf("after %s: %d %q", field, r.Status, r.Body)
		}
	}
}

const encodeSite = `
	handle /enc/* {
		encode zstd gzip
		redis_cache s
	}
	handle /noenc/* {
		encode zstd gzip
	}`

// encodeOutside asks the same of a route with the cache and one without.
func encodeOutside(t *testing.T, s *safety) {
	text := strings.Repeat("compress me ", 1000)
	pages := map[string]func(w http.ResponseWriter, r *http.Request){
		"plain":      func(http.ResponseWriter, *http.Request) {},
		"weak":       func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Etag", `W/"v1"`) },
		"varies":     func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Vary", "X-Other") },
		"own vary":   func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Vary", "Accept-Encoding") },
		"own silent": func(http.ResponseWriter, *http.Request) {},
	}
	accepts := []string{
		"gzip", "", "zstd", "br", "gzip;q=0", "gzip;q=0, zstd", "identity", "*", "gzip, zstd, br", "zstd;q=0.5, gzip;q=0.9",
	}
	accepted := func(header, coding string) bool {
		for member := range strings.SplitSeq(strings.ToLower(header), ",") {
			name, weight, _ := strings.Cut(strings.TrimSpace(member), ";q=")
			if name == coding || name == "*" {
				return weight != "0"
			}
		}
		return false
	}
	for name, page := range pages {
		handler := func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			w.Header().Set("Etag", `"v1"`)
			page(w, r)
			body := text
			if strings.HasPrefix(name, "own") && accepted(r.Header.Get("Accept-Encoding"), "gzip") {
				var b bytes.Buffer
				z := gzip.NewWriter(&b)
				io.WriteString(z, text)
				z.Close()
				body = b.String()
				w.Header().Set("Content-Encoding", "gzip")
			}
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(body))
		}
		path := strings.ReplaceAll(name, " ", "-")
		s.web.Handle("/enc/"+path, handler)
		s.web.Handle("/noenc/"+path, handler)
		t.Run(path, func(t *testing.T) {
			for _, condition := range []string{"", "", `"v1"`, `"v1-gzip"`, `W/"v1"`, `"v2"`} {
				for _, accept := range accepts {
					var fields []string
					if accept != "" {
						fields = append(fields, "Accept-Encoding: "+accept)
					}
					if condition != "" {
						fields = append(fields, "If-None-Match: "+condition)
					}
					got, want := s.Get(t, "/enc/"+path, fields...), s.Get(t, "/noenc/"+path, fields...)
					s.settle(t, got)
					what := fmt.Sprintf("%s %q, %s", name, fields, got.Outcome())
					body, err := harness.Decoded(got)
					if err != nil || (got.Status == 200 && body != text) || (got.Status == 304 && body != "") {
						t.Errorf("%s: %d with %d bytes, %v", what, got.Status, len(body), err)
					}
					if coding := got.Header.Get("Content-Encoding"); coding != "" && !accepted(accept, coding) {
						t.Errorf("%s: a client that did not accept it got %s", what, coding)
					}
					for _, field := range []string{"Content-Encoding", "Etag"} {
						if g, w := got.Header.Get(field), want.Header.Get(field); g != w {
							t.Errorf("%s: %s %q, without the cache %q", what, field, g, w)
						}
					}
					if got.Status != want.Status {
						t.Errorf("%s: status %d, without the cache %d", what, got.Status, want.Status)
					}
					vary := strings.Join(got.Header["Vary"], ", ")
					for _, member := range want.Header["Vary"] {
						if !strings.Contains(vary, member) {
							t.Errorf("%s: Vary %q, without the cache %q", what, vary, want.Header["Vary"])
						}
					}
				}
			}
			s.want(t, "HIT", "/enc/"+path, "Accept-Encoding: gzip")
		})
	}
}

func damagedRecords(t *testing.T, s *safety) {
	if s.tiers != "redis" {
		return // memory would not ask Redis
	}
	// All that is counted but failures of Redis itself: records of other versions
	// are no damage, and may have a counter of their own.
	corrupt := func() (n float64) {
		errors, _ := s.JSON(t, 200, http.MethodGet, "/redis_cache/stats", "")["errors"].(map[string]any)
		for name, kind := range errors {
			if name != "redis" && name != "dropped_write" {
				n += kind.(map[string]any)["count"].(float64)
			}
		}
		return n
	}
	for name, damage := range map[string]func([]byte) []byte{
		"cut":     func(b []byte) []byte { return b[:len(b)/2] },
		"flipped": func(b []byte) []byte { b[len(b)-3] ^= 4; return b },
		"version": func(b []byte) []byte { b[3]++; return b },
		"text":    func([]byte) []byte { return []byte("null") },
	} {
		path, before := "/damaged/"+name, corrupt()
		key := s.want(t, "MISS", path).Key()
		s.want(t, "HIT", path)
		value, err := s.rds.Client.Get(t.Context(), key).Bytes()
		if err != nil {
			t.Fatal(err)
		}
		s.rds.Do(t, "SET", key, damage(value), "KEEPTTL")
		// The node answers from its own write until it knows that Redis has it.
		harness.Eventually(t, path+" is no hit", func() bool { return s.Get(t, path).Outcome() == "MISS" })
		if got := corrupt(); got != before+1 {
			t.Errorf("%s: the counters went from %v to %v", name, before, got)
		}
		s.want(t, "HIT", path)
	}
}
