package integration

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

const explainedCache = `
	namespace off {
		ttl 1h
	}
	namespace user {
		ttl 1h
		by_user {http.request.header.X-User}
	}`

const explainedSite = `
	@preview query preview=*
	redis_cache /off/* off
	redis_cache /user/* user
	redis_cache /shared/* {
		ttl 1h
		shared
	}
	redis_cache /swr/* {
		stale_while_revalidate 1h
	}
	redis_cache /a/* {
		ttl 1h
		vary_query page sort
		bypass @preview
		client_cache_control honor
	}
	respond /none none 204`

// explain asks the node what it would do with a request.
func (n *node) explain(t *testing.T, method, path string, fields ...string) map[string]any {
	t.Helper()
	query := url.Values{"url": {n.url(path)}, "method": {method}, "header": append([]string{"Host: " + siteHost}, fields...)}
	return n.json(t, http.StatusOK, http.MethodGet, "/redis_cache/explain?"+query.Encode(), "")
}

// TestExplain has random requests in random states: what is explained is what the
// same request then gets, and explaining asks no origin.
func TestExplain(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	pick := func(of ...string) string { return of[random.IntN(len(of))] }
	web := newOrigin(t)
	web.with("/a/vary", "Vary: Accept-Language")
	web.with("/a/public", "Cache-Control: public, max-age=600")
	web.with("/a/private", "Cache-Control: private")
	web.with("/a/cookie", "Set-Cookie: session=1")
	web.with("/swr/stale", "Cache-Control: max-age=0", `ETag: "1"`)
	web.with("/a/stale", "Cache-Control: max-age=0", `ETag: "1"`)
	rds := startRedis(t)
	node := startCaddy(t, layout{redis: rds, origin: web, cache: explainedCache, site: explainedSite})
	node.attached(t)
	node.json(t, http.StatusOK, http.MethodPost, "/redis_cache/disable", `{"namespace":"off","wait":"10s"}`)

	outcomes := make(map[string]int)
	for range 400 {
		path := pick("/a/1", "/a/2", "/a/vary", "/a/public", "/a/private", "/a/cookie", "/a/stale", "/swr/stale", "/off/1", "/user/1", "/shared/1")
		path += pick("", "", "", "?page=1", "?page=2&utm_source=x", "?preview=1")
		method := pick("GET", "GET", "GET", "GET", "GET", "HEAD", "OPTIONS")
		var fields []string
		for _, field := range []string{
			"Authorization: Bearer x", "Cookie: session=x", "Cookie: _ga=x", "Accept-Language: " + pick("de", "fr"), "Range: bytes=0-1",
			"Cache-Control: " + pick("no-cache", "only-if-cached", "no-store", "max-stale=10"), "X-User: " + pick("1", "2"), "X-Original-URL: /x",
		} {
			if random.IntN(6) == 0 {
				fields = append(fields, field)
			}
		}
		if random.IntN(8) == 0 {
			node.purge(t, pick(`{"tag":"x"}`, `{"url":"http://shop.test/a/1"}`, `{"all":true,"soft":true}`, `{"namespace":"general"}`))
		}
		bare, _, _ := strings.Cut(path, "?")
		before := web.count(bare)
		e := node.explain(t, method, path, fields...)
		if before != web.count(bare) && !strings.HasPrefix(path, "/swr/") { // those are refreshed in the background
			t.Fatalf("explaining %s %s asked the origin", method, path)
		}
		r := node.do(t, method, path, "", fields...)
		outcomes[r.outcome()]++
		what := fmt.Sprintf("seed %d: %s %s %q: explained %v %v %v, was %s %q", seed, method, path, fields,
			e["outcome"], e["reason"], e["possible"], r.outcome(), r.header.Get("Cache-Status"))
		possible, _ := e["possible"].([]any)
		if e["outcome"] != r.outcome() && !slices.Contains(possible, any(r.outcome())) {
			t.Error(what)
		}
		if key, _ := e["key"].(string); r.key() != "" && key != r.key() && e["outcome"] != "MISS" {
			t.Errorf("%s; key %q, was %q", what, key, r.key())
		}
		if e["outcome"] == "BYPASS" && e["reason"] != r.cacheStatus(t)["detail"] {
			t.Error(what)
		}
		if words := map[any]string{"absent": "uri-miss", "variant": "vary-miss", "expired": "stale", "credentials": "request"}; words[e["forward"]] != "" &&
			e["outcome"] == "MISS" && r.outcome() == "MISS" && r.cacheStatus(t)["fwd"] != words[e["forward"]] {
			t.Error(what)
		}
		if text, _ := e["advice"].(string); text == "" {
			t.Errorf("%s: no advice", what)
		}
	}
	for _, outcome := range []string{"HIT", "MISS", "STALE", "BYPASS"} {
		if outcomes[outcome] == 0 {
			t.Errorf("no %s among %v: the test is too narrow", outcome, outcomes)
		}
	}

	node.get(t, "/a/1")
	node.purge(t, `{"url":"http://shop.test/a/1","by":"me","soft":true}`)
	if purges, _ := node.explain(t, "GET", "/a/1")["purges"].([]any); len(purges) == 0 || purges[0].(map[string]any)["by"] != "me" {
		t.Errorf("purges %v", purges)
	}
	if e := node.explain(t, "GET", "/none"); e["outcome"] != "" || !strings.Contains(e["reason"].(string), "204") {
		t.Errorf("without a cache: %v", e)
	}
	if e := node.explain(t, "GET", "/elsewhere"); e["outcome"] != "" || web.count("/elsewhere") != 0 {
		t.Errorf("without a cache: %v, and %d requests at the origin", e, web.count("/elsewhere"))
	}
	for _, query := range []string{"", "?url=x", "?url=http://x.test:1/", "?unknown=1", "?url=" + node.url("/") + "&header=x", "?url=" + node.url("/") + "&method=%20", "?url=" + node.url("/") + "&method=DELETE"} {
		if r := node.api(t, http.MethodGet, "/redis_cache/explain"+query, ""); r.status != http.StatusBadRequest {
			t.Errorf("%q: %d", query, r.status)
		}
	}
}
