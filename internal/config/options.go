package config

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/gplus-recycling/caddy-redis-cache/internal/cachekey"
	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
	"github.com/gplus-recycling/caddy-redis-cache/internal/routes"
)

// option is one option of a policy. A new one is a line in options, a field in Policy, a
// line in Merge, and where the engine decides by it a field in its Route, set by Compile.
type option struct {
	name string
	// lines tells that it may be on several lines of a block.
	lines bool
	// parse reads a line of a Caddyfile: names, word, flag, size, window, template, or a
	// method of the parser. An empty word is an option that is not set, in a Policy, so that
	// parse has to refuse it: check cannot.
	parse func(*parser) error
	// check says what is wrong with the value, whoever has set it; nil: nothing can be.
	check func(*Policy) error
}

// options are those of a policy, in the order of the documentation.
var options = []option{
	{"ttl", true, (*parser).parseTTL, checkTTL},
	{"jitter", false, (*parser).parseJitter, checkJitter},
	{"key", false, (*parser).parseKey, checkKey},
	{"vary_query", false, (*parser).parseVaryQuery, checkVaryQuery},
	{"vary_header", false, names(func(p *Policy) *[]string { return &p.VaryHeader }), checkVaryHeader},
	{"vary_cookie", false, names(func(p *Policy) *[]string { return &p.VaryCookie }), nil},
	{"by_user", false, template(func(p *Policy) *string { return &p.ByUser }), checkByUser},
	{"shared", false, flag(func(p *Policy) *bool { return &p.Shared }), nil},
	{"ignore_cookies", true, names(func(p *Policy) *[]string { return &p.IgnoreCookies }), nil},
	{"credential_headers", true, names(func(p *Policy) *[]string { return &p.CredentialHeaders }), checkCredentialHeaders},
	{"bypass", true, (*parser).parseBypass, nil},
	{"no_store", true, (*parser).parseNoStore, nil},
	{"methods", false, names(func(p *Policy) *[]string { return &p.Methods }), checkMethods},
	{"max_body", false, size(func(p *Policy) *int64 { return &p.MaxBody }), checkMaxBody},
	{"diagnostics", true, (*parser).parseDiagnostics, checkDiagnostics},
	word("coalesce", onOff, func(p *Policy) *string { return &p.Coalesce }),
	word("refresh_ahead", onOff, func(p *Policy) *string { return &p.RefreshAhead }),
	word("set_cookie", setCookieModes, func(p *Policy) *string { return &p.SetCookie }),
	window("stale_while_revalidate", func(p *Policy) **caddy.Duration { return &p.StaleWhileRevalidate }),
	window("stale_if_error", func(p *Policy) **caddy.Duration { return &p.StaleIfError }),
	{"heuristic", false, (*parser).parseHeuristic, checkHeuristic},
	{"targets", false, names(func(p *Policy) *[]string { return &p.Targets }), checkTargets},
	word("client_cache_control", clientModes, func(p *Policy) *string { return &p.ClientCacheControl }),
	word("unsafe_invalidates", onOff, func(p *Policy) *string { return &p.UnsafeInvalidates }),
	{"vary_body", false, (*parser).parseVaryBody, checkVaryBody},
	{"tag", true, (*parser).parseTag, nil},
	{"tag_header", false, (*parser).parseTagHeader, nil},
	{"encode", false, (*parser).parseEncode, checkEncode},
	{"invalidate", true, (*parser).parseInvalidate, checkInvalidate},
}

