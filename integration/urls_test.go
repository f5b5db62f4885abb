package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// What purges take for the same URL.

// spellings are URLs that are purged by one spelling and stored under another.
var spellings = []struct{ selector, value, host, stored, stays string }{
	{"url", "http://shop.test/café", "", "/caf%C3%A9", "/cafe"},
	{"url", "http://shop.test/caf%c3%a9", "", "/caf%C3%A9", "/caf%C3%A8"},
	{"url", "http://shop.test/caf%C3%A9", "", "/caf%c3%a9", "/caf%c3%a8"},
	{"url", "http://shop.test/a b", "", "/a%20b", "/a+b"},
	{"url", "http://shop.test/~joe", "", "/%7Ejoe", "/%7Ejo"},
	{"url", "http://shop.test/%7ejoe?b=%7e&a=1", "", "/~joe?a=1&b=~", "/~joe?a=1"},
	{"url", "HTTP://SHOP.TEST:80/x/../y", "", "/y", "/x"},
	{"url", "http://shop.test/a%2fb", "", "/a%2Fb", "/a/b"},
	{"url", "http://shop.test/?q[]=é", "", "/?q%5B%5D=%C3%A9", "/?q=%C3%A9"},
	{"url", "http://münchen.test/a", "xn--mnchen-3ya.test", "/a", "/b"},
	{"prefix", "http://shop.test/café", "", "/caf%C3%A9/1", "/caf/1"},
	{"prefix", "http://shop.test/./%7E", "", "/~joe/1", "/joe/1"},
	{"prefix", "http://MÜNCHEN.test/b/", "xn--mnchen-3ya.test", "/b/1", "/c/1"},
	{"prefix", "http://shop.test/d b/", "", "/d%20b/1", "/d/1"},
}

func TestSpellingsOfPurges(t *testing.T) {
	t.Parallel()
	for name, rds := range map[string]*redisServer{"redis": startRedis(t), "memory": nil} {
		t.Run(name, func(t *testing.T) {
			n := startCaddy(t, layout{redis: rds, origin: newOrigin(t), site: "redis_cache {\nttl 5m\n}"})
			purged := func(what string, host string, purge func(), stored, stays string) {
				t.Helper()
				var fields []string
				if host != "" {
					fields = []string{"Host: " + host}
				}
				n.get(t, stored, fields...)
				n.get(t, stays, fields...)
				n.want(t, "HIT", stored, fields...)
				n.want(t, "HIT", stays, fields...)
				purge()
				if r := n.get(t, stored, fields...); r.outcome() != "MISS" {
					t.Errorf("%s leaves %s, a %s", what, stored, r.outcome())
				}
				if r := n.get(t, stays, fields...); r.outcome() != "HIT" {
					t.Errorf("%s takes %s, a %s", what, stays, r.outcome())
				}
			}
			for _, tt := range spellings {
				body, _ := json.Marshal(map[string]string{tt.selector: tt.value})
				purged(string(body), tt.host, func() { n.purge(t, string(body)) }, tt.stored, tt.stays)
			}
			n.get(t, "/h", "Host: xn--bcher-kva.test")
			n.get(t, "/h")
			n.purge(t, `{"host":"BÜCHER.test"}`)
			n.want(t, "MISS", "/h", "Host: xn--bcher-kva.test")
			n.want(t, "HIT", "/h")
			unsafe := func(path string, fields ...string) func() {
				return func() {
					n.layout.origin.with("/unsafe", fields...)
					n.do(t, http.MethodPost, path, "")
				}
			}
			purged("a POST", "", unsafe("/p%c3%a9?x=1"), "/p%C3%A9", "/p%C3%A8")
			purged("a POST to an ambiguous path", "", unsafe("/other/../dots"), "/dots", "/other")
			purged("Location", "", unsafe("/unsafe", "Location: /été/%7ejoe"), "/%C3%A9t%C3%A9/~joe", "/%C3%A9t%C3%A9/joe")
			purged("Content-Location", "", unsafe("/unsafe", "Content-Location: HTTP://SHOP.test:80/x/../cl?y"), "/cl", "/x")
			if rds == nil {
				return
			}
			n.get(t, "/xadd/%c3%a9")
			n.want(t, "HIT", "/xadd/%c3%a9")
			rds.do(t, "XADD", journalKey, "*", "op", "purge", "url", "http://shop.test/xadd/é")
			eventually(t, "an entry by others is applied", func() bool { return n.get(t, "/xadd/%c3%a9").outcome() == "MISS" })
		})
	}
}

func TestPurgesOfWhatIsNoURL(t *testing.T) {
	t.Parallel()
	n := startCaddy(t, layout{origin: newOrigin(t)})
	for _, body := range []string{
		`{"url":"shop.test/a"}`, `{"url":"http:///a"}`, `{"url":"http://shop.test/%zz"}`, `{"url":"http://sh op.test/"}`, `{"url":"http://shop.test:x/"}`,
		`{"url":"http://shop.test/\u0000"}`, `{"url":"http://\u200d.test/"}`, `{"urls":["http://shop.test/a","ftp://shop.test/"]}`, `{"url":"http://shop.test\\a"}`,
		`{"prefix":"shop.test/a"}`, `{"prefix":"http://shop.test/%c"}`, `{"host":"shop.test/a"}`, `{"host":"shop test"}`, `{"host":"http://shop.test"}`, `{"host":"shop.test:http"}`,
	} {
		if answer := n.json(t, http.StatusBadRequest, http.MethodPost, "/redis_cache/purge", body); answer["error"] == "" {
			t.Errorf("%s: %v", body, answer)
		}
	}
}

