package config

import (
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
)

// ParseGlobal reads the global option.
func ParseGlobal(d *caddyfile.Dispenser) (*Global, error) {
	g := new(Global)
	seen := make(onlyOnce)
	for d.NextBlock(0) {
		option := d.Val()
		if option != "namespace" && option != "on" {
			if err := seen.check(d, option); err != nil {
				return nil, err
			}
		}
		if err := g.parseOption(d, option); err != nil {
			return nil, err
		}
	}
	return g, nil
}

func (g *Global) parseOption(d *caddyfile.Dispenser, option string) error {
	switch option {
	case "redis":
		g.Redis = new(Redis)
		return g.Redis.parse(d)
	case "namespace":
		return g.parseNamespace(d)
	case "on":
		return g.parseOn(d)
	case "circuit_breaker":
		g.CircuitBreaker = new(CircuitBreaker)
		return g.CircuitBreaker.parse(d)
	}
	value, err := oneArg(d)
	if err != nil {
		return err
	}
	switch option {
	case "enabled":
		enabled, err := strconv.ParseBool(value)
		if err != nil {
			return d.Errf("enabled: %q is neither true nor false", value)
		}
		g.Enabled = &enabled
	case "prefix":
		if g.Prefix = value; !prefixFormat.MatchString(value) {
			return d.Errf("prefix %q: only letters, digits, '.', '_' and '-' are allowed", value)
		}
	case "memory":
		if g.Memory = MemoryOff; value != "off" {
			g.Memory, err = parseSize(d, option, value)
		}
	case "secret":
		if g.Secret = value; value == "" {
			return d.Err("secret: an empty one keeps no secret")
		}
	case "collector":
		g.Collector, err = value, oneOf(option, value, onOff)
	case "consistency":
		g.Consistency, err = value, oneOf(option, value, consistencyModes)
	default:
		return d.Errf("unrecognized option of redis_cache: %s", option)
	}
	return wrap(d, err)
}

func (g *Global) parseNamespace(d *caddyfile.Dispenser) error {
	var name string
	if !d.AllArgs(&name) {
		return d.ArgErr()
	}
	if !namespaceFormat.MatchString(name) {
		return d.Errf("namespace %q: a name has lower-case letters, digits, '_' and '-' and begins with a letter or digit", name)
	}
	if g.Namespaces[name] != nil {
		return d.Errf("namespace %s is declared twice", name)
	}
	policy := new(Policy)
	if err := (&parser{d: d, policy: policy, seen: make(onlyOnce)}).parse(); err != nil {
		return err
	}
	if g.Namespaces == nil {
		g.Namespaces = make(map[string]*Policy)
	}
	g.Namespaces[name] = policy
	return nil
}

func (g *Global) parseOn(d *caddyfile.Dispenser) error {
	var event string
	if !d.AllArgs(&event) {
		return d.ArgErr()
	}
	if strings.HasPrefix(event, appID+".") {
		return d.Errf("on %s: events of redis_cache itself cannot purge", event)
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		rule := &EventRule{Soft: d.Val() == string(journal.OpSoftPurge)}
		if !rule.Soft && d.Val() != string(journal.OpPurge) {
			return d.Errf("unrecognized action on an event: %s", d.Val())
		}
		var err error
		if rule.Selectors, err = parseSelectors(d, d.RemainingArgs()); err != nil {
			return err
		}
		for i, value := range rule.Values {
			rule.Values[i] = expandShorthands(value)
		}
		if err := rule.Validate(); err != nil {
			return d.WrapErr(err)
		}
		if g.On == nil {
			g.On = make(map[string][]*EventRule)
		}
		g.On[event] = append(g.On[event], rule)
	}
	if len(g.On[event]) == 0 {
		return d.Errf("on %s: no action", event)
	}
	return nil
}
