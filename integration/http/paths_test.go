package http

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// What matchers, the key and an origin make of a path.

const pathsSite = `
	@regexp path_regexp ^/re/(me)$
	@vars vars {path} /vars/me
	@orig vars {http.request.orig_uri.path} /orig/me
	@expression expression path('/cel/me') && {http.request.uri.path}.endsWith('me')
	rewrite /page /{query.p}
	@static path /static/*
	redis_cache @static {
		ttl 1h
		shared
	}
	handle_path /app/* {
		redis_cache {
			ttl 1h
		}
		reverse_proxy $ORIGIN
	}
	redis_cache {
		ttl 1h
		ttl /rules/live* 0s override
		ttl /rules/short* 1m
		ttl /rules/forced;long 2h override
		ttl /rules/none* 0s
		bypass /account/me*
		bypass @regexp
		bypass @vars
		bypass @orig
		bypass @expression
	}`

// ambiguousPaths are read in two ways.
var ambiguousPaths = []string{
	"/account/..%2fstatic/x", "/account/%2e%2e/static/x", "/account/%2E./static/x", "/account/%2e%2e%2fstatic/x", "/account/../static/x",
	"/account//..//static/x", "/account/..%2f%2fstatic/x", "/account/;/../static/x", "/account/..;/static/x", "/account%2f..%2fstatic/x",
	"/static/..;x/account", "/static/x/..", "/static/x/.", "/static/%2e%2e%5caccount", "/static/..%20/x", "/static/..%00/x",
	"/account/me/..%2fpublic", "/account/me%2f..%2fpublic", "/account;x/me", "/account/;/me", `/account\me`, "/account%5cme", "/account%255cme",
	"/account/x%252f..%252fme", "/account/x%25252f..%25252fme", "/account/%25%32%65%2e/me", "/account%3bx/me", "/account;x%2fme", "/account;/me",
	"/account/me%252525252f", "/./account/me", "/app/x/..%2fy", "/app/..%2f..%2faccount/me", "/page?p=account/../static/x", "/account%00/me",
}

// plainPaths have only one meaning.
var plainPaths = []string{
	"/projects/a%2Fb", "/@scope%2fname", "/a/..b", "/a/b..", "/a/.../b", "/.well-known/x", "/a/%2ehidden", "/a%2eb", "/a//b", "//a", "/a%252Fb",
	"/doc;jsessionid=1", "/doc%3bjsessionid=1", "/static/x;v=1", "/a/?x=../..%2f..%5c;a/b", "/a/b?u=https://x.test/a;b/../c", "/app/a%2fb", "/a/caf%C3%A9",
	"/app/x;y", "/page?p=account/plain",
}

func TestAmbiguousPaths(t *testing.T) {
	t.Parallel()
	web := harness.NewOrigin(t)
	n := harness.StartCaddy(t, harness.Layout{Origin: web, Site: strings.ReplaceAll(pathsSite, "$ORIGIN", web.Addr)})
	for _, path := range ambiguousPaths {
		for _, target := range []string{path, "http://" + harness.SiteHost + path} { // as a proxy is asked, too
			for range 2 {
				before := web.Requests()
				if r := n.Raw(t, target); r.Outcome() != "BYPASS" || web.Requests() == before ||
					!strings.Contains(r.Header.Get("Cache-Status"), "detail=ambiguous-path") {
					t.Errorf("%s is %s, want BYPASS: %q", target, r.Outcome(), r.Header.Get("Cache-Status"))
				}
			}
		}
	}
	// A target without a slash has no path for matchers and key, and is sent on as it came:
	// an origin reads the URL in it.
	for _, target := range []string{"x:http://other.test/account/me", "http:http://other.test/account/me?x", "x:https://" + harness.SiteHost + "/static/x"} {
		if r := n.Raw(t, target); r.Outcome() != "BYPASS" || !strings.Contains(r.Header.Get("Cache-Status"), "detail=ambiguous-path") {
			t.Errorf("%s is %s, want BYPASS: %q", target, r.Outcome(), r.Header.Get("Cache-Status"))
		}
		if r := n.Raw(t, "/"); strings.Contains(r.Body, "account") || strings.Contains(r.Body, "static") {
			t.Errorf("what %s brought is / now: %s", target, r.Body)
		}
	}
	for _, path := range plainPaths {
		for _, outcome := range []string{"MISS", "HIT"} {
			if r := n.Raw(t, path); r.Outcome() != outcome {
				t.Errorf("%s is %s, want %s: %q", path, r.Outcome(), outcome, r.Header.Get("Cache-Status"))
			}
		}
	}
	t.Run("parameters", func(t *testing.T) {
		for _, path := range []string{
			"/account/me", "/account/me;x", "/account/me%3bx", "/account/me%253bx;y", "/account/me%00x", "/re/me", "/re/me;x", "/vars/me;x", "/orig/me;x", "/cel/me;x=1;y",
		} {
			r := n.Raw(t, path)
			if r.Outcome() != "BYPASS" || !strings.Contains(r.Header.Get("Cache-Status"), "detail=bypass-rule") {
				t.Errorf("%s is %s, want BYPASS: %q", path, r.Outcome(), r.Header.Get("Cache-Status"))
			}
		}
		web.With("/rules/live;x", "Cache-Control: max-age=600")
		web.With("/rules/forced;long", "Cache-Control: max-age=600")
		for path, ttl := range map[string]int{
			"/rules/live;x": -1, "/rules/short;x": 60, "/rules/forced;long": 600, "/rules/none;x": -1, "/rules/other;x": 3600,
		} {
			if r := n.Raw(t, path); r.Outcome() != "MISS" || r.TTL() > ttl || r.TTL() < ttl-ttl/10 {
				t.Errorf("%s is stored for %d s, want %d: %q", path, r.TTL(), ttl, r.Header.Get("Cache-Status"))
			}
		}
	})
	t.Run("explain", func(t *testing.T) {
		e := n.JSON(t, http.StatusOK, http.MethodGet, "/redis_cache/explain?url=http://"+n.Site+"/account/..%252fstatic/x", "")
		if e["outcome"] != "BYPASS" || e["reason"] != "ambiguous-path" || e["advice"] == "" {
			t.Errorf("explained: %v", e)
		}
	})
}

