package http

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// TestCompression looks at what responses become in Redis, and that each is the same
// again on a node that has it from there.
func TestCompression(t *testing.T) {
	t.Parallel()
	rds := harness.StartRedis(t)
	web := harness.NewOrigin(t)
	text := strings.Repeat(`{"city":"Berlin","active":true},`, 64) // 2 KiB
	web.Handle("/", func(w http.ResponseWriter, r *http.Request) {
		body := text
		switch {
		case strings.HasSuffix(r.URL.Path, "/small"):
			body = text[:1000]
		case strings.HasSuffix(r.URL.Path, "/image"):
			w.Header().Set("Content-Type", "image/png")
		case strings.HasSuffix(r.URL.Path, "/encoded"):
			w.Header().Set("Content-Encoding", "x-ours")
		}
		fmt.Fprint(w, body)
	})
	l := harness.Layout{
		Redis: rds, Origin: web,
		Cache: "\tnamespace off {\n\tttl 5m\n\tencode off\n\t}\n",
		Site: `
			redis_cache /off/* off
			redis_cache /on/* off {
				encode zstd
			}
			redis_cache /early/* {
				ttl 5m
				encode zstd 500B
			}
			redis_cache {
				ttl 5m
			}`,
	}
	one, two := harness.StartCaddy(t, l), harness.StartCaddy(t, l)
	for path, compressed := range map[string]bool{
		"/off/text": false, "/on/text": true, "/early/small": true,
		"/text": true, "/small": false, "/image": false, "/encoded": false,
	} {
		t.Run(path, func(t *testing.T) {
			stored := one.Want(t, "MISS", path)
			key := stored.Key()
			rds.Await(t, key)
			if path == "/encoded" { // the base record lists the one variant
				if keys := rds.Keys(t, key+"*"); len(keys) == 1 {
					key = keys[0]
				}
			}
			value, err := rds.Client.Get(t.Context(), key).Result()
			if err != nil {
				t.Fatal(err)
			}
			if plain := strings.Contains(value, stored.Body); plain == compressed {
				t.Errorf("%d bytes in Redis for a body of %d; in clear: %v", len(value), len(stored.Body), plain)
			}
			hit := two.Want(t, "HIT", path)
			if got := hit.CacheStatus(t)["detail"]; got != "redis" || hit.Body != stored.Body {
				t.Errorf("the other node answers %d bytes from %q", len(hit.Body), got)
			}
		})
	}
}

// TestDictionaries has small responses of a namespace compressed with a
// dictionary that all nodes share.
func TestDictionaries(t *testing.T) {
	t.Parallel()
	rds := harness.StartRedis(t)
	web := harness.NewOrigin(t)
	web.Handle("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"path":%q,"city":"Berlin","country":"Germany","active":true,"currency":"EUR"}`, r.URL.Path)
	})
	l := harness.Layout{Redis: rds, Origin: web, Site: `
			redis_cache /private/* {
				ttl 5m
				vary_cookie session
			}
			redis_cache {
				ttl 5m
			}`}
	one, two := harness.StartCaddy(t, l), harness.StartCaddy(t, l)
	dictionaries := func() []string { return rds.Keys(t, "cache::dict*") }

	// Nobody learns from what was fetched with credentials.
	for i := range 200 {
		one.Want(t, "MISS", fmt.Sprintf("/private/%d", i), "Cookie: session=1")
	}
	if keys := dictionaries(); len(keys) != 0 {
		t.Fatalf("%v after private responses only", keys)
	}
	i := 0
	harness.Eventually(t, "there is a dictionary", func() bool {
		i++
		one.Want(t, "MISS", fmt.Sprintf("/shared/%d", i))
		return len(dictionaries()) == 2
	})
	for _, key := range dictionaries() {
		if rds.TTL(t, key) == -1 {
			t.Errorf("%s has no TTL", key)
		}
	}
	var stored harness.Reply
	harness.Eventually(t, "it is used", func() bool {
		i++
		stored = one.Want(t, "MISS", fmt.Sprintf("/shared/%d", i))
		rds.Await(t, stored.Key())
		value, err := rds.Client.Get(t.Context(), stored.Key()).Result()
		return err == nil && !strings.Contains(value, stored.Body)
	})
	path := fmt.Sprintf("/shared/%d", i)
	if hit := two.Want(t, "HIT", path); hit.Body != stored.Body || hit.CacheStatus(t)["detail"] != "redis" {
		t.Errorf("the other node answers %q, stored was %q", hit.Body, stored.Body)
	}

	// A restart finds the dictionary of the others.
	two.Restart(t)
	if hit := two.Want(t, "HIT", path); hit.Body != stored.Body {
		t.Errorf("after a restart: %q", hit.Body)
	}
	one.Purge(t, `{"key":"general:shop.test`+path+`"}`)
	if fresh := two.Want(t, "MISS", path); fresh.Body != stored.Body {
		t.Errorf("after a purge: %q", fresh.Body)
	}
	if keys := dictionaries(); len(keys) != 2 {
		t.Errorf("purges and restarts change the dictionaries: %v", keys)
	}
}
