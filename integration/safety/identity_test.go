package safety

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// identitySite holds one route per way of dealing with credentials.
const identitySite = `
	redis_cache /user/* i {
		by_user {http.request.cookie.uid}
	}
	redis_cache /owned/* i {
		by_user {http.request.cookie.uid}
		ttl 5m override
	}
	redis_cache /shared/* i {
		shared
	}
	redis_cache /analytics/* i {
		ignore_cookies theme_* lang
	}
	redis_cache /named/* i {
		vary_cookie sid
	}
	redis_cache /token/* i {
		vary_header Authorization
	}
	redis_cache /plain/* i`

// TestIdentity holds the cache to its first duty: nobody gets another person's
// response.
func TestIdentity(t *testing.T) {
	t.Parallel()
	rds := harness.StartRedis(t)
	web := harness.NewOrigin(t)
	web.With("/plain/public", "Cache-Control: public, max-age=60")
	web.With("/plain/s-maxage", "Cache-Control: s-maxage=60")
	web.With("/plain/must-revalidate", "Cache-Control: must-revalidate, max-age=60")
	web.With("/plain/max-age", "Cache-Control: max-age=60")
	web.With("/plain/targeted", "CDN-Cache-Control: max-age=60")
	web.With("/plain/targeted-public", "CDN-Cache-Control: public, max-age=60")
	web.With("/plain/private", "Cache-Control: private, max-age=60")
	web.With("/user/private", "Cache-Control: private, max-age=60")
	web.With("/owned/private", "Cache-Control: private, max-age=60")
	web.With("/shared/private", "Cache-Control: private, max-age=60")
	node := harness.StartCaddy(t, harness.Layout{
		Redis: rds, Origin: web, Site: identitySite,
		Cache: "namespace i {\nttl 5m\n}",
	})
	for _, tt := range []struct{ name, script string }{
		{"by_user", `
			MISS   /user/x | Cookie: uid=alice
			MISS   /user/x | Cookie: uid=bob
			HIT    /user/x | Cookie: uid=alice
			HIT    /user/x | Cookie: uid=bob; sid=other
			BYPASS /user/x                         # nobody is not somebody
			BYPASS /user/x | Cookie: uid=
			BYPASS /user/x | Cookie: sid=1
			HIT    /user/x | Cookie: uid=alice`},
		{"private needs override and by_user", `
			MISS   /owned/private  | Cookie: uid=alice
			HIT    /owned/private  | Cookie: uid=alice
			MISS   /owned/private  | Cookie: uid=bob`},
		{"shared", `
			MISS   /shared/x | Cookie: sid=1
			HIT    /shared/x | Cookie: sid=2
			HIT    /shared/x
			HIT    /shared/x | Authorization: Bearer t`},
		{"cookie", `
			BYPASS /plain/cookie | Cookie: sid=1
			BYPASS /plain/cookie | Cookie: sid=1
			MISS   /plain/cookie                 # so nothing was stored
			HIT    /plain/cookie
			BYPASS /plain/cookie | Cookie: sid=1 # nor is the shared one answered
			HIT    /plain/cookie`},
		{"authorization", `
			BYPASS /plain/auth | Authorization: Bearer t
			MISS   /plain/auth
			BYPASS /plain/auth | Authorization: Bearer t`},
		{"max-age is not public", `
			BYPASS /plain/max-age | Cookie: sid=1
			BYPASS /plain/max-age | Authorization: Bearer t
			MISS   /plain/max-age`},
		{"public", `
			MISS   /plain/public | Cookie: sid=1
			HIT    /plain/public | Cookie: sid=2
			HIT    /plain/public | Authorization: Bearer t
			HIT    /plain/public`},
		{"s-maxage", `
			MISS   /plain/s-maxage | Authorization: Bearer t
			HIT    /plain/s-maxage | Cookie: sid=2
			HIT    /plain/s-maxage`},
		{"targeted field", `
			BYPASS /plain/targeted | Cookie: sid=1 # it speaks of shared caches, not of everybody
			MISS   /plain/targeted
			HIT    /plain/targeted | Cookie: sid=1`},
		{"targeted field with public", `
			MISS   /plain/targeted-public | Cookie: sid=1
			HIT    /plain/targeted-public`},
		{"must-revalidate lets Authorization only", `
			BYPASS /plain/must-revalidate | Cookie: sid=1
			MISS   /plain/must-revalidate | Authorization: Bearer t
			HIT    /plain/must-revalidate | Authorization: Bearer u
			HIT    /plain/must-revalidate
			BYPASS /plain/must-revalidate | Cookie: sid=1`},
		{"analytics cookies", `
			MISS   /analytics/x | Cookie: _ga=1; _gid=2
			HIT    /analytics/x | Cookie: _ym_uid=1; _dc_gtm_UA-1=1; __qca=P0; _sp_id.1fff=1; _sp_ses.1fff=*; _chartbeat2=1
			HIT    /analytics/x | Cookie: sbjs_session=1; sbjs_first=typ%3Dtypein; _parsely_visitor=1; __ar_v4=x; _derived_epik=1
			HIT    /analytics/x
			HIT    /analytics/x | Cookie: theme_color=dark; lang=de; _ga=3
			BYPASS /analytics/x | Cookie: _ga=1; theme=dark`},
		{"vary_cookie names the credential", `
			MISS   /named/x | Cookie: sid=1
			MISS   /named/x | Cookie: sid=2
			HIT    /named/x | Cookie: sid=1
			BYPASS /named/x | Cookie: sid=1; uid=alice`},
		{"vary_header names the credential", `
			MISS   /token/x | Authorization: Bearer t
			HIT    /token/x | Authorization: Bearer t
			MISS   /token/x | Authorization: Bearer u
			BYPASS /token/x | Authorization: Bearer t | Cookie: sid=1`},
	} {
		t.Run(tt.name, func(t *testing.T) { node.Script(t, tt.script) })
	}

	t.Run("private is never stored", func(t *testing.T) {
		for _, path := range []string{"/plain/private", "/user/private", "/shared/private"} {
			for range 2 {
				r := node.Get(t, path, "Cookie: uid=alice")
				if o := r.Outcome(); o != "MISS" && o != "BYPASS" {
					t.Errorf("%s: %s", path, o)
				}
			}
			if got := web.Count(path); got != 2 {
				t.Errorf("%s: %d requests at the origin, want 2", path, got)
			}
		}
	})
	t.Run("the reason names the credential", func(t *testing.T) {
		for field, name := range map[string]string{
			"Cookie: _ga=1; sid=secret":    "sid",
			"Authorization: Bearer secret": "authorization",
		} {
			detail := node.Want(t, "BYPASS", "/plain/reason", field).CacheStatus(t)["detail"]
			if !strings.Contains(strings.ToLower(detail), name) || strings.Contains(detail, "secret") {
				t.Errorf("%s: detail %q, want the name and not the value", field, detail)
			}
		}
	})
	t.Run("no identity in clear", func(t *testing.T) {
		r := node.Want(t, "HIT", "/user/x", "Cookie: uid=alice")
		rds.Await(t, r.Key())
		for name, values := range r.Header {
			if strings.Contains(strings.Join(values, "\n"), "alice") {
				t.Errorf("%s: %q names the user", name, values)
			}
		}
		for _, key := range rds.Keys(t, "*") {
			value := rds.Client.Get(t.Context(), key).Val()
			if strings.Contains(key, "alice") || strings.Contains(value, "alice") {
				t.Errorf("%q names the user in Redis", key)
			}
		}
	})
}

// TestBehindAuthentication puts the cache where sites have it, behind basic_auth:
// who may not see a page must not see it from the cache either.
func TestBehindAuthentication(t *testing.T) {
	t.Parallel()
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	node := harness.StartCaddy(t, harness.Layout{Origin: harness.NewOrigin(t), Site: `
		basic_auth {
			alice ` + string(hash) + `
			bob ` + string(hash) + `
		}
		redis_cache /each/* {
			ttl 5m
			by_user {http.auth.user.id}
		}
		redis_cache /all/* {
			ttl 5m
		}`})
	login := func(user string) string {
		return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":secret"))
	}
	node.Want(t, "MISS", "/each/page", login("alice"))
	node.Want(t, "HIT", "/each/page", login("alice"))
	node.Want(t, "MISS", "/each/page", login("bob"))
	node.Want(t, "BYPASS", "/all/page", login("alice"))
	node.Want(t, "BYPASS", "/all/page", login("bob"))
	for _, path := range []string{"/each/page", "/all/page"} {
		if r := node.Get(t, path); r.Status != http.StatusUnauthorized || strings.Contains(r.Body, "uri") {
			t.Errorf("%s without a password: %d %q", path, r.Status, r.Body)
		}
	}
}
