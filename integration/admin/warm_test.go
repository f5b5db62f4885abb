package admin

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// TestWarm fills the cache before the first client comes, through the site's
// own handlers.
func TestWarm(t *testing.T) {
	t.Parallel()
	web := harness.NewOrigin(t)
	web.Answer("/api/v1/users/gone", 404, "")
	node := harness.StartCaddy(t, harness.Layout{Origin: web, Cache: harness.GuideCache, Site: harness.GuideSite})
	// A URL to warm names the port of the site, so clients have to, too.
	host := "Host: " + node.Site
	urls := func(paths ...string) string {
		for i, path := range paths {
			paths[i] = fmt.Sprintf("%q", node.URL(path))
		}
		return `"urls":[` + strings.Join(paths, ",") + `]`
	}

	t.Run("in the background", func(t *testing.T) {
		body := "{" + urls("/api/v1/users/1", "/api/v1/pickups/1?page=2", "/api/v1/points/1") + "}"
		started := node.JSON(t, http.StatusAccepted, http.MethodPost, "/redis_cache/warm", body)
		id, _ := started["id"].(string)
		if id == "" {
			t.Fatalf("no id in %v", started)
		}
		var progress map[string]any
		harness.Eventually(t, "the job is done", func() bool {
			progress = node.JSON(t, http.StatusOK, http.MethodGet, "/redis_cache/warm?id="+id, "")
			return progress["running"] == false
		})
		if progress["id"] != id || progress["total"] != 3.0 || progress["done"] != 3.0 || progress["failed"] != 0.0 {
			t.Errorf("progress %v", progress)
		}
		node.Want(t, "HIT", "/api/v1/users/1", host)
		node.Want(t, "HIT", "/api/v1/pickups/1?page=2", host)
		node.Want(t, "MISS", "/api/v1/pickups/1?page=3", host)
	})
	t.Run("awaited", func(t *testing.T) {
		done := node.JSON(t, http.StatusOK, http.MethodPost, "/redis_cache/warm",
			"{"+urls("/api/v1/users/2", "/api/v1/users/gone")+`,"wait":true}`)
		results, _ := done["results"].([]any)
		if len(results) != 2 || done["failed"] != 1.0 {
			t.Errorf("answer %v", done)
		}
		node.Want(t, "HIT", "/api/v1/users/2", host)
	})
	t.Run("what is stored already", func(t *testing.T) {
		before := web.Count("/api/v1/users/2")
		node.JSON(t, http.StatusOK, http.MethodPost, "/redis_cache/warm", "{"+urls("/api/v1/users/2")+`,"wait":true}`)
		harness.Between(t, "requests at the origin", web.Count("/api/v1/users/2"), before, before+1)
		node.Want(t, "HIT", "/api/v1/users/2", host)
	})
	t.Run("unknown id", func(t *testing.T) {
		node.JSON(t, http.StatusNotFound, http.MethodGet, "/redis_cache/warm?id=nothing", "")
	})
}

// TestWarmManyURLs warms more than is told of one by one: failed requests are.
func TestWarmManyURLs(t *testing.T) {
	t.Parallel()
	node := harness.StartCaddy(t, harness.Layout{Site: "redis_cache {\nttl 1m\n}\nrespond /none/* 404\nrespond ok"})
	var urls []string
	for i := range 1300 {
		path := "/page/"
		if i >= 1200 {
			path = "/none/"
		}
		urls = append(urls, strconv.Quote(node.URL(path+strconv.Itoa(i))))
	}
	answer := node.JSON(t, http.StatusOK, http.MethodPost, "/redis_cache/warm", `{"urls":[`+strings.Join(urls, ",")+`],"wait":true}`)
	failed := 0
	results := answer["results"].([]any)
	for _, r := range results {
		if r.(map[string]any)["status"].(float64) == http.StatusNotFound {
			failed++
		}
	}
	if len(results) != 1000 || failed != 100 || harness.Number(t, answer, "done") != 1300 || harness.Number(t, answer, "failed") != 100 || harness.Number(t, answer, "omitted") != 300 {
		t.Errorf("%d results, %d of them failed; %v done, %v failed, %v omitted", len(results), failed, answer["done"], answer["failed"], answer["omitted"])
	}
	if r := node.API(t, http.MethodPost, "/redis_cache/warm", `{"urls":[`+urls[0]+`,"http://127.0.0.1:1/"]}`); r.Status != http.StatusBadRequest {
		t.Errorf("a URL of nobody among others: %d %s", r.Status, r.Body)
	}
}
