package http

import (
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// TestKeyNames reads keys as an operator with redis-cli does.
func TestKeyNames(t *testing.T) {
	t.Parallel()
	rds := harness.StartRedis(t)
	node := harness.StartCaddy(t, harness.Layout{
		Redis:  rds,
		Origin: harness.NewOrigin(t),
		Cache:  harness.GuideCache,
		Site: `
			@profile path_regexp id ^/users/([^/]+)/profile$
			redis_cache @profile user {
				key {re.id.1}:profile exact
			}
			redis_cache /search/* pickup {
				key search:{query.q}
			}
			redis_cache /empty/* pickup {
				key part:{query.absent}:end
			}
			@pages path /api/* /m/*
			redis_cache @pages pickup
			@phone header User-Agent *Phone*
			rewrite @phone /m{uri}`,
	})

	for _, tt := range []struct {
		name, path string
		begins     string // the key but for its hash
		exact      bool
	}{
		{"default", "/api/v1/pickups", "cache:pickup:shop.test/api/v1/pickups:", false},
		{"case and query", "/api/V1/Pickups?b=1", "cache:pickup:shop.test/api/V1/Pickups:", false},
		{"the guide's key", "/users/123/profile", "cache:user:123:profile", true},
		{"template", "/search/x?q=paper", "cache:pickup:search:paper:", false},
		{"escaped value", "/search/x?q=a%3Ab*%20%7B1%7D%C3%A9", "cache:pickup:search:a%3Ab%2A%20%7B1%7D%C3%A9:", false},
		{"empty value", "/empty/x", "cache:pickup:part::end:", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			miss := node.Want(t, "MISS", tt.path)
			key := miss.Key()
			rest, ok := strings.CutPrefix(key, tt.begins)
			if !ok || tt.exact != (rest == "") || (!tt.exact && (len(rest) < 20 || strings.Contains(rest, ":"))) {
				t.Fatalf("key %q, want %q and a hash: %t", key, tt.begins, !tt.exact)
			}
			rds.Await(t, key)
			if hit := node.Want(t, "HIT", tt.path); hit.Key() != key {
				t.Errorf("the hit's key is %q, the miss's %q", hit.Key(), key)
			}
		})
	}

	t.Run("host", func(t *testing.T) {
		one := node.Want(t, "MISS", "/api/host", "Host: one.test")
		two := node.Want(t, "MISS", "/api/host", "Host: TWO.test:8443")
		node.Want(t, "HIT", "/api/host", "Host: ONE.test")
		if !strings.Contains(one.Key(), "one.test/") || !strings.Contains(two.Key(), "two.test%3A8443/") {
			t.Errorf("keys %q and %q", one.Key(), two.Key())
		}
	})
	t.Run("forwarded host", func(t *testing.T) {
		node.Script(t, `
			MISS /api/forwarded
			MISS /api/forwarded | X-Forwarded-Host: evil.test
			HIT  /api/forwarded
			HIT  /api/forwarded | X-Forwarded-Host: evil.test
			HIT  /api/forwarded | X-Forwarded-Host: shop.test`)
	})
	t.Run("internal rewrite", func(t *testing.T) {
		desk := node.Want(t, "MISS", "/api/page")
		phone := node.Want(t, "MISS", "/api/page", "User-Agent: Phone 1")
		if desk.Key() == phone.Key() {
			t.Errorf("both targets share %q", desk.Key())
		}
	})
	t.Run("namespaces", func(t *testing.T) {
		// Same identifier, other namespace: never the same key.
		other := harness.StartCaddy(t, harness.Layout{Redis: rds, Origin: node.Layout.Origin, Cache: harness.GuideCache, Site: "redis_cache /api/* points"})
		r := other.Want(t, "MISS", "/api/v1/pickups")
		if !strings.HasPrefix(r.Key(), "cache:points:shop.test/api/v1/pickups:") {
			t.Errorf("key %q", r.Key())
		}
	})
	t.Run("long", func(t *testing.T) {
		long := "/api/" + strings.Repeat("x", 1000)
		a := node.Want(t, "MISS", long+"a")
		b := node.Want(t, "MISS", long+"b")
		if a.Key() == b.Key() {
			t.Error("paths that differ behind the cut share a key")
		}
		node.Want(t, "HIT", long+"a")
		harness.Eventually(t, "cut key names in Redis", func() bool { return len(rds.Keys(t, "cache:pickup:*xxxx*")) == 2 })
		for _, key := range rds.Keys(t, "cache:pickup:*xxxx*") {
			if len(key) > 300 {
				t.Errorf("key of %d bytes in Redis", len(key))
			}
		}
	})
}

