package safety

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

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

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
func lastHeader(web *harness.Origin, path, control string) (last func() http.Header) {
	var mu sync.Mutex
	var header http.Header
	web.Handle(path, func(w http.ResponseWriter, r *http.Request) {
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

func nobodyNode(t *testing.T) (*harness.Node, *harness.Origin) {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	web, guard := harness.NewOrigin(t), harness.NewOrigin(t)
	guard.Handle("/check", func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Whoami", r.Header.Get("X-Door")) })
	fill := strings.NewReplacer("$HASH", string(hash), "$GUARD", guard.Addr, "$ORIGIN", web.Addr)
	return harness.StartCaddy(t, harness.Layout{Site: fill.Replace(nobodySite)}), web
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
		before := web.Count(path)
		harness.Eventually(t, path+" is refreshed", func() bool {
			if o := n.Get(t, path, fields...).Outcome(); o != "HIT" && o != "STALE" {
				t.Fatalf("%s: %s", path, o)
			}
			return web.Count(path) > before
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
			web.Handle(c.path, func(w http.ResponseWriter, r *http.Request) {
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
			harness.Eventually(t, "it is fetched anew", func() bool {
				r := n.Get(t, c.path, c.fields...)
				if r.Outcome() == "STALE" || r.Body != "page of alice" {
					t.Fatalf("%s %q", r.Outcome(), r.Body)
				}
				return web.Count(c.path) > 2
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
			web.Handle(path, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") == "" {
					w.WriteHeader(status)
					return
				}
				w.Header().Set("Cache-Control", control)
				fmt.Fprint(w, web.Count(path))
			})
			first := answers(t, n, "MISS", path, "Authorization: Bearer a")
			harness.Eventually(t, "its client fetches it anew", func() bool {
				r := n.Get(t, path, "Authorization: Bearer b")
				if r.Status != http.StatusOK {
					t.Fatalf("%d %s", r.Status, r.Outcome())
				}
				return r.Body != first.Body
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
		body := fmt.Sprintf(`{"urls":["http://%s%s"],"headers":[{"Cookie":"session=1; tier=gold; lang=de","Authorization":"Bearer t","X-Api-Key":"k"}],"wait":true}`, n.Site, path)
		n.JSON(t, http.StatusOK, http.MethodPost, "/redis_cache/warm", body)
		if found := traces(last()); !slices.Equal(found, want) {
			t.Errorf("%s: nobody sent %q, want %q", path, found, want)
		}
	}
	// What opens the door in front does not say behind it who asks.
	last := lastHeader(web, "/basic/warm", "max-age=600")
	n.JSON(t, http.StatusOK, http.MethodPost, "/redis_cache/warm",
		fmt.Sprintf(`{"urls":["http://%s/basic/warm"],"headers":[{"Authorization":%q}],"wait":true}`, n.Site, strings.TrimPrefix(login("alice"), "Authorization: ")))
	if found := traces(last()); web.Count("/basic/warm") != 1 || len(found) > 0 {
		t.Errorf("nobody sent %q", found)
	}
	lastHeader(web, "/mine/warm", "max-age=600")
	answer := n.API(t, http.MethodPost, "/redis_cache/warm",
		fmt.Sprintf(`{"urls":["http://%s/mine/warm"],"headers":[{"Cookie":"session=alice"}],"wait":true}`, n.Site))
	if !strings.Contains(answer.Body, "BYPASS") {
		t.Errorf("by_user: %s", answer.Body)
	}
}

// TestRefreshWithoutCertificate has a client with a certificate meet a stale response.
func TestRefreshWithoutCertificate(t *testing.T) {
	t.Parallel()
	web := harness.NewOrigin(t)
	port := harness.FreePort(t)
	address := fmt.Sprintf("127.0.0.1:%d", port)
	harness.StartCaddy(t, harness.Layout{
		Origin: web, Global: "auto_https disable_redirects\nskip_install_trust",
		More: fmt.Sprintf(`https://shop.test:%d {
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
		}`, port, web.Addr),
	})
	client := func(certificates ...tls.Certificate) *http.Client {
		config := &tls.Config{InsecureSkipVerify: true, ServerName: harness.SiteHost, Certificates: certificates} //nolint:gosec // the test's own server
		transport := &http.Transport{TLSClientConfig: config}
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport}
	}
	alice, anonymous := client(selfSigned(t, "alice")), client()
	get := func(client *http.Client, path string) harness.Reply {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = harness.SiteHost
		r, err := harness.Send(client, req)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	var mu sync.Mutex
	var subjects []string
	web.Handle("/page", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		subjects = append(subjects, r.Header.Get("X-Subject"))
		mu.Unlock()
		w.Header().Set("Cache-Control", "public, max-age=1, stale-while-revalidate=600")
		fmt.Fprintf(w, "page of %q", r.Header.Get("X-Subject"))
	})
	harness.Eventually(t, "the server has a certificate", func() bool {
		conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, ServerName: harness.SiteHost}) //nolint:gosec // as above
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	if r := get(alice, "/page"); r.Outcome() != "MISS" || !strings.Contains(r.Body, "alice") {
		t.Fatalf("%s %q", r.Outcome(), r.Body)
	}
	harness.Eventually(t, "it is stale", func() bool { return get(anonymous, "/page").Outcome() == "STALE" })
	harness.Eventually(t, "it is refreshed", func() bool { mu.Lock(); defer mu.Unlock(); return len(subjects) == 2 })
	if subjects[1] != "" {
		t.Errorf("nobody's certificate is %q", subjects[1])
	}
	web.With("/maxage", "Cache-Control: s-maxage=600")
	for range 2 {
		if r := get(alice, "/maxage"); r.Outcome() != "BYPASS" || r.CacheStatus(t)["detail"] != "credentials client certificate" {
			t.Errorf("%s %v", r.Outcome(), r.CacheStatus(t))
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
