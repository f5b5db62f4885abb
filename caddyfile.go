package rediscache

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
)

func init() {
	httpcaddyfile.RegisterGlobalOption(appID, parseGlobalOption)
	httpcaddyfile.RegisterHandlerDirective(appID, parseDirective)
	// Behind authentication, so that a hit is not answered without it, and inside
	// encode, so that stored bodies are not compressed for one client.
	httpcaddyfile.RegisterDirectiveOrder(appID, httpcaddyfile.After, "encode")
}

// parseGlobalOption parses the global option:
//
//	redis_cache {
//	    enabled   true|false
//	    prefix    <prefix>
//	    redis     <url>|off
//	    redis     [<url>...] {
//	        username      <name>
//	        password      <password>
//	        db            <number>
//	        cluster
//	        sentinel      <master> {
//	            username <name>
//	            password <password>
//	        }
//	        tls {
//	            ca          <file>
//	            cert        <file>
//	            key         <file>
//	            server_name <name>
//	        }
//	        dial_timeout  <duration>
//	        read_timeout  <duration>
//	        write_timeout <duration>
//	        pool_size     <number>
//	    }
//	    memory    <size>|off
//	    collector on|off
//	    secret    <secret>
//	    consistency available|strict
//	    circuit_breaker {
//	        failures <number>
//	        recovery <duration>
//	    }
//	    on <event> {
//	        purge      <selector> [<template>...]
//	        soft_purge <selector> [<template>...]
//	    }
//	    namespace <name> {
//	        <policy option>...
//	    }
//	}
//
// Policy options are those of the directive, without matchers.
func parseGlobalOption(d *caddyfile.Dispenser, existing any) (any, error) {
	d.Next()
	if existing != nil {
		return nil, d.Err("the global option redis_cache is set twice")
	}
	if d.NextArg() {
		return nil, d.ArgErr()
	}
	app := new(App)
	seen := make(onlyOnce)
	for d.NextBlock(0) {
		option := d.Val()
		if option != "namespace" && option != "on" {
			if err := seen.check(d, option); err != nil {
				return nil, err
			}
		}
		if err := app.parseOption(d, option); err != nil {
			return nil, err
		}
	}
	return httpcaddyfile.App{Name: appID, Value: caddyconfig.JSON(app, nil)}, nil
}

func (a *App) parseOption(d *caddyfile.Dispenser, option string) error {
	switch option {
	case "redis":
		a.Redis = new(RedisConfig)
		return a.Redis.parse(d)
	case "namespace":
		return a.parseNamespace(d)
	case "on":
		return a.parseOn(d)
	case "circuit_breaker":
		a.CircuitBreaker = new(CircuitBreaker)
		return a.CircuitBreaker.parse(d)
	}
	var value string
	if !d.AllArgs(&value) {
		return d.ArgErr()
	}
	switch option {
	case "enabled":
		enabled, err := strconv.ParseBool(value)
		if err != nil {
			return d.Errf("enabled: %q is neither true nor false", value)
		}
		a.Enabled = &enabled
	case "prefix":
		if !prefixFormat.MatchString(value) {
			return d.Errf("prefix %q: only letters, digits, '.', '_' and '-' are allowed", value)
		}
		a.Prefix = value
	case "memory":
		if value == "off" {
			a.Memory = memoryOff
			return nil
		}
		size, err := parseSize(d, option, value)
		a.Memory = size
		return err
	case "secret":
		if a.Secret = value; value == "" {
			return d.Err("secret: an empty one keeps no secret")
		}
	case "collector":
		a.Collector = value
		if err := oneOf(option, value, onOff); err != nil {
			return d.WrapErr(err)
		}
	case "consistency":
		a.Consistency = value
		if err := oneOf(option, value, consistencyModes); err != nil {
			return d.WrapErr(err)
		}
	default:
		return d.Errf("unrecognized option of redis_cache: %s", option)
	}
	return nil
}

func (a *App) parseNamespace(d *caddyfile.Dispenser) error {
	var name string
	if !d.AllArgs(&name) {
		return d.ArgErr()
	}
	if !namespaceFormat.MatchString(name) {
		return d.Errf("namespace %q: a name has lower-case letters, digits, '_' and '-' and begins with a letter or digit", name)
	}
	if a.Namespaces[name] != nil {
		return d.Errf("namespace %s is declared twice", name)
	}
	policy := new(Policy)
	o := policyParser{d: d, policy: policy, seen: make(onlyOnce)}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := o.parse(); err != nil {
			return err
		}
	}
	if a.Namespaces == nil {
		a.Namespaces = make(map[string]*Policy)
	}
	a.Namespaces[name] = policy
	return nil
}

