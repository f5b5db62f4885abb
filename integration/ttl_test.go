package integration

import (
	"fmt"
	"testing"
)

// TestTTL is about where a lifetime comes from. X-Cache-TTL-Remaining on the
// miss says what was decided.
func TestTTL(t *testing.T) {
	t.Parallel()
	web := newOrigin(t)
	web.with("/pickup/stated", "Cache-Control: max-age=60")
	web.with("/pickup/shared", "Cache-Control: max-age=60, s-maxage=90")
	web.with("/override/stated", "Cache-Control: max-age=60")
	web.with("/override/no-store", "Cache-Control: no-store")
	web.with("/override/no-cache", "Cache-Control: no-cache")
	web.with("/override/private", "Cache-Control: private, max-age=60")
	web.with("/override/cdn", "CDN-Cache-Control: max-age=10")
	web.with("/pickup/no-store", "Cache-Control: no-store")
	web.with("/pickup/private", "Cache-Control: private")
	web.with("/pickup/cdn", "Cache-Control: no-store", "CDN-Cache-Control: max-age=30")
	for _, status := range []int{203, 204, 301, 308, 302, 404, 410, 500, 503} {
		web.answer(fmt.Sprintf("/pickup/status/%d", status), status, "")
		web.answer(fmt.Sprintf("/negative/status/%d", status), status, "")
	}
	node := startCaddy(t, layout{
		origin: web,
		cache: `
			namespace pickup {
				ttl 5m
				jitter 0
			}
			namespace plain {
				jitter 0
			}`,
		site: `
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
			miss := node.want(t, "MISS", tt.path)
			if tt.ttl == 0 {
				if got := miss.header.Get("X-Cache-Ttl-Remaining"); got != "" {
					t.Errorf("X-Cache-TTL-Remaining %q on a response that is not stored", got)
				}
				again := node.want(t, "MISS", tt.path)
				if again.cacheStatus(t)["stored"] == "true" {
					t.Errorf("Cache-Status %q", again.header.Get("Cache-Status"))
				}
				return
			}
			between(t, "lifetime on the miss", miss.ttl(), tt.ttl-10, tt.ttl)
			hit := node.want(t, "HIT", tt.path)
			between(t, "lifetime on the hit", hit.ttl(), tt.ttl-10, tt.ttl)
			if hit.status != miss.status || hit.header.Get("Cache-Control") != miss.header.Get("Cache-Control") {
				t.Errorf("hit is %d %q, its miss %d %q", hit.status, hit.header.Get("Cache-Control"),
					miss.status, miss.header.Get("Cache-Control"))
			}
		})
	}
	t.Run("status class", func(t *testing.T) {
		r := node.want(t, "MISS", "/negative/status/503")
		between(t, "lifetime", r.ttl(), 0, 1)
	})
	t.Run("client sees the origin's field", func(t *testing.T) {
		for _, outcome := range []string{"MISS", "HIT"} {
			r := node.want(t, outcome, "/override/no-store?again")
			if got := r.header.Get("Cache-Control"); got != "no-store" {
				t.Errorf("Cache-Control %q on a %s", got, outcome)
			}
		}
	})
}

// TestExpiry lets responses run out, in memory and in Redis.
func TestExpiry(t *testing.T) {
	t.Parallel()
	for name, rds := range map[string]*redisServer{"memory": nil, "redis": startRedis(t)} {
		t.Run(name, func(t *testing.T) {
			l := layout{redis: rds, origin: newOrigin(t), site: `
				redis_cache /* {
					ttl 1s
					jitter 0
				}`}
			if rds != nil {
				l.cache = "\tmemory off"
			}
			node := startCaddy(t, l)
			first := node.want(t, "MISS", "/short")
			var second reply
			eventually(t, "the response expires", func() bool {
				second = node.get(t, "/short")
				return second.outcome() != "HIT"
			})
			if second.outcome() != "MISS" || second.body == first.body {
				t.Errorf("after its time %s %q, before %q", second.outcome(), second.body, first.body)
			}
			between(t, "requests at the origin", l.origin.count("/short"), 2, 2)
		})
	}
}

// TestJitter spreads lifetimes downwards from what is configured, by 5 % unless
// told otherwise, so that what was stored together does not expire together.
func TestJitter(t *testing.T) {
	t.Parallel()
	node := startCaddy(t, layout{origin: newOrigin(t), site: `
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
			r := node.want(t, "MISS", fmt.Sprintf("%s%d", tt.path, i))
			between(t, tt.path, r.ttl(), tt.low, 10000)
			seen[r.ttl()] = true
			lowest = min(lowest, r.ttl())
		}
		if len(seen) < 10 || lowest > (10000+3*tt.low)/4 {
			t.Errorf("%s: 40 responses share %d lifetimes down to %d", tt.path, len(seen), lowest)
		}
	}
}

// TestFreshAge counts the age that a response already has when it arrives.
func TestFreshAge(t *testing.T) {
	t.Parallel()
	web := newOrigin(t)
	web.with("/aged", "Cache-Control: max-age=100", "Age: 40")
	web.with("/past", "Cache-Control: max-age=100", "Age: 100")
	node := startCaddy(t, layout{origin: web, site: `redis_cache`})
	miss := node.want(t, "MISS", "/aged")
	if got := miss.header.Get("Age"); got != "40" {
		t.Errorf("Age %q on the miss, the origin said 40", got)
	}
	hit := node.want(t, "HIT", "/aged")
	between(t, "remaining", hit.ttl(), 50, 60)
	if got := hit.header.Get("Age"); len(hit.header.Values("Age")) != 1 || got < "40" || got > "50" {
		t.Errorf("Age %q on the hit", hit.header.Values("Age"))
	}
	node.script(t, `
		MISS /past
		MISS /past`)
}
