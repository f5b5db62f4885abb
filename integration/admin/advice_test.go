package admin

import (
	"net/http"
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// TestDeferredHeader has handlers in front change what the cache has seen, which the
// doctor tells of, and others that it can see.
func TestDeferredHeader(t *testing.T) {
	t.Parallel()
	web := harness.NewOrigin(t)
	web.With("/set-cookie/deferred", "Set-Cookie: a=b")
	n := harness.StartCaddy(t, harness.Layout{Cache: "namespace d {\nttl 5m\n}", Site: strings.ReplaceAll(`
		@account path /account/*
		header @account {
			-Server
			Cache-Control "no-store"
		}
		header /sign/* >Cache-Control private
		header /default/* ?Vary Accept-Language
		header /set-cookie/* -Set-Cookie
		header /plain/* Cache-Control no-store
		handle /up/* {
			redis_cache d
			reverse_proxy $ORIGIN {
				header_down Cache-Control no-store
			}
		}
		handle {
			redis_cache d
			reverse_proxy $ORIGIN
		}`, "$ORIGIN", web.Addr)})
	for path, outcomes := range map[string][2]string{
		"/account/x": {"MISS", "HIT"}, "/sign/x": {"MISS", "HIT"}, "/default/x": {"MISS", "HIT"}, "/set-cookie/deferred": {"MISS", "MISS"},
		"/up/x": {"MISS", "MISS"}, "/plain/x": {"MISS", "MISS"},
	} {
		for _, want := range outcomes {
			if r := n.Get(t, path); r.Outcome() != want {
				t.Errorf("%s: %s %v, want %s", path, r.Outcome(), r.Header, want)
			}
		}
	}
	_, checks := n.Doctor(t)
	told := checks["configuration"]
	for _, field := range []string{"Cache-Control", "Vary", "Set-Cookie"} {
		if !strings.Contains(told, "header in front changes "+field+" when the response is sent") {
			t.Errorf("doctor says nothing of %s: %s", field, told)
		}
	}
	if !strings.Contains(told, "header_down") || strings.Contains(told, "changes Server") {
		t.Errorf("doctor: %s", told)
	}
}

// TestSafeWayFirst reads what explain and doctor advise for a site with sessions and
// tokens in its forms.
func TestSafeWayFirst(t *testing.T) {
	t.Parallel()
	web := harness.NewOrigin(t)
	web.With("/form", "Set-Cookie: csrftoken=1")
	n := harness.StartCaddy(t, harness.Layout{Origin: web, Site: `
		handle /strip/* {
			redis_cache {
				ttl 5m
				set_cookie strip
				ignore_cookies sessionid
			}
		}
		handle {
			redis_cache {
				ttl 5m
			}
		}`})
	explained := func(path, field string) string {
		r := n.API(t, http.MethodGet, "/redis_cache/explain?url=http://"+n.Site+path+"&header="+field, "")
		_, advice, _ := strings.Cut(r.Body, `"advice":"`)
		advice, _, _ = strings.Cut(advice, `","`)
		return advice
	}
	first := func(what, text, safe string, costly ...string) {
		t.Helper()
		at := strings.Index(text, safe)
		for _, way := range costly {
			if i := strings.Index(text, way); at < 0 || i >= 0 && i < at || i < 0 {
				t.Errorf("%s: %q and %q in %q", what, safe, way, text)
			}
		}
	}
	n.Get(t, "/form")
	req, err := n.Request(t.Context(), http.MethodGet, "/form", "")
	if err != nil {
		t.Fatal(err)
	}
	req.Host = n.Site // as explain asks
	if _, err := harness.Send(n.Client, req); err != nil {
		t.Fatal(err)
	}
	first("a cookie is set", explained("/form", "A:+b"), "set no cookie", "strip", "CSRF")
	n.Get(t, "/page")
	req.URL.Path = "/page"
	if _, err := harness.Send(n.Client, req); err != nil {
		t.Fatal(err)
	}
	first("credentials", explained("/page", "Cookie:+sessionid=1"), "public", "by_user", "shared", "ignore_cookies", "what one was answered")
	_, checks := n.Doctor(t)
	for _, want := range []string{"set_cookie strip stores for everybody", "ignore_cookies sessionid ignores cookies", "CSRF"} {
		if !strings.Contains(checks["configuration"], want) {
			t.Errorf("doctor: no %q in %s", want, checks["configuration"])
		}
	}
}
