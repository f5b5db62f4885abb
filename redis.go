package rediscache

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/caddyserver/caddy/v2"
)

// RedisConfig says where Redis is. Placeholders such as {env.X} and {file.X}
// are accepted in every text field and are replaced when the configuration is
// loaded, so that secrets stay out of it.
type RedisConfig struct {
	// Whether to do without Redis: one node, memory only. Default: false.
	Off bool `json:"off,omitempty"`

	// A URL: `redis://[[user]:password@]host[:port][/db]`, `rediss://` for TLS,
	// `unix://[user:password@]/path/to.sock[?db=0]`; or host:port.
	// Default: the environment variable REDIS_URL, else REDIS_HOST, REDIS_PORT,
	// REDIS_DB and REDIS_PASSWORD, else redis://localhost:6379/0.
	URL string `json:"url,omitempty"`

	// Several addresses, in place of `url`: seeds of a Cluster, or Sentinels. What
	// the first URL says holds for all; further ones need only host:port.
	Addresses []string `json:"addresses,omitempty"`

	// Whether it is a Redis Cluster. Default: false.
	Cluster bool `json:"cluster,omitempty"`

	// Set if the addresses are those of Sentinels, which know the master.
	Sentinel *RedisSentinel `json:"sentinel,omitempty"`

	// Encrypts connections, as `rediss://` does. Default: the system's authorities
	// and no client certificate.
	TLS *RedisTLS `json:"tls,omitempty"`

	// The user name; beats that of the URL.
	Username string `json:"username,omitempty"`

	// The password; beats that of the URL.
	Password string `json:"password,omitempty"`

	// The database number; beats that of the URL.
	DB *int `json:"db,omitempty"`

	// How long to wait for a new connection. Default: 500ms. No request waits
	// for it.
	DialTimeout caddy.Duration `json:"dial_timeout,omitempty"`

	// How long a request waits for an answer of Redis. Default: 50ms.
	ReadTimeout caddy.Duration `json:"read_timeout,omitempty"`

	// How long a write to Redis may take. Default: 50ms.
	WriteTimeout caddy.Duration `json:"write_timeout,omitempty"`

	// The most connections to keep, up to 10,000. Default: ten per CPU.
	PoolSize int `json:"pool_size,omitempty"`
}

// RedisSentinel says how Sentinels are asked.
type RedisSentinel struct {
	// The name under which they watch the master.
	Master string `json:"master"`

	// The user name for the Sentinels themselves. Default: none.
	Username string `json:"username,omitempty"`

	// The password for the Sentinels themselves. Default: none.
	Password string `json:"password,omitempty"`
}

// RedisTLS says how connections are encrypted. The files are read when the
// configuration is loaded.
type RedisTLS struct {
	// A PEM file with the authorities that are trusted. Default: the system's.
	CA string `json:"ca,omitempty"`

	// A PEM file with the certificate by which Redis knows this client, and one
	// with its private key. Default: none.
	Cert string `json:"cert,omitempty"`
	Key  string `json:"key,omitempty"`

	// The name that the certificate of Redis must have. Default: the host of its
	// address.
	ServerName string `json:"server_name,omitempty"`
}

const (
	defaultDialTimeout = 500 * time.Millisecond
	defaultIOTimeout   = 50 * time.Millisecond
	maxPoolSize        = 10_000
)

// connection is a resolved RedisConfig.
type connection struct {
	redis.Options                   // of each server
	addrs         []string          // of the server, of seeds or of Sentinels
	cluster       bool              // Redis Cluster
	sentinel      RedisSentinel     // without a master: none
	identity      [sha256.Size]byte // of secrets and certificates
}

// replicated reports whether replicas may take over.
func (c *connection) replicated() bool { return c.cluster || c.sentinel.Master != "" }

