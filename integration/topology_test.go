package integration

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// topology is a Redis of some kind, as an operator would run it.
type topology struct {
	connect string                // what follows `redis` in the Caddyfile
	client  redis.UniversalClient // of an administrator
	servers []*redisServer        // that hold data
}

// blockOf is the block behind the addresses. The times are those of a busy machine.
func blockOf(lines ...string) string {
	return " {\n" + strings.Join(lines, "\n") + "\ndial_timeout 2s\nread_timeout 1s\nwrite_timeout 1s\n}"
}

// aclPassword is the one in README.
const aclPassword = "secret"

// aclRules are what README says the user of the cache must be allowed, always and for these words
// behind the #.
func aclRules(t *testing.T, more ...string) []string {
	t.Helper()
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var rules []string
	for line := range strings.Lines(string(readme)) {
		line, ok := strings.CutPrefix(line, "    redis-cli ACL SETUSER cache ")
		line, kind, _ := strings.Cut(strings.ReplaceAll(line, "'", ""), "#")
		if kind = strings.TrimSpace(kind); ok && (kind == "" || slices.Contains(more, kind)) {
			rules = append(rules, strings.Fields(line)...)
		}
	}
	if len(rules) == 0 {
		t.Fatal("README has no rules")
	}
	return rules
}

// userArgs are options of redis-server that make the user of the cache.
func userArgs(t *testing.T, more ...string) []string {
	t.Helper()
	return append([]string{"--user", "cache"}, aclRules(t, more...)...)
}

func startSocket(t *testing.T) *topology {
	t.Helper()
	// The name of a socket has to be short.
	dir, err := os.MkdirTemp("", "redis")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "r.sock")
	r := &redisServer{addr: "127.0.0.1:0", client: redis.NewClient(&redis.Options{Network: "unix", Addr: socket, DB: 3, MaxRetries: -1})}
	t.Cleanup(func() { r.client.Close() })
	r.args = append([]string{"--unixsocket", socket}, userArgs(t, "db")...)
	r.start(t)
	return &topology{
		connect: "unix://" + socket + "?db=3" + blockOf("username cache", "password "+aclPassword),
		client:  r.client, servers: []*redisServer{r},
	}
}

// startTLS starts a server that talks to clients with a certificate only, and shows one for another
// name than its address.
func startTLS(t *testing.T) *topology {
	t.Helper()
	certs := newAuthority(t)
	certs.issue(t, "server", "redis.test")
	certs.issue(t, "client", "caddy.test")
	pair, err := tls.LoadX509KeyPair(certs.file("client.pem"), certs.file("client.key"))
	if err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	r := &redisServer{addr: fmt.Sprintf("127.0.0.1:%d", port)}
	r.client = redis.NewClient(&redis.Options{Addr: r.addr, MaxRetries: -1, TLSConfig: &tls.Config{
		RootCAs: certs.pool, ServerName: "redis.test", Certificates: []tls.Certificate{pair},
	}})
	t.Cleanup(func() { r.client.Close() })
	r.args = append([]string{
		"--port", "0", "--tls-port", strconv.Itoa(port), "--tls-auth-clients", "yes",
		"--tls-ca-cert-file", certs.file("ca.pem"), "--tls-cert-file", certs.file("server.pem"), "--tls-key-file", certs.file("server.key"),
	}, userArgs(t)...)
	r.start(t)
	return &topology{
		connect: "rediss://" + r.addr + blockOf("username cache", "password "+aclPassword,
			"tls {", "ca "+certs.file("ca.pem"), "cert "+certs.file("client.pem"), "key "+certs.file("client.key"), "server_name redis.test", "}"),
		client: r.client, servers: []*redisServer{r},
	}
}

