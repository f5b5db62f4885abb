package integration

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// visitors send requests from several clients until they are stopped, and keep what
// went wrong.
type visitors struct {
	sent    atomic.Int64
	slowest atomic.Int64 // nanoseconds
	stop    func() []string
}

func startVisitors(t *testing.T, n *node, path func(i int64) string) *visitors {
	t.Helper()
	v := new(visitors)
	ctx, cancel := context.WithCancel(t.Context())
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		failed []string
	)
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				p := path(v.sent.Add(1))
				begun := time.Now()
				// Not ctx: a request is not to be cut by the end of the load.
				r, err := n.try(context.WithoutCancel(ctx), http.MethodGet, p, "")
				if took := int64(time.Since(begun)); took > v.slowest.Load() {
					v.slowest.Store(took)
				}
				if err != nil || r.broken != nil || r.status != http.StatusOK {
					mu.Lock()
					failed = append(failed, fmt.Sprintf("%s: %d %v %v", p, r.status, err, r.broken))
					mu.Unlock()
				}
			}
		})
	}
	v.stop = func() []string {
		cancel()
		wg.Wait()
		return failed
	}
	return v
}

// some lets a number of requests pass.
func (v *visitors) some(t *testing.T, n int64) {
	t.Helper()
	target := v.sent.Load() + n
	eventually(t, "requests pass", func() bool { return v.sent.Load() >= target })
}

// TestRedisFailsUnderLoad takes Redis away in the middle of requests, and gives
// it back empty. No request may notice, and no restart may be needed.
func TestRedisFailsUnderLoad(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       string
		away, back func(t *testing.T, r *redisServer)
	}{
		{
			"killed",
			func(_ *testing.T, r *redisServer) { r.kill() },
			func(t *testing.T, r *redisServer) { r.start(t) },
		},
		{
			"hanging",
			func(_ *testing.T, r *redisServer) { r.pause() },
			func(_ *testing.T, r *redisServer) { r.resume() },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rds := startRedis(t)
			node := startCaddy(t, layout{redis: rds, origin: newOrigin(t), cache: guide, site: guideSite, hasty: true})
			clients := startVisitors(t, node, func(i int64) string {
				if i%10 == 0 {
					return fmt.Sprintf("/api/v1/pickups/new-%d", i) // has to ask Redis, and wants to be stored
				}
				return fmt.Sprintf("/api/v1/pickups/%d", i%200)
			})
			clients.some(t, 300)
			before := len(node.complaints())
			tt.away(t, rds)
			clients.some(t, 300)
			eventually(t, "the node notices", func() bool { return len(node.complaints()) > before })
			clients.some(t, 300)
			tt.back(t, rds)
			clients.some(t, 300)
			for _, failure := range clients.stop() {
				t.Error(failure)
			}
			if slowest := time.Duration(clients.slowest.Load()); slowest > 10*time.Second {
				t.Errorf("a request took %s", slowest)
			}
			node.attached(t)
			// A busy machine is slow to answer, too; but nothing is told for each request.
			if lines := node.complaints(); len(lines) > 12 {
				t.Errorf("the log says %q", lines)
			}
			// A purge is confirmed once the node follows the journal again, in a new
			// epoch where Redis came back empty: what was stored before is dropped.
			node.purge(t, `{"key":"none:at-all"}`)
			miss := node.want(t, "MISS", "/api/v1/users/after")
			rds.await(t, miss.key())
			node.layout.hasty = false
			node.restart(t)
			node.want(t, "HIT", "/api/v1/users/after")
		})
	}
}

