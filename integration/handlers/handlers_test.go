package handlers

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// handlerFiles are below the root of the sites.
var handlerFiles = map[string]string{
	"files/page.txt":     "0123456789",
	"files/large.bin":    strings.Repeat("large file ", 100_000),
	"files/none":         "no extension",
	"pre/app.js":         strings.Repeat("let x = 1;", 100),
	"pre/app.js.gz":      "as if gzip",
	"pre/app.js.br":      "as if brotli",
	"tpl/page.html":      `{{.Req.URL.Path}} {{.OriginalReq.URL.RequestURI}} {{placeholder "http.vars.color"}} {{include "/tpl/part.html"}}`,
	"tpl/part.html":      "part",
	"app/index.html":     `app {{.OriginalReq.URL.RequestURI}} at={{uuidv4}}`,
	"app/real.html":      "real",
	"swr-app/index.html": `app {{.OriginalReq.URL.RequestURI}} {{placeholder "http.vars.color"}} at={{uuidv4}}`,
	"enc/text.txt":       strings.Repeat("compress me ", 1000),
}

// handlerSite has the cache in front of Caddy's handlers, or with $CACHE empty
// the handlers alone.
const handlerSite = `
	root $ROOT
	vars color blue
	map {path} {kind} {
		~^/map/(.*)$ "kind-${1}"
		default none
	}
	header X-Outer outer
	header >X-Deferred deferred
	@id path_regexp id ^/re/([0-9]+)$
	request_header X-From site
	handle /files/* {
		$CACHE
		file_server
	}
	handle /pre/* {
		$CACHE
		file_server {
			precompressed br gzip
		}
	}
	handle /enc/* {
		encode zstd gzip
		$CACHE
		file_server
	}
	handle /tpl/* {
		$CACHE
		templates
		file_server
	}
	handle /app/* {
		try_files {path} /app/index.html
		$CACHE
		templates
		file_server
	}
	handle_path /stripped/* {
		$CACHE
		respond "path={path} uri={uri} orig={http.request.orig_uri}"
	}
	handle /vars/* {
		vars shade dark
		$CACHE
		route {
			vars tone loud
			respond "{vars.color} {vars.shade} {vars.tone}"
		}
	}
	handle /map/* {
		$CACHE
		respond "{kind}"
	}
	handle @id {
		$CACHE
		respond "id={re.id.1} from={header.X-From}"
	}
	route /route/* {
		$CACHE
		header X-Route inside
		header -X-Outer
		header +X-Many 1
		header +X-Many 2
		respond "routed" 203
	}
	handle /intercept/* {
		$CACHE
		intercept {
			@gone status 410
			handle_response @gone {
				header X-Intercepted yes
				header -Content-Length
				respond "intercepted {resp.status_code}" 200
			}
			@teapot status 418
			replace_status @teapot 200
		}
		reverse_proxy $ORIGIN
	}
	handle /proxy/* {
		$CACHE
		reverse_proxy $ORIGIN {
			header_up X-Up {path}
			header_down X-Down yes
			header_down -X-Secret
			@redirect status 302
			handle_response @redirect {
				respond "followed to {rp.header.Location}" 200
			}
		}
	}
	handle /redir/* {
		$CACHE
		route {
			redir https://other.test{uri} permanent
		}
	}
	handle_errors {
		header X-Page yes
		respond "page {err.status_code}"
	}
`

// handlerNode runs the site twice: with the cache, and without on an address of
// its own.
func handlerNode(t *testing.T, site, cache string) (cached, plain *harness.Node, web *harness.Origin) {
	t.Helper()
	root := t.TempDir()
	for name, content := range handlerFiles {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		// A Last-Modified of the present second is a weak validator.
		if old := time.Now().Add(-time.Hour); os.Chtimes(file, old, old) != nil {
			t.Fatalf("the time of %s cannot be set", file)
		}
	}
	web = harness.NewOrigin(t)
	addr := fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t))
	fill := strings.NewReplacer("$ROOT", root, "$ORIGIN", web.Addr, "$CACHE", cache).Replace
	bare := strings.NewReplacer("$ROOT", root, "$ORIGIN", web.Addr, "$CACHE", "").Replace
	cached = harness.StartCaddy(t, harness.Layout{
		Site: fill(site), More: fmt.Sprintf("http://:%s {\nbind 127.0.0.1\n%s\n}", addr[strings.IndexByte(addr, ':')+1:], bare(site)),
	})
	return cached, &harness.Node{Site: addr, Client: cached.Client}, web
}

