package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// credentialsWays are ways in which clients say who they are: the fields of a member.
var credentialsWays = map[string]func(member int) []string{
	"session cookie":           func(m int) []string { return []string{fmt.Sprintf("Cookie: _ga=1; session=%d", m)} },
	"cookie without a name":    func(m int) []string { return []string{fmt.Sprintf("Cookie: member%d", m)} },
	"cookie and Authorization": func(m int) []string { return []string{fmt.Sprintf("Cookie: s=%d", m), "Authorization: Bearer x"} },
	"API key":                  func(m int) []string { return []string{fmt.Sprintf("X-API-Key: %d", m)} },
	"token of a platform":      func(m int) []string { return []string{fmt.Sprintf("Private-Token: %d", m)} },
}

// memberPage answers who carries credentials with a page of its own, and others with
// the same page, as a static page does that middleware guards by a cookie.
func memberPage(control string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who := r.Header.Get("Cookie") + r.Header.Get("X-Api-Key") + r.Header.Get("Private-Token")
		name, value, _ := strings.Cut(control, ": ")
		w.Header().Set(name, value)
		w.Header().Set("Etag", fmt.Sprintf("%q", who))
		w.Header().Set("X-Page-Of", who)
		if r.Header.Get("If-None-Match") == w.Header().Get("Etag") {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		fmt.Fprintf(w, "page of %q", who)
	}
}

// whoOf is how memberPage calls a member.
func whoOf(fields []string) string {
	_, who, _ := strings.Cut(fields[0], ": ")
	return fmt.Sprintf("page of %q", who)
}

// answers is node.want where others ask the same origin meanwhile.
func answers(t *testing.T, n *node, outcome, path string, fields ...string) reply {
	t.Helper()
	r := n.get(t, path, fields...)
	if r.outcome() != outcome {
		t.Errorf("%s %q: %s %v, want %s", path, fields, r.outcome(), r.header["Cache-Status"], outcome)
	}
	return r
}

// TestNotStoredForEverybody has members of a site ask for pages that are for shared
// caches as far as their origin says, but not for everybody.
func TestNotStoredForEverybody(t *testing.T) {
	t.Parallel()
	rds, web := startRedis(t), newOrigin(t)
	l := layout{redis: rds, origin: web, site: "redis_cache"}
	nodes := []*node{startCaddy(t, l), startCaddy(t, l)}
	controls := []string{
		"Cache-Control: s-maxage=31536000", "Cache-Control: s-maxage=600, stale-while-revalidate=31535400",
		"Cache-Control: max-age=0, s-maxage=600", "CDN-Cache-Control: max-age=600", "CDN-Cache-Control: s-maxage=600, must-revalidate",
	}
	for i, control := range controls {
		for way, fields := range credentialsWays {
			t.Run(control+", "+way, func(t *testing.T) {
				t.Parallel()
				path := strings.ReplaceAll(fmt.Sprintf("/members/%d/%s", i, way), " ", "-")
				web.handle(path, memberPage(control))
				// Sixteen of them at once, on two nodes.
				const members = 16
				replies, errs := make([]reply, members), make([]error, members)
				var done sync.WaitGroup
				for m := range members {
					done.Go(func() { replies[m], errs[m] = nodes[m%2].try(t.Context(), http.MethodGet, path, "", fields(m)...) })
				}
				done.Wait()
				for m, r := range replies {
					if errs[m] != nil || r.body != whoOf(fields(m)) {
						t.Errorf("%q got %q, %v", fields(m), r.body, errs[m])
					} else if reason := r.cacheStatus(t)["detail"]; r.outcome() != "BYPASS" || !strings.HasPrefix(reason, "credentials ") {
						t.Errorf("%q: %s %q", fields(m), r.outcome(), reason)
					}
				}
				for _, n := range nodes {
					if r := n.get(t, path); r.body != `page of ""` {
						t.Errorf("nobody got %q, %s", r.body, r.outcome())
					}
				}
				// What was stored without them is for them, too.
				for _, n := range nodes {
					for m := range 2 {
						answers(t, n, "HIT", path, fields(m)...)
					}
					answers(t, n, "HIT", path)
				}
			})
		}
	}
	t.Run("explicit", func(t *testing.T) {
		t.Parallel()
		for i, control := range []string{
			"Cache-Control: public, max-age=600", "Cache-Control: public, s-maxage=600", "CDN-Cache-Control: public, max-age=600",
		} {
			path := fmt.Sprintf("/public/%d", i)
			web.with(path, control)
			answers(t, nodes[0], "MISS", path, "Cookie: session=1")
			answers(t, nodes[0], "HIT", path, "Cookie: session=2")
			answers(t, nodes[0], "HIT", path)
		}
	})
	t.Run("Authorization alone", func(t *testing.T) { // RFC 9111 section 3.5
		t.Parallel()
		web.with("/api/list", "Cache-Control: s-maxage=600")
		answers(t, nodes[0], "MISS", "/api/list", "Authorization: Bearer a", "Cookie: _ga=1")
		answers(t, nodes[0], "HIT", "/api/list", "Authorization: Bearer b")
	})
	t.Run("a stale response", func(t *testing.T) {
		t.Parallel()
		const path = "/members/stale"
		web.handle(path, memberPage("Cache-Control: s-maxage=1"))
		if r := answers(t, nodes[0], "MISS", path); r.body != `page of ""` {
			t.Fatalf("got %q", r.body)
		}
		eventually(t, "it is stale", func() bool { return nodes[0].get(t, path, "Cookie: session=1").outcome() != "HIT" })
		// A member's 200 goes to this member, and takes nothing from the others.
		if r := answers(t, nodes[0], "BYPASS", path, "Cookie: session=2"); r.body != `page of "session=2"` {
			t.Errorf("got %q", r.body)
		}
		answers(t, nodes[0], "REVALIDATED", path)
		// A member's 304 makes it fresh, but brings nothing of this member.
		web.handle(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "s-maxage=600")
			w.Header().Set("Etag", `""`)
			w.Header().Set("X-Page-Of", r.Header.Get("Cookie"))
			w.WriteHeader(http.StatusNotModified)
		})
		eventually(t, "it is stale again", func() bool { return nodes[0].get(t, path, "Cookie: session=3").outcome() == "REVALIDATED" })
		if r := answers(t, nodes[0], "HIT", path); r.header.Get("X-Page-Of") != "" || r.ttl() < 100 {
			t.Errorf("X-Page-Of %q, fresh for %d s", r.header.Get("X-Page-Of"), r.ttl())
		}
	})
}