// client returns a client that reads from and writes to masters only: a replica
// may lack a purge. It does not dial.
func (c *connection) client() redis.UniversalClient {
	if !c.replicated() {
		own := c.Options
		return redis.NewClient(&own)
	}
	all := redis.UniversalOptions{
		Addrs: c.addrs, MasterName: c.sentinel.Master, SentinelUsername: c.sentinel.Username, SentinelPassword: c.sentinel.Password,
		ClientName: c.ClientName, Protocol: c.Protocol, Username: c.Username, Password: c.Password, DB: c.DB, TLSConfig: c.TLSConfig,
		DialTimeout: c.DialTimeout, DialerRetries: c.DialerRetries, ReadTimeout: c.ReadTimeout, WriteTimeout: c.WriteTimeout,
		ContextTimeoutEnabled: c.ContextTimeoutEnabled, MaxRetries: c.MaxRetries, PoolFIFO: c.PoolFIFO, PoolSize: c.PoolSize,
		PoolTimeout: c.PoolTimeout, MaxIdleConns: c.MaxIdleConns, MaxActiveConns: c.MaxActiveConns, ConnMaxIdleTime: c.ConnMaxIdleTime,
		ConnMaxLifetime: c.ConnMaxLifetime, DisableIdentity: c.DisableIdentity, MaintNotificationsConfig: c.MaintNotificationsConfig,
	}
	if c.cluster {
		opts := all.Cluster()
		opts.DisableRoutingPolicies = true // each command has one key; nobody need ask what commands there are
		return redis.NewClusterClient(opts)
	}
	return redis.NewFailoverClient(all.Failover())
}

// options resolves placeholders, files, the environment and defaults. It returns
// nil for `redis off`. It never dials.
func (c *RedisConfig) options() (*connection, error) {
	if c == nil {
		c = new(RedisConfig)
	}
	if c.Off {
		return nil, nil
	}
	c, err := c.replaced()
	if err != nil {
		return nil, err
	}
	if err := c.validate(); err != nil {
		return nil, err
	}
	conn, err := c.connect()
	if err != nil {
		return nil, err
	}
	conn.Username = cmp.Or(c.Username, conn.Username)
	conn.Password = cmp.Or(c.Password, conn.Password)
	if c.DB != nil {
		conn.DB = *c.DB
	}
	if conn.DB < 0 {
		return nil, fmt.Errorf("database %d is negative", conn.DB)
	}
	secrets := sha256.New()
	if err := c.secure(conn, secrets); err != nil {
		return nil, err
	}
	fmt.Fprintf(secrets, "%q %q", conn.Password, conn.sentinel.Password)
	secrets.Sum(conn.identity[:0])
	return conn, c.tune(&conn.Options)
}

// replaced returns the configuration without placeholders.
func (c *RedisConfig) replaced() (*RedisConfig, error) {
	r := *c
	r.Addresses = slices.Clone(c.Addresses)
	fields := []*string{&r.URL, &r.Username, &r.Password}
	for i := range r.Addresses {
		fields = append(fields, &r.Addresses[i])
	}
	if c.Sentinel != nil {
		sentinel := *c.Sentinel
		r.Sentinel = &sentinel
		fields = append(fields, &sentinel.Master, &sentinel.Username, &sentinel.Password)
	}
	if c.TLS != nil {
		files := *c.TLS
		r.TLS = &files
		fields = append(fields, &files.CA, &files.Cert, &files.Key, &files.ServerName)
	}
	repl := caddy.NewReplacer()
	for _, field := range fields {
		value, err := repl.ReplaceOrErr(*field, true, true)
		if err != nil {
			return nil, err
		}
		*field = value
	}
	return &r, nil
}

// validate finds what cannot be meant, whatever placeholders stand for.
func (c *RedisConfig) validate() error {
	switch {
	case c.URL != "" && len(c.Addresses) > 0:
		return errors.New("url and addresses exclude each other")
	case c.Cluster && c.Sentinel != nil:
		return errors.New("cluster and sentinel exclude each other")
	case c.Cluster && c.DB != nil && *c.DB != 0:
		return errors.New("a cluster has only database 0")
	case len(c.Addresses) > 1 && !c.Cluster && c.Sentinel == nil:
		return errors.New("several addresses need cluster or sentinel")
	case c.Sentinel != nil && c.Sentinel.Master == "":
		return errors.New("sentinel needs the name of the master")
	case c.TLS != nil && (c.TLS.Cert == "") != (c.TLS.Key == ""):
		return errors.New("tls: cert and key need each other")
	}
	return nil
}

