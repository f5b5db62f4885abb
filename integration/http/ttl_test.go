package http

import (
	"fmt"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// TestTTL is about where a lifetime comes from. X-Cache-TTL-Remaining on the
// miss says what was decided.
func TestTTL(t *testing.T) {
	t.Parallel()
	web := harness.NewOrigin(t)
	web.With("/pickup/stated", "Cache-Control: max-age=60")
	web.With("/pickup/shared", "Cache-Control: max-age=60, s-maxage=90")
	web.With("/override/stated", "Cache-Control: max-age=60")
	web.With("/override/no-store", "Cache-Control: no-store")
	web.With("/override/no-cache", "Cache-Control: no-cache")
	web.With("/override/private", "Cache-Control: private, max-age=60")
	web.With("/override/cdn", "CDN-Cache-Control: max-age=10")
	web.With("/pickup/no-store", "Cache-Control: no-store")
	web.With("/pickup/private", "Cache-Control: private")
	web.With("/pickup/cdn", "Cache-Control: no-store", "CDN-Cache-Control: max-age=30")
	for _, status := range []int{203, 204, 301, 308, 302, 404, 410, 500, 503} {
		web.Answer(fmt.Sprintf("/pickup/status/%d", status), status, "")
		web.Answer(fmt.Sprintf("/negative/status/%d", status), status, "")
	}
	node := harness.StartCaddy(t, harness.Layout{
		Origin: web,
		Cache: `
			namespace pickup {
				ttl 5m
				jitter 0
			}
			namespace plain {
				jitter 0
			}`,
		Site: `
			@historical query historical=true
			@archive path /rules/archive/*
			redis_cache /pickup/* pickup
			redis_cache /replaced/* pickup {
				ttl 1m
			}
			redis_cache /rules/* pickup {
				ttl @historical 24h
				ttl @archive 2h
			}
			redis_cache /override/* pickup {
				ttl 2m override
			}
			redis_cache /negative/* pickup {
				ttl status 404 410 30s
				ttl status 5xx 1s
			}
			redis_cache /general/* {
				ttl 30m
				jitter 0
			}
			redis_cache /unset/* plain`,
	})

	for _, tt := range []struct {
		path string
		ttl  int // seconds; 0: not to be stored
	}{
		{"/pickup/1", 300},
		{"/replaced/1", 60},
		{"/general/1", 1800},
		{"/unset/1", 0},
		// The first matching rule wins, then the plain one.
		{"/rules/1", 300},
		{"/rules/1?historical=true", 86400},
		{"/rules/archive/1", 7200},
		{"/rules/archive/1?historical=true", 86400},
		// The origin's word beats `ttl`, `override` beats the origin.
		{"/pickup/stated", 60},
		{"/pickup/shared", 90},
		{"/pickup/no-store", 0},
		{"/pickup/private", 0},
		{"/pickup/cdn", 30},
		{"/override/stated", 120},
		{"/override/no-store", 120},
		{"/override/no-cache", 120},
		{"/override/cdn", 120},
		{"/override/private", 0},
		// Statuses.
		{"/pickup/status/203", 300},
		{"/pickup/status/204", 300},
		{"/pickup/status/301", 300},
		{"/pickup/status/308", 300},
		{"/pickup/status/302", 0},
		{"/pickup/status/404", 0},
		{"/pickup/status/500", 0},
		{"/negative/status/204", 300},
		{"/negative/status/404", 30},
		{"/negative/status/410", 30},
		{"/negative/status/302", 0},
	} {
		t.Run(tt.path, func(t *testing.T) {
			miss := node.Want(t, "MISS", tt.path)
			if tt.ttl == 0 {
				if got := miss.Header.Get("X-Cache-Ttl-Remaining"); got != "" {
					t.Errorf("X-Cache-TTL-Remaining %q on a response that is not stored", got)
				}
				again := node.Want(t, "MISS", tt.path)
				if again.CacheStatus(t)["stored"] == "true" {
					t.Errorf("Cache-Status %q", again.Header.Get("Cache-Status"))
				}
				return
			}
			harness.Between(t, "lifetime on the miss", miss.TTL(), tt.ttl-10, tt.ttl)
			hit := node.Want(t, "HIT", tt.path)
			harness.Between(t, "lifetime on the hit", hit.TTL(), tt.ttl-10, tt.ttl)
			if hit.Status != miss.Status || hit.Header.Get("Cache-Control") != miss.Header.Get("Cache-Control") {
				t.Errorf("hit is %d %q, its miss %d %q", hit.Status, hit.Header.Get("Cache-Control"),
					miss.Status, miss.Header.Get("Cache-Control"))
			}
		})
	}
	t.Run("status class", func(t *testing.T) {
		r := node.Want(t, "MISS", "/negative/status/503")
		harness.Between(t, "lifetime", r.TTL(), 0, 1)
	})
	t.Run("client sees the origin's field", func(t *testing.T) {
		for _, outcome := range []string{"MISS", "HIT"} {
			r := node.Want(t, outcome, "/override/no-store?again")
			if got := r.Header.Get("Cache-Control"); got != "no-store" {
				t.Errorf("Cache-Control %q on a %s", got, outcome)
			}
		}
	})
}

// TestExpiry lets responses run out, in memory and in Redis.
func TestExpiry(t *testing.T) {
	t.Parallel()
	for name, rds := range map[string]*harness.Redis{"memory": nil, "redis": harness.StartRedis(t)} {
		t.Run(name, func(t *testing.T) {
			l := harness.Layout{Redis: rds, Origin: harness.NewOrigin(t), Site: `
				redis_cache /* {
					ttl 1s
					jitter 0
				}`}
			if rds != nil {
				l.Cache = "\tmemory off"
			}
			node := harness.StartCaddy(t, l)
			first := node.Want(t, "MISS", "/short")
			var second harness.Reply
			harness.Eventually(t, "the response expires", func() bool {
				second = node.Get(t, "/short")
				return second.Outcome() != "HIT"
			})
			if second.Outcome() != "MISS" || second.Body == first.Body {
				t.Errorf("after its time %s %q, before %q", second.Outcome(), second.Body, first.Body)
			}
			harness.Between(t, "requests at the origin", l.Origin.Count("/short"), 2, 2)
		})
	}
}

// TestJitter spreads lifetimes downwards from what is configured, by 5 % unless
// told otherwise, so that what was stored together does not expire together.
func TestJitter(t *testing.T) {
	t.Parallel()
	node := harness.StartCaddy(t, harness.Layout{Origin: harness.NewOrigin(t), Site: `
		redis_cache /default/* {
			ttl 10000s
		}
		redis_cache /wide/* {
			ttl 10000s
			jitter 50
		}`})
	for _, tt := range []struct {
		path string
		low  int
	}{{"/default/", 9499}, {"/wide/", 4999}} {
		seen := make(map[int]bool)
		lowest := 10000
		for i := range 40 {
			r := node.Want(t, "MISS", fmt.Sprintf("%s%d", tt.path, i))
			harness.Between(t, tt.path, r.TTL(), tt.low, 10000)
			seen[r.TTL()] = true
			lowest = min(lowest, r.TTL())
		}
		if len(seen) < 10 || lowest > (10000+3*tt.low)/4 {
			t.Errorf("%s: 40 responses share %d lifetimes down to %d", tt.path, len(seen), lowest)
		}
	}
}

// TestFreshAge counts the age that a response already has when it arrives.
func TestFreshAge(t *testing.T) {
	t.Parallel()
	web := harness.NewOrigin(t)
	web.With("/aged", "Cache-Control: max-age=100", "Age: 40")
	web.With("/past", "Cache-Control: max-age=100", "Age: 100")
	node := harness.StartCaddy(t, harness.Layout{Origin: web, Site: `redis_cache`})
	miss := node.Want(t, "MISS", "/aged")
	if got := miss.Header.Get("Age"); got != "40" {
		t.Errorf("Age %q on the miss, the origin said 40", got)
	}
	hit := node.Want(t, "HIT", "/aged")
	harness.Between(t, "remaining", hit.TTL(), 50, 60)
	if got := hit.Header.Get("Age"); len(hit.Header.Values("Age")) != 1 || got < "40" || got > "50" {
		t.Errorf("Age %q on the hit", hit.Header.Values("Age"))
	}
	node.Script(t, `
		MISS /past
		MISS /past`)
}
