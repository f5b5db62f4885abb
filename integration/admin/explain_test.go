package admin

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

const explainedCache = `
	circuit_breaker {
		failures 1
		recovery 300ms
	}
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
	redis_cache /sie/* {
		stale_if_error 1h
	}
	redis_cache /post/* {
		ttl 1h
		methods GET HEAD POST
		vary_body 1KiB
	}
	redis_cache /a/* {
		ttl 1h
		vary_query page sort
		bypass @preview
		client_cache_control honor
	}
	respond /none none 204`

// explained is what the tests read of GET /redis_cache/explain.
type explained struct {
	Outcome, Reason, Detail, Forward, Advice, Key, Breaker string

	Possible   []string
	Tiers      map[string]struct{ State string }
	HitForMiss *struct{ Reason string } `json:"hit_for_miss"`
	Failing    bool                     `json:"failing_origin"`
	Purges     []struct{ By string }
	Journal    struct{ State string }
}

// explain asks the node what it would do with a request.
func explain(t *testing.T, n *harness.Node, method, path string, fields ...string) (e explained) {
	t.Helper()
	query := url.Values{"url": {n.URL(path)}, "method": {method}, "header": append([]string{"Host: " + harness.SiteHost}, fields...)}
	r := n.API(t, http.MethodGet, "/redis_cache/explain?"+query.Encode(), "")
	if err := json.Unmarshal([]byte(r.Body), &e); err != nil || r.Status != http.StatusOK {
		t.Fatalf("explain %s %s: %d %s: %v", method, path, r.Status, r.Body, err)
	}
	return e
}

// tailed is a line of GET /redis_cache/tail.
type tailed struct{ Outcome, Reason, Tier, Path, Namespace string }

