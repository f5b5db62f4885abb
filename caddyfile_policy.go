package rediscache

import (
	"cmp"
	"net/http"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gplus-recycling/caddy-redis-cache/internal/cachekey"
	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
	"github.com/gplus-recycling/caddy-redis-cache/internal/routes"
)

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
	case "credential_headers":
		return cmp.Or(o.appendArgs(&p.CredentialHeaders), o.wrap(routes.ValidateCredentialHeaders(p.CredentialHeaders)))
	case "tag":
		return o.parseTag()
	case "invalidate":
		return o.parseInvalidate()
	}
	if err := o.seen.check(d, option); err != nil {
		return err
	}
	switch option {
	case "vary_header":
		return cmp.Or(o.appendArgs(&p.VaryHeader), o.wrap((&Policy{VaryHeader: p.VaryHeader}).validate()))
	case "vary_cookie":
		return o.appendArgs(&p.VaryCookie)
	case "targets":
		return cmp.Or(o.appendArgs(&p.Targets), o.wrap((&Policy{Targets: p.Targets}).validate()))
	case "methods":
		return o.parseMethods()
	case "tag_header":
		return o.parseTagHeader()
	case "heuristic":
		return o.parseHeuristic()
	case "vary_body":
		return o.parseVaryBody()
	case "encode":
		return o.parseEncode()
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
	case "jitter", "by_user", "max_body", "set_cookie", "coalesce", "refresh_ahead",
		"stale_while_revalidate", "stale_if_error", "client_cache_control", "unsafe_invalidates":
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
		return o.wrap((&Policy{ByUser: p.ByUser}).validate())
	case "max_body":
		p.MaxBody, err = parseSize(d, option, value)
	case "set_cookie":
		p.SetCookie = value
		return o.wrap(oneOf(option, value, setCookieModes))
	case "coalesce":
		p.Coalesce = value
		return o.wrap(oneOf(option, value, onOff))
	case "refresh_ahead":
		p.RefreshAhead = value
		return o.wrap(oneOf(option, value, onOff))
	case "client_cache_control":
		p.ClientCacheControl = value
		return o.wrap(oneOf(option, value, clientModes))
	case "unsafe_invalidates":
		p.UnsafeInvalidates = value
		return o.wrap(oneOf(option, value, onOff))
	case "stale_while_revalidate":
		window, err := parseDuration(d, option, value)
		p.StaleWhileRevalidate = &window
		return err
	case "stale_if_error":
		window, err := parseDuration(d, option, value)
		p.StaleIfError = &window
		return err
	}
	return err
}

func (o *policyParser) parseTag() error {
	var templates []string
	if err := o.appendArgs(&templates); err != nil {
		return err
	}
	for _, template := range templates {
		o.policy.Tags = append(o.policy.Tags, o.template(template))
	}
	return nil
}

func (o *policyParser) parseInvalidate() error {
	matcher, args, err := o.matcherAndArgs()
	if err != nil {
		return err
	}
	rule := new(InvalidateRule)
	if matcher != nil {
		rule.MatcherRule = *matcher
		if len(rule.MatcherSetsRaw) == 0 {
			return o.d.Err("invalidate *: leave the matcher out, or name one: answers to every request would purge")
		}
	}
	if rule.Selectors, err = parseSelectors(o.d, args); err != nil {
		return err
	}
	for i, value := range rule.Values {
		rule.Values[i] = o.template(value)
	}
	o.policy.Invalidate = append(o.policy.Invalidate, rule)
	return nil
}

func (o *policyParser) parseTagHeader() error {
	header := new(TagHeader)
	if err := o.appendArgs(&header.Names); err != nil {
		return err
	}
	if last := len(header.Names) - 1; header.Names[last] == "keep" {
		header.Names, header.Keep = header.Names[:last], true
	}
	if len(header.Names) == 0 {
		return o.d.ArgErr()
	}
	o.policy.TagHeader = header
	return nil
}

func (o *policyParser) parseHeuristic() error {
	d := o.d
	var percent, longest string
	if !d.AllArgs(&percent, &longest) {
		return d.ArgErr()
	}
	n, err := strconv.Atoi(strings.TrimSuffix(percent, "%"))
	if err != nil || n < 1 || n > 100 {
		return d.Errf("heuristic: %q is not between 1 and 100 percent", percent)
	}
	limit, err := parseDuration(d, "heuristic", longest)
	if err != nil {
		return err
	}
	o.policy.Heuristic = &Heuristic{Percent: n, Max: limit}
	return o.wrap((&Policy{Heuristic: o.policy.Heuristic}).validate())
}

func (o *policyParser) parseVaryBody() (err error) {
	o.policy.VaryBody = engine.DefaultVaryBody
	if args := o.d.RemainingArgs(); len(args) == 1 {
		o.policy.VaryBody, err = parseSize(o.d, "vary_body", args[0])
	} else if len(args) > 1 {
		return o.d.ArgErr()
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
	rule := &TTLStatus{TTL: ttl, Status: statuses}
	o.policy.TTLStatus = append(o.policy.TTLStatus, rule)
	return o.wrap(rule.validate())
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
	rule := &VaryQuery{Mode: cachekey.QueryOnly, Names: args}
	switch args[0] {
	case cachekey.QueryAll, cachekey.QueryNone, cachekey.QueryExcept:
		rule.Mode, rule.Names = args[0], args[1:]
	}
	if err := validateQuery(rule); err != nil {
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

// template expands placeholder shorthands where Caddy has not.
func (o *policyParser) template(text string) string {
	if o.helper != nil {
		return text
	}
	return expandShorthands(text)
}

// wrap adds file and line.
func (o *policyParser) wrap(err error) error {
	if err == nil {
		return nil
	}
	return o.d.WrapErr(err)
}