// TestSickRedis has a Redis that answers, but not as it should, or not at all. Requests go on from
// memory and origin all the same, the log says once what is wrong, and when Redis is well again
// nobody has to tell the node.
func TestSickRedis(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		start   func(t *testing.T) *redisServer
		connect string // as in layout, with %s for the address
		log     string // what it says
		purge   int    // status, 503 unless the journal takes entries; never 200, as it is not followed
		heal    func(t *testing.T, r *redisServer)
	}{
		"absent": {
			start: func(t *testing.T) *redisServer { return reserveRedis(t) },
			log:   "connection refused",
			heal:  func(t *testing.T, r *redisServer) { r.start(t) },
		},
		"wants a password": {
			start: func(t *testing.T) *redisServer { return startRedis(t, "--requirepass", "secret") },
			log:   "NOAUTH",
			heal: func(t *testing.T, r *redisServer) {
				if err := r.other(t, 0, "secret").ConfigSet(t.Context(), "requirepass", "").Err(); err != nil {
					t.Fatal(err)
				}
			},
		},
		"wants another password": {
			start: func(t *testing.T) *redisServer {
				return startRedis(t, "--user", "cache", "on", ">right", "~*", "&*", "+@all")
			},
			connect: "redis://cache:wrong@%s",
			log:     "WRONGPASS",
			heal:    func(t *testing.T, r *redisServer) { r.do(t, "ACL", "SETUSER", "cache", ">wrong") },
		},
		"refuses reads": {
			start: func(t *testing.T) *redisServer {
				return startRedis(t, "--user", "cache", "on", "nopass", "~*", "&*", "+@all", "-get")
			},
			connect: "redis://cache:any@%s",
			log:     "NOPERM",
			purge:   http.StatusAccepted,
			heal:    func(t *testing.T, r *redisServer) { r.do(t, "ACL", "SETUSER", "cache", "+get") },
		},
		"refuses writes": {
			start: func(t *testing.T) *redisServer {
				return startRedis(t, "--user", "cache", "on", "nopass", "~*", "&*", "+@all", "-set")
			},
			connect: "redis://cache:any@%s",
			log:     "NOPERM",
			purge:   http.StatusAccepted,
			heal:    func(t *testing.T, r *redisServer) { r.do(t, "ACL", "SETUSER", "cache", "+set") },
		},
		"refuses the journal": {
			start: func(t *testing.T) *redisServer {
				return startRedis(t, "--user", "cache", "on", "nopass", "~*", "&*", "+@all", "-xrevrange", "-xrange", "-hset")
			},
			connect: "redis://cache:any@%s",
			log:     "NOPERM",
			purge:   http.StatusAccepted,
			heal:    func(t *testing.T, r *redisServer) { r.do(t, "ACL", "SETUSER", "cache", "+@all") },
		},
		"out of memory": {
			start: func(t *testing.T) *redisServer {
				return startRedis(t, "--maxmemory", "1", "--maxmemory-policy", "noeviction")
			},
			log:  "OOM",
			heal: func(t *testing.T, r *redisServer) { r.do(t, "CONFIG", "SET", "maxmemory", "0") },
		},
		"read only": {
			start: func(t *testing.T) *redisServer {
				return startRedis(t, "--replicaof", "127.0.0.1", fmt.Sprint(freePort(t)))
			},
			log:  "READONLY",
			heal: func(t *testing.T, r *redisServer) { r.do(t, "REPLICAOF", "NO", "ONE") },
		},
		"babbles": {
			start: func(t *testing.T) *redisServer { return answering(t, "HTTP/1.1 400 Bad Request\r\n\r\n") },
			log:   "HTTP/1.1 400 Bad Request",
			heal:  replaced,
		},
		"silent": {
			start: func(t *testing.T) *redisServer { return answering(t, "") },
			log:   "timeout",
			heal:  replaced,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rds := tt.start(t)
			proc := rds.proc
			rds.proc = nil // or the node is awaited to store in it
			l := layout{redis: rds, origin: newOrigin(t), cache: guide, site: guideSite}
			if tt.connect != "" {
				l.connect = fmt.Sprintf(tt.connect, rds.addr) + blockOf()
			}
			node := startCaddy(t, l)
			node.hitsWithout(t)
			node.json(t, http.StatusAccepted, http.MethodPost, "/redis_cache/purge", `{"all":true}`) // never 200: the journal is not followed
			if r := node.api(t, http.MethodPost, "/redis_cache/purge", `{"all":true,"require":"recorded"}`); r.status != cmp.Or(tt.purge, http.StatusServiceUnavailable) {
				t.Errorf("a purge that must be recorded is answered %d %s", r.status, r.body)
			}
			clients := startVisitors(t, node, func(i int64) string {
				return fmt.Sprintf("/api/v1/pickups/%d", i%200)
			})
			clients.some(t, 400)
			for _, failure := range clients.stop() {
				t.Error(failure)
			}
			node.complained(t, tt.log)

			rds.proc = proc
			tt.heal(t, rds)
			node.attached(t)
			node.purge(t, `{"namespace":"user"}`)
			rds.await(t, node.want(t, "MISS", "/api/v1/users/after").key())
			node.want(t, "HIT", "/api/v1/users/after")
		})
	}
}

