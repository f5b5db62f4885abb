package http

import (
	"bytes"
	"crypto/sha256"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// TestConditional asks for what a client may already have.
func TestConditional(t *testing.T) {
	t.Parallel()
	const modified = "Wed, 01 Jan 2025 10:00:00 GMT"
	web := harness.NewOrigin(t)
	web.With("/doc", `Etag: "v1"`, "Last-Modified: "+modified, "Cache-Control: max-age=600")
	node := harness.StartCaddy(t, harness.Layout{Origin: web, Site: `redis_cache`})
	full := node.Want(t, "MISS", "/doc")
	for _, tt := range []struct {
		name   string
		fields []string
		status int
	}{
		{"same tag", []string{`If-None-Match: "v1"`}, 304},
		{"weak comparison", []string{`If-None-Match: W/"v1"`}, 304},
		{"a list", []string{`If-None-Match: "v0", "v1"`}, 304},
		{"any", []string{`If-None-Match: *`}, 304},
		{"other tag", []string{`If-None-Match: "v2"`}, 200},
		{"tag beats date", []string{`If-None-Match: "v2"`, "If-Modified-Since: " + modified}, 200},
		{"same date", []string{"If-Modified-Since: " + modified}, 304},
		{"older date", []string{"If-Modified-Since: Wed, 01 Jan 2025 09:00:00 GMT"}, 200},
		{"preconditions are the origin's", []string{`If-Match: "v2"`}, 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := node.Want(t, "HIT", "/doc", tt.fields...)
			body := full.Body
			if tt.status == 304 {
				body = ""
			}
			if r.Status != tt.status || r.Body != body {
				t.Errorf("%d %q, want %d %q", r.Status, r.Body, tt.status, body)
			}
			for _, name := range []string{"Etag", "Cache-Control", "Date"} {
				if r.Header.Get(name) != full.Header.Get(name) {
					t.Errorf("%s %q, want %q", name, r.Header.Get(name), full.Header.Get(name))
				}
			}
		})
	}
	t.Run("on a miss", func(t *testing.T) {
		// The client's condition must not turn into a stored 304.
		web.With("/cold", `Etag: "c1"`, "Cache-Control: max-age=600")
		r := node.Get(t, "/cold", `If-None-Match: "c1"`)
		if r.Status != 304 && r.Status != 200 {
			t.Errorf("status %d", r.Status)
		}
		if r := node.Get(t, "/cold"); r.Status != 200 || r.Body == "" {
			t.Errorf("%d %q for a client without a condition", r.Status, r.Body)
		}
	})
}

// TestHead answers HEAD from a stored GET, and never the other way round.
func TestHead(t *testing.T) {
	t.Parallel()
	web := harness.NewOrigin(t)
	web.Answer("/doc", 200, "0123456789", "Cache-Control: max-age=600")
	web.Answer("/cold", 200, "0123456789", "Cache-Control: max-age=600")
	node := harness.StartCaddy(t, harness.Layout{Origin: web, Site: `redis_cache`})
	get := node.Want(t, "MISS", "/doc")
	head := node.Want(t, "HIT", "HEAD /doc")
	if head.Body != "" || head.Status != 200 || head.Header.Get("Content-Length") != "10" {
		t.Errorf("%d %q, Content-Length %q", head.Status, head.Body, head.Header.Get("Content-Length"))
	}
	sameHeaders(t, get, head)

	node.Want(t, "MISS", "HEAD /cold")
	if r := node.Get(t, "/cold"); r.Body != "0123456789" {
		t.Errorf("a HEAD was stored as the body %q", r.Body)
	}
}

