package safety

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// copiesSite has servers in front that say who asks, each in another way. The guard
// knows clients by their address.
const copiesSite = `
	handle /copied/* {
		forward_auth $GUARD {
			uri /who
			copy_headers Person
		}
		redis_cache c
		reverse_proxy $ORIGIN
	}
	handle /renamed/* {
		forward_auth $GUARD {
			uri /who
			copy_headers {
				Person>visitor
				Other
			}
		}
		redis_cache c
		reverse_proxy $ORIGIN
	}
	handle /proxied/* {
		route {
			reverse_proxy $GUARD {
				method GET
				rewrite /who
				@known status 2xx
				handle_response @known {
					request_header X-Member {rp.header.Person}
				}
			}
			redis_cache c
			reverse_proxy $ORIGIN
		}
	}
	handle /later/* {
		route {
			forward_auth $GUARD {
				uri /who
			}
			request_header Customer {http.reverse_proxy.header.Person}
			redis_cache c
			reverse_proxy $ORIGIN
		}
	}
	handle /handed-on/* {
		route {
			forward_auth $GUARD {
				uri /who
				copy_headers Person
			}
			vars someone {header.Person}
			request_header X-Once {vars.someone}
			vars person {header.X-Once}
			request_header -X-Once
			request_header -Person
			redis_cache c
			reverse_proxy $ORIGIN {
				header_up Person {vars.person}
			}
		}
	}
	handle /variable/* {
		route {
			reverse_proxy $GUARD {
				method GET
				rewrite /who
				@known status 2xx
				handle_response @known {
					vars person {rp.header.Person}
				}
			}
			redis_cache c
			reverse_proxy $ORIGIN {
				header_up Person {vars.person}
			}
		}
	}
	handle /invoked/* {
		route {
			invoke guard
			handle {
				redis_cache c
			}
			reverse_proxy $ORIGIN
		}
	}
	handle /in-key/* {
		forward_auth $GUARD {
			uri /who
			copy_headers Person
		}
		redis_cache c {
			vary_header person
		}
		reverse_proxy $ORIGIN
	}
	handle /by-user/* {
		forward_auth $GUARD {
			uri /who
			copy_headers Person
		}
		redis_cache c {
			by_user {header.Person}
		}
		reverse_proxy $ORIGIN
	}
	handle /for-all/* {
		forward_auth $GUARD {
			uri /who
			copy_headers Person
		}
		redis_cache c {
			shared
		}
		reverse_proxy $ORIGIN
	}
	handle /no-identity/* {
		forward_auth $GUARD {
			uri /who
			copy_headers Person
		}
		redis_cache c {
			credential_headers -Person
		}
		reverse_proxy $ORIGIN
	}
	handle /failed/* {
		forward_auth $GUARD {
			uri /who
			copy_headers Person
		}
		error 404
	}
	handle_errors {
		redis_cache c
		reverse_proxy $ORIGIN
	}
	handle /without/* {
		redis_cache c
		reverse_proxy $ORIGIN
	}`

