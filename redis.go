package rediscache

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
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

	// The most connections to keep. Default: ten per CPU.
	PoolSize int `json:"pool_size,omitempty"`
}

const (
	defaultDialTimeout = 500 * time.Millisecond
	defaultIOTimeout   = 50 * time.Millisecond
)

// options resolves placeholders, the environment and defaults. It returns nil
// for `redis off`. It never dials.
func (c *RedisConfig) options() (*redis.Options, error) {
	if c == nil {
		c = new(RedisConfig)
	}
	if c.Off {
		return nil, nil
	}
	repl := caddy.NewReplacer()
	var replaced [3]string
	for i, field := range []string{c.URL, c.Username, c.Password} {
		value, err := repl.ReplaceOrErr(field, true, true)
		if err != nil {
			return nil, err
		}
		replaced[i] = value
	}
	opts, err := connectionOf(replaced[0])
	if err != nil {
		return nil, err
	}
	opts.Username = cmp.Or(replaced[1], opts.Username)
	opts.Password = cmp.Or(replaced[2], opts.Password)
	if c.DB != nil {
		opts.DB = *c.DB
	}
	if opts.DB < 0 {
		return nil, fmt.Errorf("database %d is negative", opts.DB)
	}
	return c.tune(opts)
}

// tune sets what keeps Redis from delaying requests.
func (c *RedisConfig) tune(opts *redis.Options) (*redis.Options, error) {
	if min(c.DialTimeout, c.ReadTimeout, c.WriteTimeout) < 0 {
		return nil, errors.New("a timeout is negative")
	}
	if c.PoolSize < 0 {
		return nil, fmt.Errorf("pool_size %d is negative", c.PoolSize)
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
	return opts, nil
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
			cmp.Or(os.Getenv("REDIS_PORT"), "6379"),
		),
		Password: os.Getenv("REDIS_PASSWORD"),
	}
	if port := os.Getenv("REDIS_PORT"); port != "" {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return nil, fmt.Errorf("environment variable REDIS_PORT: %q is not a port", port)
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

// parseRedisURL never shows the URL in an error: it may hold a password.
func parseRedisURL(rawURL string) (*redis.Options, error) {
	if !strings.Contains(rawURL, "://") {
		host, port, err := net.SplitHostPort(rawURL)
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
	return opts, nil
}

// poolKey identifies the connection: configurations with the same key share one
// node.
func poolKey(opts *redis.Options, prefix string, memory int64) string {
	if opts == nil {
		return "off " + prefix
	}
	password := sha256.Sum256([]byte(opts.Password))
	return fmt.Sprintf("%s %s %d %q %x tls=%t %s %s %s %d memory=%t %s", opts.Network, opts.Addr, opts.DB, opts.Username,
		password, opts.TLSConfig != nil, opts.DialTimeout, opts.ReadTimeout, opts.WriteTimeout, opts.PoolSize, memory != memoryOff, prefix)
}
