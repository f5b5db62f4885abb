package handlers

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// refreshSite calls the handlers behind the cache once for the client and later
// once more in the background, with everything on which a second call could
// stumble: route groups, stripped paths, variables, placeholders, captures.
const refreshSite = `
	root $ROOT
	vars color blue
	map {path} {kind} {
		~^/map/(.*)$ "kind-${1}"
		default none
	}
	@id path_regexp id ^/re/([0-9]+)$
	@moved path /moved/*
	rewrite @moved /swr-moved{uri}
	request_header X-From site
	header X-Gone outer
	header X-More outer
	redis_cache /above/* s
	handle_path /above/path/* {
		handle /deep/* {
			respond "path={path} uri={uri} orig={http.request.orig_uri} at={time.now.unix_ms}"
		}
	}
	handle /above/handle/* {
		vars shade dark
		map {query.n} {number} {
			1 one
			default many
		}
		@below path_regexp below ^/above/handle/([a-z]+)$
		handle @below {
			rewrite /inner{uri}
			request_header X-Below yes
			handle {
				respond "{path} {vars.color} {vars.shade} {number} {kind} {re.below.1} {header.X-Below} {header.X-From} at={time.now.unix_ms}"
			}
		}
	}
	handle /handle/* {
		$CACHE
		respond "handle {path} {query.q} {host} {scheme} {method} {header.X-Client} at={time.now.unix_ms}"
	}
	handle_path /stripped/* {
		$CACHE
		respond "path={path} uri={uri} orig={http.request.orig_uri} at={time.now.unix_ms}"
	}
	handle /vars/* {
		vars shade dark
		$CACHE
		route {
			vars tone loud
			respond "{vars.color} {vars.shade} {vars.tone} at={time.now.unix_ms}"
		}
	}
	route /route/* {
		$CACHE
		header -X-Gone
		header +X-More inside
		respond "routed at={time.now.unix_ms}"
	}
	handle /map/* {
		$CACHE
		respond "{kind} at={time.now.unix_ms}"
	}
	handle @id {
		$CACHE
		respond "{re.id.1} at={time.now.unix_ms}"
	}
	handle /swr-moved/* {
		$CACHE
		respond "{path} orig={http.request.orig_uri.path} at={time.now.unix_ms}"
	}
	handle /swr-app/* {
		try_files {path} /swr-app/index.html
		$CACHE
		templates
		file_server
	}
	handle_path /proxied/* {
		$CACHE
		intercept {
			@teapot status 418
			handle_response @teapot {
				header -Content-Length
				respond "intercepted {path} {resp.header.X-Seen} at={time.now.unix_ms}"
			}
		}
		reverse_proxy $ORIGIN {
			header_up X-Color {vars.color}
		}
	}
`

// TestRefreshInHandlers has stale responses refreshed in the background.
func TestRefreshInHandlers(t *testing.T) {
	t.Parallel()
	policy := "{\nttl 1s\njitter 0\nstale_while_revalidate 10m\n}"
	cached, plain, web := handlerNode(t, strings.ReplaceAll(refreshSite, "redis_cache /above/* s", "redis_cache /above/* "+policy), "redis_cache "+policy)
	seen := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Seen", r.RequestURI+" "+r.Header.Get("X-Color"))
			w.WriteHeader(status)
			fmt.Fprintf(w, "%s %s %s at=%d", r.RequestURI, r.Host, r.Header.Get("X-Color"), web.Requests())
		}
	}
	web.Handle("/page", seen(200))
	web.Handle("/tea", seen(418))
	paths := map[string]string{
		"/above/path/deep/x?q=1": "path=/deep/x uri=/deep/x?q=1 orig=/above/path/deep/x?q=1",
		"/above/handle/abc?n=1":  "/inner/above/handle/abc blue dark one none abc yes site",
		"/handle/x?q=1":          "handle /handle/x 1 shop.test http GET me",
		"/stripped/a/b?c=d":      "path=/a/b uri=/a/b?c=d orig=/stripped/a/b?c=d",
		"/vars/x":                "blue dark loud",
		"/route/x":               "routed",
		"/map/one":               "kind-one",
		"/re/17":                 "17",
		"/moved/x":               "/swr-moved/moved/x orig=/moved/x",
		"/swr-app/x?y=z":         "app /swr-app/x?y=z blue",
		"/proxied/page?a=b":      "/page?a=b shop.test blue",
		"/proxied/tea?a=b":       "intercepted /tea /tea?a=b blue",
	}
	page := func(r harness.Reply) (text, at string) { text, at, _ = strings.Cut(r.Body, " at="); return text, at }
	first := make(map[string]harness.Reply)
	for path, want := range paths {
		first[path] = cached.Get(t, path, "X-Client: me")
		if text, _ := page(first[path]); text != want || first[path].Outcome() != "MISS" {
			t.Errorf("%s: %s %q, want %q", path, first[path].Outcome(), first[path].Body, want)
		}
		if strings.HasPrefix(path, "/above/") {
			continue // the plain site has a cache there, too
		}
		if text, _ := page(plain.Get(t, path, "X-Client: me")); text != want {
			t.Errorf("%s without the cache: %q, want %q", path, text, want)
		}
	}
	for path, want := range paths {
		t.Run(path, func(t *testing.T) {
			stale := false
			harness.Eventually(t, "what was refreshed is answered", func() bool {
				r := cached.Get(t, path, "X-Client: me")
				text, at := page(r)
				if o := r.Outcome(); text != want || r.Status != first[path].Status || !slices.Contains([]string{"HIT", "STALE"}, o) {
					t.Fatalf("%s, after it had been refreshed: %t: %d %q, want %q", o, stale, r.Status, r.Body, want)
				}
				was := first[path]
				was.Body = r.Body
				harness.SameAnswer(t, "the refreshed answer", was, r)
				stale = stale || r.Outcome() == "STALE"
				_, old := page(first[path])
				return stale && at != old
			})
		})
	}
}
