package safety

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// Somebody else's data: cases 1 to 7.

const authBeforeSite = `
	handle /auth/basic/* {
		basic_auth {
			alice $HASH
		}
		redis_cache s
	}
	handle /auth/forward/* {
		forward_auth $GUARD {
			uri /check
		}
		redis_cache s
	}
	handle /noauth/basic/* {
		basic_auth {
			alice $HASH
		}
	}
	handle /noauth/forward/* {
		forward_auth $GUARD {
			uri /check
		}
	}`

// login is the field by which basic_auth knows a user.
func login(user string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":secret"))
}

func authBeforeCache(t *testing.T, s *safety) {
	s.guard.Handle("/check", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Door") != "good" {
			w.WriteHeader(http.StatusUnauthorized)
			io.WriteString(w, "who are you")
		}
	})
	// The origin lets everybody share it: only the handler in front protects it.
	s.web.With("/auth/basic/page", "Cache-Control: public, max-age=600")
	wrong := "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("alice:guess"))
	for way, field := range map[string]string{"basic": login("alice"), "forward": "X-Door: good"} {
		t.Run(way, func(t *testing.T) {
			cached, uncached := "/auth/"+way+"/page", "/noauth/"+way+"/page"
			anonymous := func(when string) {
				before := s.web.Requests()
				r := s.Get(t, cached)
				if r.Status != http.StatusUnauthorized || strings.Contains(r.Body, "uri") || s.web.Requests() != before {
					t.Errorf("anonymous, %s: %d %q", when, r.Status, r.Body)
				}
				harness.SameAnswer(t, "anonymous, "+when, s.Get(t, uncached), r)
				harness.SameAnswer(t, "a wrong password, "+when, s.Get(t, uncached, wrong), s.Get(t, cached, wrong))
			}
			anonymous("before the page is stored")
			s.want(t, "MISS", cached, field)
			s.want(t, "HIT", cached, field)
			anonymous("after")
			s.want(t, "HIT", cached, field)
		})
	}
}

const authBelowSite = `
	redis_cache /below/* s
	redis_cache /below-user/* s {
		by_user {http.request.cookie.sid}
	}
	redis_cache /below-id/* s {
		by_user {http.auth.user.id}
	}
	@below path /below/* /below-user/* /below-id/*
	handle @below {
		basic_auth {
			alice $HASH
		}
	}`

func authBelowCache(t *testing.T, s *safety) {
	s.web.With("/below/public", "Cache-Control: public, max-age=600")
	for _, path := range []string{"/below/public", "/below/ttl"} {
		for range 2 {
			r := s.Get(t, path, login("alice"))
			if o := r.Outcome(); r.Status != http.StatusOK || o == "HIT" || len(s.stored(t, path)) > 0 {
				t.Errorf("%s: %d %s, Cache-Status %q", path, r.Status, o, r.Header.Get("Cache-Status"))
			}
			if anonymous := s.Get(t, path); anonymous.Status != http.StatusUnauthorized || anonymous.Body != "" {
				t.Errorf("%s without a password: %d %q", path, anonymous.Status, anonymous.Body)
			}
		}
	}
	if reason := s.Get(t, "/below/public", login("alice")).CacheStatus(t)["detail"]; reason != "identity-below" {
		t.Errorf("reason %q", reason)
	}
	warnings := 0
	for line := range strings.Lines(s.Proc.Log.String()) {
		if strings.Contains(line, `"level":"warn"`) && strings.Contains(line, "/below/") {
			warnings++
		}
	}
	if warnings != 1 {
		t.Errorf("%d warnings, want one", warnings)
	}
	// The handler behind has to be asked each time, by_user or not: a private
	// response is stored only where the route says override, too.
	t.Run("by_user", func(t *testing.T) {
		for range 2 {
			s.Get(t, "/below-user/page", login("alice"), "Cookie: sid=1")
			if r := s.Get(t, "/below-user/page", "Cookie: sid=1"); r.Status != http.StatusUnauthorized {
				t.Errorf("without a password: %d %s %q", r.Status, r.Outcome(), r.Body)
			}
		}
	})
	t.Run("by_user of an identity that is not known yet", func(t *testing.T) {
		s.script(t, strings.Repeat("BYPASS /below-id/page | "+login("alice")+"\n", 2))
	})
}

func concurrentUsers(t *testing.T, s *safety) {
	for i, control := range []string{"no-store", "private, max-age=600", "private"} {
		path := fmt.Sprintf("/own/%d", i)
		page := func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", control)
			fmt.Fprintf(w, "page of %s", r.Header.Get("X-Who"))
		}
		// Nothing but the response tells that the page is somebody's.
		users := []string{"alice", "bob", "carol", "dave"}
		var asks [][]string
		for _, user := range users {
			asks = append(asks, []string{"X-Who: " + user})
		}
		for n, r := range s.together(t, path, page, asks...) {
			if r.Body != "page of "+users[n] || r.Outcome() != "MISS" {
				t.Errorf("%s: %s got %q, %s", control, users[n], r.Body, r.Outcome())
			}
		}
		if r := s.Get(t, path, "X-Who: eve"); r.Body != "page of eve" {
			t.Errorf("%s: eve got %q afterwards", control, r.Body)
		}
		if got := s.web.Count(path); got != len(users)+1 {
			t.Errorf("%s: %d requests at the origin for %d users", control, got, len(users)+1)
		}
	}
}

func sessionCookie(t *testing.T, s *safety) {
	s.script(t, `
		BYPASS /session/page | Cookie: PHPSESSID=1
		BYPASS /session/page | Cookie: PHPSESSID=1
		BYPASS /session/page | Cookie: _ga=1; PHPSESSID=2
		MISS   /session/page
		HIT    /session/page
		BYPASS /session/page | Cookie: PHPSESSID=1
		HIT    /session/page`)
}

