package redis

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// TestRedisFailsUnderLoad takes Redis away in the middle of requests, and gives
// it back empty. No request may notice, and no restart may be needed.
func TestRedisFailsUnderLoad(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       string
		away, back func(t *testing.T, r *harness.Redis)
	}{
		{
			"killed",
			func(_ *testing.T, r *harness.Redis) { r.Kill() },
			func(t *testing.T, r *harness.Redis) { r.Start(t) },
		},
		{
			"hanging",
			func(_ *testing.T, r *harness.Redis) { r.Pause() },
			func(_ *testing.T, r *harness.Redis) { r.Resume() },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rds := harness.StartRedis(t)
			node := harness.StartCaddy(t, harness.Layout{Redis: rds, Origin: harness.NewOrigin(t), Cache: harness.GuideCache, Site: harness.GuideSite, Hasty: true})
			clients := harness.StartVisitors(t, node, func(i int64) string {
				if i%10 == 0 {
					return fmt.Sprintf("/api/v1/pickups/new-%d", i) // has to ask Redis, and wants to be stored
				}
				return fmt.Sprintf("/api/v1/pickups/%d", i%200)
			})
			clients.Some(t, 300)
			before := len(complaints(node))
			tt.away(t, rds)
			clients.Some(t, 300)
			harness.Eventually(t, "the node notices", func() bool { return len(complaints(node)) > before })
			clients.Some(t, 300)
			tt.back(t, rds)
			clients.Some(t, 300)
			for _, failure := range clients.Stop() {
				t.Error(failure)
			}
			if slowest := time.Duration(clients.Slowest.Load()); slowest > 10*time.Second {
				t.Errorf("a request took %s", slowest)
			}
			node.Attached(t)
			// A busy machine is slow to answer, too; but nothing is told for each request.
			if lines := complaints(node); len(lines) > 12 {
				t.Errorf("the log says %q", lines)
			}
			// A purge is confirmed once the node follows the journal again, in a new
			// epoch where Redis came back empty: what was stored before is dropped.
			node.Purge(t, `{"key":"none:at-all"}`)
			miss := node.Want(t, "MISS", "/api/v1/users/after")
			rds.Await(t, miss.Key())
			node.Layout.Hasty = false
			node.Restart(t)
			node.Want(t, "HIT", "/api/v1/users/after")
		})
	}
}

