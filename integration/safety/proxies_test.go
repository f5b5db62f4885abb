package safety

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// TestSchemeOfTrustedProxies has TLS terminated in front of the node.
func TestSchemeOfTrustedProxies(t *testing.T) {
	t.Parallel()
	const site = "redis_cache {\nttl 5m\n}"
	trusting := harness.StartCaddy(t, harness.Layout{Origin: harness.NewOrigin(t), Site: site, Global: "servers {\ntrusted_proxies static 127.0.0.1/32\n}"})
	wary := harness.StartCaddy(t, harness.Layout{Origin: harness.NewOrigin(t), Site: site})
	const https, plain = "X-Forwarded-Proto: https", "X-Forwarded-Proto: http"
	for i, tt := range []struct {
		node    *harness.Node
		field   string
		scheme  string
		outcome string
	}{
		{trusting, https, "https", "MISS"},
		{trusting, https, "http", "HIT"},
		{trusting, "X-Forwarded-Proto: HTTPS", "https", "MISS"},
		{trusting, plain, "http", "MISS"},
		{trusting, plain, "https", "HIT"},
		{trusting, "X-Forwarded-Proto: gopher", "http", "MISS"},
		{trusting, "X-Other: 1", "http", "MISS"},
		{wary, https, "http", "MISS"}, // anybody may send it
		{wary, https, "https", "HIT"},
	} {
		for _, selector := range []string{"url", "prefix"} {
			path := fmt.Sprintf("/%s/%d", selector, i)
			tt.node.Want(t, "MISS", path, tt.field)
			tt.node.Want(t, "HIT", path, tt.field)
			tt.node.Purge(t, fmt.Sprintf(`{%q:"%s://shop.test%s"}`, selector, tt.scheme, path))
			tt.node.Want(t, tt.outcome, path, tt.field)
		}
	}
	web := trusting.Layout.Origin
	web.With("/page", "Cache-Groups: \"news\"")
	for what, fields := range map[string][]string{
		"Location":   {"Location: https://shop.test/page"},
		"the groups": {"Cache-Group-Invalidation: \"news\""},
	} {
		trusting.Get(t, "/page", https)
		trusting.Want(t, "HIT", "/page", https)
		web.With("/post", fields...)
		trusting.Do(t, http.MethodPost, "/post", "", https)
		if r := trusting.Get(t, "/page", https); r.Outcome() != "MISS" {
			t.Errorf("%s: the page is a %s", what, r.Outcome())
		}
	}
	trusting.Get(t, "/own", https)
	stored := trusting.Want(t, "HIT", "/own", https).Key()
	query := url.Values{"url": {trusting.URL("/own")}, "header": {"Host: " + harness.SiteHost, https}}
	if e := trusting.JSON(t, http.StatusOK, http.MethodGet, "/redis_cache/explain?"+query.Encode(), ""); e["key"] != stored {
		t.Errorf("explain looks at %v, not at %s", e["key"], stored)
	}
	trusting.Do(t, http.MethodPost, "/own", "", https)
	trusting.Want(t, "MISS", "/own", https)
	if body := trusting.API(t, http.MethodGet, "/redis_cache/entries", "").Body; !strings.Contains(body, `"url":"https://shop.test/own"`) {
		t.Errorf("entries show no URL of https: %s", body)
	}
}

// TestTrustIsPartOfTheKey has fields of the same text from a proxy and from somebody else,
// whom upstreams answer otherwise, and warming, which asks as the proxy does.
func TestTrustIsPartOfTheKey(t *testing.T) {
	t.Parallel()
	n := harness.StartCaddy(t, harness.Layout{
		Origin: harness.NewOrigin(t), Global: "servers {\ntrusted_proxies static 198.51.100.0/24\n}",
		Site: "@proxy header X-Proxy 1\nvars @proxy trusted_proxy true\nredis_cache {\nttl 5m\n}",
	})
	const https, proxy = "X-Forwarded-Proto: https", "X-Proxy: 1"
	n.Want(t, "MISS", "/a", https)
	n.Want(t, "MISS", "/a", https, proxy)
	n.Want(t, "HIT", "/a", https, proxy)
	n.Want(t, "HIT", "/a", https)
	n.Purge(t, `{"url":"https://shop.test/a"}`)
	n.Want(t, "MISS", "/a", https, proxy)
	n.Want(t, "HIT", "/a", https)
	body := fmt.Sprintf(`{"urls":[%q],"headers":[{"host":"shop.test","X-Forwarded-Proto":"https"}],"wait":true}`, n.URL("/b"))
	n.JSON(t, http.StatusOK, http.MethodPost, "/redis_cache/warm", body)
	n.Want(t, "HIT", "/b", https, proxy)
	query := url.Values{"url": {n.URL("/b")}, "header": {"Host: " + harness.SiteHost, https}}
	if e := n.JSON(t, http.StatusOK, http.MethodGet, "/redis_cache/explain?"+query.Encode(), ""); e["outcome"] != "HIT" {
		t.Errorf("explain says %v of what was warmed", e["outcome"])
	}
	n.Purge(t, `{"url":"https://shop.test/b"}`)
	n.Want(t, "MISS", "/b", https, proxy)
}

// TestFieldsOfFrameworks sends what only builds and proxies of frameworks send.
func TestFieldsOfFrameworks(t *testing.T) {
	t.Parallel()
	n := harness.StartCaddy(t, harness.Layout{Origin: harness.NewOrigin(t), Site: "redis_cache {\nttl 5m\n}"})
	n.Want(t, "MISS", "/a")
	for _, field := range []string{
		"X-React-Router-SPA-Mode: yes", "X-React-Router-Prerender-Data: x", "X-Matched-Path: /admin", "X-Invoke-Path: /admin", "X-Invoke-Query: {}",
		"X-Invoke-Status: 404", "X-Now-Route-Matches: 1=a", "X-Middleware-Subrequest: middleware", "x-middleware-subrequest: src/middleware",
		"X-Middleware-Rewrite: /admin", "X-Middleware-Override-Headers: cookie", "X-Invoke-Output: /x", "X-Original-URL: /admin", "X-HTTP-Method: PUT",
	} {
		for _, path := range []string{"/a", "/cold"} {
			if r := n.Want(t, "BYPASS", path, field); !strings.Contains(r.Header.Get("Cache-Status"), "detail=override-field") {
				t.Errorf("%s: %q", field, r.Header.Get("Cache-Status"))
			}
		}
	}
	n.Want(t, "MISS", "/cold")
	n.Want(t, "HIT", "/a", "X-Requested-With: XMLHttpRequest", "X-Matched: 1")
}
