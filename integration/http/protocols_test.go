package http

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// talk is a conversation that has to be the same with the cache and without.
type talk struct {
	name   string
	on     string // the protocols, default all
	method string
	fields []string
	body   string
	// The first pieces of the response are of four bytes each. The origin sends
	// one when the client has seen the one before it: a response that is held
	// back never ends. With duplex the client says so in the request's body.
	pieces int
	duplex bool
	header bool // the header, too, has to be seen before the origin goes on
	// A second client may be answered otherwise: not with what is for the first one only.
	once bool
	// How much of it a client sees before it breaks off is a matter of luck.
	cut    bool
	origin http.HandlerFunc
	shows  string // part of the transcript: otherwise both could fail alike
}

// said are the words of clients to the handlers of the origin, by request.
var said sync.Map

// hear waits until the client goes on.
func hear(r *http.Request) {
	if id := r.Header.Get("X-Talk"); id != "" {
		words, _ := said.LoadOrStore(id, make(chan struct{}, 16))
		select {
		case <-words.(chan struct{}):
		case <-r.Context().Done():
		}
		return
	}
	if _, err := io.ReadFull(r.Body, make([]byte, 4)); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// pieces writes and flushes pieces, and waits for the client after each.
func pieces(contentType string, then func(http.ResponseWriter)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", contentType)
		for _, piece := range []string{"one\n", "two\n", "3rd\n"} {
			io.WriteString(w, piece)
			http.NewResponseController(w).Flush()
			hear(r)
		}
		then(w)
	}
}

func fields(more ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for _, f := range more {
			name, value, _ := strings.Cut(f, ": ")
			w.Header().Add(name, value)
		}
		io.Copy(w, r.Body)
		io.WriteString(w, "body")
	}
}

func status(code int, more ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for _, f := range more {
			name, value, _ := strings.Cut(f, ": ")
			w.Header().Add(name, value)
		}
		w.WriteHeader(code)
	}
}

func nothing(http.ResponseWriter) {}

const partOf = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"

var talks = []talk{
	{name: "plain", origin: fields("X-Many: 1", "X-Many: 2", "Connection: X-Hop", "X-Hop: 1", "Content-Type: text/plain"), shows: "X-Many"},
	{name: "no type", origin: func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = nil
		io.WriteString(w, "<html>")
	}, shows: "html"},
	{name: "cookies", origin: fields("Set-Cookie: a=1", "Set-Cookie: b=2; HttpOnly"), shows: "HttpOnly"},
	{name: "no-store", origin: fields("Cache-Control: no-store", "Etag: \"x\"", "X-Cache: HIT from elsewhere"), shows: "no-store"},
	{name: "head", method: "HEAD", origin: fields("Content-Length: 4", "Etag: \"x\""), shows: "Content-Length"},
	{name: "post", method: "POST", body: strings.Repeat("x", 200<<10), origin: fields("Content-Type: text/plain"), shows: "200"},
	{name: "delete", method: "DELETE", origin: status(204), shows: "204"},
	{name: "options", method: "OPTIONS", origin: status(200, "Allow: GET, PUT"), shows: "Allow"},
	{name: "unknown method", method: "BREW", origin: status(418, "X-Pot: tea"), shows: "418"},
	{name: "redirect", origin: status(302, "Location: /elsewhere"), shows: "302"},
	{name: "error", origin: status(503, "Retry-After: 5"), shows: "503"},
	{name: "not modified", fields: []string{`If-None-Match: "x"`}, origin: status(304, `Etag: "x"`), shows: "304"},
	{name: "range", fields: []string{"Range: bytes=0-1"}, shows: "206", origin: func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "x.txt", time.Unix(1e9, 0), strings.NewReader("0123"))
	}},
	{name: "large", shows: "2097152 bytes", origin: func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 2<<20)) }}, // more than is stored
	{name: "flushes", pieces: 3, origin: pieces("text/plain", nothing), shows: "3rd"},
	{name: "events", pieces: 3, origin: pieces("text/event-stream", nothing), shows: "3rd"},
	{name: "incremental", pieces: 3, shows: "3rd", origin: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Incremental", "?1")
		pieces("text/plain", nothing)(w, r)
	}},
	{name: "header first", header: true, pieces: 1, shows: "late", origin: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		http.NewResponseController(w).Flush()
		hear(r)
		io.WriteString(w, "late")
	}},
	{name: "duplex", on: "h2 h2c h3", method: "POST", pieces: 3, duplex: true, origin: pieces("text/plain", nothing), shows: "3rd"},
	{
		name: "grpc", on: "h2 h2c h3", method: "POST", pieces: 3, duplex: true, fields: []string{"Te: trailers", "Content-Type: application/grpc"},
		origin: pieces("application/grpc", func(w http.ResponseWriter) {
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
			w.Header().Set(http.TrailerPrefix+"Grpc-Message", "fine")
		}), shows: "trailer Grpc-Status",
	},
	{
		name: "grpc, trailers only", on: "h2 h2c h3", method: "POST", fields: []string{"Te: trailers", "Content-Type: application/grpc"},
		origin: status(200, "Content-Type: application/grpc", "Grpc-Status: 5"), shows: "Grpc-Status",
	},
	{name: "trailers", pieces: 3, shows: "trailer X-Sum", origin: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum, X-None")
		pieces("text/plain", func(w http.ResponseWriter) { w.Header().Set("X-Sum", "42") })(w, r)
	}},
	{
		name: "undeclared trailers", pieces: 3, shows: "trailer X-Late",
		origin: pieces("text/plain", func(w http.ResponseWriter) { w.Header().Set(http.TrailerPrefix+"X-Late", "1") }),
	},
	{name: "early hints", once: true, shows: "103", origin: func(w http.ResponseWriter, _ *http.Request) {
		for _, link := range []string{"</a.css>", "</b.css>"} {
			w.Header().Set("Link", link)
			w.WriteHeader(http.StatusEarlyHints)
		}
		w.Header().Del("Link")
		io.WriteString(w, "page")
	}},
	{name: "processing", once: true, shows: "102", origin: func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusProcessing)
		io.WriteString(w, "page")
	}},
	{name: "expect", on: "h1 h2", method: "POST", body: "content", fields: []string{"Expect: 100-continue"}, origin: fields("X-A: 1"), shows: "contentbody"},
	{name: "cut, length", origin: harness.CutOff(partOf + "Content-Length: 100\r\n\r\nonly this"), cut: true, shows: "broken"},
	{name: "cut, chunked", origin: harness.CutOff(partOf + "Transfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n"), cut: true, shows: "broken"},
	{name: "cut, seen", pieces: 1, shows: "broken", origin: func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "one\n")
		http.NewResponseController(w).Flush()
		hear(r)
		panic(http.ErrAbortHandler)
	}},
	{name: "cut, no header", origin: harness.CutOff(""), shows: "502"},
	{name: "connect", method: "CONNECT", origin: status(405), on: "h2 h2c h3", shows: "status"},
}