// TestSickRedis has a Redis that answers, but not as it should, or not at all. Requests go on from
// memory and origin all the same, the log says once what is wrong, and when Redis is well again
// nobody has to tell the node.
func TestSickRedis(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		start   func(t *testing.T) *harness.Redis
		connect string // as in layout, with %s for the address
		log     string // what it says
		purge   int    // status, 503 unless the journal takes entries; never 200, as it is not followed
		heal    func(t *testing.T, r *harness.Redis)
	}{
		"absent": {
			start: func(t *testing.T) *harness.Redis { return harness.ReserveRedis(t) },
			log:   "connection refused",
			heal:  func(t *testing.T, r *harness.Redis) { r.Start(t) },
		},
		"wants a password": {
			start: func(t *testing.T) *harness.Redis { return harness.StartRedis(t, "--requirepass", "secret") },
			log:   "NOAUTH",
			heal: func(t *testing.T, r *harness.Redis) {
				if err := r.Other(t, 0, "secret").ConfigSet(t.Context(), "requirepass", "").Err(); err != nil {
					t.Fatal(err)
				}
			},
		},
		"wants another password": {
			start: func(t *testing.T) *harness.Redis {
				return harness.StartRedis(t, "--user", "cache", "on", ">right", "~*", "&*", "+@all")
			},
			connect: "redis://cache:wrong@%s",
			log:     "WRONGPASS",
			heal:    func(t *testing.T, r *harness.Redis) { r.Do(t, "ACL", "SETUSER", "cache", ">wrong") },
		},
		"refuses reads": {
			start: func(t *testing.T) *harness.Redis {
				return harness.StartRedis(t, "--user", "cache", "on", "nopass", "~*", "&*", "+@all", "-get")
			},
			connect: "redis://cache:any@%s",
			log:     "NOPERM",
			purge:   http.StatusAccepted,
			heal:    func(t *testing.T, r *harness.Redis) { r.Do(t, "ACL", "SETUSER", "cache", "+get") },
		},
		"refuses writes": {
			start: func(t *testing.T) *harness.Redis {
				return harness.StartRedis(t, "--user", "cache", "on", "nopass", "~*", "&*", "+@all", "-set")
			},
			connect: "redis://cache:any@%s",
			log:     "NOPERM",
			purge:   http.StatusAccepted,
			heal:    func(t *testing.T, r *harness.Redis) { r.Do(t, "ACL", "SETUSER", "cache", "+set") },
		},
		"refuses the journal": {
			start: func(t *testing.T) *harness.Redis {
				return harness.StartRedis(t, "--user", "cache", "on", "nopass", "~*", "&*", "+@all", "-xrevrange", "-xrange", "-hset")
			},
			connect: "redis://cache:any@%s",
			log:     "NOPERM",
			purge:   http.StatusAccepted,
			heal:    func(t *testing.T, r *harness.Redis) { r.Do(t, "ACL", "SETUSER", "cache", "+@all") },
		},
		"out of memory": {
			start: func(t *testing.T) *harness.Redis {
				return harness.StartRedis(t, "--maxmemory", "1", "--maxmemory-policy", "noeviction")
			},
			log:  "OOM",
			heal: func(t *testing.T, r *harness.Redis) { r.Do(t, "CONFIG", "SET", "maxmemory", "0") },
		},
		"read only": {
			start: func(t *testing.T) *harness.Redis {
				return harness.StartRedis(t, "--replicaof", "127.0.0.1", fmt.Sprint(harness.FreePort(t)))
			},
			log:  "READONLY",
			heal: func(t *testing.T, r *harness.Redis) { r.Do(t, "REPLICAOF", "NO", "ONE") },
		},
		"babbles": {
			start: func(t *testing.T) *harness.Redis { return harness.Answering(t, "HTTP/1.1 400 Bad Request\r\n\r\n") },
			log:   "HTTP/1.1 400 Bad Request",
			heal:  harness.Replaced,
		},
		"silent": {
			start: func(t *testing.T) *harness.Redis { return harness.Answering(t, "") },
			log:   "timeout",
			heal:  harness.Replaced,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rds := tt.start(t)
			proc := rds.Proc
			rds.Proc = nil // or the node is awaited to store in it
			l := harness.Layout{Redis: rds, Origin: harness.NewOrigin(t), Cache: harness.GuideCache, Site: harness.GuideSite}
			if tt.connect != "" {
				l.Connect = fmt.Sprintf(tt.connect, rds.Addr) + harness.BlockOf()
			}
			node := harness.StartCaddy(t, l)
			hitsWithout(t, node)
			node.JSON(t, http.StatusAccepted, http.MethodPost, "/redis_cache/purge", `{"all":true}`) // never 200: the journal is not followed
			if r := node.API(t, http.MethodPost, "/redis_cache/purge", `{"all":true,"require":"recorded"}`); r.Status != cmp.Or(tt.purge, http.StatusServiceUnavailable) {
				t.Errorf("a purge that must be recorded is answered %d %s", r.Status, r.Body)
			}
			clients := harness.StartVisitors(t, node, func(i int64) string {
				return fmt.Sprintf("/api/v1/pickups/%d", i%200)
			})
			clients.Some(t, 400)
			for _, failure := range clients.Stop() {
				t.Error(failure)
			}
			complained(t, node, tt.log)

			rds.Proc = proc
			tt.heal(t, rds)
			node.Attached(t)
			node.Purge(t, `{"namespace":"user"}`)
			rds.Await(t, node.Want(t, "MISS", "/api/v1/users/after").Key())
			node.Want(t, "HIT", "/api/v1/users/after")
		})
	}
}