const setCookieSite = `
	redis_cache /setcookie/default s
	redis_cache /setcookie/strip s {
		set_cookie strip
	}`

func setCookie(t *testing.T, s *safety) {
	for _, way := range []string{"default", "strip"} {
		path := "/setcookie/" + way
		s.web.Answer(path, 200, "page", "Cache-Control: public, max-age=600", "Set-Cookie: sid=s3cr3t", "Set-Cookie: lang=de")
		miss := s.want(t, "MISS", path)
		second := s.want(t, map[string]string{"default": "MISS", "strip": "HIT"}[way], path)
		if got := miss.Header["Set-Cookie"]; len(got) != 2 {
			t.Errorf("%s: the miss's own client got the cookies %q", way, got)
		}
		if got := second.Header["Set-Cookie"]; (len(got) > 0) != (way == "default") {
			t.Errorf("%s: the second client got the cookies %q", way, got)
		}
		for _, key := range s.stored(t, path) {
			if value := s.rds.Client.Get(t.Context(), key).Val(); way == "default" || strings.Contains(value, "s3cr3t") {
				t.Errorf("%s: %q is in Redis: %q", way, key, value)
			}
		}
	}
}

const byUserSite = `
	redis_cache /mine/* s {
		by_user {http.request.cookie.uid}
		diagnostics full
	}
	redis_cache /mine-too/* s {
		by_user {http.request.header.X-Account}
		vary_cookie uid
	}`

func byUser(t *testing.T, s *safety) {
	// No part of these is anywhere else in the site.
	const alice, bob = "alice-4711@users.example", "bob-0815@users.example"
	s.web.With("/mine/varies", "Vary: Cookie, X-Account")
	s.script(t, strings.NewReplacer("ALICE", alice, "BOB", bob).Replace(`
		MISS   /mine/x        | Cookie: uid=ALICE
		HIT    /mine/x        | Cookie: uid=ALICE
		MISS   /mine/x        | Cookie: uid=BOB
		BYPASS /mine/x
		BYPASS /mine/x
		BYPASS /mine/x        | Cookie: uid=
		BYPASS /mine/x        | Cookie: uid
		BYPASS /mine/x        | Cookie: other=ALICE
		HIT    /mine/x        | Cookie: uid=ALICE
		MISS   /mine/varies   | Cookie: uid=ALICE | X-Account: ALICE
		HIT    /mine/varies   | Cookie: uid=ALICE | X-Account: ALICE
		MISS   /mine-too/x    | X-Account: ALICE | Cookie: uid=ALICE
		MISS   /mine-too/x    | X-Account: ALICE | Cookie: uid=BOB
		MISS   /mine-too/x    | X-Account: BOB | Cookie: uid=ALICE
		HIT    /mine-too/x    | X-Account: ALICE | Cookie: uid=ALICE
		BYPASS /mine-too/x    | X-Account:
		BYPASS /mine-too/x    | Cookie: uid=ALICE`))
	clear := func(where, text string) {
		t.Helper()
		for _, user := range []string{alice, bob} {
			if strings.Contains(text, user) || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(user))) {
				t.Errorf("%s names a user: %q", where, text)
			}
		}
	}
	for _, fields := range [][]string{{"Cookie: uid=" + alice}, {"Cookie: uid=" + bob}, {"Cookie: uid="}} {
		for name, values := range s.Get(t, "/mine/x", fields...).Header {
			clear(name, strings.Join(values, "\n"))
		}
	}
	if s.rds == nil {
		return
	}
	for _, key := range s.rds.Keys(t, "*") {
		clear("a key in Redis", key)
		var content any
		switch kind := s.rds.Client.Type(t.Context(), key).Val(); kind {
		case "string":
			content = s.rds.Client.Get(t.Context(), key).Val()
		case "hash":
			content = s.rds.Client.HGetAll(t.Context(), key).Val()
		case "stream":
			content = s.rds.Client.XRange(t.Context(), key, "-", "+").Val()
		case "set":
			content = s.rds.Client.SMembers(t.Context(), key).Val()
		case "zset":
			content = s.rds.Client.ZRange(t.Context(), key, 0, -1).Val()
		case "none": // expired or replaced meanwhile
		default:
			t.Fatalf("%q is a %s, which this test cannot look into", key, kind)
		}
		clear(key, fmt.Sprint(content))
	}
}

func varyInFlight(t *testing.T, s *safety) {
	for _, field := range []string{"Accept-Language", "X-Tenant"} {
		path := "/flight/" + strings.ToLower(field)
		values := []string{"de", "en", "fr", "nl"}
		var asks [][]string
		for _, value := range values {
			asks = append(asks, []string{field + ": " + value})
		}
		page := func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Vary", field)
			w.Header().Set("Cache-Control", "public, max-age=600")
			fmt.Fprintf(w, "page in %s", r.Header.Get(field))
		}
		check := func(when string, i int, r harness.Reply) {
			if r.Body != "page in "+values[i] {
				t.Errorf("%s, %s: %s got %q, %s", field, when, values[i], r.Body, r.Outcome())
			}
		}
		for i, r := range s.together(t, path, page, asks...) {
			check("in flight", i, r)
		}
		for i := range values {
			var r harness.Reply
			// Two variants stored at once may cost one of them its place.
			harness.Eventually(t, "a hit", func() bool {
				r = s.Get(t, path, asks[i]...)
				check("afterwards", i, r)
				return r.Outcome() == "HIT"
			})
		}
	}
}
