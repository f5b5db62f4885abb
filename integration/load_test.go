package integration

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestVariablesOfOthers has variables in front that are called like the cache: it caches all
// the same, and a second cache behind still passes the request through.
func TestVariablesOfOthers(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"redis_cache", "http.handlers.redis_cache", `"http.handlers.redis_cache has taken the request"`, "http.vars.redis_cache"} {
		node := startCaddy(t, layout{origin: newOrigin(t), site: "route {\nvars " + name + " x\nredis_cache {\nttl 1m\n}\nredis_cache {\nttl 1m\n}\n}"})
		node.want(t, "MISS", "/a")
		hit := node.want(t, "HIT", "/a")
		if members := strings.Join(hit.header.Values("Cache-Status"), ", "); strings.Count(members, "redis_cache") != 1 {
			t.Errorf("%s: %q", name, members)
		}
	}
}

// TestVariantsReadRedisOnce stores responses that vary: what their URLs have stored is read
// once, by the lookup, and not again with others waiting.
func TestVariantsReadRedisOnce(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.with("/plain/", "Cache-Control: max-age=60")
	o.with("/varies/", "Cache-Control: max-age=60", "Vary: Accept-Language")
	node := startCaddy(t, layout{redis: startRedis(t), origin: o, site: "redis_cache"})
	reads := func() (n float64) {
		for name, value := range node.metrics(t) {
			if strings.HasPrefix(name, `redis_operations_total{op="get"`) {
				n += value
			}
		}
		return n
	}
	const misses = 40
	count := make(map[string]float64)
	for _, kind := range []string{"plain", "varies"} {
		before := reads()
		for i := range misses {
			node.want(t, "MISS", fmt.Sprintf("/%s/%d", kind, i))
		}
		count[kind] = reads() - before
	}
	if count["plain"] < misses || count["varies"] > count["plain"]+misses/4 {
		t.Errorf("%v reads for %d misses each", count, misses)
	}
	for _, language := range []string{"de", "fr", "de", "fr"} { // and the list of variants is whole
		node.get(t, "/varies/1", "Accept-Language: "+language)
	}
	for _, language := range []string{"de", "fr"} {
		node.want(t, "HIT", "/varies/1", "Accept-Language: "+language)
	}
	node.want(t, "HIT", "/varies/1")
}

// TestVariantsFetchedTogether has two variants of a URL fetched at a time, without memory: the
// list that is stored last has both.
func TestVariantsFetchedTogether(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	began, ends := map[string]chan bool{}, map[string]chan bool{}
	for _, language := range []string{"de", "fr"} {
		began[language], ends[language] = make(chan bool), make(chan bool)
	}
	o.handle("/a", func(w http.ResponseWriter, r *http.Request) {
		language := r.Header.Get("Accept-Language")
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Vary", "Accept-Language")
		fmt.Fprint(w, language)
		_ = http.NewResponseController(w).Flush()
		began[language] <- true
		<-ends[language]
	})
	rds := startRedis(t)
	node := startCaddy(t, layout{redis: rds, origin: o, cache: "memory off", site: "redis_cache"})
	replies := make(chan reply, 2)
	for _, language := range []string{"de", "fr"} {
		go func() { replies <- node.get(t, "/a", "Accept-Language: "+language) }()
		<-began[language]
	}
	for _, language := range []string{"de", "fr"} {
		ends[language] <- true
		r := <-replies
		if r.body != language {
			t.Fatalf("%q, want %s", r.body, language)
		}
		rds.await(t, r.key())
	}
	eventually(t, "both variants are listed", func() bool {
		e := node.json(t, http.StatusOK, http.MethodGet, "/redis_cache/explain?url="+url.QueryEscape(node.url("/a"))+"&header=Host:"+siteHost+"&header=Accept-Language:de", "")
		variants, _ := e["variants"].([]any)
		return len(variants) == 2
	})
}

// TestWarmManyURLs warms more than is told of one by one: failed requests are.
func TestWarmManyURLs(t *testing.T) {
	t.Parallel()
	node := startCaddy(t, layout{site: "redis_cache {\nttl 1m\n}\nrespond /none/* 404\nrespond ok"})
	var urls []string
	for i := range 1300 {
		path := "/page/"
		if i >= 1200 {
			path = "/none/"
		}
		urls = append(urls, strconv.Quote(node.url(path+strconv.Itoa(i))))
	}
	answer := node.json(t, http.StatusOK, http.MethodPost, "/redis_cache/warm", `{"urls":[`+strings.Join(urls, ",")+`],"wait":true}`)
	failed := 0
	results := answer["results"].([]any)
	for _, r := range results {
		if r.(map[string]any)["status"].(float64) == http.StatusNotFound {
			failed++
		}
	}
	if len(results) != 1000 || failed != 100 || number(t, answer, "done") != 1300 || number(t, answer, "failed") != 100 || number(t, answer, "omitted") != 300 {
		t.Errorf("%d results, %d of them failed; %v done, %v failed, %v omitted", len(results), failed, answer["done"], answer["failed"], answer["omitted"])
	}
	if r := node.api(t, http.MethodPost, "/redis_cache/warm", `{"urls":[`+urls[0]+`,"http://127.0.0.1:1/"]}`); r.status != http.StatusBadRequest {
		t.Errorf("a URL of nobody among others: %d %s", r.status, r.body)
	}
}

var gogc = regexp.MustCompile(`(?m)^go_gc_gogc_percent ([0-9.]+)$`)

// TestCollectorOff leaves the collector of the process alone, after a reload, too.
func TestCollectorOff(t *testing.T) {
	t.Parallel()
	l := layout{site: "redis_cache {\nttl 1m\n}\nrespond `" + strings.Repeat("x", 200<<10) + "`"}
	off := l
	off.cache = "collector off"
	node := startCaddy(t, off)
	percent := func() float64 {
		node.api(t, http.MethodGet, "/debug/pprof/heap?gc=1", "")
		match := gogc.FindStringSubmatch(node.api(t, http.MethodGet, "/metrics", "").body)
		if match == nil {
			t.Fatal("no metric tells of GOGC")
		}
		value, err := strconv.ParseFloat(match[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	for i := range 150 {
		node.want(t, "MISS", fmt.Sprintf("/%d", i))
	}
	if got := percent(); got != 100 {
		t.Errorf("%v with collector off", got)
	}
	on := l
	on.cache = "collector on"
	for range 2 {
		node.reload(t, on)
		eventually(t, "the collector is tuned", func() bool { return percent() < 90 })
		node.reload(t, off)
		eventually(t, "the collector is as it was", func() bool { return percent() == 100 })
	}
	node.reload(t, l) // on by default
	eventually(t, "the collector is tuned", func() bool { return percent() < 90 })
}
