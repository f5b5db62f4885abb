package harness

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gplus-recycling/caddy-redis-cache/internal/redistest"
)

// Topology is a Redis of some kind, as an operator would run it.
type Topology struct {
	Connect string                // what follows `redis` in the Caddyfile
	Client  redis.UniversalClient // of an administrator
	Servers []*Redis              // that hold data
}

// BlockOf is the block behind the addresses. The times are those of a busy machine.
func BlockOf(lines ...string) string {
	return " {\n" + strings.Join(lines, "\n") + "\ndial_timeout 2s\nread_timeout 1s\nwrite_timeout 1s\n}"
}

// AclPassword is the one in the documentation.
const AclPassword = "secret"

// AclRules are what the documentation says the user of the cache must be allowed, always and for these words
// behind the #.
func AclRules(t *testing.T, more ...string) []string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(Repository, "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	var rules []string
	for line := range strings.Lines(string(page)) {
		line, ok := strings.CutPrefix(line, "    redis-cli ACL SETUSER cache ")
		line, kind, _ := strings.Cut(strings.ReplaceAll(line, "'", ""), "#")
		if kind = strings.TrimSpace(kind); ok && (kind == "" || slices.Contains(more, kind)) {
			rules = append(rules, strings.Fields(line)...)
		}
	}
	if len(rules) == 0 {
		t.Fatal("the documentation has no rules")
	}
	return rules
}

// UserArgs are options of redis-server that make the user of the cache.
func UserArgs(t *testing.T, more ...string) []string {
	t.Helper()
	return append([]string{"--user", "cache"}, AclRules(t, more...)...)
}

func StartSocket(t *testing.T) *Topology {
	t.Helper()
	// The name of a socket has to be short.
	dir, err := os.MkdirTemp("", "redis")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "r.sock")
	r := &Redis{Addr: "127.0.0.1:0", Client: redis.NewClient(&redis.Options{Network: "unix", Addr: socket, DB: 3, MaxRetries: -1})}
	t.Cleanup(func() { r.Client.Close() })
	r.Args = append([]string{"--unixsocket", socket}, UserArgs(t, "db")...)
	r.Start(t)
	return &Topology{
		Connect: "unix://" + socket + "?db=3" + BlockOf("username cache", "password "+AclPassword),
		Client:  r.Client, Servers: []*Redis{r},
	}
}

// StartTLS starts a server that talks to clients with a certificate only, and shows one for another
// name than its address.
func StartTLS(t *testing.T) *Topology {
	t.Helper()
	certs := newAuthority(t)
	certs.issue(t, "server", "redis.test")
	certs.issue(t, "client", "caddy.test")
	pair, err := tls.LoadX509KeyPair(certs.file("client.pem"), certs.file("client.key"))
	if err != nil {
		t.Fatal(err)
	}
	port := FreePort(t)
	r := &Redis{Addr: fmt.Sprintf("127.0.0.1:%d", port)}
	r.Client = redis.NewClient(&redis.Options{Addr: r.Addr, MaxRetries: -1, TLSConfig: &tls.Config{
		RootCAs: certs.pool, ServerName: "redis.test", Certificates: []tls.Certificate{pair},
	}})
	t.Cleanup(func() { r.Client.Close() })
	r.Args = append([]string{
		"--port", "0", "--tls-port", strconv.Itoa(port), "--tls-auth-clients", "yes",
		"--tls-ca-cert-file", certs.file("ca.pem"), "--tls-cert-file", certs.file("server.pem"), "--tls-key-file", certs.file("server.key"),
	}, UserArgs(t)...)
	r.Start(t)
	return &Topology{
		Connect: "rediss://" + r.Addr + BlockOf("username cache", "password "+AclPassword,
			"tls {", "ca "+certs.file("ca.pem"), "cert "+certs.file("client.pem"), "key "+certs.file("client.key"), "server_name redis.test", "}"),
		Client: r.Client, Servers: []*Redis{r},
	}
}

