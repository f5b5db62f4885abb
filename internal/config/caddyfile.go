package config

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gplus-recycling/caddy-redis-cache/internal/cachekey"
	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
)

// parser reads the lines of a policy, in a directive and in a namespace.
type parser struct {
	d      *caddyfile.Dispenser
	helper *httpcaddyfile.Helper // nil in a namespace, where site matchers are not visible
	policy *Policy
	option *option // that is being read
	seen   onlyOnce
}

// ParsePolicy reads the options of a directive.
func ParsePolicy(h *httpcaddyfile.Helper) (*Policy, error) {
	p := new(Policy)
	return p, (&parser{d: h.Dispenser, helper: h, policy: p, seen: make(onlyOnce)}).parse()
}

// parse reads a block.
func (o *parser) parse() error {
	for nesting := o.d.Nesting(); o.d.NextBlock(nesting); {
		if err := o.parseOption(o.d.Val()); err != nil {
			return err
		}
	}
	return nil
}

func (o *parser) parseOption(name string) error {
	i := slices.IndexFunc(options, func(option option) bool { return option.name == name })
	if i < 0 {
		return o.d.Errf("unrecognized option of redis_cache: %s", name)
	}
	o.option = &options[i]
	if !o.option.lines {
		if err := o.seen.check(o.d, name); err != nil {
			return err
		}
	}
	if err := o.option.parse(o); err != nil {
		return err
	}
	if o.option.check != nil {
		return o.wrap(o.option.check(o.policy))
	}
	return nil
}

// word is an option with one of some words.
func word(name string, allowed []string, field func(*Policy) *string) option {
	return option{name, false, func(o *parser) error {
		value, err := oneArg(o.d)
		*field(o.policy) = value
		return cmp.Or(err, o.wrap(oneOf(name, value, allowed))) // an empty word, too
	}, func(p *Policy) error { return oneOf(name, cmp.Or(*field(p), allowed[0]), allowed) }}
}

// window is an option with a duration that may be zero.
func window(name string, field func(*Policy) **caddy.Duration) option {
	return option{name, false, func(o *parser) error {
		value, err := oneArg(o.d)
		if err != nil {
			return err
		}
		d, err := parseDuration(o.d, name, value)
		*field(o.policy) = &d
		return err
	}, func(p *Policy) error {
		if d := *field(p); d != nil && *d < 0 {
			return fmt.Errorf("%s %s is negative", name, time.Duration(*d))
		}
		return nil
	}}
}

// names parses one word or more.
func names(field func(*Policy) *[]string) func(*parser) error {
	return func(o *parser) error { return o.appendArgs(field(o.policy)) }
}

// template parses one template.
func template(field func(*Policy) *string) func(*parser) error {
	return func(o *parser) error {
		value, err := oneArg(o.d)
		if err == nil && value == "" {
			err = o.d.Errf("%s: an empty template", o.option.name)
		}
		*field(o.policy) = o.template(value)
		return err
	}
}

// flag parses an option without a value.
func flag(field func(*Policy) *bool) func(*parser) error {
	return func(o *parser) error {
		*field(o.policy) = true
		return noArgs(o.d)
	}
}

// size parses a number of bytes.
func size(field func(*Policy) *int64) func(*parser) error {
	return func(o *parser) error {
		value, err := oneArg(o.d)
		if err == nil {
			*field(o.policy), err = parseSize(o.d, o.option.name, value)
		}
		return err
	}
}

func (o *parser) parseJitter() error {
	value, err := oneArg(o.d)
	if err != nil {
		return err
	}
	percent, err := strconv.ParseFloat(strings.TrimSuffix(value, "%"), 64)
	if err != nil {
		return o.d.Errf("jitter: %q is not between 0 and 100 percent", value)
	}
	o.policy.Jitter = &percent
	return nil
}

func (o *parser) parseTag() error {
	var templates []string
	if err := o.appendArgs(&templates); err != nil {
		return err
	}
	for _, template := range templates {
		o.policy.Tags = append(o.policy.Tags, o.template(template))
	}
	return nil
}

func (o *parser) parseInvalidate() error {
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

func (o *parser) parseTagHeader() error {
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

func (o *parser) parseHeuristic() error {
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
	return nil
}

func (o *parser) parseVaryBody() (err error) {
	o.policy.VaryBody = engine.DefaultVaryBody
	if args := o.d.RemainingArgs(); len(args) == 1 {
		o.policy.VaryBody, err = parseSize(o.d, "vary_body", args[0])
	} else if len(args) > 1 {
		return o.d.ArgErr()
	}
	return err
}

func (o *parser) parseTTL() error {
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

func (o *parser) parseTTLStatus(args []string) error {
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
func (o *parser) ttl(args []string) (ttl TTL, rest []string, err error) {
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

func (o *parser) parseBypass() error {
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

func (o *parser) parseDiagnostics() error {
	d := o.d
	if !d.NextArg() {
		return d.ArgErr()
	}
	level := d.Val()
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

func (o *parser) parseNoStore() error {
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

func (o *parser) parseVaryQuery() error {
	args := o.d.RemainingArgs()
	if len(args) == 0 {
		return o.d.ArgErr()
	}
	rule := &VaryQuery{Mode: cachekey.QueryOnly, Names: args}
	switch args[0] {
	case cachekey.QueryAll, cachekey.QueryNone, cachekey.QueryExcept:
		rule.Mode, rule.Names = args[0], args[1:]
	}
	o.policy.VaryQuery = rule
	return nil
}

func (o *parser) parseKey() error {
	d := o.d
	args := d.RemainingArgs()
	if len(args) == 0 || len(args) > 2 || (len(args) == 2 && args[1] != "exact") {
		return d.ArgErr()
	}
	o.policy.Key = &KeyTemplate{Template: o.template(args[0]), Exact: len(args) == 2}
	return nil
}

// matcherAndArgs reads an optional matcher and the other arguments.
func (o *parser) matcherAndArgs() (*MatcherRule, []string, error) {
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

func (o *parser) appendArgs(list *[]string) error {
	args := o.d.RemainingArgs()
	if len(args) == 0 {
		return o.d.ArgErr()
	}
	*list = append(*list, args...)
	return nil
}

func (o *parser) statuses(args []string) ([]int, error) {
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
	return statuses, o.wrap(checkStatuses(statuses))
}

// template expands placeholder shorthands where Caddy has not.
func (o *parser) template(text string) string {
	if o.helper != nil {
		return text
	}
	return expandShorthands(text)
}

func (o *parser) wrap(err error) error { return wrap(o.d, err) }

// parseEncode parses `encode zstd [<min size>] | off`.
func (o *parser) parseEncode() (err error) {
	args := o.d.RemainingArgs()
	if len(args) == 0 || len(args) > 2 {
		return o.d.ArgErr()
	}
	o.policy.Encode = &Encode{Format: args[0]}
	if len(args) == 2 {
		o.policy.Encode.MinSize, err = parseSize(o.d, "encode", args[1])
	}
	return err
}