// TestHandlers needs the miss to be what the handlers answer without the cache,
// and the hit to be what the miss was.
func TestHandlers(t *testing.T) {
	t.Parallel()
	cached, plain, web := handlerNode(t, handlerSite, "redis_cache {\nttl 5m\n}")
	web.Answer("/intercept/gone", 410, "gone", "X-Upstream: 1")
	web.Answer("/intercept/teapot", 418, "tea")
	web.Answer("/proxy/page", 200, "page", "X-Secret: 1", "Server: origin", "Set-Thing: x", "Cache-Control: max-age=60")
	web.Answer("/proxy/redirect", 302, "", "Location: /there")
	web.Handle("/proxy/up", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Header.Get("X-Up")) })
	for _, tt := range []struct {
		target, body string // what the body begins with
		second       string // "" for HIT
		fields       []string
	}{
		{target: "/files/page.txt", body: "0123456789"},
		{target: "HEAD /files/page.txt"},
		{target: "/files/large.bin", body: "large file"},
		{target: "/files/none", body: "no extension"},
		{target: "/files/missing", body: "page 404", second: "MISS"},
		{target: "/pre/app.js", body: "let x", fields: []string{"Accept-Encoding: identity"}},
		{target: "/pre/app.js", body: "as if gzip", fields: []string{"Accept-Encoding: gzip"}},
		{target: "/pre/app.js", body: "as if brotli", fields: []string{"Accept-Encoding: br"}},
		{target: "/pre/app.js", body: "let x", fields: []string{"Accept-Encoding: gzip;q=0, br;q=0"}},
		{target: "/enc/text.txt", body: "compress me"},
		{target: "/enc/text.txt", body: "compress me", fields: []string{"Accept-Encoding: gzip"}},
		{target: "/enc/text.txt", body: "compress me", fields: []string{"Accept-Encoding: zstd"}},
		{target: "/enc/text.txt", body: "compress me", fields: []string{"Accept-Encoding: br"}},
		{target: "/tpl/page.html?q=1", body: "/tpl/page.html /tpl/page.html?q=1 blue part"},
		{target: "/app/real.html", body: "real"},
		{target: "/stripped/a/b?c=d", body: "path=/a/b uri=/a/b?c=d orig=/stripped/a/b?c=d"},
		{target: "/vars/x", body: "blue dark loud"},
		{target: "/map/one", body: "kind-one"},
		{target: "/map/two", body: "kind-two"},
		{target: "/re/17", body: "id=17 from=site"},
		{target: "/re/18", body: "id=18 from=site"},
		{target: "/route/x", body: "routed"},
		{target: "/intercept/gone", body: "intercepted 410"},
		{target: "/intercept/teapot", body: "tea"},
		{target: "/proxy/page", body: "page"},
		{target: "/proxy/redirect", body: "followed to /there"},
		{target: "/proxy/up", body: "/proxy/up"},
		{target: "/redir/x", body: ""},
	} {
		t.Run(strings.TrimSpace(tt.target+" "+strings.Join(tt.fields, " ")), func(t *testing.T) {
			method, path, ok := strings.Cut(tt.target, " ")
			if !ok {
				method, path = http.MethodGet, tt.target
			}
			want := unpacked(t, plain.Do(t, method, path, "", tt.fields...))
			if !strings.HasPrefix(want.Body, tt.body) {
				t.Fatalf("without the cache %d %q", want.Status, want.Body)
			}
			first := "MISS"
			if method == http.MethodHead {
				first = "HIT" // of the GET before it
			}
			for i, outcome := range []string{first, cmp.Or(tt.second, "HIT")} {
				var r harness.Reply
				// A long body may reach the client before the store.
				if !harness.Within(harness.Patience/50, func() bool {
					r = cached.Do(t, method, path, "", tt.fields...)
					return r.Outcome() == outcome || i == 0
				}) || r.Outcome() != outcome {
					t.Errorf("%s, want %s: %q", r.Outcome(), outcome, r.Header.Get("Cache-Status"))
				}
				harness.SameAnswer(t, fmt.Sprintf("answer %d, %s", i+1, r.Outcome()), want, unpacked(t, r))
				if outcome == "HIT" && r.Header.Get("Date") == "" {
					t.Error("the hit lacks a Date")
				}
			}
		})
	}
	t.Run("one index for many pages", func(t *testing.T) {
		for _, path := range []string{"/app/a", "/app/b", "/app/b?page=2"} {
			miss := cached.Want(t, "MISS", path)
			if hit := cached.Want(t, "HIT", path); !strings.HasPrefix(hit.Body, "app "+path+" ") || hit.Body != miss.Body {
				t.Errorf("%s: %q after %q", path, hit.Body, miss.Body)
			}
		}
	})
}

