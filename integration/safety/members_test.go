package safety

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// credentialsWays are ways in which clients say who they are: the fields of a member.
var credentialsWays = map[string]func(member int) []string{
	"session cookie":           func(m int) []string { return []string{fmt.Sprintf("Cookie: _ga=1; session=%d", m)} },
	"cookie without a name":    func(m int) []string { return []string{fmt.Sprintf("Cookie: member%d", m)} },
	"cookie and Authorization": func(m int) []string { return []string{fmt.Sprintf("Cookie: s=%d", m), "Authorization: Bearer x"} },
	"API key":                  func(m int) []string { return []string{fmt.Sprintf("X-API-Key: %d", m)} },
	"token of a platform":      func(m int) []string { return []string{fmt.Sprintf("Private-Token: %d", m)} },
}

// memberPage answers who carries credentials with a page of its own, and others with
// the same page, as a static page does that middleware guards by a cookie.
func memberPage(control string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who := r.Header.Get("Cookie") + r.Header.Get("X-Api-Key") + r.Header.Get("Private-Token")
		name, value, _ := strings.Cut(control, ": ")
		w.Header().Set(name, value)
		w.Header().Set("Etag", fmt.Sprintf("%q", who))
		w.Header().Set("X-Page-Of", who)
		if r.Header.Get("If-None-Match") == w.Header().Get("Etag") {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		fmt.Fprintf(w, "page of %q", who)
	}
}

// whoOf is how memberPage calls a member.
func whoOf(fields []string) string {
	_, who, _ := strings.Cut(fields[0], ": ")
	return fmt.Sprintf("page of %q", who)
}

// answers is node.want where others ask the same origin meanwhile.
func answers(t *testing.T, n *harness.Node, outcome, path string, fields ...string) harness.Reply {
	t.Helper()
	r := n.Get(t, path, fields...)
	if r.Outcome() != outcome {
		t.Errorf("%s %q: %s %v, want %s", path, fields, r.Outcome(), r.Header["Cache-Status"], outcome)
	}
	return r
}

// TestNotStoredForEverybody has members of a site ask for pages that are for shared
// caches as far as their origin says, but not for everybody.
func TestNotStoredForEverybody(t *testing.T) {
	t.Parallel()
	rds, web := harness.StartRedis(t), harness.NewOrigin(t)
	l := harness.Layout{Redis: rds, Origin: web, Site: "redis_cache"}
	nodes := []*harness.Node{harness.StartCaddy(t, l), harness.StartCaddy(t, l)}
	controls := []string{
		"Cache-Control: s-maxage=31536000", "Cache-Control: s-maxage=600, stale-while-revalidate=31535400",
		"Cache-Control: max-age=0, s-maxage=600", "CDN-Cache-Control: max-age=600", "CDN-Cache-Control: s-maxage=600, must-revalidate",
	}
	for i, control := range controls {
		for way, fields := range credentialsWays {
			t.Run(control+", "+way, func(t *testing.T) {
				t.Parallel()
				path := strings.ReplaceAll(fmt.Sprintf("/members/%d/%s", i, way), " ", "-")
				web.Handle(path, memberPage(control))
				// Sixteen of them at once, on two nodes.
				const members = 16
				replies, errs := make([]harness.Reply, members), make([]error, members)
				var done sync.WaitGroup
				for m := range members {
					done.Go(func() { replies[m], errs[m] = nodes[m%2].Try(t.Context(), http.MethodGet, path, "", fields(m)...) })
				}
				done.Wait()
				for m, r := range replies {
					if errs[m] != nil || r.Body != whoOf(fields(m)) {
						t.Errorf("%q got %q, %v", fields(m), r.Body, errs[m])
					} else if reason := r.CacheStatus(t)["detail"]; r.Outcome() != "BYPASS" || !strings.HasPrefix(reason, "credentials ") {
						t.Errorf("%q: %s %q", fields(m), r.Outcome(), reason)
					}
				}
				for _, n := range nodes {
					if r := n.Get(t, path); r.Body != `page of ""` {
						t.Errorf("nobody got %q, %s", r.Body, r.Outcome())
					}
				}
				// What was stored without them is for them, too.
				for _, n := range nodes {
					for m := range 2 {
						answers(t, n, "HIT", path, fields(m)...)
					}
					answers(t, n, "HIT", path)
				}
			})
		}
	}
	t.Run("explicit", func(t *testing.T) {
		t.Parallel()
		for i, control := range []string{
			"Cache-Control: public, max-age=600", "Cache-Control: public, s-maxage=600", "CDN-Cache-Control: public, max-age=600",
		} {
			path := fmt.Sprintf("/public/%d", i)
			web.With(path, control)
			answers(t, nodes[0], "MISS", path, "Cookie: session=1")
			answers(t, nodes[0], "HIT", path, "Cookie: session=2")
			answers(t, nodes[0], "HIT", path)
		}
	})
	t.Run("Authorization alone", func(t *testing.T) { // RFC 9111 section 3.5
		t.Parallel()
		web.With("/api/list", "Cache-Control: s-maxage=600")
		answers(t, nodes[0], "MISS", "/api/list", "Authorization: Bearer a", "Cookie: _ga=1")
		answers(t, nodes[0], "HIT", "/api/list", "Authorization: Bearer b")
	})
	t.Run("a stale response", func(t *testing.T) {
		t.Parallel()
		const path = "/members/stale"
		web.Handle(path, memberPage("Cache-Control: s-maxage=1"))
		if r := answers(t, nodes[0], "MISS", path); r.Body != `page of ""` {
			t.Fatalf("got %q", r.Body)
		}
		harness.Eventually(t, "it is stale", func() bool { return nodes[0].Get(t, path, "Cookie: session=1").Outcome() != "HIT" })
		// A member's 200 goes to this member, and takes nothing from the others.
		if r := answers(t, nodes[0], "BYPASS", path, "Cookie: session=2"); r.Body != `page of "session=2"` {
			t.Errorf("got %q", r.Body)
		}
		answers(t, nodes[0], "REVALIDATED", path)
		// A member's 304 makes it fresh, but brings nothing of this member.
		web.Handle(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "s-maxage=600")
			w.Header().Set("Etag", `""`)
			w.Header().Set("X-Page-Of", r.Header.Get("Cookie"))
			w.WriteHeader(http.StatusNotModified)
		})
		harness.Eventually(t, "it is stale again", func() bool { return nodes[0].Get(t, path, "Cookie: session=3").Outcome() == "REVALIDATED" })
		if r := answers(t, nodes[0], "HIT", path); r.Header.Get("X-Page-Of") != "" || r.TTL() < 100 {
			t.Errorf("X-Page-Of %q, fresh for %d s", r.Header.Get("X-Page-Of"), r.TTL())
		}
	})
}
