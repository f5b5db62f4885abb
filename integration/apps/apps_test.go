//go:build apps

package apps

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// These tests put the cache in front of real applications: Next.js, Apollo Server and
// GraphQL Yoga. `make apps` installs them.

var appsDir = flag.String("apps", "", "folder with the installed applications of testdata")

// startApp starts a program of an application and returns its address. PORT in the
// arguments stands for its port.
func startApp(t *testing.T, app string, args ...string) string {
	t.Helper()
	if *appsDir == "" {
		t.Fatal("no applications: run `make apps`")
	}
	port := fmt.Sprint(harness.FreePort(t))
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "PORT", port)
	}
	cmd := exec.Command("node", args...)
	cmd.Dir = filepath.Join(*appsDir, app)
	cmd.Env = append(os.Environ(), "NODE_ENV=production", "NEXT_TELEMETRY_DISABLED=1")
	proc := harness.StartProcess(t, app, cmd)
	addr := "127.0.0.1:" + port
	harness.Eventually(t, app+" listens", func() bool {
		if !proc.Running() {
			t.Fatalf("%s ended: %v\n%s", app, proc.Err, proc.Log)
		}
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
	return addr
}

func startNext(t *testing.T) string {
	t.Helper()
	return startApp(t, "next", "node_modules/next/dist/bin/next", "start", "-H", "127.0.0.1", "-p", "PORT")
}

// A page that Next.js has rendered when it was built says `s-maxage` to everybody, also
// where the application lets members alone see it.
func TestAppNextMembersPage(t *testing.T) {
	const secret = "for members only"
	app := startNext(t)
	n := harness.StartCaddy(t, harness.Layout{Redis: harness.StartRedis(t), Site: "\tredis_cache\n\treverse_proxy " + app})
	stranger := func(when string) {
		t.Helper()
		r := n.Get(t, "/members")
		if r.Status != http.StatusTemporaryRedirect || strings.Contains(r.Body, secret) {
			t.Errorf("%s, a stranger gets %d (%s): %.80q", when, r.Status, r.Header.Get("Cache-Status"), r.Body)
		}
	}

	stranger("at first")
	member := n.Get(t, "/members", "Cookie: session=alice")
	if member.Status != http.StatusOK || !strings.Contains(member.Body, secret) {
		t.Fatalf("a member gets %d: %.80q", member.Status, member.Body)
	}
	if cc := member.Header.Get("Cache-Control"); !strings.Contains(cc, "s-maxage") {
		t.Fatalf("Next.js no longer says s-maxage, but %q: the test shows nothing", cc)
	}
	stranger("after a member")

	var herd sync.WaitGroup
	for i := range 16 {
		herd.Go(func() {
			r, err := n.Try(t.Context(), http.MethodGet, "/members", "", fmt.Sprintf("Cookie: session=member-%d", i))
			if err != nil || r.Status != http.StatusOK || r.Outcome() == "HIT" || r.CacheStatus(t)["collapsed"] != "" {
				t.Errorf("one of a herd of members: %v, %d, %s", err, r.Status, r.Header.Get("Cache-Status"))
			}
		})
	}
	herd.Wait()
	stranger("after a herd of members")

	// What is open to all is shared as ever, also with members.
	n.Get(t, "/")
	for _, cookie := range []string{"other=1", "session=alice"} {
		if r := n.Get(t, "/", "Cookie: "+cookie); r.Outcome() != "HIT" {
			t.Errorf("the open page is no HIT for %s: %s", cookie, r.Header.Get("Cache-Status"))
		}
	}
}

// Paths that Caddy's matchers read as another one than Next.js does.
func TestAppNextAmbiguousPaths(t *testing.T) {
	app := startNext(t)
	n := harness.StartCaddy(t, harness.Layout{Site: `
	handle /static/* {
		redis_cache {
			ttl 1h override
			shared
		}
		reverse_proxy ` + app + `
	}
	handle {
		@account path /account/me*
		redis_cache {
			ttl 1h override
			shared
			bypass @account
		}
		reverse_proxy ` + app + `
	}`})
	for _, path := range []string{
		"/account/..%2fstatic/x", "/account/%2e%2e/static/x", "/account/%2e%2e%2fstatic/x", "/account/;/../static/x", "/account//..%2fstatic/x",
		"/account/me/..%2fpublic", "/account/me%2f..%2fpublic", "/account;x/me", "/account/;/me", "/account%5cme", "/account/x%252f..%252fme",
	} {
		alice := n.Get(t, path, "Cookie: session=alice")
		if strings.Contains(n.Get(t, path).Body, "alice") {
			t.Errorf("%s: a stranger gets %q", path, alice.Body)
		}
	}
	for _, path := range []string{"/static/x", "/account/a%2Fb", "/account/@scope%2fname", "/account/x;jsessionid=1"} {
		n.Get(t, path)
		if r := n.Get(t, path); r.Outcome() != "HIT" {
			t.Errorf("%s is no HIT: %s", path, r.Header.Get("Cache-Status"))
		}
	}
}

// identities tells forward_auth who a client is by its address.
func identities(t *testing.T) string {
	t.Helper()
	users := map[string]string{"127.0.0.2": "alice", "127.0.0.3": "bob"}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		client, _, _ := strings.Cut(r.Header.Get("X-Forwarded-For"), ",")
		if user := users[client]; user != "" {
			w.Header().Set("X-Webauth-User", user)
		}
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// from is a client with an address of its own.
func from(t *testing.T, n *harness.Node, address, path string) harness.Reply {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, addr)
	}}
	req, err := n.Request(t.Context(), http.MethodGet, path, "")
	if err != nil {
		t.Fatal(err)
	}
	r, err := harness.Send(&http.Client{Transport: transport}, req)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAppNextForwardAuth(t *testing.T) {
	app := startNext(t)
	n := harness.StartCaddy(t, harness.Layout{Redis: harness.StartRedis(t), Site: `
	forward_auth ` + identities(t) + ` {
		uri /
		copy_headers X-Webauth-User
	}
	redis_cache {
		ttl 1h
	}
	reverse_proxy ` + app})
	for _, visit := range []struct{ address, user string }{
		{"127.0.0.2", "alice"}, {"127.0.0.3", "bob"}, {"127.0.0.4", "nobody"}, {"127.0.0.2", "alice"},
	} {
		if r := from(t, n, visit.address, "/account/home"); r.Body != "account of "+visit.user+" at home" {
			t.Errorf("%s gets %q (%s)", visit.user, r.Body, r.Header.Get("Cache-Status"))
		}
	}
}