// unpacked is an answer without what differs each time that encode compresses.
func unpacked(t *testing.T, r harness.Reply) harness.Reply {
	t.Helper()
	if coding := r.Header.Get("Content-Encoding"); (coding != "gzip" && coding != "zstd") || strings.HasPrefix(r.Body, "as if") {
		return r
	}
	var err error
	if r.Body, err = harness.Decoded(r); err != nil {
		t.Fatal(err)
	}
	r.Header.Del("Content-Length")
	return r
}

// TestFileServerParts asks the file server for parts and conditions: hits give
// the same as it does itself.
func TestFileServerParts(t *testing.T) {
	t.Parallel()
	cached, plain, _ := handlerNode(t, handlerSite, "redis_cache {\nttl 5m\n}")
	full := cached.Want(t, "MISS", "/files/page.txt")
	etag, modified := full.Header.Get("Etag"), full.Header.Get("Last-Modified")
	if etag == "" || modified == "" {
		t.Fatalf("the file server sent Etag %q and Last-Modified %q", etag, modified)
	}
	for _, fields := range [][]string{
		{"Range: bytes=2-4"},
		{"Range: bytes=7-"},
		{"Range: bytes=-3"},
		{"Range: bytes=0-99"},
		{"Range: bytes=99-"},
		{"Range: bytes=0-1,4-5"},
		{"Range: bytes=2-4", "If-Range: " + etag},
		{"Range: bytes=2-4", `If-Range: "other"`},
		{"Range: bytes=2-4", "If-Range: " + modified},
		{"Range: bytes=2-4", "If-None-Match: " + etag},
		{"If-None-Match: " + etag},
		{"If-None-Match: W/" + etag},
		{`If-None-Match: "other"`},
		{"If-Modified-Since: " + modified},
		{"If-Modified-Since: Wed, 01 Jan 2020 10:00:00 GMT"},
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			t.Run(method+" "+strings.Join(fields, " "), func(t *testing.T) {
				want := plain.Do(t, method, "/files/page.txt", "", fields...)
				got := cached.Want(t, "HIT", method+" /files/page.txt", fields...)
				if got.Status != want.Status || got.Header.Get("Etag") != etag && got.Status != http.StatusRequestedRangeNotSatisfiable {
					// A HEAD with a range: RFC 9110 section 14.2 defines ranges for GET alone.
					if method == http.MethodGet || got.Status != http.StatusOK {
						t.Errorf("%d Etag %q, the file server %d %q", got.Status, got.Header.Get("Etag"), want.Status, etag)
					}
				}
				if strings.Contains(want.Header.Get("Content-Type"), "multipart") {
					if n := strings.Count(got.Body, "Content-Range: bytes "); n != strings.Count(want.Body, "Content-Range: bytes ") {
						t.Errorf("%d parts: %q", n, got.Body)
					}
					return // with a boundary of its own
				}
				if got.Status == want.Status && got.Status < 400 {
					if got.Status == http.StatusNotModified {
						got.Header.Del("Accept-Ranges") // which it may carry
					}
					harness.SameAnswer(t, "the hit", want, got)
				} else if got.Header.Get("Content-Range") != want.Header.Get("Content-Range") && method == http.MethodGet {
					t.Errorf("Content-Range %q, the file server's %q", got.Header.Get("Content-Range"), want.Header.Get("Content-Range"))
				}
			})
		}
	}
}