func (a *App) parseOn(d *caddyfile.Dispenser) error {
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
		if err := rule.validate(); err != nil {
			return d.WrapErr(err)
		}
		if a.On == nil {
			a.On = make(map[string][]*EventRule)
		}
		a.On[event] = append(a.On[event], rule)
	}
	if len(a.On[event]) == 0 {
		return d.Errf("on %s: no action", event)
	}
	return nil
}

// parseSelectors reads `<selector> [<template>...]`.
func parseSelectors(d *caddyfile.Dispenser, args []string) (s Selectors, err error) {
	if len(args) == 0 {
		return s, d.ArgErr()
	}
	s = Selectors{Selector: args[0], Values: args[1:]}
	if err := s.validate(); err != nil {
		return s, d.WrapErr(err)
	}
	return s, nil
}

// expandShorthands expands placeholder shorthands, which Caddy does for site
// blocks only.
func expandShorthands(text string) string {
	segment := caddyfile.Segment{{Text: text}}
	httpcaddyfile.NewShorthandReplacer().ApplyToSegment(&segment)
	return segment[0].Text
}

// parseDirective parses the directive:
//
//	redis_cache [<matcher>] [<namespace>] {
//	    ttl                <duration> [override]
//	    ttl <matcher>      <duration> [override]
//	    ttl status         <code|class>... <duration> [override]
//	    jitter             <percent>
//	    key                <template> [exact]
//	    vary_query         all|none|<name>...|except <name|glob|tracking>...
//	    vary_header        <name>...
//	    vary_cookie        <name>...
//	    by_user            <template>
//	    shared
//	    ignore_cookies     <name|glob>...
//	    credential_headers [-]<name>...
//	    bypass             <matcher>
//	    no_store status    <code|class>...
//	    no_store header    <field> [<value>]
//	    methods            <name>...
//	    max_body           <size>
//	    diagnostics        full|minimal|off [<matcher>]
//	    set_cookie         refuse|strip|store
//	    stale_while_revalidate <duration>
//	    stale_if_error     <duration>
//	    heuristic          <percent> <max>
//	    targets            <field>...
//	    client_cache_control ignore|honor
//	    unsafe_invalidates on|off
//	    vary_body          [<max size>]
//	    tag                <template>...
//	    tag_header         <name>... [keep]
//	    invalidate         [<matcher>] <selector> [<template>...]
//	}
func parseDirective(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	h.Next()
	handler := new(Handler)
	switch args := h.RemainingArgs(); len(args) {
	case 0:
	case 1:
		handler.Namespace = args[0]
		if !declared(h, args[0]) {
			return nil, h.Errf("namespace %q is not declared in the global option redis_cache", args[0])
		}
	default:
		return nil, h.ArgErr()
	}
	o := policyParser{d: h.Dispenser, helper: &h, policy: &handler.Policy, seen: make(onlyOnce)}
	for h.NextBlock(0) {
		if err := o.parse(); err != nil {
			return nil, err
		}
	}
	return handler, nil
}

func declared(h httpcaddyfile.Helper, namespace string) bool {
	if namespace == defaultNamespace {
		return true
	}
	option, ok := h.Option(appID).(httpcaddyfile.App)
	if !ok {
		return false
	}
	var app App
	return json.Unmarshal(option.Value, &app) == nil && app.Namespaces[namespace] != nil
}

// onlyOnce finds options that are set twice in one block.
type onlyOnce map[string]bool

func (seen onlyOnce) check(d *caddyfile.Dispenser, option string) error {
	if seen[option] {
		return d.Errf("%s is set twice", option)
	}
	seen[option] = true
	return nil
}

func parseSize(d *caddyfile.Dispenser, option, value string) (int64, error) {
	size, err := humanize.ParseBytes(value)
	if err != nil || size == 0 || size > 1<<62 {
		return 0, d.Errf("%s: %q is not a size such as 8MiB", option, value)
	}
	return int64(size), nil
}

func parseDuration(d *caddyfile.Dispenser, option, value string) (caddy.Duration, error) {
	duration, err := caddy.ParseDuration(value)
	if err != nil || duration < 0 {
		return 0, d.Errf("%s: %q is not a duration such as 5m or 1d", option, value)
	}
	return caddy.Duration(duration), nil
}

func parseNumber(d *caddyfile.Dispenser, option, value string) (int, error) {
	n, err := strconv.Atoi(value)
	if err != nil || n < 0 {
		return 0, d.Errf("%s: %q is not a number", option, value)
	}
	return n, nil
}
