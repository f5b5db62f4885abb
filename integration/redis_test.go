package integration

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// redisServer is a Redis on a port of its own that keeps nothing on disk.
type redisServer struct {
	addr   string
	db     int
	args   []string
	proc   *process
	close  func()        // of one that only pretends, see answering
	client *redis.Client // to look into it, as redis-cli would
}

// reserveRedis returns a server that is not started, for tests that begin without.
func reserveRedis(t *testing.T, args ...string) *redisServer {
	t.Helper()
	return redisAt(t, strconv.Itoa(freePort(t)), args...)
}

func redisAt(t *testing.T, port string, args ...string) *redisServer {
	t.Helper()
	r := &redisServer{addr: "127.0.0.1:" + port, args: args}
	r.client = redis.NewClient(&redis.Options{Addr: r.addr, MaxRetries: -1, ContextTimeoutEnabled: true, ReadTimeout: patience, WriteTimeout: patience})
	t.Cleanup(func() { r.client.Close() })
	return r
}

// startRedis starts a server; args are options of redis-server.
func startRedis(t *testing.T, args ...string) *redisServer {
	t.Helper()
	r := reserveRedis(t, args...)
	r.start(t)
	return r
}

// start starts the server, on the same port as before and empty.
func (r *redisServer) start(t *testing.T) {
	t.Helper()
	_, port, _ := strings.Cut(r.addr, ":")
	args := append([]string{
		"--port", port, "--bind", "127.0.0.1", "--dir", t.TempDir(),
		"--save", "", "--appendonly", "no",
	}, r.args...)
	r.proc = startProcess(t, "redis-server", exec.Command("redis-server", args...))
	eventually(t, "redis-server answers", func() bool {
		if !r.proc.running() {
			t.Fatalf("redis-server ended: %v\n%s", r.proc.err, r.proc.log)
		}
		err := r.client.Ping(t.Context()).Err()
		// One that wants a password is up, too.
		return err == nil || strings.Contains(err.Error(), "NOAUTH")
	})
}

// kill ends the server without a farewell.
func (r *redisServer) kill() { r.proc.kill() }

// pause makes the server hang: connections stay, nothing answers.
func (r *redisServer) pause() { r.proc.signal(syscall.SIGSTOP) }

func (r *redisServer) resume() { r.proc.signal(syscall.SIGCONT) }

func (r *redisServer) url() string { return fmt.Sprintf("redis://%s/%d", r.addr, r.db) }

// database is the same server, seen through another database.
func (r *redisServer) database(t *testing.T, db int) *redisServer {
	t.Helper()
	other := *r
	other.db, other.client = db, r.other(t, db, "")
	return &other
}

// keys lists the keys that match the glob, sorted.
func (r *redisServer) keys(t *testing.T, glob string) []string {
	t.Helper()
	var keys []string
	iter := r.client.Scan(t.Context(), 0, glob, 1000).Iterator()
	for iter.Next(t.Context()) {
		keys = append(keys, iter.Val())
	}
	if err := iter.Err(); err != nil {
		t.Fatalf("redis: %v", err)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// has reports whether a key exists.
func (r *redisServer) has(t *testing.T, key string) bool {
	t.Helper()
	n, err := r.client.Exists(t.Context(), key).Result()
	if err != nil {
		t.Fatalf("redis: %v", err)
	}
	return n == 1
}

// await waits until the response stored under the key has reached Redis, which
// may be after the client has its answer.
func (r *redisServer) await(t *testing.T, key string) {
	t.Helper()
	eventually(t, "Redis has "+strconv.Quote(key), func() bool { return r.has(t, key) })
}

// ttl returns the time until Redis drops the key: -1 when it never does, -2 when it has.
func (r *redisServer) ttl(t *testing.T, key string) time.Duration {
	t.Helper()
	d, err := r.client.PTTL(t.Context(), key).Result()
	if err != nil {
		t.Fatalf("redis: %v", err)
	}
	return d
}

// other returns a client for another database of the server, or with a password.
func (r *redisServer) other(t *testing.T, db int, password string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: r.addr, DB: db, Password: password, MaxRetries: -1, ReadTimeout: patience, WriteTimeout: patience})
	t.Cleanup(func() { c.Close() })
	return c
}

// connections lists the clients of the server, one per line of CLIENT LIST.
func (r *redisServer) connections(t *testing.T) []string {
	t.Helper()
	list, err := r.client.ClientList(t.Context()).Result()
	if err != nil {
		t.Fatalf("redis: %v", err)
	}
	return strings.Split(strings.TrimSpace(list), "\n")
}

// do runs a command for its effect.
func (r *redisServer) do(t *testing.T, args ...any) {
	t.Helper()
	if err := r.client.Do(context.WithoutCancel(t.Context()), args...).Err(); err != nil {
		t.Fatalf("redis %v: %v", args, err)
	}
}
