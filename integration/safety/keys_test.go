package safety

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// Keys that must differ, poisoning and deception: cases 8 to 12.

const originsSite = `
	@other header X-Namespace other
	redis_cache /origins/* s {
		bypass @other
	}
	@ns-s {
		path /same/*
		header X-Namespace s
	}
	@ns-other {
		path /same/*
		header X-Namespace other
	}
	redis_cache @ns-s s {
		key same:{path}
	}
	redis_cache @ns-other other {
		key same:{path}
	}`

func hostsSchemesNamespaces(t *testing.T, s *safety) {
	s.script(t, `
		MISS /origins/x | Host: one.test
		MISS /origins/x | Host: two.test
		MISS /origins/x | Host: one.test:8080
		HIT  /origins/x | Host: ONE.test
		HIT  /origins/x | Host: one.test:80
		HIT  /origins/x | Host: two.test
		MISS /same/x    | X-Namespace: s
		MISS /same/x    | X-Namespace: other
		HIT  /same/x    | X-Namespace: s
		HIT  /same/x    | X-Namespace: other
		MISS /same/x    | X-Namespace: s     | Host: two.test`)
	client := harness.NewClient()
	defer client.CloseIdleConnections()
	client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{InsecureSkipVerify: true, ServerName: harness.SiteHost}
	overTLS := func() (harness.Reply, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+s.https+"/origins/scheme", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = harness.SiteHost
		return harness.Send(client, req)
	}
	plain := s.want(t, "MISS", "/origins/scheme")
	var secure harness.Reply
	harness.Eventually(t, "the certificate is there", func() (ok bool) {
		var err error
		secure, err = overTLS()
		return err == nil
	})
	if secure.Outcome() != "MISS" || secure.Key() == plain.Key() || secure.Body == plain.Body {
		t.Errorf("https: %s %q with the key %q, http's is %q", secure.Outcome(), secure.Body, secure.Key(), plain.Key())
	}
	s.settle(t, secure)
	if again, err := overTLS(); err != nil || again.Outcome() != "HIT" || again.Body != secure.Body {
		t.Errorf("https again: %s %q, %v", again.Outcome(), again.Body, err)
	}
	if r := s.want(t, "HIT", "/origins/scheme"); r.Body != plain.Body {
		t.Errorf("http got %q", r.Body)
	}
}

const rewriteSite = `
	@phone {
		path /device/*
		header User-Agent *Phone*
	}
	rewrite @phone /m{uri}
	@dark {
		path /device/*
		header_regexp Cookie theme=dark
	}
	rewrite @dark /dark{uri}
	@tablet {
		path /param/*
		header User-Agent *Tablet*
	}
	rewrite @tablet {path}?device=tablet
	@device path /device/* /m/device/* /dark/device/*
	redis_cache @device s {
		ignore_cookies theme
	}
	redis_cache /param/* s {
		vary_query none
	}
	handle /php/* {
		root $ROOT
		try_files {path} {path}/ /php/index.php?{query}
		redis_cache s
	}`

func rewrites(t *testing.T, s *safety) {
	s.write(t, "php/real.txt", "there")
	s.write(t, "php/index.php", "<?php")
	s.script(t, `
		MISS /device/x
		MISS /device/x   | User-Agent: Phone 1
		MISS /device/x   | Cookie: theme=dark
		HIT  /device/x
		HIT  /device/x   | User-Agent: Phone 2
		HIT  /device/x   | Cookie: theme=dark
		MISS /m/device/x | User-Agent: Desk   # the same at the origin, another URL for clients
		MISS /param/x
		MISS /param/x    | User-Agent: Tablet
		HIT  /param/x?device=tablet
		HIT  /param/x    | User-Agent: Tablet
		MISS /php/
		MISS /php/a
		MISS /php/b
		MISS /php/b?page=2
		MISS /php/index.php
		MISS /php/real.txt
		HIT  /php/a
		HIT  /php/b
		HIT  /php/b?page=2`)
	// Many pages, one script: each answers by what the client sent.
	for _, path := range []string{"/php/a", "/php/b"} {
		if got := s.Get(t, path).Key(); !strings.Contains(got, path+":") {
			t.Errorf("%s has the key %q", path, got)
		}
	}
}

const keyPartsSite = `
	redis_cache /parts/* s {
		vary_header X-A X-B
		vary_cookie a b
	}`