// authority issues certificates into a directory.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir(), pool: x509.NewCertPool()}
	a.cert, a.key = a.create(t, "ca", &x509.Certificate{
		Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) issue(t *testing.T, file, name string) {
	t.Helper()
	a.create(t, file, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
}

// create writes a certificate and its key. The first one signs itself.
func (a *authority) create(t *testing.T, file string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		file + ".pem": {Type: "CERTIFICATE", Bytes: der}, file + ".key": {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(a.file(name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// startSentinel starts a master, a replica, and three Sentinels that want a password.
func startSentinel(t *testing.T) *topology {
	t.Helper()
	user := append([]string{"--repl-diskless-sync-delay", "0"}, userArgs(t)...)
	master := startRedis(t, user...)
	replica := startRedis(t, append([]string{"--replicaof", "127.0.0.1 " + master.port()}, user...)...)
	top := &topology{servers: []*redisServer{master, replica}}
	master.awaitReplica(t)
	var addrs []string
	for range 3 {
		port := freePort(t)
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		conf := filepath.Join(t.TempDir(), "sentinel.conf")
		text := fmt.Sprintf("port %d\nbind 127.0.0.1\nrequirepass watch\nsentinel sentinel-pass watch\n"+
			"sentinel monitor main 127.0.0.1 %s 2\nsentinel down-after-milliseconds main 2000\nsentinel failover-timeout main 2000\n",
			port, master.port())
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		startProcess(t, "sentinel", exec.Command("redis-server", conf, "--sentinel"))
		addrs = append(addrs, addr)
	}
	for _, addr := range addrs {
		sentinel := redis.NewSentinelClient(&redis.Options{Addr: addr, Password: "watch", MaxRetries: -1})
		t.Cleanup(func() { sentinel.Close() })
		eventually(t, "the Sentinel knows the others and the replica", func() bool {
			state := sentinel.Master(t.Context(), "main").Val()
			return state["num-other-sentinels"] == "2" && state["num-slaves"] == "1"
		})
	}
	top.client = redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "main", SentinelAddrs: addrs, SentinelPassword: "watch"})
	t.Cleanup(func() { top.client.Close() })
	top.connect = strings.Join(addrs, " ") + blockOf("username cache", "password "+aclPassword, "sentinel main {", "password watch", "}")
	return top
}

func (r *redisServer) port() string {
	_, port, _ := strings.Cut(r.addr, ":")
	return port
}

// awaitReplica waits until a replica follows.
func (r *redisServer) awaitReplica(t *testing.T) {
	t.Helper()
	eventually(t, "a replica follows "+r.addr, func() bool {
		return strings.Contains(r.client.Info(t.Context(), "replication").Val(), "state=online")
	})
}

const clusterMasters = 3

// startCluster starts three masters with a replica each.
func startCluster(t *testing.T) *topology {
	t.Helper()
	user := userArgs(t, "Cluster")
	top := new(topology)
	var buses []int
	for range 2 * clusterMasters {
		buses = append(buses, freePort(t))
		top.servers = append(top.servers, startRedis(t, append([]string{
			"--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(buses[len(buses)-1]), "--cluster-node-timeout", "3000",
			"--cluster-allow-replica-migration", "no", "--repl-diskless-sync-delay", "0", "--dir", t.TempDir(),
		}, user...)...))
	}
	first := top.servers[0]
	var addrs []string
	for i, r := range top.servers {
		addrs = append(addrs, r.addr)
		if i < clusterMasters {
			r.do(t, "CLUSTER", "ADDSLOTSRANGE", i*16384/clusterMasters, (i+1)*16384/clusterMasters-1)
		}
		r.do(t, "CLUSTER", "SET-CONFIG-EPOCH", i+1)
		first.do(t, "CLUSTER", "MEET", "127.0.0.1", r.port(), buses[i])
	}
	for _, r := range top.servers {
		eventually(t, "the node knows the others", func() bool {
			return strings.Contains(r.client.ClusterInfo(t.Context()).Val(), "cluster_known_nodes:6")
		})
	}
	for i, r := range top.servers[clusterMasters:] {
		r.do(t, "CLUSTER", "REPLICATE", top.servers[i].clusterID(t))
	}
	for i, r := range top.servers {
		if i < clusterMasters {
			r.awaitReplica(t)
		}
		eventually(t, "the cluster is up", func() bool {
			return strings.Contains(r.client.ClusterInfo(t.Context()).Val(), "cluster_state:ok")
		})
	}
	top.client = redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs})
	t.Cleanup(func() { top.client.Close() })
	top.connect = strings.Join(addrs[:2], " ") + blockOf("cluster", "username cache", "password "+aclPassword)
	return top
}

func (r *redisServer) clusterID(t *testing.T) string {
	t.Helper()
	id, err := r.client.Do(t.Context(), "CLUSTER", "MYID").Text()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// masterOf returns the server that a key without a lifetime is written to.
func (top *topology) masterOf(t *testing.T, key string) *redisServer {
	t.Helper()
	var master *redisServer
	eventually(t, "somebody is master of "+key, func() bool {
		for _, r := range top.servers {
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond) // it may hang
			err := r.client.Do(ctx, "PERSIST", key).Err()
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

// await waits until a stored response has reached Redis.
func (top *topology) await(t *testing.T, key string) {
	t.Helper()
	eventually(t, "Redis has "+key, func() bool { return top.client.Exists(t.Context(), key).Val() == 1 })
}

// checkDenied looks for what the user of the cache tried and was not allowed.
func (top *topology) checkDenied(t *testing.T) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	for _, r := range top.servers {
		if !r.proc.running() {
			continue
		}
		// A server that changes its role closes connections, this one's among them.
		var log []any
		if !within(patience, func() bool {
			var err error
			log, err = r.client.Do(ctx, "ACL", "LOG").Slice()
			if err != nil && !lost(err) {
				t.Fatal(err)
			}
			return err == nil
		}) {
			t.Fatalf("%s does not answer", r.addr)
		}
		for _, line := range log {
			t.Errorf("not allowed: %s", line)
		}
	}
}