// follow returns a function that waits for the next request that the node has
// answered.
func follow(t *testing.T, n *harness.Node) func() tailed {
	t.Helper()
	resp, err := http.Get("http://" + n.Admin + "/redis_cache/tail")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	lines := bufio.NewScanner(resp.Body)
	return func() (line tailed) {
		t.Helper()
		ended := time.AfterFunc(harness.Patience, func() { resp.Body.Close() }) // or a failure would be a hanging test
		defer ended.Stop()
		if !lines.Scan() {
			t.Fatalf("the stream ended: %v", lines.Err())
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		return line
	}
}

// differs says in what an explanation differs from what then happened.
func (e *explained) differs(t *testing.T, r harness.Reply, was tailed) (how string) {
	t.Helper()
	status, reason := r.CacheStatus(t), strings.TrimSpace(e.Reason+" "+e.Detail)
	switch {
	case was.Outcome != r.Outcome() || (status["hit"] == "" && was.Reason != status["detail"]):
		return "the tail says something else than the answer"
	case e.Outcome != was.Outcome && !slices.Contains(e.Possible, was.Outcome):
		return "outcome"
	case e.Advice == "":
		return "no advice"
	case r.Key() != "" && e.Key != r.Key() && e.Outcome != "MISS" && len(e.Possible) == 0: // what it is stored under, the origin decides
		return "key"
	case e.Outcome == was.Outcome && was.Outcome != "MISS" && len(e.Possible) == 0 && reason != was.Reason,
		status["stored"] != "" && was.Outcome == "MISS" && reason != was.Reason:
		return "reason"
	case was.Outcome == "HIT" && e.Tiers[was.Tier].State != "fresh":
		return "tier"
	}
	words := map[string]string{
		"": "", "absent": "uri-miss", "variant": "vary-miss", "expired": "stale",
		"credentials": "request", "request-directive": "request", "method": "method",
	}
	word, known := words[e.Forward]
	if !known {
		word = "bypass"
	}
	if status["hit"] == "" && word != status["fwd"] {
		return "forward"
	}
	return ""
}

// explainer has random requests in random states.
type explainer struct {
	*rand.Rand

	node     *harness.Node
	other    *harness.Node // on the same Redis
	web      *harness.Origin
	failing  atomic.Bool // the origin of /sie/
	next     func() tailed
	outcomes map[string]int
	forwards map[string]int
	newer    int // hits that another node has fetched, while memory has a stale response
}

func (x *explainer) pick(of ...string) string { return of[x.IntN(len(of))] }

// compare has one request explained and sends it.
func (x *explainer) compare(t *testing.T) {
	t.Helper()
	path := x.pick("/a/1", "/a/1", "/a/2", "/a/vary", "/a/vary", "/a/public", "/a/private", "/a/cookie", "/a/stale", "/swr/stale", "/sie/1", "/sie/1", "/off/1", "/user/1", "/shared/1", "/post/1")
	if x.IntN(3) == 0 {
		path += x.pick("", "?page=1", "?page=2&utm_source=x", "?preview=1")
	}
	method := x.pick("GET", "GET", "GET", "GET", "GET", "GET", "GET", "HEAD", "OPTIONS")
	if strings.HasPrefix(path, "/post/") {
		method = x.pick("POST", "POST", "GET")
	}
	fields := []string{"Accept-Language: " + x.pick("de", "fr")}
	if x.IntN(4) == 0 {
		fields = append(fields, "Cache-Control: "+x.pick("no-cache", "no-cache", "max-age=0", "only-if-cached", "no-store", "max-stale=10"))
	}
	for _, field := range []string{
		"Authorization: Bearer x", "Cookie: session=x", "Cookie: _ga=x", "Range: bytes=0-1",
		"X-User: " + x.pick("1", "2"), "X-Original-URL: /x",
		"If-None-Match: " + x.pick(`"1"`, `"2"`), "If-Match: \"2\"", "Upgrade: websocket",
	} {
		if x.IntN(20) == 0 {
			fields = append(fields, field)
		}
	}
	x.failing.Store(x.IntN(3) == 0)
	alwaysStale := strings.HasPrefix(path, "/swr/") || strings.HasPrefix(path, "/sie/") || strings.HasPrefix(path, "/a/stale")
	if x.other != nil && !alwaysStale && x.IntN(8) == 0 {
		// What the other node stores reaches Redis a little later.
		status := x.other.Do(t, method, path, "", fields...).CacheStatus(t)
		if ttl, _ := strconv.Atoi(status["ttl"]); ttl > 0 && status["stored"] != "" {
			harness.Eventually(t, "it is stored", func() bool { return explain(t, x.other, method, path, fields...).Tiers["redis"].State == "fresh" })
		}
	}
	bare, _, _ := strings.Cut(path, "?")
	before := x.web.Count(bare)
	e := explain(t, x.node, method, path, fields...)
	if before != x.web.Count(bare) && !strings.HasPrefix(path, "/swr/") { // those are refreshed in the background
		t.Errorf("explaining %s %s asked the origin", method, path)
	}
	r := x.node.Do(t, method, path, "", fields...)
	was := x.next()
	if e.Failing && was.Reason != "error" {
		e = explain(t, x.node, method, path, fields...) // its time may have been over in between
	}
	if how := e.differs(t, r, was); how != "" {
		t.Errorf("%s %s %q: %s\nexplained %+v\nwas %d %+v %q", method, path, fields, how, e, r.Status, was, r.Header["Cache-Status"])
	}
	x.outcomes[was.Outcome]++
	x.forwards[e.Forward]++
	if was.Tier == "redis" && e.Tiers["memory"].State == "soft" {
		x.newer++
	}
}

// TestExplain has random requests in random states: what is explained is what the
// same request then gets, and explaining asks no origin.
func TestExplain(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	web := harness.NewOrigin(t)
	x := &explainer{Rand: rand.New(rand.NewPCG(seed, 0)), web: web, outcomes: make(map[string]int), forwards: make(map[string]int)}
	web.With("/a/vary", "Vary: Accept-Language")
	web.With("/a/public", "Cache-Control: public, max-age=600")
	web.With("/a/private", "Cache-Control: private")
	web.With("/a/cookie", "Set-Cookie: session=1")
	// Always the same, so that a refresh in the background changes nothing.
	web.Answer("/swr/stale", http.StatusOK, "as ever", "Cache-Control: max-age=0", `ETag: "1"`)
	web.Handle("/a/stale", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=0")
		w.Header().Set("ETag", `"1"`)
		if r.Header.Get("If-None-Match") == `"1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		fmt.Fprint(w, "as ever")
	})
	web.Handle("/sie/1", func(w http.ResponseWriter, _ *http.Request) {
		if x.failing.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Cache-Control", "max-age=0")
		fmt.Fprint(w, "works")
	})
	rds := harness.StartRedis(t)
	node := harness.StartCaddy(t, harness.Layout{Redis: rds, Origin: web, Cache: explainedCache, Site: explainedSite})
	node.Attached(t)
	x.node, x.next = node, follow(t, node)
	x.other = harness.StartCaddy(t, node.Layout)
	node.JSON(t, http.StatusOK, http.MethodPost, "/redis_cache/disable", `{"namespace":"off","wait":"10s"}`)

	seen := func(counts map[string]int, all ...string) bool {
		return !slices.ContainsFunc(all, func(one string) bool { return counts[one] == 0 })
	}
	everything := func() bool {
		return x.newer > 0 && seen(x.outcomes, "HIT", "MISS", "STALE", "REVALIDATED", "BYPASS") &&
			seen(x.forwards, "", "absent", "variant", "expired", "credentials", "request-directive", "method", "bypass-rule", "disabled")
	}
	for i := 0; i < 600 || !everything(); i++ {
		if i == 6000 {
			t.Fatalf("the test is too narrow: %v %v %d", x.outcomes, x.forwards, x.newer)
		}
		if x.IntN(16) == 0 {
			node.Purge(t, x.pick(
				`{"tag":"x"}`, `{"url":"http://shop.test/a/1"}`, `{"url":"http://shop.test/sie/1"}`, `{"all":true,"soft":true}`,
				`{"tag":"y"}`, `{"tag":"z"}`, `{"namespace":"general"}`))
		}
		x.compare(t)
	}

	node.Get(t, "/a/1")
	x.next()
	rds.Kill()
	harness.Eventually(t, "Redis is missed", func() bool {
		node.Get(t, "/a/unknown")
		x.next()
		e := explain(t, node, "GET", "/a/1")
		return e.Journal.State == "cut-off" && e.Breaker != "closed" && e.Tiers["redis"].State == "down"
	})
	x.other = nil
	for range 100 {
		x.compare(t)
	}
	rds.Start(t)
	harness.Eventually(t, "Redis is back", func() bool {
		node.Get(t, "/a/unknown")
		x.next()
		e := explain(t, node, "GET", "/a/1")
		return e.Journal.State == "leased" && e.Breaker == "closed"
	})
	for range 50 {
		x.compare(t)
	}

	node.Get(t, "/a/1")
	node.Purge(t, `{"url":"http://shop.test/a/1","by":"me","soft":true}`)
	if e := explain(t, node, "GET", "/a/1"); len(e.Purges) == 0 || e.Purges[0].By != "me" {
		t.Errorf("purges %v", e.Purges)
	}
	if e := explain(t, node, "GET", "/none"); e.Outcome != "" || !strings.Contains(e.Reason, "204") {
		t.Errorf("without a cache: %v", e)
	}
	if e := explain(t, node, "GET", "/elsewhere"); e.Outcome != "" || web.Count("/elsewhere") != 0 {
		t.Errorf("without a cache: %v, and %d requests at the origin", e, web.Count("/elsewhere"))
	}
	for _, query := range []string{
		"", "?url=x", "?url=http://x.test:1/", "?unknown=1", "?url=" + node.URL("/") + "&header=x", "?url=" + node.URL("/") + "&method=%20", "?url=" + node.URL("/") + "&method=DELETE",
		"?url=" + strings.Replace(node.URL("/"), "http:", "https:", 1), "?url=" + strings.Replace(node.URL("/"), "//", "//user:password@", 1),
		"?url=" + node.URL("/") + "&method=POST&header=Transfer-Encoding:chunked",
	} {
		if r := node.API(t, http.MethodGet, "/redis_cache/explain"+query, ""); r.Status != http.StatusBadRequest {
			t.Errorf("%q: %d", query, r.Status)
		}
	}
}

// TestExplainedServer has two servers on one port.
func TestExplainedServer(t *testing.T) {
	t.Parallel()
	l := harness.Layout{Origin: harness.NewOrigin(t), Site: "\tredis_cache"}
	node := harness.StartCaddy(t, l)
	_, port, _ := strings.Cut(node.Site, ":")
	l.More = "http://:" + port + " {\n\tbind 127.0.0.2\n\tlog\n\trespond other 203\n}\n"
	if r := node.Reload(t, l); r.Status != http.StatusOK {
		t.Fatalf("reload: %d %s", r.Status, r.Body)
	}
	explain := func(host string) harness.Reply {
		return node.API(t, http.MethodGet, "/redis_cache/explain?url=http://"+host+":"+port+"/", "")
	}
	for range 10 {
		if r := explain("127.0.0.1"); r.Status != http.StatusOK || !strings.Contains(r.Body, `"outcome":"MISS"`) {
			t.Fatalf("the first: %d %s", r.Status, r.Body)
		}
		if r := explain("127.0.0.2"); r.Status != http.StatusOK || !strings.Contains(r.Body, "status 203") {
			t.Fatalf("the second: %d %s", r.Status, r.Body)
		}
	}
	if r := explain("shop.test"); r.Status != http.StatusBadRequest || !strings.Contains(r.Body, "several") {
		t.Errorf("one of them: %d %s", r.Status, r.Body)
	}
}