// connect resolves the addresses.
func (c *RedisConfig) connect() (*connection, error) {
	addresses := c.Addresses
	if len(addresses) == 0 {
		addresses = []string{c.URL}
	}
	first, err := connectionOf(addresses[0])
	if err != nil {
		return nil, err
	}
	conn := &connection{Options: *first, addrs: []string{first.Addr}, cluster: c.Cluster}
	if c.Sentinel != nil {
		conn.sentinel = *c.Sentinel
	}
	for _, address := range addresses[1:] {
		next, err := parseRedisURL(address)
		if err != nil {
			return nil, err
		}
		if strings.Contains(address, "://") && !sameBut(first, next) {
			return nil, errors.New("the addresses differ in more than host and port")
		}
		conn.addrs = append(conn.addrs, next.Addr)
	}
	switch {
	case conn.replicated() && first.Network == "unix":
		return nil, errors.New("a Unix socket leads to one server, not to a cluster or to Sentinels")
	case conn.cluster && first.DB != 0:
		return nil, errors.New("a cluster has only database 0")
	}
	return conn, nil
}

// sameBut reports whether two URLs differ in nothing but host and port.
func sameBut(a, b *redis.Options) bool {
	return a.Network == b.Network && a.Username == b.Username && a.Password == b.Password && a.DB == b.DB &&
		(a.TLSConfig == nil) == (b.TLSConfig == nil)
}