const nobodySite = `
	request_header /front/* X-Tier {cookie.tier}
	@vip header_regexp Cookie vip
	request_header @vip X-Vip yes
	request_header X-Site one
	@who header_regexp who Cookie session=(\w+)
	vars @who matched yes
	@path path_regexp part ^/([a-z]+)/
	vars @path part yes
	vars /front/* lucky {http.request.header.X-Api-Key}
	map {cookie.session} {color} {
		"" none
		default red
	}
	handle /basic/* {
		basic_auth {
			alice $HASH
		}
		redis_cache
	}
	handle /forward/* {
		forward_auth $GUARD {
			uri /check
			copy_headers Whoami
		}
		redis_cache
	}
	handle /keyed/* {
		redis_cache {
			vary_cookie lang
			vary_header X-Api-Key
		}
	}
	handle /template/* {
		redis_cache {
			key {path}:{cookie.lang}
			vary_cookie other
		}
	}
	handle /mine/* {
		redis_cache {
			by_user {cookie.session}
		}
	}
	handle /ahead/* {
		redis_cache {
			refresh_ahead on
		}
	}
	handle /shared/* {
		redis_cache {
			shared
		}
	}
	handle {
		redis_cache
	}
	reverse_proxy $ORIGIN {
		header_up X-Lucky {vars.lucky}
		header_up X-Color {color}
		header_up X-Who {re.who.1}
		header_up X-Matched {vars.matched}
		header_up X-Part {re.part.1}{vars.part}
		header_up X-Auth-Id {http.auth.user.id}
		header_up X-Session {cookie.session}
		header_up X-Subject {http.request.tls.client.subject}
		header_up X-Address {client_ip}
	}`

// traces are the request fields of nobodySite that tell who asks.
func traces(header http.Header) (found []string) {
	for name, values := range header {
		switch value := strings.Join(values, ","); name {
		case "X-Forwarded-For", "X-Address":
			if value != "192.0.2.1" {
				found = append(found, name+": "+value)
			}
		case "X-Color":
			if value == "red" {
				found = append(found, name+": "+value)
			}
		case "Cookie", "Authorization", "X-Api-Key", "Whoami", "X-Tier", "X-Vip", "X-Lucky", "X-Auth-Id", "X-Session", "X-Subject", "X-Who", "X-Matched",
			"X-Real-Ip", "X-Csrf-Token", "If-Modified-Since", "Range":
			if value != "" && !strings.HasPrefix(value, "{") { // what a placeholder without a value is left as
				found = append(found, name+": "+value)
			}
		}
	}
	slices.Sort(found)
	return found
}

// lastHeader answers at a path, and keeps the header of each request.
func lastHeader(web *origin, path, control string) (last func() http.Header) {
	var mu sync.Mutex
	var header http.Header
	web.handle(path, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		header = r.Header.Clone()
		mu.Unlock()
		w.Header().Set("Cache-Control", control)
		fmt.Fprint(w, "page")
	})
	return func() http.Header {
		mu.Lock()
		defer mu.Unlock()
		return maps.Clone(header)
	}
}

