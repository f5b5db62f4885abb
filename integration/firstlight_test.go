package integration

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// keyShape is <prefix>:<namespace>:<identifier>:<hash of 128 bits or more>.
var keyShape = regexp.MustCompile(`^cache:([a-z0-9_-]+):([^:]+):[0-9A-Za-z_-]{20,}$`)

// guide declares some of the namespaces of the example, with exact lifetimes.
const guide = `
	namespace user {
		ttl 1h
		jitter 0
	}
	namespace pickup {
		ttl 5m
		jitter 0
	}
	namespace points {
		ttl 5m
		jitter 0
	}`

const guideSite = `
	redis_cache /api/v1/users/* user
	redis_cache /api/v1/pickups/* pickup
	redis_cache /api/v1/points/* points`

// TestFirstLight is a newcomer's afternoon: no Redis, then Redis, then a restart.
func TestFirstLight(t *testing.T) {
	t.Parallel()
	rds := reserveRedis(t)
	web := newOrigin(t)
	node := startCaddy(t, layout{redis: rds, origin: web, cache: guide, site: guideSite})

	// Without Redis the memory tier serves.
	miss := node.want(t, "MISS", "/api/v1/pickups/1?status=open")
	hit := node.want(t, "HIT", "/api/v1/pickups/1?status=open")
	if hit.body != miss.body || hit.status != miss.status {
		t.Errorf("hit %d %q differs from its miss %d %q", hit.status, hit.body, miss.status, miss.body)
	}
	checkHeaders(t, miss, hit)

	// Redis comes up on the configured port, and nobody tells the node.
	rds.start(t)
	node.attached(t)
	miss = node.want(t, "MISS", "/api/v1/users/7")
	rds.await(t, miss.key())
	for _, key := range rds.keys(t, "*") {
		if !strings.HasPrefix(key, "cache:") {
			t.Errorf("key %q is not under the prefix", key)
		}
		if d := rds.ttl(t, key); d == -1 && !strings.Contains(key, "journal") {
			t.Errorf("key %q would stay for ever (PTTL %s)", key, d)
		}
	}

	// What is in Redis outlives the process.
	node.restart(t)
	hit = node.want(t, "HIT", "/api/v1/users/7")
	if got := hit.cacheStatus(t)["detail"]; got != "redis" {
		t.Errorf("first hit after a restart has detail %q, want redis", got)
	}
	if hit.body != miss.body {
		t.Errorf("after the restart %q, stored was %q", hit.body, miss.body)
	}
	hit = node.want(t, "HIT", "/api/v1/users/7")
	if got := hit.cacheStatus(t)["detail"]; got != "memory" {
		t.Errorf("second hit after a restart has detail %q, want memory", got)
	}
}

// checkHeaders holds a miss and its hit to the four diagnostic headers, Age and
// Cache-Status, and to being equal otherwise.
func checkHeaders(t *testing.T, miss, hit reply) {
	t.Helper()
	for name, r := range map[string]reply{"miss": miss, "hit": hit} {
		if m := keyShape.FindStringSubmatch(r.key()); m == nil || m[1] != "pickup" || !strings.Contains(m[2], siteHost) {
			t.Errorf("%s: X-Cache-Key %q", name, r.key())
		}
		between(t, name+": X-Cache-TTL-Remaining", r.ttl(), 290, 300)
		stored, err := time.Parse(http.TimeFormat, r.header.Get("X-Cache-Date"))
		if age := time.Since(stored); err != nil || age < -time.Second || age > patience {
			t.Errorf("%s: X-Cache-Date %q", name, r.header.Get("X-Cache-Date"))
		}
	}
	if age, err := strconv.Atoi(hit.header.Get("Age")); err != nil || age < 0 || age > 10 {
		t.Errorf("hit: Age %q", hit.header.Get("Age"))
	}

	status := miss.cacheStatus(t)
	if status["fwd"] != "uri-miss" || status["stored"] != "true" || status["hit"] != "" {
		t.Errorf("miss: Cache-Status %q", miss.header.Get("Cache-Status"))
	}
	status = hit.cacheStatus(t)
	if status["hit"] != "true" || status["fwd"] != "" || status["detail"] != "memory" {
		t.Errorf("hit: Cache-Status %q", hit.header.Get("Cache-Status"))
	}
	if ttl, err := strconv.Atoi(status["ttl"]); err != nil || ttl < 290 || ttl > 300 {
		t.Errorf("hit: Cache-Status %q lacks its ttl", hit.header.Get("Cache-Status"))
	}
	sameHeaders(t, miss, hit)
}