// TestCopiedIdentity has clients whom nothing but their address tells apart: another
// server says who they are.
func TestCopiedIdentity(t *testing.T) {
	t.Parallel()
	web, guard := harness.NewOrigin(t), harness.NewOrigin(t)
	people := map[string]string{"127.0.0.2": "alice", "127.0.0.3": "bob"}
	guard.Handle("/who", func(w http.ResponseWriter, r *http.Request) {
		if person := people[r.Header.Get("X-Forwarded-For")]; person != "" {
			w.Header().Set("Person", person)
		}
	})
	web.Handle("/", func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/public") {
			w.Header().Set("Cache-Control", "public, max-age=600")
		}
		who := ""
		for _, name := range []string{"Person", "Visitor", "X-Member", "Customer"} {
			if value := r.Header.Get(name); !strings.HasPrefix(value, "{") { // what a placeholder without a value is left as
				who += value
			}
		}
		fmt.Fprintf(w, "page of %q", who)
	})
	fill := strings.NewReplacer("$GUARD", guard.Addr, "$ORIGIN", web.Addr)
	n := harness.StartCaddy(t, harness.Layout{
		Redis: harness.StartRedis(t), Cache: "namespace c {\nttl 5m\nstale_while_revalidate 1h\n}", Site: fill.Replace(copiesSite),
		More: fill.Replace("&(guard) {\nforward_auth $GUARD {\nuri /who\ncopy_headers Person\n}\n}"),
	})
	from := func(address string) *harness.Node {
		transport := &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}).DialContext}
		t.Cleanup(transport.CloseIdleConnections)
		return &harness.Node{Layout: n.Layout, Site: n.Site, Admin: n.Admin, Proc: n.Proc, Client: &http.Client{Transport: transport}}
	}
	alice, bob, anonymous := from("127.0.0.2"), from("127.0.0.3"), from("127.0.0.4")
	get := func(n *harness.Node, outcome, path, who string) {
		t.Helper()
		r := n.Get(t, path)
		if r.Outcome() != outcome || r.Body != fmt.Sprintf("page of %q", who) {
			t.Errorf("%s: %s %q %v, want %s of %q", path, r.Outcome(), r.Body, r.Header["Cache-Status"], outcome, who)
		}
	}
	for _, route := range []string{"copied", "renamed", "proxied", "later", "variable", "handed-on", "invoked", "failed"} {
		path := "/" + route + "/page"
		get(alice, "BYPASS", path, "alice")
		get(bob, "BYPASS", path, "bob")
		if route != "proxied" && route != "later" { // where nobody is known, these write a placeholder
			get(anonymous, "MISS", path, "")
			get(anonymous, "HIT", path, "")
			get(alice, "BYPASS", path, "alice")
		}
		get(alice, "MISS", "/"+route+"/public", "alice")
		get(bob, "HIT", "/"+route+"/public", "alice") // the origin has said so
	}
	for _, route := range []string{"in-key", "by-user"} {
		path := "/" + route + "/page"
		get(alice, "MISS", path, "alice")
		get(bob, "MISS", path, "bob")
		get(alice, "HIT", path, "alice")
		get(bob, "HIT", path, "bob")
	}
	for _, route := range []string{"for-all", "no-identity"} {
		get(alice, "MISS", "/"+route+"/page", "alice")
		get(bob, "HIT", "/"+route+"/page", "alice")
	}
	// What a client sends by that name, where nobody copies it, is like any other field.
	n.Script(t, "MISS /without/page | Person: alice\nHIT /without/page | Person: bob")

	_, checks := n.Doctor(t)
	for _, route := range []string{"copied", "renamed", "proxied", "later"} {
		if !strings.Contains(checks["configuration"], "path /"+route+"/*, namespace c: forward_auth in front") {
			t.Errorf("doctor says nothing of %s: %s", route, checks["configuration"])
		}
	}
	if reason := alice.Get(t, "/renamed/page").CacheStatus(t)["detail"]; reason != "credentials Visitor" {
		t.Errorf("reason %q", reason)
	}
}

// TestCredentialHeaders has two clients with keys of their own ask for what a
// configured lifetime alone would let be shared.
func TestCredentialHeaders(t *testing.T) {
	t.Parallel()
	web := harness.NewOrigin(t)
	web.With("/plain/public", "Cache-Control: public, max-age=600")
	web.With("/plain/private", "Cache-Control: private")
	n := harness.StartCaddy(t, harness.Layout{Redis: harness.StartRedis(t), Origin: web, Cache: "namespace k {\nttl 5m\ncredential_headers X-Shop-Key\n}", Site: `
		redis_cache /keyed/* k {
			vary_header X-API-Key
		}
		redis_cache /shared/* k {
			shared
		}
		redis_cache /fewer/* k {
			credential_headers -x-csrf-token -X-Shop-Key
		}
		redis_cache k`})
	for i, name := range []string{
		"X-API-Key", "x-api-key", "Api-Key", "apikey", "X-Auth-Token", "X-Access-Token", "X-CSRF-Token", "X-XSRF-TOKEN",
		"X-Amz-Security-Token", "Proxy-Authorization", "Private-Token", "X-Goog-Api-Key", "Ocp-Apim-Subscription-Key", "X-Vault-Token",
		"X-Shopify-Access-Token", "X-Forwarded-User", "Remote-User", "Cf-Access-Jwt-Assertion", "X-Session-Id", "X-Shop-Key",
	} {
		path := fmt.Sprintf("/plain/%d", i)
		n.Script(t, fmt.Sprintf(`
			BYPASS %[1]s | %[2]s: a
			BYPASS %[1]s | %[2]s: b
			MISS   %[1]s
			BYPASS %[1]s | %[2]s: a
			HIT    %[1]s`, path, name))
		detail := n.Get(t, path, name+": s3cr3t").CacheStatus(t)["detail"]
		if !strings.EqualFold(detail, "credentials "+name) {
			t.Errorf("%s: reason %q", name, detail)
		}
	}
	n.Script(t, `
		MISS   /keyed/x     | X-API-Key: a
		MISS   /keyed/x     | X-API-Key: b
		HIT    /keyed/x     | X-API-Key: a
		BYPASS /keyed/x     | X-API-Key: a | X-Auth-Token: a
		MISS   /shared/x    | X-API-Key: a
		HIT    /shared/x    | X-API-Key: b
		MISS   /fewer/x     | X-CSRF-Token: a
		HIT    /fewer/x     | X-CSRF-Token: b | X-Shop-Key: b
		BYPASS /fewer/x     | X-API-Key: a
		MISS   /plain/public | X-API-Key: a
		HIT    /plain/public | X-API-Key: b
		MISS   /plain/other | X-Requested-With: XMLHttpRequest | X-Request-Id: 1
		HIT    /plain/other | X-Requested-With: fetch | X-Request-Id: 2`)

	var e struct {
		Credentials struct{ Found []string }
		Advice      string
	}
	r := n.API(t, http.MethodGet, "/redis_cache/explain?url=http://"+n.Site+"/plain/0&header=X-API-Key:+s3cr3t", "")
	if err := json.Unmarshal([]byte(r.Body), &e); err != nil || fmt.Sprint(e.Credentials.Found) != "[X-Api-Key]" || strings.Contains(r.Body, "s3cr3t") {
		t.Errorf("%v: %s", err, r.Body)
	}
	if _, checks := n.Doctor(t); !strings.Contains(checks["configuration"], "which carried credentials such as") {
		t.Errorf("doctor: %s", checks["configuration"])
	}
}