func TestAmbiguousPathsOverEveryProtocol(t *testing.T) {
	t.Parallel()
	web := harness.NewOrigin(t)
	web.Handle("/", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Cache-Control", "public, max-age=600") })
	l, tlsAddr := protocolSite(t, web, true)
	n := harness.StartCaddy(t, l)
	for protocol, do := range speakers(t, n.Site, tlsAddr) {
		ask := func(path string) (outcome, status string, err error) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = harness.SiteHost
			resp, err := do(req)
			if err != nil {
				return "", "", err
			}
			defer resp.Body.Close()
			_, err = io.Copy(io.Discard, resp.Body)
			return resp.Header.Get("X-Cache"), resp.Header.Get("Cache-Status"), err
		}
		harness.Eventually(t, "the node speaks "+protocol, func() bool {
			_, _, err := ask("/ready")
			return err == nil
		})
		t.Run(protocol, func(t *testing.T) {
			for _, path := range []string{"/account/..%2fstatic/x", "/account/%2e%2e/static/x", "/a;x/b", "/a%5cb", "/a%252f..%252fb", "/a/../b"} {
				if outcome, status, err := ask(path); outcome != "BYPASS" || !strings.Contains(status, "ambiguous-path") || err != nil {
					t.Errorf("%s is %s, want BYPASS: %q %v", path, outcome, status, err)
				}
			}
			for _, outcome := range []string{"MISS", "HIT"} {
				if got, status, err := ask(fmt.Sprintf("/@%s%%2fname;v=1", protocol)); got != outcome || err != nil {
					t.Errorf("%s, want %s: %q %v", got, outcome, status, err)
				}
			}
		})
	}
}

// TestTypesThatContradict asks for accounts under the names of files.
func TestTypesThatContradict(t *testing.T) {
	t.Parallel()
	web := harness.NewOrigin(t)
	n := harness.StartCaddy(t, harness.Layout{Origin: web, Site: "redis_cache {\nttl 1h\n}"})
	for i, tt := range []struct{ path, contentType, outcome string }{
		{"/account/x.txt", "text/html; charset=utf-8", "MISS"},
		{"/account/x.TXT", "text/html", "MISS"},
		{"/account/x%2etxt", "text/html", "MISS"},
		{"/account/x.txt;v=1", "text/html", "MISS"},
		{"/account/x.css;v=1", "text/html", "MISS"},
		{"/account/x.txt", "application/json", "MISS"},
		{"/account/x.json", "text/html", "MISS"},
		{"/account/x.webmanifest", "text/html", "MISS"},
		{"/account/x.xml", "text/html", "MISS"},
		{"/account/x.xml", "application/xhtml+xml", "MISS"},
		{"/account/x.rss", "application/json", "MISS"},
		{"/account/x.atom", "text/html", "MISS"},
		{"/account/x.html", "application/json", "MISS"},
		{"/account/x.zip", "application/vnd.api+json", "MISS"},
		{"/account/x.yaml", "text/html", "MISS"},
		{"/feed.xml", "application/rss+xml", "HIT"},
		{"/feed.xml", "application/atom+xml; charset=utf-8", "HIT"},
		{"/feed.xml", "text/xml", "HIT"},
		{"/feed.rss", "application/xml", "HIT"},
		{"/feed.atom", "application/atom+xml", "HIT"},
		{"/data.json", "application/ld+json", "HIT"},
		{"/data.json", "application/json", "HIT"},
		{"/feed.json", "application/feed+json", "HIT"},
		{"/app.webmanifest", "application/manifest+json", "HIT"},
		{"/app.webmanifest", "application/json", "HIT"},
		{"/x.txt", "text/markdown", "HIT"},
		{"/x.txt", "text/plain; charset=utf-8", "HIT"},
		{"/x.csv", "text/plain", "HIT"},
		{"/page.html", "text/html; charset=utf-8", "HIT"},
		{"/page.htm", "application/xhtml+xml", "HIT"},
		{"/readme.md", "text/html", "HIT"}, // a wiki renders it
		{"/main.js.map", "application/json", "HIT"},
	} {
		t.Run(tt.path+" "+tt.contentType, func(t *testing.T) {
			web.Handle("/", func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", tt.contentType)
				io.WriteString(w, "x")
			})
			query := fmt.Sprint("?", i)
			n.Want(t, "MISS", tt.path+query)
			n.Want(t, tt.outcome, tt.path+query)
		})
	}
}
