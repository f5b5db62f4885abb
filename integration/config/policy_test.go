package config

import (
	"net/http"
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// TestPolicy runs the options that decide what takes part in caching at all.
func TestPolicy(t *testing.T) {
	t.Parallel()
	web := harness.NewOrigin(t)
	web.Answer("/nostore/404", 404, "")
	web.Answer("/nostore/503", 503, "")
	web.With("/nostore/field", "X-Private: 1")
	web.With("/nostore/value", "X-Kind: draft")
	web.With("/nostore/other", "X-Kind: final")
	for _, way := range []string{"refuse", "strip", "store", "default"} {
		web.With("/cookie/"+way, "Set-Cookie: seen=1")
	}
	web.Handle("/limit/", func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte(strings.Repeat("x", map[string]int{"/limit/fits": 1024, "/limit/large": 1025}[r.URL.Path])))
	})
	web.Handle("/limit/chunked", func(w http.ResponseWriter, _ *http.Request) {
		for range 1025 {
			w.Write([]byte("y"))
			http.NewResponseController(w).Flush()
		}
	})
	node := harness.StartCaddy(t, harness.Layout{
		Origin: web,
		Cache: `
			namespace p {
				ttl 5m
				no_store status 404
			}`,
		Site: `
			@preview query preview=*
			@internal header X-Internal *
			@admin header X-Role admin
			redis_cache /bypass/* p {
				bypass @preview
				bypass @internal
				bypass @admin
			}
			redis_cache /nostore/* p {
				ttl status 404 503 5m
				no_store status 5xx
				no_store header X-Private
				no_store header X-Kind draft
			}
			redis_cache /get/* p {
				methods GET
			}
			redis_cache /limit/* p {
				max_body 1KiB
			}
			redis_cache /cookie/refuse p {
				set_cookie refuse
			}
			redis_cache /cookie/strip p {
				set_cookie strip
			}
			redis_cache /cookie/store p {
				set_cookie store
			}
			redis_cache /cookie/default p
			redis_cache /twice/inner/* p
			redis_cache /twice/* p
			redis_cache /methods/* p`,
	})
	for _, tt := range []struct{ name, script string }{
		{"bypass", `
			MISS   /bypass/x
			HIT    /bypass/x
			BYPASS /bypass/x?preview=1
			BYPASS /bypass/x | X-Internal: yes
			BYPASS /bypass/x | X-Role: admin
			BYPASS /bypass/x | X-Role: admin
			HIT    /bypass/x | X-Role: user
			HIT    /bypass/x`},
		// The namespace's line and the directive's lines add up.
		{"no_store", `
			MISS   /nostore/404
			MISS   /nostore/404
			MISS   /nostore/503
			MISS   /nostore/503
			MISS   /nostore/field
			MISS   /nostore/field
			MISS   /nostore/value
			MISS   /nostore/value
			MISS   /nostore/other
			HIT    /nostore/other`},
		{"methods", `
			BYPASS HEAD /get/x
			MISS   /get/x
			BYPASS HEAD /get/x
			HIT    /get/x`},
		{"unsafe methods", `
			BYPASS POST /methods/x
			BYPASS PUT /methods/x
			BYPASS DELETE /methods/x
			BYPASS PATCH /methods/x
			BYPASS OPTIONS /methods/x
			MISS   /methods/x
			HIT    /methods/x
			BYPASS OPTIONS /methods/x
			HIT    /methods/x`},
		{"method overrides", `
			BYPASS /methods/override | X-HTTP-Method-Override: DELETE
			BYPASS /methods/override | X-Original-URL: /admin
			BYPASS /methods/override | X-Rewrite-URL: /admin
			MISS   /methods/override`},
		{"max_body", `
			MISS   /limit/fits
			HIT    /limit/fits
			MISS   /limit/large
			MISS   /limit/large
			MISS   /limit/chunked
			MISS   /limit/chunked`},
		{"one cache per request", `
			MISS   /twice/inner/x
			HIT    /twice/inner/x`},
	} {
		t.Run(tt.name, func(t *testing.T) { node.Script(t, tt.script) })
	}
	t.Run("larger bodies come whole", func(t *testing.T) {
		if r := node.Get(t, "/limit/large"); r.Body != strings.Repeat("x", 1025) {
			t.Errorf("%d bytes, want 1025", len(r.Body))
		}
		if r := node.Get(t, "/limit/chunked"); r.Body != strings.Repeat("y", 1025) {
			t.Errorf("%d bytes, want 1025", len(r.Body))
		}
	})
	t.Run("set_cookie", func(t *testing.T) {
		for _, tt := range []struct {
			way, second, cookie string // the second answer, and its cookie
		}{
			{"default", "MISS", "seen=1"},
			{"refuse", "MISS", "seen=1"},
			{"strip", "HIT", ""},
			{"store", "HIT", "seen=1"},
		} {
			first := node.Want(t, "MISS", "/cookie/"+tt.way)
			second := node.Want(t, tt.second, "/cookie/"+tt.way)
			if got := first.Header.Get("Set-Cookie"); got != "seen=1" {
				t.Errorf("%s: the miss's own client got %q", tt.way, got)
			}
			if got := second.Header.Get("Set-Cookie"); got != tt.cookie {
				t.Errorf("%s: the second client got %q, want %q", tt.way, got, tt.cookie)
			}
		}
	})
	t.Run("content in a GET", func(t *testing.T) {
		for range 2 {
			if r := node.Do(t, http.MethodGet, "/methods/fat", "content"); r.Outcome() != "BYPASS" {
				t.Errorf("outcome %s, want BYPASS", r.Outcome())
			}
		}
		node.Want(t, "MISS", "/methods/fat")
	})
	t.Run("content of a POST", func(t *testing.T) {
		web.Handle("/methods/echo", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "public, max-age=60")
			r.Write(w)
		})
		for _, content := range []string{"one", "two"} {
			r := node.Do(t, http.MethodPost, "/methods/echo", content)
			if r.Outcome() != "BYPASS" || !strings.HasSuffix(r.Body, content) {
				t.Errorf("%s: %q", r.Outcome(), r.Body)
			}
		}
	})
}

