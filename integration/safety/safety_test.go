package safety

import (
	"cmp"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// safetyCases are the known ways in which caches in front of real sites went
// wrong, by their numbers. Each brings the part of the site that it needs, and
// runs with either tier alone and with both.
var safetyCases = []struct {
	name string
	site string
	run  func(*testing.T, *safety)
}{
	{"01_auth_before_cache", authBeforeSite, authBeforeCache},
	{"02_auth_below_cache", authBelowSite, authBelowCache},
	{"03_concurrent_users", "redis_cache /own/* s", concurrentUsers},
	{"04_session_cookie", "redis_cache /session/* s", sessionCookie},
	{"05_set_cookie", setCookieSite, setCookie},
	{"06_by_user", byUserSite, byUser},
	{"07_vary_in_flight", "redis_cache /flight/* s", varyInFlight},
	{"08_hosts_schemes_namespaces", originsSite, hostsSchemesNamespaces},
	{"09_rewrites", rewriteSite, rewrites},
	{"10_key_parts", keyPartsSite, keyParts},
	{"11_poisoning", "redis_cache /poison/* s", poisoning},
	{"12_deception", deceptionSite, deception},
	{"13_odd_bytes", oddBytesSite, oddBytes},
	{"14_oversized", oversizedSite, oversized},
	{"15_broken_upstream", "redis_cache /broken/* s", brokenUpstream},
	{"16_client_leaves", "redis_cache /leaves/* s", clientLeaves},
	{"17_odd_responses", "redis_cache /kinds/* s", oddResponses},
	{"18_encode_outside", encodeSite, encodeOutside},
	{"19_damaged_records", "redis_cache /damaged/* s", damagedRecords},
	{"20_large_files", largeSite, largeFiles},
	{"21_streams", "redis_cache /streams/* s", streams},
	{"22_slow_and_failing", flowSite, slowAndFailing},
}

// safety is one site with all cases.
type safety struct {
	*harness.Node
	tiers string // redis, memory or both
	web   *harness.Origin
	guard *harness.Origin // whom forward_auth asks, so that it does not count as the site's origin
	rds   *harness.Redis  // nil with memory alone
	root  string          // of the file servers
	https string          // address of the same site with TLS
	slow  chan error      // what comes of a request that takes long
}

func TestSafety(t *testing.T) {
	t.Parallel()
	sites := []*safety{{tiers: "redis"}, {tiers: "memory"}, {tiers: "both"}}
	for _, s := range sites {
		s.start(t)
	}
	for _, c := range safetyCases {
		t.Run(c.name, func(t *testing.T) {
			for _, s := range sites {
				t.Run(s.tiers, func(t *testing.T) {
					t.Parallel()
					c.run(t, s)
				})
			}
		})
	}
}

// start starts the site's node. It ends with t.
func (s *safety) start(t *testing.T) {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	s.web, s.guard, s.root = harness.NewOrigin(t), harness.NewOrigin(t), t.TempDir()
	s.https = fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t))
	cache := "namespace s {\nttl 5m\njitter 0\n}\nnamespace other {\nttl 5m\njitter 0\n}"
	if s.tiers == "redis" {
		cache = "memory off\n" + cache
	}
	if s.tiers != "memory" {
		s.rds = harness.StartRedis(t)
	}
	var site strings.Builder
	site.WriteString("log {\nformat json\n}\nlog_append key {http.redis_cache.key}\n")
	for _, c := range safetyCases {
		site.WriteString(c.site + "\n")
	}
	fill := strings.NewReplacer("$HASH", string(hash), "$GUARD", s.guard.Addr, "$ORIGIN", s.web.Addr, "$ROOT", s.root,
		"$HTTPS", s.https[strings.IndexByte(s.https, ':'):], "$DEAD", fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t)))
	s.Node = harness.StartCaddy(t, harness.Layout{
		Redis: s.rds, Origin: s.web, Cache: cache,
		Global: "auto_https disable_redirects\nskip_install_trust\nservers {\nmax_header_size 2MiB\ntrusted_proxies static 127.0.0.1/32\n}",
		Site:   fill.Replace(site.String()), More: fill.Replace(safetyTLS),
	})
	s.goSlowly(t)
}

const safetyTLS = `
	https://shop.test$HTTPS {
		bind 127.0.0.1
		tls internal
		redis_cache /origins/* s
		reverse_proxy $ORIGIN
	}`

// want is node.want, and waits until what is being stored is found: with Redis
// alone that is after the client has its answer.
func (s *safety) want(t *testing.T, outcome, target string, fields ...string) harness.Reply {
	t.Helper()
	r := s.Node.Want(t, outcome, target, fields...)
	s.settle(t, r)
	return r
}

func (s *safety) settle(t *testing.T, r harness.Reply) {
	t.Helper()
	if s.tiers != "redis" || r.TTL() < 0 || r.Outcome() != "MISS" {
		return
	}
	hash := r.Key()[strings.LastIndexByte(r.Key(), ':'):]
	harness.Eventually(t, "Redis has "+r.Key(), func() bool { return len(s.rds.Keys(t, "*"+hash)) > 0 })
}

// script is node.script, with the want of safety.
func (s *safety) script(t *testing.T, lines string) {
	t.Helper()
	for line := range strings.Lines(lines) {
		line, _, _ = strings.Cut(line, " # ")
		if parts := strings.Split(strings.TrimSpace(line), " | "); parts[0] != "" {
			outcome, target, _ := strings.Cut(strings.TrimSpace(parts[0]), " ")
			if last := len(parts) - 1; strings.HasSuffix(parts[last], ":") {
				parts[last] += " " // an empty value
			}
			s.want(t, outcome, strings.TrimSpace(target), parts[1:]...)
		}
	}
}

// write writes a file below the root of the file servers.
func (s *safety) write(t *testing.T, name, content string) {
	t.Helper()
	file := filepath.Join(s.root, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// stored lists the keys in Redis of a path, none without Redis.
func (s *safety) stored(t *testing.T, path string) []string {
	t.Helper()
	if s.rds == nil {
		return nil
	}
	return s.rds.Keys(t, "cache:*"+path+"*")
}

// together sends a request per item of asks for one path, all while the first
// is still at the origin, and returns the answers in this order. page writes the
// origin's answer.
func (s *safety) together(t *testing.T, path string, page http.HandlerFunc, asks ...[]string) []harness.Reply {
	t.Helper()
	var arrived atomic.Int32
	hold := harness.NewGate(t)
	s.web.Handle(path, func(w http.ResponseWriter, r *http.Request) {
		arrived.Add(1)
		hold.Wait()
		page(w, r)
	})
	replies, errs := make([]harness.Reply, len(asks)), make([]error, len(asks))
	var done sync.WaitGroup
	ask := func(i int) {
		done.Go(func() { replies[i], errs[i] = s.Try(t.Context(), http.MethodGet, path, "", asks[i]...) })
	}
	ask(0)
	harness.Eventually(t, "the first request is at the origin", func() bool { return arrived.Load() == 1 })
	for i := range asks[1:] {
		ask(i + 1)
	}
	// Those that wait for the first one's answer do not arrive.
	harness.Within(200*time.Millisecond, func() bool { return int(arrived.Load()) == len(asks) })
	hold.Open()
	done.Wait()
	for i, err := range errs {
		if err = cmp.Or(err, replies[i].Broken); err != nil {
			t.Fatalf("%s %q: %v", path, asks[i], err)
		}
	}
	return replies
}
