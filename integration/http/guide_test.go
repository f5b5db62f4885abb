package http

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// keyShape is <prefix>:<namespace>:<identifier>:<hash of 128 bits or more>.
var keyShape = regexp.MustCompile(`^cache:([a-z0-9_-]+):([^:]+):[0-9A-Za-z_-]{20,}$`)

// TestFirstLight is a newcomer's afternoon: no Redis, then Redis, then a restart.
func TestFirstLight(t *testing.T) {
	t.Parallel()
	rds := harness.ReserveRedis(t)
	web := harness.NewOrigin(t)
	node := harness.StartCaddy(t, harness.Layout{Redis: rds, Origin: web, Cache: harness.GuideCache, Site: harness.GuideSite})

	// Without Redis the memory tier serves.
	miss := node.Want(t, "MISS", "/api/v1/pickups/1?status=open")
	hit := node.Want(t, "HIT", "/api/v1/pickups/1?status=open")
	if hit.Body != miss.Body || hit.Status != miss.Status {
		t.Errorf("hit %d %q differs from its miss %d %q", hit.Status, hit.Body, miss.Status, miss.Body)
	}
	checkHeaders(t, miss, hit)

	// Redis comes up on the configured port, and nobody tells the node.
	rds.Start(t)
	node.Attached(t)
	miss = node.Want(t, "MISS", "/api/v1/users/7")
	rds.Await(t, miss.Key())
	for _, key := range rds.Keys(t, "*") {
		if !strings.HasPrefix(key, "cache:") {
			t.Errorf("key %q is not under the prefix", key)
		}
		if d := rds.TTL(t, key); d == -1 && !strings.Contains(key, "journal") {
			t.Errorf("key %q would stay for ever (PTTL %s)", key, d)
		}
	}

	// What is in Redis outlives the process.
	node.Restart(t)
	hit = node.Want(t, "HIT", "/api/v1/users/7")
	if got := hit.CacheStatus(t)["detail"]; got != "redis" {
		t.Errorf("first hit after a restart has detail %q, want redis", got)
	}
	if hit.Body != miss.Body {
		t.Errorf("after the restart %q, stored was %q", hit.Body, miss.Body)
	}
	hit = node.Want(t, "HIT", "/api/v1/users/7")
	if got := hit.CacheStatus(t)["detail"]; got != "memory" {
		t.Errorf("second hit after a restart has detail %q, want memory", got)
	}
}

// checkHeaders holds a miss and its hit to the four diagnostic headers, Age and
// Cache-Status, and to being equal otherwise.
func checkHeaders(t *testing.T, miss, hit harness.Reply) {
	t.Helper()
	for name, r := range map[string]harness.Reply{"miss": miss, "hit": hit} {
		if m := keyShape.FindStringSubmatch(r.Key()); m == nil || m[1] != "pickup" || !strings.Contains(m[2], harness.SiteHost) {
			t.Errorf("%s: X-Cache-Key %q", name, r.Key())
		}
		harness.Between(t, name+": X-Cache-TTL-Remaining", r.TTL(), 290, 300)
		stored, err := time.Parse(http.TimeFormat, r.Header.Get("X-Cache-Date"))
		if age := time.Since(stored); err != nil || age < -time.Second || age > harness.Patience {
			t.Errorf("%s: X-Cache-Date %q", name, r.Header.Get("X-Cache-Date"))
		}
	}
	if age, err := strconv.Atoi(hit.Header.Get("Age")); err != nil || age < 0 || age > 10 {
		t.Errorf("hit: Age %q", hit.Header.Get("Age"))
	}

	status := miss.CacheStatus(t)
	if status["fwd"] != "uri-miss" || status["stored"] != "true" || status["hit"] != "" {
		t.Errorf("miss: Cache-Status %q", miss.Header.Get("Cache-Status"))
	}
	status = hit.CacheStatus(t)
	if status["hit"] != "true" || status["fwd"] != "" || status["detail"] != "memory" {
		t.Errorf("hit: Cache-Status %q", hit.Header.Get("Cache-Status"))
	}
	if ttl, err := strconv.Atoi(status["ttl"]); err != nil || ttl < 290 || ttl > 300 {
		t.Errorf("hit: Cache-Status %q lacks its ttl", hit.Header.Get("Cache-Status"))
	}
	sameHeaders(t, miss, hit)
}

