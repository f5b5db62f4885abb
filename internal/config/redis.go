package config

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/gplus-recycling/caddy-redis-cache/internal/redisconn"
)

// Redis says where Redis is. Placeholders such as {env.X} and {file.X}
// are accepted in every text field and are replaced when the configuration is
// loaded, so that secrets stay out of it.
type Redis struct {
	// Whether to do without Redis: one node, memory only. Default: false.
	Off bool `json:"off,omitempty"`

	redisconn.Config

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

// Resolve replaces placeholders, reads files and the environment and applies the
// defaults. It returns nil for `redis off`. It never dials.
func (c *Redis) Resolve() (*redisconn.Connection, error) {
	if c == nil {
		c = new(Redis)
	}
	if c.Off {
		return nil, nil
	}
	texts, own := c.Texts()
	repl := caddy.NewReplacer()
	for _, text := range texts {
		value, err := repl.ReplaceOrErr(*text, true, true)
		if err != nil {
			return nil, err
		}
		*text = value
	}
	return redisconn.Resolve(own, redisconn.Limits{
		Dial: time.Duration(c.DialTimeout), Read: time.Duration(c.ReadTimeout), Write: time.Duration(c.WriteTimeout), PoolSize: c.PoolSize,
	})
}

// Named reports whether configuration or environment speak of Redis at all.
func (c *Redis) Named() bool { return c != nil || redisconn.Named() }

func (c *Redis) parse(d *caddyfile.Dispenser) error {
	switch args := d.RemainingArgs(); {
	case slices.Equal(args, []string{"off"}):
		c.Off = true
	case len(args) == 1:
		c.URL = args[0]
	default:
		c.Addresses = args
	}
	seen := make(onlyOnce)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if err := seen.check(d, option); err != nil {
			return err
		}
		if c.Off {
			return d.Err("redis off takes no block")
		}
		if err := c.parseOption(d, option); err != nil {
			return err
		}
	}
	if err := c.Validate(); err != nil {
		return d.WrapErr(err)
	}
	// Addresses with placeholders are checked when they have been replaced.
	given := strings.Join(append(c.Addresses, c.URL), "")
	if given == "" || c.Off || strings.Contains(given, "{") {
		return nil
	}
	if err := c.CheckAddresses(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func (c *Redis) parseOption(d *caddyfile.Dispenser, option string) (err error) {
	switch option {
	case "cluster":
		c.Cluster = true
		return noArgs(d)
	case "sentinel":
		c.Sentinel = new(redisconn.Sentinel)
		return parseSentinel(d, c.Sentinel)
	case "tls":
		c.TLS = new(redisconn.TLS)
		return cmp.Or(noArgs(d), parseTexts(d, option, map[string]*string{
			"ca": &c.TLS.CA, "cert": &c.TLS.Cert, "key": &c.TLS.Key, "server_name": &c.TLS.ServerName,
		}))
	}
	value, err := oneArg(d)
	if err != nil {
		return err
	}
	switch option {
	case "username":
		c.Username = value
	case "password":
		c.Password = value
	case "db":
		db, err := parseNumber(d, option, value)
		c.DB = &db
		return err
	case "dial_timeout":
		c.DialTimeout, err = parseTimeout(d, option, value)
	case "read_timeout":
		c.ReadTimeout, err = parseTimeout(d, option, value)
	case "write_timeout":
		c.WriteTimeout, err = parseTimeout(d, option, value)
	case "pool_size":
		if c.PoolSize, err = parseNumber(d, option, value); err == nil && c.PoolSize == 0 {
			err = d.Err("pool_size: want a number above 0")
		}
	default:
		err = d.Errf("unrecognized option of redis: %s", option)
	}
	return err
}

func parseTimeout(d *caddyfile.Dispenser, option, value string) (caddy.Duration, error) {
	timeout, err := parseDuration(d, option, value)
	if err == nil && timeout == 0 {
		err = d.Errf("%s: want a duration above 0", option)
	}
	return timeout, err
}

func parseSentinel(d *caddyfile.Dispenser, s *redisconn.Sentinel) error {
	if !d.AllArgs(&s.Master) {
		return d.Err("sentinel needs the name of the master, and nothing else")
	}
	return parseTexts(d, "sentinel", map[string]*string{"username": &s.Username, "password": &s.Password})
}

// parseTexts reads a block of options that take one text each.
func parseTexts(d *caddyfile.Dispenser, of string, texts map[string]*string) error {
	seen := make(onlyOnce)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if err := seen.check(d, option); err != nil {
			return err
		}
		text := texts[option]
		if text == nil {
			return d.Errf("unrecognized option of %s: %s", of, option)
		}
		if !d.AllArgs(text) {
			return d.ArgErr()
		}
	}
	return nil
}
