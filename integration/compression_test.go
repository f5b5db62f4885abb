package integration

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestCompression looks at what responses become in Redis, and that each is the same
// again on a node that has it from there.
func TestCompression(t *testing.T) {
	t.Parallel()
	rds := startRedis(t)
	web := newOrigin(t)
	text := strings.Repeat(`{"city":"Berlin","active":true},`, 64) // 2 KiB
	web.handle("/", func(w http.ResponseWriter, r *http.Request) {
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
	l := layout{
		redis: rds, origin: web,
		cache: "\tnamespace off {\n\tttl 5m\n\tencode off\n\t}\n",
		site: `
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
	one, two := startCaddy(t, l), startCaddy(t, l)
	for path, compressed := range map[string]bool{
		"/off/text": false, "/on/text": true, "/early/small": true,
		"/text": true, "/small": false, "/image": false, "/encoded": false,
	} {
		t.Run(path, func(t *testing.T) {
			stored := one.want(t, "MISS", path)
			key := stored.key()
			rds.await(t, key)
			if path == "/encoded" { // the base record lists the one variant
				if keys := rds.keys(t, key+"*"); len(keys) == 1 {
					key = keys[0]
				}
			}
			value, err := rds.client.Get(t.Context(), key).Result()
			if err != nil {
				t.Fatal(err)
			}
			if plain := strings.Contains(value, stored.body); plain == compressed {
				t.Errorf("%d bytes in Redis for a body of %d; in clear: %v", len(value), len(stored.body), plain)
			}
			hit := two.want(t, "HIT", path)
			if got := hit.cacheStatus(t)["detail"]; got != "redis" || hit.body != stored.body {
				t.Errorf("the other node answers %d bytes from %q", len(hit.body), got)
			}
		})
	}
}

// TestDictionaries has small responses of a namespace compressed with a
// dictionary that all nodes share.
func TestDictionaries(t *testing.T) {
	t.Parallel()
	rds := startRedis(t)
	web := newOrigin(t)
	web.handle("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"path":%q,"city":"Berlin","country":"Germany","active":true,"currency":"EUR"}`, r.URL.Path)
	})
	l := layout{redis: rds, origin: web, site: `
			redis_cache /private/* {
				ttl 5m
				vary_cookie session
			}
			redis_cache {
				ttl 5m
			}`}
	one, two := startCaddy(t, l), startCaddy(t, l)
	dictionaries := func() []string { return rds.keys(t, "cache::dict*") }

	// Nobody learns from what was fetched with credentials.
	for i := range 200 {
		one.want(t, "MISS", fmt.Sprintf("/private/%d", i), "Cookie: session=1")
	}
	if keys := dictionaries(); len(keys) != 0 {
		t.Fatalf("%v after private responses only", keys)
	}
	i := 0
	eventually(t, "there is a dictionary", func() bool {
		i++
		one.want(t, "MISS", fmt.Sprintf("/shared/%d", i))
		return len(dictionaries()) == 2
	})
	for _, key := range dictionaries() {
		if rds.ttl(t, key) == -1 {
			t.Errorf("%s has no TTL", key)
		}
	}
	var stored reply
	eventually(t, "it is used", func() bool {
		i++
		stored = one.want(t, "MISS", fmt.Sprintf("/shared/%d", i))
		rds.await(t, stored.key())
		value, err := rds.client.Get(t.Context(), stored.key()).Result()
		return err == nil && !strings.Contains(value, stored.body)
	})
	path := fmt.Sprintf("/shared/%d", i)
	if hit := two.want(t, "HIT", path); hit.body != stored.body || hit.cacheStatus(t)["detail"] != "redis" {
		t.Errorf("the other node answers %q, stored was %q", hit.body, stored.body)
	}

	// A restart finds the dictionary of the others.
	two.restart(t)
	if hit := two.want(t, "HIT", path); hit.body != stored.body {
		t.Errorf("after a restart: %q", hit.body)
	}
	one.purge(t, `{"key":"general:shop.test`+path+`"}`)
	if fresh := two.want(t, "MISS", path); fresh.body != stored.body {
		t.Errorf("after a purge: %q", fresh.body)
	}
	if keys := dictionaries(); len(keys) != 2 {
		t.Errorf("purges and restarts change the dictionaries: %v", keys)
	}
}