// sameHeaders holds a hit to the header fields of the miss that stored it, but
// for the cache's own.
func sameHeaders(t *testing.T, miss, hit harness.Reply) {
	t.Helper()
	own := map[string]bool{
		"X-Cache": true, "X-Cache-Ttl-Remaining": true, "X-Cache-Date": true, "Age": true, "Cache-Status": true,
	}
	for _, pair := range [][2]harness.Reply{{miss, hit}, {hit, miss}} {
		for name, values := range pair[0].Header {
			if got := pair[1].Header[name]; !own[name] && strings.Join(got, "\n") != strings.Join(values, "\n") {
				t.Errorf("%s is %q on the miss and %q on the hit", name, miss.Header[name], hit.Header[name])
			}
		}
	}
}

// TestMemoryOnly is `redis off`, and a site whose Caddyfile has no global option.
func TestMemoryOnly(t *testing.T) {
	t.Parallel()
	web := harness.NewOrigin(t)
	web.With("/stated", "Cache-Control: max-age=60")
	node := harness.StartCaddy(t, harness.Layout{Origin: web, Site: `redis_cache`})
	node.Script(t, `
		MISS /stated
		HIT  /stated
		# Neither origin nor configuration states a lifetime: nothing may be kept.
		MISS /silent
		MISS /silent`)

	// The environment stands in for the global option.
	rds := harness.StartRedis(t)
	host, port, _ := strings.Cut(rds.Addr, ":")
	bare := harness.Layout{Plain: true, Origin: web, Site: `redis_cache`, Environ: []string{
		"REDIS_HOST=" + host, "REDIS_PORT=" + port, "REDIS_DB=3", "REDIS_CACHE_KEY_PREFIX=guide",
	}}
	node = harness.StartCaddy(t, bare)
	db3 := rds.Other(t, 3, "")
	harness.Eventually(t, "a response arrives in database 3 under the prefix of the environment", func() bool {
		r := node.Get(t, "/stated?"+strconv.FormatInt(harness.Probes.Add(1), 10))
		if !strings.HasPrefix(r.Key(), "guide:general:") {
			t.Fatalf("X-Cache-Key %q", r.Key())
		}
		return harness.Within(harness.Patience/50, func() bool { return db3.Exists(t.Context(), r.Key()).Val() == 1 })
	})

	bare.Environ = []string{"REDIS_CACHE_ENABLED=false", "REDIS_URL=" + rds.URL()}
	node = harness.StartCaddy(t, bare)
	node.Script(t, `
		BYPASS /stated
		BYPASS /stated`)
}

// TestEnabled switches the cache off and on by the Caddyfile, without a restart.
func TestEnabled(t *testing.T) {
	t.Parallel()
	on := harness.Layout{Origin: harness.NewOrigin(t), Cache: harness.GuideCache, Site: harness.GuideSite}
	off := on
	off.Cache += "\n\tenabled false"
	node := harness.StartCaddy(t, off)
	r := node.Want(t, "BYPASS", "/api/v1/pickups/1")
	if got := r.CacheStatus(t)["detail"]; got != "disabled" {
		t.Errorf("detail %q, want disabled", got)
	}
	if r := node.API(t, http.MethodPost, "/redis_cache/enable", "{}"); r.Status != http.StatusBadRequest || !strings.Contains(r.Body, "configuration") {
		t.Errorf("enable at run time: %d %s", r.Status, r.Body)
	}
	for _, l := range []harness.Layout{on, off, on} {
		if r := node.Reload(t, l); r.Status != http.StatusOK {
			t.Fatalf("reload: %d %s", r.Status, r.Body)
		}
		if l.Cache == off.Cache {
			node.Script(t, `BYPASS /api/v1/pickups/1`)
		}
	}
	// What was stored before is still good.
	node.Script(t, `
		MISS /api/v1/pickups/1
		HIT  /api/v1/pickups/1`)
}