// protocolSite is the same for the plain node and the one with the cache.
func protocolSite(t *testing.T, web *harness.Origin, cached bool) (harness.Layout, string) {
	t.Helper()
	// A second server, because newOrigin's does not speak HTTP/2.
	srv := httptest.NewUnstartedServer(web)
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Start()
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	site := fmt.Sprintf("reverse_proxy /duplex/* h2c://%s\n", srv.Listener.Addr())
	if cached {
		site += "redis_cache {\nttl 5m\nmax_body 1MiB\n}\n"
	}
	tlsAddr := fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t))
	_, port, _ := strings.Cut(tlsAddr, ":")
	return harness.Layout{
		Origin: web, Plain: !cached, Site: site,
		Global: "auto_https disable_redirects\nskip_install_trust\ngrace_period 500ms\nservers {\nprotocols h1 h2 h2c h3\n}",
		More: fmt.Sprintf("https://%s:%s {\nbind 127.0.0.1\ntls internal\n%s\nreverse_proxy %s\n}",
			harness.SiteHost, port, site, web.Addr),
	}, tlsAddr
}

func TestProtocols(t *testing.T) {
	t.Parallel()
	web := harness.NewOrigin(t)
	for _, tt := range talks {
		web.Handle("/"+tt.path(), tt.origin)
	}
	web.Handle("", status(http.StatusMethodNotAllowed)) // a CONNECT has no path
	var nodes [2]*harness.Node
	var clients [2]map[string]func(*http.Request) (*http.Response, error)
	for i, cached := range []bool{false, true} {
		l, tlsAddr := protocolSite(t, web, cached)
		nodes[i] = harness.StartCaddy(t, l)
		clients[i] = speakers(t, nodes[i].Site, tlsAddr)
		for _, protocol := range []string{"h2", "h3"} {
			harness.Eventually(t, "the node speaks "+protocol, func() bool {
				req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "/ready", nil)
				req.Host = harness.SiteHost
				resp, err := clients[i][protocol](req)
				if err == nil {
					resp.Body.Close()
				}
				return err == nil
			})
		}
	}
	web.With("/kept", "Cache-Control: max-age=600")
	for _, protocol := range slices.Sorted(maps.Keys(clients[0])) {
		t.Run(protocol, func(t *testing.T) {
			for _, outcome := range []string{"MISS", "HIT"} {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/kept?"+protocol, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Host = harness.SiteHost
				resp, err := clients[1][protocol](req)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if got := resp.Header.Get("X-Cache"); got != outcome {
					t.Errorf("%s, want %s (Cache-Status %q)", got, outcome, resp.Header.Get("Cache-Status"))
				}
			}
			for _, tt := range talks {
				if tt.on == "" || slices.Contains(strings.Fields(tt.on), protocol) {
					t.Run(tt.name, func(t *testing.T) { tt.compare(t, protocol, clients[0][protocol], clients[1][protocol]) })
				}
			}
		})
	}
	for name, words := range map[string]string{
		"upgrade":         "GET /socket HTTP/1.1\r\nHost: shop.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello\n",
		"upgrade refused": "GET /plain HTTP/1.1\r\nHost: shop.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"connect":         "CONNECT shop.test:443 HTTP/1.1\r\nHost: shop.test:443\r\n\r\n",
		"http/1.0":        "GET /plain HTTP/1.0\r\nHost: shop.test\r\n\r\n",
		"two in one":      "GET /no-store HTTP/1.1\r\nHost: shop.test\r\n\r\nGET /no-store HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n",
	} {
		t.Run("h1/"+name, func(t *testing.T) {
			web.Handle("/socket", func(w http.ResponseWriter, _ *http.Request) {
				cut := "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
				conn, buf, err := http.NewResponseController(w).Hijack()
				if err != nil {
					panic(err)
				}
				defer conn.Close()
				io.WriteString(conn, cut)
				line, _ := buf.ReadString('\n')
				fmt.Fprintf(conn, "echo %s", line)
			})
			want := rawWords(t, nodes[0].Site, words)
			for range 2 {
				if got := rawWords(t, nodes[1].Site, words); got != want {
					t.Errorf("with the cache:\n%s\nwithout:\n%s", got, want)
				}
			}
			if name == "upgrade" && !strings.Contains(want, "echo hello") {
				t.Errorf("without the cache: %s", want)
			}
		})
	}
}