// TestOneCachePerRequest sends a request through two directives of which only
// the first may act, in the same site and in a subrequest to itself.
func TestOneCachePerRequest(t *testing.T) {
	t.Parallel()
	rds := harness.StartRedis(t)
	node := harness.StartCaddy(t, harness.Layout{
		Redis: rds, Origin: harness.NewOrigin(t), Cache: harness.GuideCache,
		Site: `
			redis_cache /u/* user
			redis_cache points`,
	})
	miss := node.Want(t, "MISS", "/u/1")
	node.Want(t, "HIT", "/u/1")
	rds.Await(t, miss.Key())
	if !strings.HasPrefix(miss.Key(), "cache:user:") {
		t.Errorf("key %q, want the longest path's namespace", miss.Key())
	}
	node.Want(t, "MISS", "/other")
	if keys := rds.Keys(t, "cache:points:*/u/1:*"); len(keys) != 0 {
		t.Errorf("the second directive stored the same response: %q", keys)
	}
	if got := len(miss.Header.Values("X-Cache")); got != 1 {
		t.Errorf("%d X-Cache fields", got)
	}
}

// TestDiagnostics shows the diagnostic headers to whom they are meant for.
func TestDiagnostics(t *testing.T) {
	t.Parallel()
	web := harness.NewOrigin(t)
	web.With("/full/upstream", "X-Cache: HIT from elsewhere", "Cache-Status: elsewhere; hit")
	node := harness.StartCaddy(t, harness.Layout{Origin: web, Cache: "namespace d {\nttl 5m\n}", Site: `
		redis_cache /full/* d {
			diagnostics full
		}
		redis_cache /minimal/* d {
			diagnostics minimal
		}
		redis_cache /off/* d {
			diagnostics off
		}
		@team header X-Team yes
		redis_cache /team/* d {
			diagnostics off
			diagnostics full @team
		}`})
	all := []string{"X-Cache", "X-Cache-Key", "X-Cache-TTL-Remaining", "X-Cache-Date", "Age", "Cache-Status"}
	for _, tt := range []struct{ path, shown string }{
		{"/full/x", "X-Cache X-Cache-Key X-Cache-TTL-Remaining X-Cache-Date Age Cache-Status"},
		{"/minimal/x", "X-Cache Age"},
		{"/off/x", "Age"},
	} {
		node.Get(t, tt.path)
		r := node.Get(t, tt.path)
		var shown []string
		for _, name := range all {
			if r.Header.Get(name) != "" {
				shown = append(shown, name)
			}
		}
		if got := strings.Join(shown, " "); got != tt.shown {
			t.Errorf("%s shows %q, want %q", tt.path, got, tt.shown)
		}
	}
	node.Get(t, "/team/x")
	if r := node.Get(t, "/team/x", "X-Team: yes"); r.Key() == "" {
		t.Error("the team sees no X-Cache-Key")
	}
	if r := node.Get(t, "/team/x"); r.Key() != "" {
		t.Errorf("everybody sees X-Cache-Key %q", r.Key())
	}

	// Another cache's word is replaced in X-Cache and kept in Cache-Status.
	for _, outcome := range []string{"MISS", "HIT"} {
		r := node.Want(t, outcome, "/full/upstream")
		if got := r.Header.Values("X-Cache"); len(got) != 1 {
			t.Errorf("X-Cache %q", got)
		}
		if got := strings.Join(r.Header.Values("Cache-Status"), ", "); !strings.HasPrefix(got, "elsewhere; hit, redis_cache") {
			t.Errorf("%s: Cache-Status %q, want ours behind the origin's", outcome, got)
		}
	}
}
