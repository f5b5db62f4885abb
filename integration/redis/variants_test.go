package redis

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// TestVariantsReadRedisOnce stores responses that vary: what their URLs have stored is read
// once, by the lookup, and not again with others waiting.
func TestVariantsReadRedisOnce(t *testing.T) {
	t.Parallel()
	o := harness.NewOrigin(t)
	o.With("/plain/", "Cache-Control: max-age=60")
	o.With("/varies/", "Cache-Control: max-age=60", "Vary: Accept-Language")
	node := harness.StartCaddy(t, harness.Layout{Redis: harness.StartRedis(t), Origin: o, Site: "redis_cache"})
	reads := func() (n float64) {
		for name, value := range node.Metrics(t) {
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
			node.Want(t, "MISS", fmt.Sprintf("/%s/%d", kind, i))
		}
		count[kind] = reads() - before
	}
	if count["plain"] < misses || count["varies"] > count["plain"]+misses/4 {
		t.Errorf("%v reads for %d misses each", count, misses)
	}
	for _, language := range []string{"de", "fr", "de", "fr"} { // and the list of variants is whole
		node.Get(t, "/varies/1", "Accept-Language: "+language)
	}
	for _, language := range []string{"de", "fr"} {
		node.Want(t, "HIT", "/varies/1", "Accept-Language: "+language)
	}
	node.Want(t, "HIT", "/varies/1")
}

// TestVariantsFetchedTogether has two variants of a URL fetched at a time, without memory: the
// list that is stored last has both.
func TestVariantsFetchedTogether(t *testing.T) {
	t.Parallel()
	o := harness.NewOrigin(t)
	began, ends := map[string]chan bool{}, map[string]chan bool{}
	for _, language := range []string{"de", "fr"} {
		began[language], ends[language] = make(chan bool), make(chan bool)
	}
	o.Handle("/a", func(w http.ResponseWriter, r *http.Request) {
		language := r.Header.Get("Accept-Language")
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Vary", "Accept-Language")
		fmt.Fprint(w, language)
		_ = http.NewResponseController(w).Flush()
		began[language] <- true
		<-ends[language]
	})
	rds := harness.StartRedis(t)
	node := harness.StartCaddy(t, harness.Layout{Redis: rds, Origin: o, Cache: "memory off", Site: "redis_cache"})
	replies := make(chan harness.Reply, 2)
	for _, language := range []string{"de", "fr"} {
		go func() { replies <- node.Get(t, "/a", "Accept-Language: "+language) }()
		<-began[language]
	}
	for _, language := range []string{"de", "fr"} {
		ends[language] <- true
		r := <-replies
		if r.Body != language {
			t.Fatalf("%q, want %s", r.Body, language)
		}
		rds.Await(t, r.Key())
	}
	harness.Eventually(t, "both variants are listed", func() bool {
		e := node.JSON(t, http.StatusOK, http.MethodGet, "/redis_cache/explain?url="+url.QueryEscape(node.URL("/a"))+"&header=Host:"+harness.SiteHost+"&header=Accept-Language:de", "")
		variants, _ := e["variants"].([]any)
		return len(variants) == 2
	})
}