// sameHeaders holds a hit to the header fields of the miss that stored it, but
// for the cache's own.
func sameHeaders(t *testing.T, miss, hit reply) {
	t.Helper()
	own := map[string]bool{
		"X-Cache": true, "X-Cache-Ttl-Remaining": true, "X-Cache-Date": true, "Age": true, "Cache-Status": true,
	}
	for _, pair := range [][2]reply{{miss, hit}, {hit, miss}} {
		for name, values := range pair[0].header {
			if got := pair[1].header[name]; !own[name] && strings.Join(got, "\n") != strings.Join(values, "\n") {
				t.Errorf("%s is %q on the miss and %q on the hit", name, miss.header[name], hit.header[name])
			}
		}
	}
}

// TestMemoryOnly is `redis off`, and a site whose Caddyfile has no global option.
func TestMemoryOnly(t *testing.T) {
	t.Parallel()
	web := newOrigin(t)
	web.with("/stated", "Cache-Control: max-age=60")
	node := startCaddy(t, layout{origin: web, site: `redis_cache`})
	node.script(t, `
		MISS /stated
		HIT  /stated
		# Neither origin nor configuration states a lifetime: nothing may be kept.
		MISS /silent
		MISS /silent`)

	// The environment stands in for the global option.
	rds := startRedis(t)
	host, port, _ := strings.Cut(rds.addr, ":")
	bare := layout{plain: true, origin: web, site: `redis_cache`, environ: []string{
		"REDIS_HOST=" + host, "REDIS_PORT=" + port, "REDIS_DB=3", "REDIS_CACHE_KEY_PREFIX=guide",
	}}
	node = startCaddy(t, bare)
	db3 := rds.other(t, 3, "")
	eventually(t, "a response arrives in database 3 under the prefix of the environment", func() bool {
		r := node.get(t, "/stated?"+strconv.FormatInt(probes.Add(1), 10))
		if !strings.HasPrefix(r.key(), "guide:general:") {
			t.Fatalf("X-Cache-Key %q", r.key())
		}
		return within(patience/50, func() bool { return db3.Exists(t.Context(), r.key()).Val() == 1 })
	})

	bare.environ = []string{"REDIS_CACHE_ENABLED=false", "REDIS_URL=" + rds.url()}
	node = startCaddy(t, bare)
	node.script(t, `
		BYPASS /stated
		BYPASS /stated`)
}

// TestEnabled switches the cache off and on by the Caddyfile, without a restart.
func TestEnabled(t *testing.T) {
	t.Parallel()
	on := layout{origin: newOrigin(t), cache: guide, site: guideSite}
	off := on
	off.cache += "\n\tenabled false"
	node := startCaddy(t, off)
	r := node.want(t, "BYPASS", "/api/v1/pickups/1")
	if got := r.cacheStatus(t)["detail"]; got != "disabled" {
		t.Errorf("detail %q, want disabled", got)
	}
	if r := node.api(t, http.MethodPost, "/redis_cache/enable", "{}"); r.status != http.StatusBadRequest || !strings.Contains(r.body, "configuration") {
		t.Errorf("enable at run time: %d %s", r.status, r.body)
	}
	for _, l := range []layout{on, off, on} {
		if r := node.reload(t, l); r.status != http.StatusOK {
			t.Fatalf("reload: %d %s", r.status, r.body)
		}
		if l.cache == off.cache {
			node.script(t, `BYPASS /api/v1/pickups/1`)
		}
	}
	// What was stored before is still good.
	node.script(t, `
		MISS /api/v1/pickups/1
		HIT  /api/v1/pickups/1`)
}