// TestBodies stores bodies of every size and kind, and gives back the same bytes.
func TestBodies(t *testing.T) {
	t.Parallel()
	large := make([]byte, 5<<20)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range large {
		large[i] = byte(rng.Uint32())
	}
	web := harness.NewOrigin(t)
	send := func(path string, status int, body []byte, chunked bool) {
		web.Handle(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Cache-Control", "max-age=600")
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			if chunked {
				http.NewResponseController(w).Flush()
			}
			w.Write(body)
		})
	}
	bodies := map[string][]byte{
		"/empty":         nil,
		"/empty-chunked": nil,
		"/null":          []byte("null"),
		"/zero":          {0},
		"/large":         large,
		"/large-chunked": large,
		"/text":          []byte(strings.Repeat("the same words again ", 5000)),
	}
	for path, body := range bodies {
		send(path, 200, body, strings.HasSuffix(path, "-chunked"))
	}
	web.Handle("/204", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		w.WriteHeader(http.StatusNoContent)
	})
	bodies["/204"] = nil

	rds := harness.StartRedis(t)
	node := harness.StartCaddy(t, harness.Layout{Redis: rds, Origin: web, Site: `redis_cache`})
	check := func(t *testing.T, r harness.Reply, path string) {
		t.Helper()
		if body := bodies[path]; sha256.Sum256([]byte(r.Body)) != sha256.Sum256(body) {
			t.Errorf("%s: %d bytes that differ from the %d sent", path, len(r.Body), len(body))
		}
	}
	for path := range bodies {
		t.Run(path, func(t *testing.T) {
			miss := node.Want(t, "MISS", path)
			check(t, miss, path)
			// The last bytes may reach the client a moment before the store.
			var hit harness.Reply
			harness.Eventually(t, "a hit", func() bool {
				hit = node.Get(t, path)
				return hit.Outcome() == "HIT"
			})
			check(t, hit, path)
			if hit.Status != miss.Status || hit.Header.Get("Content-Type") != miss.Header.Get("Content-Type") {
				t.Errorf("hit %d %q, miss %d %q", hit.Status, hit.Header.Get("Content-Type"), miss.Status, miss.Header.Get("Content-Type"))
			}
		})
	}
	for path := range bodies {
		node.Keep(t, path)
	}
	node.Restart(t)
	for path := range bodies {
		t.Run("from Redis "+path, func(t *testing.T) { check(t, node.Want(t, "HIT", path), path) })
	}
}

// TestRange asks for parts: none may ever be stored as the whole.
func TestRange(t *testing.T) {
	t.Parallel()
	const body = "0123456789"
	web := harness.NewOrigin(t)
	web.Handle("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		w.Header().Set("Etag", `"r1"`)
		http.ServeContent(w, r, "x.txt", time.Date(2025, 1, 1, 10, 0, 0, 0, time.UTC), strings.NewReader(body))
	})
	node := harness.StartCaddy(t, harness.Layout{Origin: web, Site: `redis_cache`})
	r := node.Want(t, "MISS", "/part", "Range: bytes=2-4")
	if r.Status != http.StatusPartialContent || r.Body != "234" {
		t.Errorf("%d %q", r.Status, r.Body)
	}
	if r := node.Want(t, "MISS", "/part"); r.Status != 200 || r.Body != body {
		t.Errorf("after a part was asked for: %d %q", r.Status, r.Body)
	}
	if r := node.Want(t, "HIT", "/part"); r.Body != body {
		t.Errorf("hit %q", r.Body)
	}
}

// TestFileServer has a handler below the cache that uses the short cuts of
// io.Copy, around which a body must not slip past the store.
func TestFileServer(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	content := bytes.Repeat([]byte("file "), 60000)
	if err := os.WriteFile(filepath.Join(root, "page.txt"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	node := harness.StartCaddy(t, harness.Layout{Site: `
		root ` + root + `
		redis_cache {
			ttl 5m
		}
		file_server`})
	miss := node.Want(t, "MISS", "/page.txt")
	if err := os.WriteFile(filepath.Join(root, "page.txt"), []byte("changed"), 0o600); err != nil {
		t.Fatal(err)
	}
	var hit harness.Reply
	harness.Eventually(t, "a hit", func() bool {
		hit = node.Get(t, "/page.txt")
		return hit.Outcome() == "HIT"
	})
	if miss.Body != string(content) || hit.Body != miss.Body {
		t.Errorf("%d bytes on the miss, %d on the hit, %d in the file", len(miss.Body), len(hit.Body), len(content))
	}
	if got := hit.Header.Get("Content-Length"); got != strconv.Itoa(len(content)) {
		t.Errorf("Content-Length %q", got)
	}
	if hit.Header.Get("Date") == "" {
		t.Error("the hit lacks a Date")
	}
}

// TestEncode compresses outside the cache: one identity body is stored, and no
// client gets an encoding that it did not ask for.
func TestEncode(t *testing.T) {
	t.Parallel()
	web := harness.NewOrigin(t)
	web.Answer("/text", 200, strings.Repeat("compress me ", 1000), "Cache-Control: max-age=600")
	node := harness.StartCaddy(t, harness.Layout{Origin: web, Site: "encode gzip\nredis_cache"})
	for i, outcome := range []string{"MISS", "HIT", "HIT"} {
		var fields []string
		if i != 1 {
			fields = []string{"Accept-Encoding: gzip"}
		}
		r := node.Want(t, outcome, "/text", fields...)
		if got := r.Header.Get("Content-Encoding") == "gzip"; got != (i != 1) {
			t.Errorf("request %d: Content-Encoding %q", i, r.Header.Get("Content-Encoding"))
		}
	}
}