func (tt talk) path() string {
	name := strings.NewReplacer(" ", "-", ",", "").Replace(tt.name)
	if tt.duplex {
		return "duplex/" + name
	}
	return name
}

// compare has the talk without the cache, and twice with it.
func (tt talk) compare(t *testing.T, protocol string, plain, cached func(*http.Request) (*http.Response, error)) {
	t.Helper()
	want := tt.transcript(t, protocol+" plain", plain)
	if !strings.Contains(want, tt.shows) {
		t.Errorf("without the cache, there is no %q:\n%s", tt.shows, want)
	}
	times := 2
	if tt.once {
		times = 1
	}
	for i := range times {
		if got := tt.transcript(t, protocol+" cached "+fmt.Sprint(i), cached); got != want {
			t.Errorf("answer %d with the cache:\n%s\nwithout:\n%s", i+1, got, want)
		}
	}
}

// transcript is all that a client sees of its answer.
func (tt talk) transcript(t *testing.T, id string, do func(*http.Request) (*http.Response, error)) string {
	t.Helper()
	var b strings.Builder
	var mu sync.Mutex
	line := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(&b, format+"\n", args...)
	}
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		if code != http.StatusContinue {
			line("interim %d %q", code, h["Link"])
		}
		return nil
	}})
	protocol, _, _ := strings.Cut(id, " ")
	// Each protocol has a URL of its own, so that none is answered from another's.
	body := io.Reader(strings.NewReader(tt.body))
	say := func() {}
	if tt.duplex {
		r, w := io.Pipe()
		defer w.Close()
		body, say = r, func() { io.WriteString(w, "next") }
	} else if tt.body == "" {
		body = nil
	}
	req, err := http.NewRequestWithContext(ctx, cmp.Or(tt.method, http.MethodGet), "/"+tt.path()+"?"+protocol, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = harness.SiteHost
	for _, f := range tt.fields {
		name, value, _ := strings.Cut(f, ": ")
		req.Header.Set(name, value)
	}
	if tt.pieces > 0 && !tt.duplex {
		words := make(chan struct{}, 16)
		id := tt.name + " " + id
		said.Store(id, words)
		req.Header.Set("X-Talk", id)
		say = func() { words <- struct{}{} }
	}
	resp, err := do(req)
	if err != nil && tt.cut {
		return "broken"
	}
	if err != nil {
		line("no answer")
		return b.String()
	}
	defer resp.Body.Close()
	line("status %d", resp.StatusCode)
	for _, name := range slices.Sorted(maps.Keys(resp.Header)) {
		// The port is another one, and a hit knows the length of what came in chunks.
		if !slices.Contains(harness.OwnFields, name) && name != "Alt-Svc" && (name != "Content-Length" || tt.method == http.MethodHead) {
			line("%s: %q", name, resp.Header[name])
		}
	}
	if tt.header {
		say()
	}
	for range tt.pieces {
		piece := make([]byte, 4)
		n, err := io.ReadFull(resp.Body, piece)
		line("piece %q, %t", piece[:n], err == nil)
		say()
	}
	rest, err := io.ReadAll(resp.Body)
	if len(rest) > 100 {
		line("%d bytes, %x", len(rest), sha256.Sum256(rest))
	} else {
		line("body %q", rest)
	}
	if err != nil && tt.cut {
		return "broken"
	}
	if err != nil {
		line("broken")
	}
	for _, name := range slices.Sorted(maps.Keys(resp.Trailer)) {
		line("trailer %s: %q", name, resp.Trailer[name])
	}
	return b.String()
}