func nobodyNode(t *testing.T) (*node, *origin) {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	web, guard := newOrigin(t), newOrigin(t)
	guard.handle("/check", func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Whoami", r.Header.Get("X-Door")) })
	fill := strings.NewReplacer("$HASH", string(hash), "$GUARD", guard.addr, "$ORIGIN", web.addr)
	return startCaddy(t, layout{site: fill.Replace(nobodySite)}), web
}

// somebody's request carries all of it.
var somebody = []string{
	"Cookie: session=1; tier=gold; vip=1; lang=de", "Authorization: Bearer t", "X-Api-Key: k", "X-Csrf-Token: c", "X-Real-Ip: 10.1.1.1",
	"X-Forwarded-For: 10.1.1.1", "Accept-Language: fr", "If-Modified-Since: Thu, 01 Jan 2026 00:00:00 GMT",
}

// TestRefreshAsNobody has members find stale responses: what is fetched anew in the
// background is fetched as nobody.
func TestRefreshAsNobody(t *testing.T) {
	t.Parallel()
	n, web := nobodyNode(t)
	const control = "public, max-age=1, stale-while-revalidate=600"
	refreshed := func(t *testing.T, path string, last func() http.Header, fields ...string) http.Header {
		t.Helper()
		before := web.count(path)
		eventually(t, path+" is refreshed", func() bool {
			if o := n.get(t, path, fields...).outcome(); o != "HIT" && o != "STALE" {
				t.Fatalf("%s: %s", path, o)
			}
			return web.count(path) > before
		})
		return last()
	}
	for _, path := range []string{"/front/x", "/shared/x", "/plain/x", "/ahead/x"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			last := lastHeader(web, path, control)
			answers(t, n, "MISS", path)
			header := refreshed(t, path, last, somebody...)
			if found := traces(header); len(found) > 0 {
				t.Errorf("nobody sent %q", found)
			}
			if header.Get("Accept-Language") != "fr" || header.Get("X-Site") != "one" ||
				header.Get("X-Part") != strings.Split(path, "/")[1]+"yes" {
				t.Errorf("what tells nothing is missing: %v", header)
			}
		})
	}
	t.Run("what the key holds", func(t *testing.T) {
		t.Parallel()
		last := lastHeader(web, "/keyed/x", control)
		answers(t, n, "MISS", "/keyed/x", somebody[:len(somebody)-1]...) // without its condition
		want := []string{"Cookie: lang=de", "X-Api-Key: k"}
		if found := traces(refreshed(t, "/keyed/x", last, somebody...)); !slices.Equal(found, want) {
			t.Errorf("nobody sent %q, want %q", found, want)
		}
	})
	// What cannot be fetched as nobody is fetched by whoever asks.
	for name, c := range map[string]struct {
		path   string
		fields []string
	}{
		"basic_auth":                       {"/basic/x", []string{login("alice")}},
		"forward_auth":                     {"/forward/x", []string{"X-Door: alice"}},
		"by_user":                          {"/mine/x", []string{"Cookie: session=alice"}},
		"a template with a cookie":         {"/template/x", []string{"Cookie: lang=de"}},
		"Vary on a cookie":                 {"/plain/vary-cookie", []string{"Cookie: session=alice"}},
		"Vary on a field that is left out": {"/plain/vary-key", []string{"X-Api-Key: alice"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var bare []http.Header
			web.handle(c.path, func(w http.ResponseWriter, r *http.Request) {
				if len(traces(r.Header)) == 0 {
					mu.Lock()
					bare = append(bare, r.Header)
					mu.Unlock()
				}
				w.Header().Set("Cache-Control", control)
				w.Header().Set("Vary", map[string]string{"/plain/vary-cookie": "Cookie", "/plain/vary-key": "X-Api-Key"}[c.path])
				fmt.Fprint(w, "page of alice")
			})
			answers(t, n, "MISS", c.path, c.fields...)
			eventually(t, "it is fetched anew", func() bool {
				r := n.get(t, c.path, c.fields...)
				if r.outcome() == "STALE" || r.body != "page of alice" {
					t.Fatalf("%s %q", r.outcome(), r.body)
				}
				return web.count(c.path) > 2
			})
			if len(bare) > 0 {
				t.Errorf("fetched as nobody: %v", bare)
			}
		})
	}
	// So is what turns out not to be for nobody, also where others may have it.
	for path, status := range map[string]int{"/plain/door": http.StatusUnauthorized, "/shared/door": http.StatusFound} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			web.handle(path, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") == "" {
					w.WriteHeader(status)
					return
				}
				w.Header().Set("Cache-Control", control)
				fmt.Fprint(w, web.count(path))
			})
			first := answers(t, n, "MISS", path, "Authorization: Bearer a")
			eventually(t, "its client fetches it anew", func() bool {
				r := n.get(t, path, "Authorization: Bearer b")
				if r.status != http.StatusOK {
					t.Fatalf("%d %s", r.status, r.outcome())
				}
				return r.body != first.body
			})
		})
	}
}

