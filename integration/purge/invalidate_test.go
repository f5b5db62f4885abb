package purge

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// TestMatchersOfInvalidate has rules with and without a method.
func TestMatchersOfInvalidate(t *testing.T) {
	t.Parallel()
	web := harness.NewOrigin(t)
	n := harness.StartCaddy(t, harness.Layout{Origin: web, Cache: "namespace s {\nttl 5m\n}", Site: `
		@path path /w/*
		@get {
			method GET
			path /touch/*
		}
		@both {
			method GET POST
			path /both/*
		}
		@not {
			not method HEAD
			path /not/*
		}
		@cel expression path('/cel/*')
		redis_cache s {
			invalidate @path tag path
			invalidate @get tag get
			invalidate @both tag both
			invalidate @not tag not
			invalidate @cel tag cel
			tag path get both not cel
		}`})
	for _, tt := range []struct {
		request string
		status  int
		purges  bool
	}{
		{"GET /w/a", 200, false}, // what anybody may ask for
		{"HEAD /w/b", 200, false},
		{"OPTIONS /w/c", 204, false},
		{"GET /w/d", 302, false},
		{"POST /w/e", 200, true},
		{"POST /w/f", 303, true},
		{"PUT /w/g", 404, false},
		{"POST /elsewhere", 200, false},
		{"GET /touch/a", 200, true},
		{"GET /touch/b", 302, false},
		{"POST /touch/c", 200, false},
		{"GET /both/a", 200, true},
		{"GET /both/b", 301, false},
		{"POST /both/c", 302, true},
		{"GET /not/a", 200, false},
		{"POST /not/b", 200, true},
		{"GET /cel/a", 200, false},
		{"DELETE /cel/b", 204, true},
	} {
		method, path, _ := strings.Cut(tt.request, " ")
		web.Answer(path, tt.status, "x", "Location: /login")
		n.Get(t, "/page")
		n.Want(t, "HIT", "/page")
		n.Do(t, method, path, "")
		if r := n.Get(t, "/page"); (r.Outcome() == "MISS") != tt.purges {
			t.Errorf("%s, answered %d: the page is a %s", tt.request, tt.status, r.Outcome())
		}
	}
	t.Run("doctor", func(t *testing.T) {
		if findings := n.API(t, http.MethodGet, "/redis_cache/doctor", "").Body; !strings.Contains(findings, "any stranger can purge") {
			t.Errorf("doctor does not warn: %s", findings)
		}
	})
}

// TestPurgesTellWhatTheyCover asks the answers of purges for what memory held.
func TestPurgesTellWhatTheyCover(t *testing.T) {
	t.Parallel()
	n := harness.StartCaddy(t, harness.Layout{
		Origin: harness.NewOrigin(t), Cache: "on changed {\npurge url http://shop.test/e/{event.data.id}\n}",
		Site: "redis_cache {\nttl 5m\ntag all\n}",
	})
	for i := range 5 {
		n.Get(t, fmt.Sprint("/e/", i))
	}
	for _, tt := range []struct {
		body string
		want float64
	}{
		{`{"url":"http://shop.test/e/0"}`, 1},
		{`{"url":"http://shop.test/e/0"}`, 0}, // it is purged already
		{`{"url":"https://shop.test/e/1"}`, 0},
		{`{"prefix":"http://SHOP.test/e/%31"}`, 1},
		{`{"tag":"all","soft":true}`, 3},
		{`{"tag":"none"}`, 0},
		{`{"all":true}`, 3},
	} {
		if answer := n.Purge(t, tt.body); answer["matched_memory"] != tt.want {
			t.Errorf("%s matches %v, want %v", tt.body, answer["matched_memory"], tt.want)
		}
	}
	n.Get(t, "/e/7")
	answer := n.JSON(t, http.StatusOK, http.MethodPost, "/redis_cache/events", `{"event":"changed","data":{"id":7}}`)
	if answer["matched_memory"] != 1.0 {
		t.Errorf("the event: %v", answer)
	}
}