// TestVaryQuery is about which parts of the query tell responses apart.
func TestVaryQuery(t *testing.T) {
	t.Parallel()
	node := harness.StartCaddy(t, harness.Layout{Origin: harness.NewOrigin(t), Cache: "namespace q {\nttl 5m\n}", Site: `
		redis_cache /default/* q
		redis_cache /names/* q {
			vary_query status page
		}
		redis_cache /all/* q {
			vary_query all
		}
		redis_cache /none/* q {
			vary_query none
		}
		redis_cache /except/* q {
			vary_query except session debug_* tracking
		}`})
	for _, tt := range []struct{ name, script string }{
		{"default", `
			MISS /default/x?a=1&b=2
			HIT  /default/x?b=2&a=1
			MISS /default/x?a=1&b=3
			MISS /default/x?a=1
			MISS /default/x
			MISS /default/x?a=1&b=2&utm_source=mail`},
		{"names", `
			MISS /names/x?status=open&page=1
			HIT  /names/x?page=1&status=open
			HIT  /names/x?page=1&status=open&other=1
			MISS /names/x?status=open
			MISS /names/x?status=shut&page=1
			MISS /names/x?status=open&status=shut
			MISS /names/x
			HIT  /names/x?other=2`},
		{"all", `
			MISS /all/x?a=1&b=2
			HIT  /all/x?b=2&a=1
			MISS /all/x?a=1&b=2&c=3`},
		{"none", `
			MISS /none/x?a=1
			HIT  /none/x?a=2
			HIT  /none/x`},
		{"except", `
			MISS /except/x?a=1
			HIT  /except/x?a=1&session=9
			HIT  /except/x?debug_sql=1&a=1&debug_x=2
			HIT  /except/x?a=1&utm_source=mail&gclid=2&fbclid=3
			MISS /except/x?a=2
			MISS /except/x?a=1&sessions=9`},
		// Names and values never run into each other.
		{"collision", `
			MISS /default/c?a=1%26b%3D2
			MISS /default/c?a=1&b=2
			MISS /default/c?a=1%3Db
			MISS /default/c?a%3D1=b`},
		// The same name twice: the order of its values is the origin's business.
		{"repeated", `
			MISS /default/r?id=1&id=2
			MISS /default/r?id=2&id=1
			HIT  /default/r?id=1&id=2`},
	} {
		t.Run(tt.name, func(t *testing.T) { node.Script(t, tt.script) })
	}
}

// TestVary is about request fields: those the route names, those the origin names.
func TestVary(t *testing.T) {
	t.Parallel()
	rds := harness.StartRedis(t)
	web := harness.NewOrigin(t)
	web.With("/origin/language", "Vary: Accept-Language")
	web.With("/origin/star", "Vary: *")
	web.With("/origin/lines", "Vary: X-A", "Vary: X-B")
	node := harness.StartCaddy(t, harness.Layout{Redis: rds, Origin: web, Cache: "namespace v {\nttl 5m\n}", Site: `
		redis_cache /header/* v {
			vary_header X-Tenant
		}
		redis_cache /cookie/* v {
			vary_cookie theme
		}
		redis_cache /origin/* v`})
	for _, tt := range []struct{ name, script string }{
		{"vary_header", `
			MISS /header/x | X-Tenant: a
			MISS /header/x | X-Tenant: b
			MISS /header/x
			HIT  /header/x | X-Tenant: a | X-Other: 1
			HIT  /header/x | X-Tenant: b
			HIT  /header/x`},
		{"vary_cookie", `
			MISS /cookie/x | Cookie: theme=dark
			MISS /cookie/x | Cookie: theme=light
			MISS /cookie/x
			HIT  /cookie/x | Cookie: theme=dark
			HIT  /cookie/x | Cookie: theme=light
			HIT  /cookie/x`},
		{"of the origin", `
			MISS /origin/language | Accept-Language: de
			MISS /origin/language | Accept-Language: en
			MISS /origin/language
			HIT  /origin/language | Accept-Language: de
			HIT  /origin/language | Accept-Language: en | X-Other: 1
			HIT  /origin/language`},
		{"star", `
			MISS /origin/star
			MISS /origin/star`},
		{"several lines", `
			MISS /origin/lines | X-A: 1 | X-B: 1
			MISS /origin/lines | X-A: 1 | X-B: 2
			MISS /origin/lines | X-A: 2 | X-B: 1
			HIT  /origin/lines | X-A: 1 | X-B: 1
			HIT  /origin/lines | X-A: 1 | X-B: 2`},
	} {
		t.Run(tt.name, func(t *testing.T) { node.Script(t, tt.script) })
	}
	t.Run("variants in Redis", func(t *testing.T) {
		de := node.Want(t, "HIT", "/origin/language", "Accept-Language: de")
		en := node.Want(t, "HIT", "/origin/language", "Accept-Language: en")
		rds.Await(t, de.Key())
		rds.Await(t, en.Key())
		base := de.Key()[:strings.LastIndexByte(de.Key(), ':')]
		if de.Key() == en.Key() || !strings.HasPrefix(en.Key(), base+":") || !keyShape.MatchString(base) {
			t.Errorf("variants %q and %q, want one base key with a hash behind it", de.Key(), en.Key())
		}
		node.Restart(t)
		node.Script(t, `
			HIT  /origin/language | Accept-Language: de
			MISS /origin/language | Accept-Language: fr
			HIT  /origin/language | Accept-Language: en`)
	})
}