// Validate checks every option.
func (p *Policy) Validate() error {
	for i := range options {
		if check := options[i].check; check != nil {
			if err := check(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// ValidateMerged checks options that go together, which a namespace and its
// directives may set apart: without vary_body all bodies would share one stored
// response.
func (p *Policy) ValidateMerged() error {
	if p.Key != nil && p.Key.Exact &&
		(p.ByUser != "" || p.VaryBody > 0 || p.VaryQuery != nil || len(p.VaryHeader)+len(p.VaryCookie) > 0) {
		return errors.New("key … exact: the template is the whole key, by_user and vary_* would have no effect")
	}
	hasBody := slices.ContainsFunc(p.Methods, engine.IsBodyMethod)
	if hasBody && p.VaryBody == 0 {
		return errors.New("methods: POST and QUERY need vary_body, so that the body is part of the key")
	}
	if !hasBody && p.VaryBody > 0 {
		return errors.New("vary_body: no method with a body is cached: add methods GET HEAD POST or QUERY")
	}
	return nil
}

func checkTTL(p *Policy) error {
	for _, ttl := range p.ttls() {
		if ttl.Duration < 0 {
			return fmt.Errorf("ttl %s is negative", time.Duration(ttl.Duration))
		}
	}
	for _, rule := range p.TTLStatus {
		for _, s := range rule.Status {
			if slices.Contains(neverStored, s) {
				return fmt.Errorf("ttl status: responses with status %d must not be stored", s)
			}
		}
		if err := checkStatuses(rule.Status); err != nil {
			return err
		}
	}
	return nil
}

func (p *Policy) ttls() []TTL {
	var ttls []TTL
	if p.TTL != nil {
		ttls = append(ttls, *p.TTL)
	}
	for _, rule := range p.TTLRules {
		ttls = append(ttls, rule.TTL)
	}
	for _, rule := range p.TTLStatus {
		ttls = append(ttls, rule.TTL)
	}
	return ttls
}

// neverStored are the statuses that no cache may store, RFC 9111 section 3 and
// RFC 6585, and 412, which is about the conditions of one client.
var neverStored = []int{
	http.StatusPartialContent, http.StatusNotModified, http.StatusPreconditionFailed, http.StatusPreconditionRequired, http.StatusTooManyRequests,
	http.StatusRequestHeaderFieldsTooLarge, http.StatusNetworkAuthenticationRequired,
}

func checkStatuses(statuses []int) error {
	if len(statuses) == 0 {
		return errors.New("no status is named")
	}
	for _, s := range statuses {
		if (s < 2 || s > 5) && (s < 200 || s > 599) {
			return fmt.Errorf("%d is not a final status or a class of them", s)
		}
	}
	return nil
}

func checkJitter(p *Policy) error {
	if p.Jitter != nil && (*p.Jitter < 0 || *p.Jitter > 100) {
		return fmt.Errorf("jitter %v is not between 0 and 100 percent", *p.Jitter)
	}
	return nil
}

func checkKey(p *Policy) error {
	switch {
	case p.Key == nil:
		return nil
	case p.Key.Template == "":
		return errors.New("key: the template is empty")
	case strings.ContainsFunc(p.Key.Template, func(c rune) bool { return c <= ' ' || c >= 0x7f }):
		return fmt.Errorf("key: %q holds a space, a control character or one outside ASCII", p.Key.Template)
	}
	return nil
}

func checkVaryQuery(p *Policy) error {
	v := p.VaryQuery
	if v == nil {
		return nil
	}
	if err := oneOf("vary_query", v.Mode, []string{cachekey.QueryAll, cachekey.QueryNone, cachekey.QueryOnly, cachekey.QueryExcept}); err != nil {
		return err
	}
	if named := v.Mode == cachekey.QueryOnly || v.Mode == cachekey.QueryExcept; named != (len(v.Names) > 0) {
		return fmt.Errorf("vary_query %s: wrong number of names: %d", v.Mode, len(v.Names))
	}
	return nil
}

func checkVaryHeader(p *Policy) error { return checkFields("vary_header", p.VaryHeader) }

func checkTargets(p *Policy) error { return checkFields("targets", p.Targets) }

func checkFields(option string, names []string) error {
	for _, name := range names {
		if !rfc9111.IsToken(name) {
			return fmt.Errorf("%s: %q is not the name of a field", option, name)
		}
	}
	return nil
}

func checkByUser(p *Policy) error {
	if p.ByUser != "" && !strings.Contains(p.ByUser, "{") {
		return fmt.Errorf("by_user: %q has no placeholder, so that every user would be the same", p.ByUser)
	}
	return nil
}

func checkCredentialHeaders(p *Policy) error {
	return routes.ValidateCredentialHeaders(p.CredentialHeaders)
}

func checkMethods(p *Policy) error {
	for _, m := range p.Methods {
		if m != http.MethodGet && m != http.MethodHead && !engine.IsBodyMethod(m) {
			return fmt.Errorf("methods: %q cannot be cached: GET, HEAD, POST and QUERY can", m)
		}
	}
	if len(p.Methods) > 0 && !slices.Contains(p.Methods, http.MethodGet) {
		return errors.New("methods: GET is missing: HEAD is answered from stored responses to GET")
	}
	return nil
}

func checkMaxBody(p *Policy) error { return notNegative("max_body", p.MaxBody) }

func checkVaryBody(p *Policy) error { return notNegative("vary_body", p.VaryBody) }

func notNegative(option string, n int64) error {
	if n < 0 {
		return fmt.Errorf("%s %d is negative", option, n)
	}
	return nil
}

func checkDiagnostics(p *Policy) error {
	for _, rule := range p.DiagnosticsRules {
		if err := oneOf("diagnostics", rule.Level, diagnosticLevels); err != nil {
			return err
		}
	}
	return oneOf("diagnostics", cmp.Or(p.Diagnostics, diagnosticsFull), diagnosticLevels)
}

func checkHeuristic(p *Policy) error {
	if h := p.Heuristic; h != nil && (h.Percent < 1 || h.Percent > 100 || h.Max <= 0) {
		return fmt.Errorf("heuristic: %d percent, at most %s: want 1 to 100 percent and a duration", h.Percent, time.Duration(h.Max))
	}
	return nil
}

func checkEncode(p *Policy) error {
	e := p.Encode
	switch {
	case e == nil:
		return nil
	case e.MinSize < 0:
		return fmt.Errorf("encode: min_size %d is negative", e.MinSize)
	case e.Format == encodeOff && e.MinSize > 0:
		return errors.New("encode off takes no size")
	}
	return oneOf("encode", cmp.Or(e.Format, encodeZstd), encodeFormats)
}

func checkInvalidate(p *Policy) error {
	for _, rule := range p.Invalidate {
		if err := rule.Selectors.validate(); err != nil {
			return fmt.Errorf("invalidate: %w", err)
		}
	}
	return nil
}

// oneOf reports a word that an option does not know.
func oneOf(option, value string, allowed []string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return fmt.Errorf("%s: unknown value %q, want one of %v", option, value, allowed)
}

// The words of options.
const (
	diagnosticsFull    = "full"
	diagnosticsMinimal = "minimal"
	diagnosticsOff     = "off"

	setCookieRefuse = "refuse"
	setCookieStrip  = "strip"
	setCookieStore  = "store"

	clientIgnore = "ignore"
	clientHonor  = "honor"

	optionOn  = "on"
	optionOff = "off"

	encodeZstd = "zstd"
	encodeOff  = "off"
)

var (
	diagnosticLevels = []string{diagnosticsFull, diagnosticsMinimal, diagnosticsOff}
	clientModes      = []string{clientIgnore, clientHonor}
	onOff            = []string{optionOn, optionOff}
	encodeFormats    = []string{encodeZstd, encodeOff}
	setCookieModes   = []string{setCookieRefuse, setCookieStrip, setCookieStore}
)