// secure sets the TLS configuration. What it reads goes into secrets, too: other
// files mean another connection.
func (c *RedisConfig) secure(conn *connection, secrets io.Writer) error {
	if conn.TLSConfig == nil && c.TLS == nil {
		return nil
	}
	if conn.TLSConfig == nil {
		conn.TLSConfig = new(tls.Config)
	}
	config := conn.TLSConfig
	config.MinVersion = tls.VersionTLS12
	config.ServerName = "" // the host of each address
	fmt.Fprintf(secrets, "tls %t ", config.InsecureSkipVerify)
	if c.TLS == nil {
		return nil
	}
	config.ServerName = c.TLS.ServerName
	fmt.Fprintf(secrets, "%q ", config.ServerName)
	var content [3][]byte
	for i, file := range []string{c.TLS.CA, c.TLS.Cert, c.TLS.Key} {
		if file == "" {
			continue
		}
		var err error
		if content[i], err = os.ReadFile(file); err != nil {
			return fmt.Errorf("tls: %w", err)
		}
		fmt.Fprintf(secrets, "%d %q ", i, content[i])
	}
	if c.TLS.CA != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(content[0]) {
			return fmt.Errorf("tls: %s holds no certificate", c.TLS.CA)
		}
	}
	if c.TLS.Cert != "" {
		pair, err := tls.X509KeyPair(content[1], content[2])
		if err != nil {
			return fmt.Errorf("tls: cert and key: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return nil
}

// tune sets what keeps Redis from delaying requests.
func (c *RedisConfig) tune(opts *redis.Options) error {
	if min(c.DialTimeout, c.ReadTimeout, c.WriteTimeout) < 0 {
		return errors.New("a timeout is negative")
	}
	if c.PoolSize < 0 || c.PoolSize > maxPoolSize {
		return fmt.Errorf("pool_size %d is not between 1 and %d", c.PoolSize, maxPoolSize)
	}
	opts.DialTimeout = cmp.Or(time.Duration(c.DialTimeout), opts.DialTimeout, defaultDialTimeout)
	opts.ReadTimeout = cmp.Or(time.Duration(c.ReadTimeout), opts.ReadTimeout, defaultIOTimeout)
	opts.WriteTimeout = cmp.Or(time.Duration(c.WriteTimeout), opts.WriteTimeout, defaultIOTimeout)
	opts.PoolSize = cmp.Or(c.PoolSize, opts.PoolSize)
	// The client honours the deadline of a context only when told to, and
	// retries would multiply it.
	opts.ContextTimeoutEnabled = true
	opts.MaxRetries = -1
	opts.MinIdleConns = 0 // nothing is dialled before the start
	opts.DialerRetries = 1
	opts.DisableIdentity = true
	opts.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return nil
}

// defaultPort is where Redis is looked for unless somebody says where it is. It is
// a variable so that tests can be built that never meet a Redis which is not theirs.
var defaultPort = "6379"

// named reports whether configuration or environment speak of Redis at all.
func (c *RedisConfig) named() bool {
	return c != nil || slices.ContainsFunc([]string{"REDIS_URL", "REDIS_HOST", "REDIS_PORT", "REDIS_DB", "REDIS_PASSWORD"},
		func(name string) bool { return os.Getenv(name) != "" })
}

// connectionOf parses the URL, or reads the environment when there is none.
func connectionOf(rawURL string) (*redis.Options, error) {
	if rawURL != "" {
		return parseRedisURL(rawURL)
	}
	if fromEnv := os.Getenv("REDIS_URL"); fromEnv != "" {
		opts, err := parseRedisURL(fromEnv)
		if err != nil {
			return nil, fmt.Errorf("environment variable REDIS_URL: %w", err)
		}
		return opts, nil
	}
	opts := &redis.Options{
		Addr: net.JoinHostPort(
			cmp.Or(os.Getenv("REDIS_HOST"), "localhost"),
			cmp.Or(os.Getenv("REDIS_PORT"), defaultPort),
		),
		Password: os.Getenv("REDIS_PASSWORD"),
	}
	if port := os.Getenv("REDIS_PORT"); port != "" {
		if err := checkPort(port); err != nil {
			return nil, fmt.Errorf("environment variable REDIS_PORT: %w", err)
		}
	}
	if db := os.Getenv("REDIS_DB"); db != "" {
		n, err := strconv.Atoi(db)
		if err != nil {
			return nil, fmt.Errorf("environment variable REDIS_DB: %q is not a number", db)
		}
		opts.DB = n
	}
	return opts, nil
}

func checkPort(port string) error {
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q is not a port", port)
	}
	return nil
}

// parseRedisURL never shows the URL in an error: it may hold a password.
func parseRedisURL(rawURL string) (*redis.Options, error) {
	if !strings.Contains(rawURL, "://") {
		host, port, err := net.SplitHostPort(rawURL)
		if err == nil {
			err = checkPort(port)
		}
		if err != nil {
			return nil, fmt.Errorf("the address of Redis is neither a URL nor host:port: %w", err)
		}
		return &redis.Options{Addr: net.JoinHostPort(host, port)}, nil
	}
	opts, err := redis.ParseURL(rawURL)
	if err != nil {
		scheme, _, _ := strings.Cut(rawURL, "://")
		switch scheme {
		case "redis", "rediss", "unix":
			return nil, fmt.Errorf("the %s:// URL of Redis is malformed", scheme)
		}
		return nil, fmt.Errorf("%q is not a URL scheme of Redis: want redis, rediss or unix", scheme)
	}
	if _, port, err := net.SplitHostPort(opts.Addr); err == nil && opts.Network != "unix" {
		if err := checkPort(port); err != nil {
			return nil, fmt.Errorf("the URL of Redis: %w", err)
		}
	}
	return opts, nil
}

// poolKey identifies the connection: configurations with the same key share one
// node.
func poolKey(conn *connection, prefix string, memory int64) string {
	if conn == nil {
		return "off " + prefix
	}
	return fmt.Sprintf("%s %q %d %q cluster=%t %q %q %x tls=%t %s %s %s %d memory=%t %s", conn.Network, conn.addrs, conn.DB, conn.Username,
		conn.cluster, conn.sentinel.Master, conn.sentinel.Username, conn.identity, conn.TLSConfig != nil,
		conn.DialTimeout, conn.ReadTimeout, conn.WriteTimeout, conn.PoolSize, memory != memoryOff, prefix)
}