// TestSchemeOfTrustedProxies has TLS terminated in front of the node.
func TestSchemeOfTrustedProxies(t *testing.T) {
	t.Parallel()
	const site = "redis_cache {\nttl 5m\n}"
	trusting := startCaddy(t, layout{origin: newOrigin(t), site: site, global: "servers {\ntrusted_proxies static 127.0.0.1/32\n}"})
	wary := startCaddy(t, layout{origin: newOrigin(t), site: site})
	const https, plain = "X-Forwarded-Proto: https", "X-Forwarded-Proto: http"
	for i, tt := range []struct {
		node    *node
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
			tt.node.want(t, "MISS", path, tt.field)
			tt.node.want(t, "HIT", path, tt.field)
			tt.node.purge(t, fmt.Sprintf(`{%q:"%s://shop.test%s"}`, selector, tt.scheme, path))
			tt.node.want(t, tt.outcome, path, tt.field)
		}
	}
	web := trusting.layout.origin
	web.with("/page", "Cache-Groups: \"news\"")
	for what, fields := range map[string][]string{
		"Location":   {"Location: https://shop.test/page"},
		"the groups": {"Cache-Group-Invalidation: \"news\""},
	} {
		trusting.get(t, "/page", https)
		trusting.want(t, "HIT", "/page", https)
		web.with("/post", fields...)
		trusting.do(t, http.MethodPost, "/post", "", https)
		if r := trusting.get(t, "/page", https); r.outcome() != "MISS" {
			t.Errorf("%s: the page is a %s", what, r.outcome())
		}
	}
	trusting.get(t, "/own", https)
	stored := trusting.want(t, "HIT", "/own", https).key()
	query := url.Values{"url": {trusting.url("/own")}, "header": {"Host: " + siteHost, https}}
	if e := trusting.json(t, http.StatusOK, http.MethodGet, "/redis_cache/explain?"+query.Encode(), ""); e["key"] != stored {
		t.Errorf("explain looks at %v, not at %s", e["key"], stored)
	}
	trusting.do(t, http.MethodPost, "/own", "", https)
	trusting.want(t, "MISS", "/own", https)
	if body := trusting.api(t, http.MethodGet, "/redis_cache/entries", "").body; !strings.Contains(body, `"url":"https://shop.test/own"`) {
		t.Errorf("entries show no URL of https: %s", body)
	}
}

// TestTrustIsPartOfTheKey has fields of the same text from a proxy and from somebody else,
// whom upstreams answer otherwise, and warming, which asks as the proxy does.
func TestTrustIsPartOfTheKey(t *testing.T) {
	t.Parallel()
	n := startCaddy(t, layout{
		origin: newOrigin(t), global: "servers {\ntrusted_proxies static 198.51.100.0/24\n}",
		site: "@proxy header X-Proxy 1\nvars @proxy trusted_proxy true\nredis_cache {\nttl 5m\n}",
	})
	const https, proxy = "X-Forwarded-Proto: https", "X-Proxy: 1"
	n.want(t, "MISS", "/a", https)
	n.want(t, "MISS", "/a", https, proxy)
	n.want(t, "HIT", "/a", https, proxy)
	n.want(t, "HIT", "/a", https)
	n.purge(t, `{"url":"https://shop.test/a"}`)
	n.want(t, "MISS", "/a", https, proxy)
	n.want(t, "HIT", "/a", https)
	body := fmt.Sprintf(`{"urls":[%q],"headers":[{"host":"shop.test","X-Forwarded-Proto":"https"}],"wait":true}`, n.url("/b"))
	n.json(t, http.StatusOK, http.MethodPost, "/redis_cache/warm", body)
	n.want(t, "HIT", "/b", https, proxy)
	query := url.Values{"url": {n.url("/b")}, "header": {"Host: " + siteHost, https}}
	if e := n.json(t, http.StatusOK, http.MethodGet, "/redis_cache/explain?"+query.Encode(), ""); e["outcome"] != "HIT" {
		t.Errorf("explain says %v of what was warmed", e["outcome"])
	}
	n.purge(t, `{"url":"https://shop.test/b"}`)
	n.want(t, "MISS", "/b", https, proxy)
}

// TestFieldsOfFrameworks sends what only builds and proxies of frameworks send.
func TestFieldsOfFrameworks(t *testing.T) {
	t.Parallel()
	n := startCaddy(t, layout{origin: newOrigin(t), site: "redis_cache {\nttl 5m\n}"})
	n.want(t, "MISS", "/a")
	for _, field := range []string{
		"X-React-Router-SPA-Mode: yes", "X-React-Router-Prerender-Data: x", "X-Matched-Path: /admin", "X-Invoke-Path: /admin", "X-Invoke-Query: {}",
		"X-Invoke-Status: 404", "X-Now-Route-Matches: 1=a", "X-Middleware-Subrequest: middleware", "x-middleware-subrequest: src/middleware",
		"X-Middleware-Rewrite: /admin", "X-Middleware-Override-Headers: cookie", "X-Invoke-Output: /x", "X-Original-URL: /admin", "X-HTTP-Method: PUT",
	} {
		for _, path := range []string{"/a", "/cold"} {
			if r := n.want(t, "BYPASS", path, field); !strings.Contains(r.header.Get("Cache-Status"), "detail=override-field") {
				t.Errorf("%s: %q", field, r.header.Get("Cache-Status"))
			}
		}
	}
	n.want(t, "MISS", "/cold")
	n.want(t, "HIT", "/a", "X-Requested-With: XMLHttpRequest", "X-Matched: 1")
}
