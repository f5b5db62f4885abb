package rediscache

import (
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

func (c *RedisConfig) parse(d *caddyfile.Dispenser) error {
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
	if err := c.validate(); err != nil {
		return d.WrapErr(err)
	}
	// Addresses with placeholders are checked when they have been replaced.
	given := strings.Join(append(c.Addresses, c.URL), "")
	if given == "" || c.Off || strings.Contains(given, "{") {
		return nil
	}
	if _, err := c.connect(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func (c *RedisConfig) parseOption(d *caddyfile.Dispenser, option string) (err error) {
	switch option {
	case "cluster":
		if d.NextArg() {
			return d.ArgErr()
		}
		c.Cluster = true
		return nil
	case "sentinel":
		c.Sentinel = new(RedisSentinel)
		return c.Sentinel.parse(d)
	case "tls":
		c.TLS = new(RedisTLS)
		return c.TLS.parse(d)
	}
	var value string
	if !d.AllArgs(&value) {
		return d.ArgErr()
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
		return d.Errf("unrecognized option of redis: %s", option)
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

func (s *RedisSentinel) parse(d *caddyfile.Dispenser) error {
	if !d.AllArgs(&s.Master) {
		return d.Err("sentinel needs the name of the master, and nothing else")
	}
	return parseTexts(d, "sentinel", map[string]*string{"username": &s.Username, "password": &s.Password})
}

func (t *RedisTLS) parse(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.ArgErr()
	}
	return parseTexts(d, "tls", map[string]*string{"ca": &t.CA, "cert": &t.Cert, "key": &t.Key, "server_name": &t.ServerName})
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