// hitsWithout expects hits though Redis is of no use.
func hitsWithout(t *testing.T, n *harness.Node) {
	t.Helper()
	for i := range 3 {
		path := fmt.Sprintf("/api/v1/points/%d", i)
		begun := time.Now()
		// A node that comes to trust its Redis drops what it knew before, once.
		harness.Eventually(t, "a hit", func() bool { return n.Get(t, path).Outcome() == "HIT" })
		if took := time.Since(begun); took > 5*time.Second { // which one answer of Redis may take
			t.Errorf("a miss and a hit took %s", took)
		}
	}
}

// complained expects that the log names the reason, and once: in a line of the store and in one of
// the journal at most. Purges that wait are told of one by one, and kinds of errors once a minute.
func complained(t *testing.T, n *harness.Node, reason string) {
	t.Helper()
	lines := slices.DeleteFunc(complaints(n), func(line string) bool {
		return strings.Contains(line, "a purge waits to be recorded") || strings.Contains(line, "errors of the kind")
	})
	named := slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, reason) })
	if !named || len(lines) > 2 {
		t.Errorf("%q is not told, or more than once: %q", reason, lines)
	}
}

// complaints are the warnings and errors that the cache has logged.
func complaints(n *harness.Node) (lines []string) {
	for line := range strings.Lines(n.Proc.Log.String()) {
		if strings.Contains(line, `"logger":"http.handlers.redis_cache"`) && !strings.Contains(line, `"level":"info"`) {
			lines = append(lines, line)
		}
	}
	return lines
}

// TestPassword gives the connection in a block, with the password from outside
// the Caddyfile.
func TestPassword(t *testing.T) {
	t.Parallel()
	rds := harness.StartRedis(t, "--requirepass", "s3cret:/@")
	guarded := rds.Other(t, 2, "s3cret:/@")
	node := harness.StartCaddy(t, harness.Layout{
		Plain: true, Origin: harness.NewOrigin(t), Environ: []string{"CACHE_PASSWORD=s3cret:/@"},
		Global: "redis_cache {\nredis redis://" + rds.Addr + "/2 {\npassword {env.CACHE_PASSWORD}\n}\n}",
		Site:   "redis_cache {\nttl 5m\n}",
	})
	harness.Eventually(t, "a response arrives in Redis", func() bool {
		key := node.Get(t, fmt.Sprintf("/%d", harness.Probes.Add(1))).Key()
		return harness.Within(200*time.Millisecond, func() bool { return guarded.Exists(t.Context(), key).Val() == 1 })
	})
	if r := node.API(t, http.MethodGet, "/config/", ""); r.Status != http.StatusOK || strings.Contains(r.Body, "s3cret") {
		t.Errorf("the configuration shows the password: %s", r.Body)
	}
	if strings.Contains(node.Proc.Log.String(), "s3cret") {
		t.Error("the log shows the password")
	}
}

// TestWritesRefused takes the right to store away while everything is well. It is
// no failure of Redis, but the log has to say why nothing is stored.
func TestWritesRefused(t *testing.T) {
	t.Parallel()
	rds := harness.StartRedis(t, "--user", "cache", "on", "nopass", "~*", "&*", "+@all")
	node := harness.StartCaddy(t, harness.Layout{
		Redis: rds, Origin: harness.NewOrigin(t), Cache: harness.GuideCache, Site: harness.GuideSite,
		Connect: fmt.Sprintf("redis://cache:any@%s", rds.Addr) + harness.BlockOf(),
	})
	rds.Do(t, "ACL", "SETUSER", "cache", "-set")
	for i := range 100 {
		node.Want(t, "MISS", fmt.Sprintf("/api/v1/users/%d", i))
	}
	harness.Eventually(t, "the log says it", func() bool { return strings.Contains(node.Proc.Log.String(), "redis refuses to store responses") })
	if n := strings.Count(node.Proc.Log.String(), "redis refuses to store responses"); n != 1 {
		t.Errorf("the log says %d times that nothing is stored", n)
	}
	node.Want(t, "HIT", "/api/v1/users/1") // from memory
	rds.Do(t, "ACL", "SETUSER", "cache", "+set")
	rds.Await(t, node.Want(t, "MISS", "/api/v1/users/after").Key())
}