// hitsWithout expects hits though Redis is of no use.
func (n *node) hitsWithout(t *testing.T) {
	t.Helper()
	for i := range 3 {
		path := fmt.Sprintf("/api/v1/points/%d", i)
		begun := time.Now()
		// A node that comes to trust its Redis drops what it knew before, once.
		eventually(t, "a hit", func() bool { return n.get(t, path).outcome() == "HIT" })
		if took := time.Since(begun); took > 5*time.Second { // which one answer of Redis may take
			t.Errorf("a miss and a hit took %s", took)
		}
	}
}

// complained expects that the log names the reason, and once: in a line of the store and in one of
// the journal at most. Purges that wait are told of one by one, and kinds of errors once a minute.
func (n *node) complained(t *testing.T, reason string) {
	t.Helper()
	lines := slices.DeleteFunc(n.complaints(), func(line string) bool {
		return strings.Contains(line, "a purge waits to be recorded") || strings.Contains(line, "errors of the kind")
	})
	named := slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, reason) })
	if !named || len(lines) > 2 {
		t.Errorf("%q is not told, or more than once: %q", reason, lines)
	}
}

// complaints are the warnings and errors that the cache has logged.
func (n *node) complaints() (lines []string) {
	for line := range strings.Lines(n.proc.log.String()) {
		if strings.Contains(line, `"logger":"http.handlers.redis_cache"`) && !strings.Contains(line, `"level":"info"`) {
			lines = append(lines, line)
		}
	}
	return lines
}

// replaced puts a real server in the place of one of answering.
func replaced(t *testing.T, r *redisServer) {
	t.Helper()
	r.close()
	r.start(t)
}

// answering listens like a Redis and says only that, whatever it is asked.
func answering(t *testing.T, text string) *redisServer {
	t.Helper()
	r := reserveRedis(t)
	l, err := net.Listen("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r.close = func() {
		cancel()
		l.Close()
	}
	t.Cleanup(r.close)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			context.AfterFunc(ctx, func() { conn.Close() })
			go func() {
				defer conn.Close()
				io.WriteString(conn, text)
				io.Copy(io.Discard, conn)
			}()
		}
	}()
	return r
}

// TestPassword gives the connection in a block, with the password from outside
// the Caddyfile.
func TestPassword(t *testing.T) {
	t.Parallel()
	rds := startRedis(t, "--requirepass", "s3cret:/@")
	guarded := rds.other(t, 2, "s3cret:/@")
	node := startCaddy(t, layout{
		plain: true, origin: newOrigin(t), environ: []string{"CACHE_PASSWORD=s3cret:/@"},
		global: "redis_cache {\nredis redis://" + rds.addr + "/2 {\npassword {env.CACHE_PASSWORD}\n}\n}",
		site:   "redis_cache {\nttl 5m\n}",
	})
	eventually(t, "a response arrives in Redis", func() bool {
		key := node.get(t, fmt.Sprintf("/%d", probes.Add(1))).key()
		return within(200*time.Millisecond, func() bool { return guarded.Exists(t.Context(), key).Val() == 1 })
	})
	if r := node.api(t, http.MethodGet, "/config/", ""); r.status != http.StatusOK || strings.Contains(r.body, "s3cret") {
		t.Errorf("the configuration shows the password: %s", r.body)
	}
	if strings.Contains(node.proc.log.String(), "s3cret") {
		t.Error("the log shows the password")
	}
}

// TestWritesRefused takes the right to store away while everything is well. It is
// no failure of Redis, but the log has to say why nothing is stored.
func TestWritesRefused(t *testing.T) {
	t.Parallel()
	rds := startRedis(t, "--user", "cache", "on", "nopass", "~*", "&*", "+@all")
	node := startCaddy(t, layout{
		redis: rds, origin: newOrigin(t), cache: guide, site: guideSite,
		connect: fmt.Sprintf("redis://cache:any@%s", rds.addr) + blockOf(),
	})
	rds.do(t, "ACL", "SETUSER", "cache", "-set")
	for i := range 100 {
		node.want(t, "MISS", fmt.Sprintf("/api/v1/users/%d", i))
	}
	eventually(t, "the log says it", func() bool { return strings.Contains(node.proc.log.String(), "redis refuses to store responses") })
	if n := strings.Count(node.proc.log.String(), "redis refuses to store responses"); n != 1 {
		t.Errorf("the log says %d times that nothing is stored", n)
	}
	node.want(t, "HIT", "/api/v1/users/1") // from memory
	rds.do(t, "ACL", "SETUSER", "cache", "+set")
	rds.await(t, node.want(t, "MISS", "/api/v1/users/after").key())
}