func keyParts(t *testing.T, s *safety) {
	s.script(t, `
		MISS /parts/x?a=1%26b%3D2
		MISS /parts/x?a=1&b=2
		MISS /parts/x?a=1&b%3D2
		MISS /parts/x?a%3D1&b=2
		MISS /parts/x?a=1%00b=2
		MISS /parts/x?
		MISS /parts/x%3F
		MISS /parts/x%3Fa=1&b=2
		MISS /parts/y | X-A: X-B | X-B: 1
		MISS /parts/y | X-A: X-B1
		MISS /parts/y | X-B: X-B1
		MISS /parts/y | X-A: 1
		MISS /parts/y | X-B: 1
		MISS /parts/y | X-A: 1 | X-B:
		MISS /parts/y | X-A: 1 | Cookie: a=1
		MISS /parts/y | X-A: 1 | Cookie: b=1
		MISS /parts/y | X-A: 1 | Cookie: a=1b; b=1
		MISS /parts/y | X-A: 1 | Cookie: a=1; b=b1
		HIT  /parts/y | X-A: 1 | Cookie: a=1; b=b1`)
	if s.tiers != "redis" {
		return // memory would not ask Redis
	}
	t.Run("planted", func(t *testing.T) {
		mine, yours := s.want(t, "MISS", "/parts/mine"), s.want(t, "MISS", "/parts/yours")
		value, err := s.rds.Client.Get(t.Context(), yours.Key()).Result()
		if err != nil {
			t.Fatal(err)
		}
		s.rds.Do(t, "SET", mine.Key(), value, "EX", "60")
		// The node answers from its own write until it knows that Redis has it.
		var r harness.Reply
		harness.Eventually(t, "the record is no hit", func() bool {
			if r = s.Get(t, "/parts/mine"); r.Body == yours.Body {
				t.Fatal("a record under another key was answered")
			}
			return r.Outcome() == "MISS"
		})
		s.settle(t, r)
		s.want(t, "HIT", "/parts/mine")
	})
}

func poisoning(t *testing.T, s *safety) {
	s.web.Handle("/poison/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, "<script src=%s://%s/x.js>", r.Header.Get("X-Forwarded-Proto"), r.Header.Get("X-Forwarded-Host"))
	})
	clean := s.want(t, "MISS", "/poison/page").Body
	s.script(t, `
		MISS   /poison/page | X-Forwarded-Host: evil.test
		HIT    /poison/page | X-Forwarded-Host: evil.test
		MISS   /poison/page | X-Forwarded-Host: evil2.test
		MISS   /poison/page | X-Forwarded-Host: shop.test, evil.test
		MISS   /poison/page | X-Forwarded-Proto: https
		MISS   /poison/page | X-Forwarded-Scheme: nothttps
		MISS   /poison/page | X-Forwarded-Scheme: evil.test
		HIT    /poison/page | X-Forwarded-Host: shop.test | X-Forwarded-Proto: http | X-Forwarded-Scheme: http
		BYPASS /poison/page | X-HTTP-Method-Override: DELETE
		BYPASS /poison/page | X-Original-URL: /admin
		BYPASS /poison/page | X-Rewrite-URL: /admin
		BYPASS /poison/cold | X-HTTP-Method-Override: POST
		BYPASS /poison/cold | X-Original-URL: /admin
		BYPASS /poison/cold | X-Rewrite-URL: /admin
		MISS   /poison/cold`)
	for _, body := range []io.Reader{strings.NewReader("q=evil"), io.MultiReader(strings.NewReader("q=evil"))} {
		// The second reader hides its length and is sent in chunks.
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL("/poison/fat"), body)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = harness.SiteHost
		if r, err := harness.Send(s.Client, req); err != nil || r.Outcome() != "BYPASS" {
			t.Errorf("a GET with content: %s, %v", r.Outcome(), err)
		}
	}
	s.want(t, "MISS", "/poison/fat")
	if got := s.want(t, "HIT", "/poison/page").Body; got != clean || strings.Contains(got, "evil") {
		t.Errorf("poisoned: %q, at first %q", got, clean)
	}
}

const deceptionSite = `
	@static path /account* /static/*
	redis_cache @static s`

func deception(t *testing.T, s *safety) {
	account := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, "<p>your account, asked as %s", r.RequestURI)
	}
	s.web.Handle("/account/", account)
	for _, path := range []string{"/account;x.css", "/account\x00.css", "/account.css", "/account"} {
		s.web.Handle(path, account)
	}
	for _, path := range []string{
		"/account/x.css", "/account%2fx.css", "/account;x.css", "/account%00.css", "/account.css", "/account/x.CSS",
		"/account/x.js", "/account/x.png", "/account/x.css?v=1",
		// Whoever decodes sees the extension, Caddy's path matcher among them.
		"/account/x%2ecss", "/account/x.cs%73",
	} {
		t.Run(path, func(t *testing.T) {
			for range 2 {
				before := s.web.Requests()
				r := s.Get(t, path)
				if o := r.Outcome(); o != "MISS" || s.web.Requests() == before {
					t.Errorf("%s, want MISS: %q", o, r.Header.Get("Cache-Status"))
				}
				if r.TTL() >= 0 {
					t.Errorf("stored on the strength of ttl: %q", r.Header.Get("Cache-Status"))
				}
				// What the origin saw, and nothing that was decoded or cleaned on the way.
				if !strings.HasSuffix(r.Body, "asked as "+path) {
					t.Errorf("the origin saw another path than %s: %q", path, r.Body)
				}
				seen, _, _ := strings.Cut(strings.ReplaceAll(path, "%", "%25"), "?")
				if !strings.HasPrefix(r.Key(), "cache:s:shop.test"+seen+":") {
					t.Errorf("key %q", r.Key())
				}
			}
		})
	}
	s.web.Handle("/static/", func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Type"] = []string{"text/css; charset=utf-8"}
		io.WriteString(w, "p { color: red }")
	})
	s.web.Handle("/static/said.css", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=600") // the origin's own word
		account(w, r)
	})
	s.script(t, `
		MISS /static/real.css
		HIT  /static/real.css
		MISS /static/said.css
		HIT  /static/said.css`)
}