// StartSentinel starts a master, a replica, and three Sentinels that want a password.
func StartSentinel(t *testing.T) *Topology {
	t.Helper()
	user := append([]string{"--repl-diskless-sync-delay", "0"}, UserArgs(t)...)
	master := StartRedis(t, user...)
	replica := StartRedis(t, append([]string{"--replicaof", "127.0.0.1 " + master.Port()}, user...)...)
	top := &Topology{Servers: []*Redis{master, replica}}
	master.awaitReplica(t)
	var addrs []string
	for range 3 {
		port := FreePort(t)
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		conf := filepath.Join(t.TempDir(), "sentinel.conf")
		text := fmt.Sprintf("port %d\nbind 127.0.0.1\nrequirepass watch\nsentinel sentinel-pass watch\n"+
			"sentinel monitor main 127.0.0.1 %s 2\nsentinel down-after-milliseconds main 2000\nsentinel failover-timeout main 2000\n",
			port, master.Port())
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		StartProcess(t, "sentinel", exec.Command(redistest.Program, conf, "--sentinel"))
		addrs = append(addrs, addr)
	}
	for _, addr := range addrs {
		sentinel := redis.NewSentinelClient(&redis.Options{Addr: addr, Password: "watch", MaxRetries: -1})
		t.Cleanup(func() { sentinel.Close() })
		Eventually(t, "the Sentinel knows the others and the replica", func() bool {
			state := sentinel.Master(t.Context(), "main").Val()
			return state["num-other-sentinels"] == "2" && state["num-slaves"] == "1"
		})
	}
	top.Client = redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "main", SentinelAddrs: addrs, SentinelPassword: "watch"})
	t.Cleanup(func() { top.Client.Close() })
	top.Connect = strings.Join(addrs, " ") + BlockOf("username cache", "password "+AclPassword, "sentinel main {", "password watch", "}")
	return top
}

const ClusterMasters = 3

// StartCluster starts three masters with a replica each.
func StartCluster(t *testing.T) *Topology {
	t.Helper()
	user := UserArgs(t, "Cluster")
	top := new(Topology)
	var buses []int
	for range 2 * ClusterMasters {
		buses = append(buses, FreePort(t))
		top.Servers = append(top.Servers, StartRedis(t, append([]string{
			"--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(buses[len(buses)-1]), "--cluster-node-timeout", "3000",
			"--cluster-allow-replica-migration", "no", "--repl-diskless-sync-delay", "0", "--dir", t.TempDir(),
		}, user...)...))
	}
	first := top.Servers[0]
	var addrs []string
	for i, r := range top.Servers {
		addrs = append(addrs, r.Addr)
		if i < ClusterMasters {
			r.Do(t, "CLUSTER", "ADDSLOTSRANGE", i*16384/ClusterMasters, (i+1)*16384/ClusterMasters-1)
		}
		r.Do(t, "CLUSTER", "SET-CONFIG-EPOCH", i+1)
		first.Do(t, "CLUSTER", "MEET", "127.0.0.1", r.Port(), buses[i])
	}
	for _, r := range top.Servers {
		Eventually(t, "the node knows the others", func() bool {
			return strings.Contains(r.Client.ClusterInfo(t.Context()).Val(), "cluster_known_nodes:6")
		})
	}
	for i, r := range top.Servers[ClusterMasters:] {
		r.Do(t, "CLUSTER", "REPLICATE", top.Servers[i].ClusterID(t))
	}
	for i, r := range top.Servers {
		if i < ClusterMasters {
			r.awaitReplica(t)
		}
		Eventually(t, "the cluster is up", func() bool {
			return strings.Contains(r.Client.ClusterInfo(t.Context()).Val(), "cluster_state:ok")
		})
	}
	top.Client = redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs})
	t.Cleanup(func() { top.Client.Close() })
	top.Connect = strings.Join(addrs[:2], " ") + BlockOf("cluster", "username cache", "password "+AclPassword)
	return top
}

// MasterOf returns the server that a key without a lifetime is written to.
func (top *Topology) MasterOf(t *testing.T, key string) *Redis {
	t.Helper()
	var master *Redis
	Eventually(t, "somebody is master of "+key, func() bool {
		for _, r := range top.Servers {
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond) // it may hang
			err := r.Client.Do(ctx, "PERSIST", key).Err()
			cancel()
			if err == nil { // a replica, and a master of other slots, refuses
				master = r
				return true
			}
		}
		return false
	})
	return master
}

// Await waits until a stored response has reached Redis.
func (top *Topology) Await(t *testing.T, key string) {
	t.Helper()
	Eventually(t, "Redis has "+key, func() bool { return top.Client.Exists(t.Context(), key).Val() == 1 })
}

// CheckDenied looks for what the user of the cache tried and was not allowed.
func (top *Topology) CheckDenied(t *testing.T) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	for _, r := range top.Servers {
		if !r.Proc.Running() {
			continue
		}
		// A server that changes its role closes connections, this one's among them.
		var log []any
		if !Within(Patience, func() bool {
			var err error
			log, err = r.Client.Do(ctx, "ACL", "LOG").Slice()
			if err != nil && !lost(err) {
				t.Fatal(err)
			}
			return err == nil
		}) {
			t.Fatalf("%s does not answer", r.Addr)
		}
		for _, line := range log {
			t.Errorf("not allowed: %s", line)
		}
	}
}
