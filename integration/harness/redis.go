package harness

import (
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gplus-recycling/caddy-redis-cache/internal/redistest"
)

// Replaced puts a real server in the place of one of answering.
func Replaced(t *testing.T, r *Redis) {
	t.Helper()
	r.close()
	r.Start(t)
}

// Answering listens like a Redis and says only that, whatever it is asked.
func Answering(t *testing.T, text string) *Redis {
	t.Helper()
	r := ReserveRedis(t)
	l, err := net.Listen("tcp", r.Addr)
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

const (
	JournalKey = "cache::journal"
	EpochKey   = "cache::epoch:{cache::journal}"
	NodesKey   = "cache::nodes:{cache::journal}"
)

// Redis is a Redis on a port of its own that keeps nothing on disk.
type Redis struct {
	Addr   string
	db     int
	Args   []string
	Proc   *process
	close  func()        // of one that only pretends, see answering
	Client *redis.Client // to look into it, as redis-cli would
}

// ReserveRedis returns a server that is not started, for tests that begin without.
func ReserveRedis(t *testing.T, args ...string) *Redis {
	t.Helper()
	return RedisAt(t, strconv.Itoa(FreePort(t)), args...)
}

func RedisAt(t *testing.T, port string, args ...string) *Redis {
	t.Helper()
	r := &Redis{Addr: "127.0.0.1:" + port, Args: args}
	r.Client = redis.NewClient(&redis.Options{Addr: r.Addr, MaxRetries: -1, ContextTimeoutEnabled: true, ReadTimeout: Patience, WriteTimeout: Patience})
	t.Cleanup(func() { r.Client.Close() })
	return r
}

// StartRedis starts a server; args are options of redis-server.
func StartRedis(t *testing.T, args ...string) *Redis {
	t.Helper()
	r := ReserveRedis(t, args...)
	r.Start(t)
	return r
}

// Start starts the server, on the same port as before and empty.
func (r *Redis) Start(t *testing.T) {
	t.Helper()
	_, port, _ := strings.Cut(r.Addr, ":")
	args := append([]string{
		"--port", port, "--bind", "127.0.0.1", "--dir", t.TempDir(),
		"--save", "", "--appendonly", "no",
	}, r.Args...)
	r.Proc = StartProcess(t, redistest.Program, exec.Command(redistest.Program, args...))
	Eventually(t, "Redis answers", func() bool {
		if !r.Proc.Running() {
			t.Fatalf("Redis ended: %v\n%s", r.Proc.Err, r.Proc.Log)
		}
		err := r.Client.Ping(t.Context()).Err()
		// One that wants a password is up, too.
		return err == nil || strings.Contains(err.Error(), "NOAUTH")
	})
}

// Kill ends the server without a farewell.
func (r *Redis) Kill() { r.Proc.Kill() }

// Pause makes the server hang: connections stay, nothing answers.
func (r *Redis) Pause() { r.Proc.signal(syscall.SIGSTOP) }

func (r *Redis) Resume() { r.Proc.signal(syscall.SIGCONT) }

func (r *Redis) URL() string { return fmt.Sprintf("redis://%s/%d", r.Addr, r.db) }

// Database is the same server, seen through another database.
func (r *Redis) Database(t *testing.T, db int) *Redis {
	t.Helper()
	other := *r
	other.db, other.Client = db, r.Other(t, db, "")
	return &other
}

// Keys lists the keys that match the glob, sorted.
func (r *Redis) Keys(t *testing.T, glob string) []string {
	t.Helper()
	var keys []string
	iter := r.Client.Scan(t.Context(), 0, glob, 1000).Iterator()
	for iter.Next(t.Context()) {
		keys = append(keys, iter.Val())
	}
	if err := iter.Err(); err != nil {
		t.Fatalf("redis: %v", err)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// Has reports whether a key exists.
func (r *Redis) Has(t *testing.T, key string) bool {
	t.Helper()
	n, err := r.Client.Exists(t.Context(), key).Result()
	if err != nil {
		t.Fatalf("redis: %v", err)
	}
	return n == 1
}

// Await waits until the response stored under the key has reached Redis, which
// may be after the client has its answer.
func (r *Redis) Await(t *testing.T, key string) {
	t.Helper()
	Eventually(t, "Redis has "+strconv.Quote(key), func() bool { return r.Has(t, key) })
}

// TTL returns the time until Redis drops the key: -1 when it never does, -2 when it has.
func (r *Redis) TTL(t *testing.T, key string) time.Duration {
	t.Helper()
	d, err := r.Client.PTTL(t.Context(), key).Result()
	if err != nil {
		t.Fatalf("redis: %v", err)
	}
	return d
}

// Other returns a client for another database of the server, or with a password.
func (r *Redis) Other(t *testing.T, db int, password string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: r.Addr, DB: db, Password: password, MaxRetries: -1, ReadTimeout: Patience, WriteTimeout: Patience})
	t.Cleanup(func() { c.Close() })
	return c
}

// Connections lists the clients of the server, one per line of CLIENT LIST.
func (r *Redis) Connections(t *testing.T) []string {
	t.Helper()
	list, err := r.Client.ClientList(t.Context()).Result()
	if err != nil {
		t.Fatalf("redis: %v", err)
	}
	return strings.Split(strings.TrimSpace(list), "\n")
}

// Do runs a command for its effect.
func (r *Redis) Do(t *testing.T, args ...any) {
	t.Helper()
	if err := r.Client.Do(context.WithoutCancel(t.Context()), args...).Err(); err != nil {
		t.Fatalf("redis %v: %v", args, err)
	}
}

func (r *Redis) Port() string {
	_, port, _ := strings.Cut(r.Addr, ":")
	return port
}

// awaitReplica waits until a replica follows.
func (r *Redis) awaitReplica(t *testing.T) {
	t.Helper()
	Eventually(t, "a replica follows "+r.Addr, func() bool {
		return strings.Contains(r.Client.Info(t.Context(), "replication").Val(), "state=online")
	})
}

func (r *Redis) ClusterID(t *testing.T) string {
	t.Helper()
	id, err := r.Client.Do(t.Context(), "CLUSTER", "MYID").Text()
	if err != nil {
		t.Fatal(err)
	}
	return id
}
