package redisconn

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Connection is a resolved Config.
type Connection struct {
	redis.Options                   // of each server
	addrs         []string          // of the server, of seeds or of Sentinels
	cluster       bool              // Redis Cluster
	sentinel      Sentinel          // without a master: none
	identity      [sha256.Size]byte // of secrets and certificates
}

// Resolve reads files and the environment and applies the defaults. Each step takes what
// the one before has found: addresses, credentials, encryption, limits.
func Resolve(c *Config, limits Limits) (*Connection, error) {
	if err := c.Validate(); err != nil {
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
	return conn, limits.tune(&conn.Options)
}

// CheckAddresses reports what Resolve would say of the addresses.
func (c *Config) CheckAddresses() error {
	_, err := c.connect()
	return err
}

// Replicated reports whether replicas may take over.
func (c *Connection) Replicated() bool { return c.cluster || c.sentinel.Master != "" }

// Secrets are what no message may show.
func (c *Connection) Secrets() []string { return []string{c.Password, c.sentinel.Password} }

// Data names the data that the connection leads to, whoever asks for them and however.
func (c *Connection) Data() string { return fmt.Sprintf("%q %d %q", c.addrs, c.DB, c.sentinel.Master) }

// Key identifies the connection, without its secrets: two with one key are the same.
func (c *Connection) Key() string {
	return fmt.Sprintf("%s %q %d %q cluster=%t %q %q %x tls=%t %s %s %s %d", c.Network, c.addrs, c.DB, c.Username,
		c.cluster, c.sentinel.Master, c.sentinel.Username, c.identity, c.TLSConfig != nil,
		c.DialTimeout, c.ReadTimeout, c.WriteTimeout, c.PoolSize)
}

// Waiting is the same connection for a client that waits for answers as long as it is told.
func (c *Connection) Waiting(timeout time.Duration) *Connection {
	own := new(*c)
	own.ReadTimeout, own.WriteTimeout = timeout, timeout
	return own
}

// Client returns a client that reads from and writes to masters only: a replica
// may lack a purge. It does not dial.
func (c *Connection) Client() redis.UniversalClient {
	if !c.Replicated() {
		own := c.Options
		own.Dialer = quiet(&own)
		return redis.NewClient(&own)
	}
	all := redis.UniversalOptions{
		Dialer: quiet(&c.Options), Addrs: c.addrs, MasterName: c.sentinel.Master, SentinelUsername: c.sentinel.Username, SentinelPassword: c.sentinel.Password,
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

// connect resolves the addresses.
func (c *Config) connect() (*Connection, error) {
	addresses := c.Addresses
	if len(addresses) == 0 {
		addresses = []string{c.URL}
	}
	first, err := connectionOf(addresses[0])
	if err != nil {
		return nil, err
	}
	conn := &Connection{Options: *first, addrs: []string{first.Addr}, cluster: c.Cluster}
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
	case conn.Replicated() && first.Network == "unix":
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
func (c *Config) secure(conn *Connection, secrets io.Writer) error {
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
func (l *Limits) tune(opts *redis.Options) error {
	if min(l.Dial, l.Read, l.Write) < 0 {
		return errors.New("a timeout is negative")
	}
	if l.PoolSize < 0 || l.PoolSize > maxPoolSize {
		return fmt.Errorf("pool_size %d is not between 1 and %d", l.PoolSize, maxPoolSize)
	}
	opts.DialTimeout = cmp.Or(l.Dial, opts.DialTimeout, defaultDialTimeout)
	opts.ReadTimeout = cmp.Or(l.Read, opts.ReadTimeout, defaultIOTimeout)
	opts.WriteTimeout = cmp.Or(l.Write, opts.WriteTimeout, defaultIOTimeout)
	opts.PoolSize = cmp.Or(l.PoolSize, opts.PoolSize)
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
