package rediscache

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
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
//	    redis     [<url>] {
//	        username      <name>
//	        password      <password>
//	        db            <number>
//	        dial_timeout  <duration>
//	        read_timeout  <duration>
//	        write_timeout <duration>
//	        pool_size     <number>
//	    }
//	    memory    <size>|off
//	    secret    <secret>
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
		if option != "namespace" {
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
		a.Secret = value
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

func (c *RedisConfig) parse(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	switch len(args) {
	case 0:
	case 1:
		if args[0] == "off" {
			c.Off = true
		} else {
			c.URL = args[0]
		}
	default:
		return d.Err("redis: several addresses are not supported")
	}
	// A URL with placeholders is checked when they have been replaced.
	if c.URL != "" && !strings.Contains(c.URL, "{") {
		if _, err := parseRedisURL(c.URL); err != nil {
			return d.WrapErr(err)
		}
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
		var value string
		if !d.AllArgs(&value) {
			return d.ArgErr()
		}
		if err := c.parseOption(d, option, value); err != nil {
			return err
		}
	}
	return nil
}

func (c *RedisConfig) parseOption(d *caddyfile.Dispenser, option, value string) (err error) {
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
		c.DialTimeout, err = parseDuration(d, option, value)
	case "read_timeout":
		c.ReadTimeout, err = parseDuration(d, option, value)
	case "write_timeout":
		c.WriteTimeout, err = parseDuration(d, option, value)
	case "pool_size":
		c.PoolSize, err = parseNumber(d, option, value)
	default:
		return d.Errf("unrecognized option of redis: %s", option)
	}
	return err
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
//	    bypass             <matcher>
//	    no_store status    <code|class>...
//	    no_store header    <field> [<value>]
//	    methods            <name>...
//	    max_body           <size>
//	    diagnostics        full|minimal|off [<matcher>]
//	    set_cookie         refuse|strip|store
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

// policyParser parses policy options, in a directive and in a namespace.
type policyParser struct {
	d      *caddyfile.Dispenser
	helper *httpcaddyfile.Helper // nil in a namespace, where site matchers are not visible
	policy *Policy
	seen   onlyOnce
}

// parse parses one option with its arguments.
func (o *policyParser) parse() error {
	d, p, option := o.d, o.policy, o.d.Val()
	switch option {
	case "ttl":
		return o.parseTTL()
	case "bypass":
		return o.parseBypass()
	case "diagnostics":
		return o.parseDiagnostics()
	case "no_store":
		return o.parseNoStore()
	case "ignore_cookies":
		return o.appendArgs(&p.IgnoreCookies)
	}
	if err := o.seen.check(d, option); err != nil {
		return err
	}
	switch option {
	case "vary_header":
		return o.appendArgs(&p.VaryHeader)
	case "vary_cookie":
		return o.appendArgs(&p.VaryCookie)
	case "methods":
		return o.parseMethods()
	case "vary_query":
		return o.parseVaryQuery()
	case "key":
		return o.parseKey()
	case "shared":
		if d.NextArg() {
			return d.ArgErr()
		}
		p.Shared = true
		return nil
	}
	return o.parseSingle(option)
}

// parseSingle parses the options with one argument.
func (o *policyParser) parseSingle(option string) (err error) {
	d, p := o.d, o.policy
	switch option {
	case "jitter", "by_user", "max_body", "set_cookie":
	default:
		return d.Errf("unrecognized option of redis_cache: %s", option)
	}
	var value string
	if !d.AllArgs(&value) {
		return d.ArgErr()
	}
	switch option {
	case "jitter":
		percent, err := strconv.ParseFloat(strings.TrimSuffix(value, "%"), 64)
		if err != nil || percent < 0 || percent > 100 {
			return d.Errf("jitter: %q is not between 0 and 100 percent", value)
		}
		p.Jitter = &percent
	case "by_user":
		p.ByUser = o.template(value)
	case "max_body":
		p.MaxBody, err = parseSize(d, option, value)
	case "set_cookie":
		p.SetCookie = value
		return o.wrap(oneOf(option, value, setCookieModes))
	}
	return err
}

func (o *policyParser) parseTTL() error {
	d := o.d
	rule, args, err := o.matcherAndArgs()
	if err != nil {
		return err
	}
	if rule == nil && len(args) > 0 && args[0] == "status" {
		return o.parseTTLStatus(args[1:])
	}
	ttl, rest, err := o.ttl(args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return d.ArgErr()
	}
	if rule != nil {
		o.policy.TTLRules = append(o.policy.TTLRules, &TTLRule{TTL: ttl, MatcherRule: *rule})
		return nil
	}
	o.policy.TTL = &ttl
	return o.seen.check(d, "ttl")
}

func (o *policyParser) parseTTLStatus(args []string) error {
	ttl, rest, err := o.ttl(args)
	if err != nil {
		return err
	}
	statuses, err := o.statuses(rest)
	if err != nil {
		return err
	}
	o.policy.TTLStatus = append(o.policy.TTLStatus, &TTLStatus{TTL: ttl, Status: statuses})
	return nil
}

// ttl reads `<duration> [override]` from the end of args.
func (o *policyParser) ttl(args []string) (ttl TTL, rest []string, err error) {
	if n := len(args); n > 0 && args[n-1] == "override" {
		ttl.Override = true
		args = args[:n-1]
	}
	if len(args) == 0 {
		return ttl, nil, o.d.ArgErr()
	}
	last := len(args) - 1
	ttl.Duration, err = parseDuration(o.d, "ttl", args[last])
	return ttl, args[:last], err
}

func (o *policyParser) parseBypass() error {
	rule, args, err := o.matcherAndArgs()
	if err != nil {
		return err
	}
	if rule == nil || len(args) > 0 {
		return o.d.Err("bypass takes one matcher: *, a path or @name")
	}
	o.policy.Bypass = append(o.policy.Bypass, rule)
	return nil
}

func (o *policyParser) parseDiagnostics() error {
	d := o.d
	if !d.NextArg() {
		return d.ArgErr()
	}
	level := d.Val()
	if err := oneOf("diagnostics", level, diagnosticLevels); err != nil {
		return o.wrap(err)
	}
	rule, args, err := o.matcherAndArgs()
	if err != nil {
		return err
	}
	if len(args) > 0 {
		return d.ArgErr()
	}
	if rule != nil {
		o.policy.DiagnosticsRules = append(o.policy.DiagnosticsRules, &DiagnosticsRule{MatcherRule: *rule, Level: level})
		return nil
	}
	o.policy.Diagnostics = level
	return o.seen.check(d, "diagnostics")
}

func (o *policyParser) parseNoStore() error {
	d := o.d
	args := d.RemainingArgs()
	if len(args) < 2 {
		return d.ArgErr()
	}
	var matcher caddyhttp.ResponseMatcher
	switch args[0] {
	case "status":
		statuses, err := o.statuses(args[1:])
		if err != nil {
			return err
		}
		matcher.StatusCode = statuses
	case "header":
		if len(args) > 3 {
			return d.ArgErr()
		}
		// No value stands for any value.
		matcher.Headers = http.Header{http.CanonicalHeaderKey(args[1]): append([]string{}, args[2:]...)}
	default:
		return d.Errf("no_store: want status or header, not %q", args[0])
	}
	o.policy.NoStore = append(o.policy.NoStore, matcher)
	return nil
}

func (o *policyParser) parseMethods() error {
	if err := o.appendArgs(&o.policy.Methods); err != nil {
		return err
	}
	return o.wrap((&Policy{Methods: o.policy.Methods}).validate())
}

func (o *policyParser) parseVaryQuery() error {
	args := o.d.RemainingArgs()
	if len(args) == 0 {
		return o.d.ArgErr()
	}
	rule := &VaryQuery{Mode: queryOnly, Names: args}
	switch args[0] {
	case queryAll, queryNone, queryExcept:
		rule.Mode, rule.Names = args[0], args[1:]
	}
	if err := rule.validate(); err != nil {
		return o.d.Errf("vary_query %s: wrong number of names", rule.Mode)
	}
	o.policy.VaryQuery = rule
	return nil
}

func (o *policyParser) parseKey() error {
	d := o.d
	args := d.RemainingArgs()
	if len(args) == 0 || len(args) > 2 || (len(args) == 2 && args[1] != "exact") {
		return d.ArgErr()
	}
	o.policy.Key = &KeyTemplate{Template: o.template(args[0]), Exact: len(args) == 2}
	return o.wrap(o.policy.Key.validate())
}

// matcherAndArgs reads an optional matcher and the other arguments.
func (o *policyParser) matcherAndArgs() (*MatcherRule, []string, error) {
	d := o.d
	if d.CountRemainingArgs() == 0 {
		return nil, nil, nil
	}
	if o.helper == nil {
		args := d.RemainingArgs()
		if strings.ContainsRune("@/*", rune(args[0][0])) {
			return nil, nil, d.Errf("matcher %s: matchers are not visible in a namespace; use it in a directive", args[0])
		}
		return nil, args, nil
	}
	set, ok, err := o.helper.MatcherToken()
	if err != nil {
		return nil, nil, d.WrapErr(err)
	}
	if !ok {
		first := d.Val()
		return nil, append([]string{first}, d.RemainingArgs()...), nil
	}
	rule := new(MatcherRule)
	if set != nil {
		rule.MatcherSetsRaw = caddyhttp.RawMatcherSets{set}
	}
	return rule, d.RemainingArgs(), nil
}

func (o *policyParser) appendArgs(list *[]string) error {
	args := o.d.RemainingArgs()
	if len(args) == 0 {
		return o.d.ArgErr()
	}
	*list = append(*list, args...)
	return nil
}

func (o *policyParser) statuses(args []string) ([]int, error) {
	statuses := make([]int, 0, len(args))
	for _, arg := range args {
		text := arg
		if len(arg) == 3 && strings.HasSuffix(arg, "xx") {
			text = arg[:1]
		}
		status, err := strconv.Atoi(text)
		if err != nil {
			return nil, o.d.Errf("%q is not a status code or a class such as 4xx", arg)
		}
		statuses = append(statuses, status)
	}
	return statuses, o.wrap(validateStatuses(statuses))
}

// template expands placeholder shorthands, which Caddy does for site blocks
// only.
func (o *policyParser) template(text string) string {
	if o.helper != nil {
		return text
	}
	segment := caddyfile.Segment{{Text: text}}
	httpcaddyfile.NewShorthandReplacer().ApplyToSegment(&segment)
	return segment[0].Text
}

// wrap adds file and line.
func (o *policyParser) wrap(err error) error {
	if err == nil {
		return nil
	}
	return o.d.WrapErr(err)
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