// TestWarmAsNobody warms pages with fields that tell who asks.
func TestWarmAsNobody(t *testing.T) {
	t.Parallel()
	n, web := nobodyNode(t)
	for path, want := range map[string][]string{"/plain/warm": nil, "/front/warm": nil, "/keyed/warm": {"Cookie: lang=de", "X-Api-Key: k"}} {
		last := lastHeader(web, path, "max-age=600")
		body := fmt.Sprintf(`{"urls":["http://%s%s"],"headers":[{"Cookie":"session=1; tier=gold; lang=de","Authorization":"Bearer t","X-Api-Key":"k"}],"wait":true}`, n.site, path)
		n.json(t, http.StatusOK, http.MethodPost, "/redis_cache/warm", body)
		if found := traces(last()); !slices.Equal(found, want) {
			t.Errorf("%s: nobody sent %q, want %q", path, found, want)
		}
	}
	// What opens the door in front does not say behind it who asks.
	last := lastHeader(web, "/basic/warm", "max-age=600")
	n.json(t, http.StatusOK, http.MethodPost, "/redis_cache/warm",
		fmt.Sprintf(`{"urls":["http://%s/basic/warm"],"headers":[{"Authorization":%q}],"wait":true}`, n.site, strings.TrimPrefix(login("alice"), "Authorization: ")))
	if found := traces(last()); web.count("/basic/warm") != 1 || len(found) > 0 {
		t.Errorf("nobody sent %q", found)
	}
	lastHeader(web, "/mine/warm", "max-age=600")
	answer := n.api(t, http.MethodPost, "/redis_cache/warm",
		fmt.Sprintf(`{"urls":["http://%s/mine/warm"],"headers":[{"Cookie":"session=alice"}],"wait":true}`, n.site))
	if !strings.Contains(answer.body, "BYPASS") {
		t.Errorf("by_user: %s", answer.body)
	}
}

// TestRefreshWithoutCertificate has a client with a certificate meet a stale response.
func TestRefreshWithoutCertificate(t *testing.T) {
	t.Parallel()
	web := newOrigin(t)
	port := freePort(t)
	address := fmt.Sprintf("127.0.0.1:%d", port)
	startCaddy(t, layout{
		origin: web, global: "auto_https disable_redirects\nskip_install_trust",
		more: fmt.Sprintf(`https://shop.test:%d {
			bind 127.0.0.1
			tls internal {
				client_auth {
					mode request
				}
			}
			redis_cache
			reverse_proxy %s {
				header_up X-Subject {http.request.tls.client.subject}
			}
		}`, port, web.addr),
	})
	client := func(certificates ...tls.Certificate) *http.Client {
		config := &tls.Config{InsecureSkipVerify: true, ServerName: siteHost, Certificates: certificates} //nolint:gosec // the test's own server
		transport := &http.Transport{TLSClientConfig: config}
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport}
	}
	alice, anonymous := client(selfSigned(t, "alice")), client()
	get := func(client *http.Client, path string) reply {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = siteHost
		r, err := send(client, req)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	var mu sync.Mutex
	var subjects []string
	web.handle("/page", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		subjects = append(subjects, r.Header.Get("X-Subject"))
		mu.Unlock()
		w.Header().Set("Cache-Control", "public, max-age=1, stale-while-revalidate=600")
		fmt.Fprintf(w, "page of %q", r.Header.Get("X-Subject"))
	})
	eventually(t, "the server has a certificate", func() bool {
		conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, ServerName: siteHost}) //nolint:gosec // as above
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	if r := get(alice, "/page"); r.outcome() != "MISS" || !strings.Contains(r.body, "alice") {
		t.Fatalf("%s %q", r.outcome(), r.body)
	}
	eventually(t, "it is stale", func() bool { return get(anonymous, "/page").outcome() == "STALE" })
	eventually(t, "it is refreshed", func() bool { mu.Lock(); defer mu.Unlock(); return len(subjects) == 2 })
	if subjects[1] != "" {
		t.Errorf("nobody's certificate is %q", subjects[1])
	}
	web.with("/maxage", "Cache-Control: s-maxage=600")
	for range 2 {
		if r := get(alice, "/maxage"); r.outcome() != "BYPASS" || r.cacheStatus(t)["detail"] != "credentials client certificate" {
			t.Errorf("%s %v", r.outcome(), r.cacheStatus(t))
		}
	}
}

func selfSigned(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