// TestOutcomeWithCredentials has members ask for what could not be cached for one
// more reason: none of it is a miss of the cache.
func TestOutcomeWithCredentials(t *testing.T) {
	t.Parallel()
	web := harness.NewOrigin(t)
	n := harness.StartCaddy(t, harness.Layout{Redis: harness.StartRedis(t), Origin: web, Cache: "namespace o {\nttl 5m\n}", Site: `
		redis_cache /no-rule/* o {
			no_store header X-Never
		}
		redis_cache /small/* o {
			max_body 10
		}
		redis_cache /plain/* o`})
	web.With("/plain/private", "Cache-Control: private")
	web.With("/plain/no-store", "Cache-Control: no-store")
	web.With("/plain/set-cookie", "Set-Cookie: a=b")
	web.With("/plain/vary-any", "Vary: *")
	web.Answer("/plain/status", 500, "")
	web.With("/no-rule/x", "X-Never: yes")
	web.Answer("/small/x", 200, "more than ten bytes", "Content-Length: 19")
	for _, c := range []struct {
		path, reason string
		fields       []string
	}{
		{"/plain/private", "private", nil},
		{"/plain/no-store", "no-store", nil},
		{"/plain/set-cookie", "set-cookie", nil},
		{"/plain/vary-any", "vary-any", nil},
		{"/plain/status", "no-lifetime", nil},
		{"/no-rule/x", "no-store-rule", nil},
		{"/small/x", "too-large", nil},
		{"/plain/range", "range", []string{"Range: bytes=0-1"}},
		{"/plain/condition", "precondition", []string{`If-None-Match: "x"`}},
	} {
		for _, credential := range []string{"Cookie: session=1", "Authorization: Bearer x", "X-API-Key: 1"} {
			for range 2 { // the second time the key is known
				r := n.Want(t, "BYPASS", c.path, append(c.fields, credential)...)
				if detail := r.CacheStatus(t)["detail"]; detail != c.reason {
					t.Errorf("%s %s: reason %q, want %q", c.path, credential, detail, c.reason)
				}
			}
		}
		n.Want(t, "MISS", c.path, append(c.fields, "Cookie: _ga=1")...)
	}
	if r := n.Do(t, http.MethodHead, "/plain/head", "", "Cookie: session=1"); r.Outcome() != "BYPASS" {
		t.Errorf("HEAD: %s", r.Outcome())
	}
	n.Want(t, "MISS", "/plain/page")
	n.Want(t, "HIT", "/plain/page")
	// One outcome everywhere.
	counted := n.Metrics(t)
	requests, misses := counted[`requests_total{namespace="o",outcome="BYPASS",tier="none"}`], counted[`requests_total{namespace="o",outcome="MISS",tier="none"}`]
	if requests != 9*6+1 || misses != 9+1 {
		t.Errorf("metrics: %g bypassed, %g missed", requests, misses)
	}
}
