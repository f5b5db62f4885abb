package redisconn

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// defaultPort is where Redis is looked for unless somebody says where it is. It is
// a variable so that tests can be built that never meet a Redis which is not theirs.
var defaultPort = "6379"

// Named reports whether the environment speaks of Redis.
func Named() bool {
	return slices.ContainsFunc([]string{"REDIS_URL", "REDIS_HOST", "REDIS_PORT", "REDIS_DB", "REDIS_PASSWORD"},
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