func TestAppGraphQL(t *testing.T) {
	for _, server := range []string{"apollo", "yoga"} {
		t.Run(server, func(t *testing.T) {
			app := startApp(t, "graphql", server+".mjs", "PORT")
			n := harness.StartCaddy(t, harness.Layout{Redis: harness.StartRedis(t), Site: `
	redis_cache {
		methods GET HEAD POST
		vary_body
		ttl 1h override
	}
	reverse_proxy ` + app})
			g := graphql{n, 0}
			g.countIs(t)
			g.mutations(t)
			g.failures(t)
		})
	}
}

// graphql is a client of the counter in testdata/graphql.
type graphql struct {
	n     *harness.Node
	count int
}

func (g *graphql) post(t *testing.T, body string, fields ...string) harness.Reply {
	t.Helper()
	return g.n.Do(t, http.MethodPost, "/graphql", body, append([]string{"Content-Type: application/json"}, fields...)...)
}

// countIs asks twice: the first answer must be new, and the second a stored one.
func (g *graphql) countIs(t *testing.T) {
	t.Helper()
	want := fmt.Sprintf(`"count":%d`, g.count)
	for _, outcome := range []string{"MISS", "HIT"} {
		if r := g.post(t, `{"query":"{ count }"}`); r.Outcome() != outcome || !strings.Contains(r.Body, want) {
			t.Errorf("the query is %s with %s, want %s with %s (%s)", r.Outcome(), r.Body, outcome, want, r.Header.Get("Cache-Status"))
		}
	}
}

// mutations sends each mutation twice, and expects both to run.
func (g *graphql) mutations(t *testing.T) {
	t.Helper()
	for _, body := range []string{
		`{"query":"mutation { increment }"}`,
		`{"query":"mutation Count($by: Int = 1) @skipless { increment(by: $by) }"}`,
		`{"query":"# query { count }\n, mutation { increment }"}`,
		`{"query":"\uFEFF mu\u0074ation{increment}"}`,
		`{"query":"query Q { count } mutation M { increment }","operationName":"M"}`,
		`{"query":"fragment F on Query { count } mutation { increment }"}`,
		`[{"query":"{ count }"},{"query":"mutation { increment }"}]`,
	} {
		for range 2 {
			r := g.post(t, body)
			if r.Outcome() != "BYPASS" {
				t.Errorf("%s is %s", body, r.Outcome())
			}
			if r.Status == http.StatusOK && strings.Contains(r.Body, `"increment":`) {
				g.count++
			}
		}
		if r := g.n.Get(t, "/graphql?query=%7Bcount%7D", "Apollo-Require-Preflight: 1"); r.Status != http.StatusOK {
			t.Fatalf("a query by GET is %d: %s", r.Status, r.Body)
		}
	}
	if g.count < 8 {
		t.Errorf("of the mutations, only %d have run", g.count)
	}
	g.countIs(t)
}

// failures are 200 with errors, or a hash of a query that the server does not know.
func (g *graphql) failures(t *testing.T) {
	t.Helper()
	for _, body := range []string{
		`{"query":"{ fails }"}`,
		`{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"ecf4edb46db40b5132295c0291d62fb65d6759a9eedfa4d5d612dd5ec54a6b38"}}}`,
	} {
		for range 2 {
			if r := g.post(t, body); r.Outcome() == "HIT" {
				t.Errorf("%s is a HIT: %s", body, r.Body)
			}
		}
	}
	for _, accept := range []string{"application/json", "application/graphql-response+json"} {
		if r := g.post(t, `{"query":"{ count }"}`, "Accept: "+accept); r.Outcome() != "MISS" || !strings.HasPrefix(r.Header.Get("Content-Type"), accept) {
			t.Errorf("for %s: %s, %s", accept, r.Outcome(), r.Header.Get("Content-Type"))
		}
	}
}
