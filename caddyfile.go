package rediscache

import (
	"encoding/json"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gplus-recycling/caddy-redis-cache/internal/config"
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
	options, err := config.ParseGlobal(d)
	if err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: appID, Value: caddyconfig.JSON(options, nil)}, nil
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
//	    coalesce           on|off
//	    refresh_ahead      on|off
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
//	    encode             zstd [<min size>]|off
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
	policy, err := config.ParsePolicy(&h)
	if err != nil {
		return nil, err
	}
	handler.Policy = *policy
	return handler, nil
}

func declared(h httpcaddyfile.Helper, namespace string) bool {
	if namespace == config.DefaultNamespace {
		return true
	}
	option, ok := h.Option(appID).(httpcaddyfile.App)
	if !ok {
		return false
	}
	var app App
	return json.Unmarshal(option.Value, &app) == nil && app.Namespaces[namespace] != nil
}
