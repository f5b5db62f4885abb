package rediscache

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gplus-recycling/caddy-redis-cache/internal/cachekey"
	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"

	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
	"github.com/gplus-recycling/caddy-redis-cache/internal/routes"
)

// Policy says what is cached, under which key and for how long. A namespace and
// a handler each have one; Handler says how the two are merged.
type Policy struct {
	// The freshness lifetime of responses with status 200, 203, 204, 300, 301
	// and 308 whose origin states none. Default: none, so that only responses
	// with a lifetime of their own are stored.
	TTL *TTL `json:"ttl,omitempty"`

	// Lifetimes for matching requests. The first rule that matches wins over
	// `ttl`. Handlers only.
	TTLRules []*TTLRule `json:"ttl_rules,omitempty"`

	// Lifetimes for other statuses. The first rule that names the status wins.
	TTLStatus []*TTLStatus `json:"ttl_status,omitempty"`

	// The share of a configured lifetime, in percent, that is taken off at
	// random, so that responses stored together do not expire together.
	// Default: 5.
	Jitter *float64 `json:"jitter,omitempty"`

	// The identifier in the key. Default: the host and the path, as the client
	// sent them.
	Key *KeyTemplate `json:"key,omitempty"`

	// Which query parameters are part of the key. Default: all, sorted by name.
	VaryQuery *VaryQuery `json:"vary_query,omitempty"`

	// Request fields that are part of the key. Default: none.
	VaryHeader []string `json:"vary_header,omitempty"`

	// Cookies that are part of the key. Default: none.
	VaryCookie []string `json:"vary_cookie,omitempty"`

	// A template that identifies the user: one stored response per user. A
	// request for which a placeholder in it is empty bypasses the cache.
	// Default: none.
	ByUser string `json:"by_user,omitempty"`

	// Whether credentials do not matter: every user gets the same answer.
	// Default: false.
	Shared bool `json:"shared,omitempty"`

	// Cookies, as names or globs, that carry no identity, in addition to those
	// of common analytics services.
	IgnoreCookies []string `json:"ignore_cookies,omitempty"`

	// Request fields that are taken for credentials, in addition to those that
	// docs/safety.md lists, such as X-API-Key; with a minus sign in front, fields that are
	// not, on this route. One that is named in `vary_header` is accounted for.
	// Authorization and cookies always are credentials. Default: none.
	CredentialHeaders []string `json:"credential_headers,omitempty"`

	// Matchers of requests that are neither looked up nor stored. Handlers
	// only. Default: none.
	Bypass []*MatcherRule `json:"bypass,omitempty"`

	// Responses that are passed on without being stored. Default: none.
	NoStore []caddyhttp.ResponseMatcher `json:"no_store,omitempty"`

	// The methods that are cached: GET, HEAD and, with `vary_body`, POST and
	// QUERY. Default: GET and HEAD.
	Methods []string `json:"methods,omitempty"`

	// The size of the largest body that is stored, in bytes; larger ones stream
	// through. Default: 8 MiB.
	MaxBody int64 `json:"max_body,omitempty"`

	// Which response fields of the cache are sent: `full`, `minimal` (X-Cache
	// and Age) or `off` (Age). Default: full.
	Diagnostics string `json:"diagnostics,omitempty"`

	// The same for matching requests. The first rule that matches wins over
	// `diagnostics`. Handlers only.
	DiagnosticsRules []*DiagnosticsRule `json:"diagnostics_rules,omitempty"`

	// Whether concurrent requests for one key wait for one fetch, in the process
	// and across nodes: `on` or `off`. Default: on.
	Coalesce string `json:"coalesce,omitempty"`

	// Whether responses that are often asked for are refreshed in the background
	// before they expire: `on` or `off`. Default: off.
	RefreshAhead string `json:"refresh_ahead,omitempty"`

	// What becomes of a response with Set-Cookie: `refuse` does not store it,
	// `strip` stores it without the field, `store` stores it whole. Default:
	// refuse.
	SetCookie string `json:"set_cookie,omitempty"`

	// How long a stale response is answered while it is fetched anew, when the
	// origin does not say. Default: 0. RFC 5861 section 3.
	StaleWhileRevalidate *caddy.Duration `json:"stale_while_revalidate,omitempty"`

	// How long a stale response is answered when the origin fails, when the
	// origin does not say. Default: 10m. RFC 5861 section 4.
	StaleIfError *caddy.Duration `json:"stale_if_error,omitempty"`

	// A lifetime for responses that state none, from the time since they were
	// last modified. Default: none. RFC 9111 section 4.2.2.
	Heuristic *Heuristic `json:"heuristic,omitempty"`

	// Fields that take the place of Cache-Control for this cache, the first that
	// is valid wins. Default: CDN-Cache-Control. RFC 9213.
	Targets []string `json:"targets,omitempty"`

	// Whether Cache-Control of requests is honoured: `ignore` or `honor`.
	// Default: ignore, so that a client cannot make the origin work.
	// only-if-cached is always obeyed. RFC 9111 section 5.2.1.
	ClientCacheControl string `json:"client_cache_control,omitempty"`

	// Whether a successful answer to an unsafe method purges what HTTP says that it may
	// have changed: the URL of the request, and Location and Content-Location on the
	// same origin: `on` or `off`. RFC 9111 section 4.4 requires it; off is for routes
	// where strangers may POST and nothing that is stored depends on it. `invalidate`
	// and Cache-Group-Invalidation go on to purge. Default: on.
	UnsafeInvalidates string `json:"unsafe_invalidates,omitempty"`

	// The size of the largest request body that is part of the key, in bytes,
	// for methods such as POST and QUERY; larger ones bypass. A POST whose content is
	// a GraphQL mutation or subscription, or larger, is unsafe (RFC 9110 section
	// 9.2.1); others are taken for safe. Default: none, and 64 KiB where methods
	// have a body.
	VaryBody int64 `json:"vary_body,omitempty"`

	// Templates of tags of stored responses. `{http.response.header.*}` is
	// available. Default: none.
	Tags []string `json:"tags,omitempty"`

	// The upstream fields that are read as tags. Default: Surrogate-Key,
	// Cache-Tag, Cache-Tags, xkey, Edge-Cache-Tag and X-LiteSpeed-Tag, which are
	// removed from answers.
	TagHeader *TagHeader `json:"tag_header,omitempty"`

	// How stored responses are compressed in Redis. Default: zstd, from 1 KiB.
	Encode *Encode `json:"encode,omitempty"`

	// What a successful answer purges, in addition to what HTTP says an unsafe
	// method changes. Default: none.
	Invalidate []*InvalidateRule `json:"invalidate,omitempty"`
}

// Heuristic is a lifetime from the time since a response was modified.
type Heuristic struct {
	// The share of that time, in percent.
	Percent int `json:"percent"`

	// The longest lifetime.
	Max caddy.Duration `json:"max"`
}

// TagHeader names fields with tags.
type TagHeader struct {
	// The names.
	Names []string `json:"names"`

	// Whether the fields stay in answers, for a cache in front. Default: false.
	Keep bool `json:"keep,omitempty"`
}

// TTL is a configured freshness lifetime.
type TTL struct {
	// The lifetime.
	Duration caddy.Duration `json:"duration"`

	// Whether it replaces what the origin states: lifetimes, no-cache and
	// no-store; private only together with `by_user`. Default: false.
	Override bool `json:"override,omitempty"`
}

// TTLRule is a lifetime for matching requests.
type TTLRule struct {
	TTL
	MatcherRule
}

// TTLStatus is a lifetime for statuses.
type TTLStatus struct {
	TTL

	// Status codes; one digit stands for a class. 4 means 404, 410 and 414: the
	// others are about one client or request, and are stored only if they are named.
	Status []int `json:"status"`
}

// MatcherRule holds request matchers. It matches every request when it has none.
type MatcherRule struct {
	// The matchers; sets are ORed.
	MatcherSetsRaw caddyhttp.RawMatcherSets `json:"match,omitempty" caddy:"namespace=http.matchers"`

	matchers caddyhttp.MatcherSets
}

// DiagnosticsRule selects diagnostics for matching requests.
type DiagnosticsRule struct {
	MatcherRule

	// `full`, `minimal` or `off`.
	Level string `json:"level"`
}

// KeyTemplate is the template of an identifier.
type KeyTemplate struct {
	// Literal text is kept; the values of placeholders are percent-escaped.
	Template string `json:"template"`

	// Whether the identifier alone is the key, without a hash. The template
	// then has to state everything by which responses differ.
	Exact bool `json:"exact,omitempty"`
}

// VaryQuery selects query parameters.
type VaryQuery = cachekey.Query

// defaultStatuses are those to which a plain ttl applies.
var defaultStatuses = []int{
	http.StatusOK, http.StatusNonAuthoritativeInfo, http.StatusNoContent,
	http.StatusMultipleChoices, http.StatusMovedPermanently, http.StatusPermanentRedirect,
}

// merge returns the policy of a directive inside a namespace: option by option,
// the directive's replaces the namespace's; lines that can only widen a rule
// are added.
func (p Policy) merge(ns Policy) Policy {
	p.TTL = cmp.Or(p.TTL, ns.TTL)
	p.TTLStatus = firstNonEmpty(p.TTLStatus, ns.TTLStatus)
	p.Jitter = cmp.Or(p.Jitter, ns.Jitter)
	p.Key = cmp.Or(p.Key, ns.Key)
	p.VaryQuery = cmp.Or(p.VaryQuery, ns.VaryQuery)
	p.VaryHeader = firstNonEmpty(p.VaryHeader, ns.VaryHeader)
	p.VaryCookie = firstNonEmpty(p.VaryCookie, ns.VaryCookie)
	p.ByUser = cmp.Or(p.ByUser, ns.ByUser)
	p.Shared = p.Shared || ns.Shared
	p.IgnoreCookies = slices.Concat(ns.IgnoreCookies, p.IgnoreCookies)
	p.CredentialHeaders = slices.Concat(ns.CredentialHeaders, p.CredentialHeaders)
	p.NoStore = slices.Concat(ns.NoStore, p.NoStore)
	p.Methods = firstNonEmpty(p.Methods, ns.Methods)
	p.MaxBody = cmp.Or(p.MaxBody, ns.MaxBody)
	p.Diagnostics = cmp.Or(p.Diagnostics, ns.Diagnostics)
	p.SetCookie = cmp.Or(p.SetCookie, ns.SetCookie)
	p.Coalesce = cmp.Or(p.Coalesce, ns.Coalesce)
	p.RefreshAhead = cmp.Or(p.RefreshAhead, ns.RefreshAhead)
	p.StaleWhileRevalidate = cmp.Or(p.StaleWhileRevalidate, ns.StaleWhileRevalidate)
	p.StaleIfError = cmp.Or(p.StaleIfError, ns.StaleIfError)
	p.Heuristic = cmp.Or(p.Heuristic, ns.Heuristic)
	p.Targets = firstNonEmpty(p.Targets, ns.Targets)
	p.ClientCacheControl = cmp.Or(p.ClientCacheControl, ns.ClientCacheControl)
	p.UnsafeInvalidates = cmp.Or(p.UnsafeInvalidates, ns.UnsafeInvalidates)
	p.VaryBody = cmp.Or(p.VaryBody, ns.VaryBody)
	p.Tags = slices.Concat(ns.Tags, p.Tags)
	p.TagHeader = cmp.Or(p.TagHeader, ns.TagHeader)
	p.Encode = cmp.Or(p.Encode, ns.Encode)
	p.Invalidate = slices.Concat(ns.Invalidate, p.Invalidate)
	return p
}

func firstNonEmpty[T any](a, b []T) []T {
	if len(a) > 0 {
		return a
	}
	return b
}

// provision loads the matchers.
func (p *Policy) provision(ctx caddy.Context) error {
	for _, rule := range p.TTLRules {
		if err := rule.provision(ctx); err != nil {
			return fmt.Errorf("ttl_rules: %w", err)
		}
	}
	for _, rule := range p.Bypass {
		if err := rule.provision(ctx); err != nil {
			return fmt.Errorf("bypass: %w", err)
		}
	}
	for _, rule := range p.DiagnosticsRules {
		if err := rule.provision(ctx); err != nil {
			return fmt.Errorf("diagnostics_rules: %w", err)
		}
	}
	for _, rule := range p.Invalidate {
		if err := rule.provision(ctx); err != nil {
			return fmt.Errorf("invalidate: %w", err)
		}
	}
	return nil
}

// hasMatchers reports whether a rule needs the matchers of a site.
func (p *Policy) hasMatchers() bool {
	return len(p.TTLRules)+len(p.Bypass)+len(p.DiagnosticsRules) > 0 ||
		slices.ContainsFunc(p.Invalidate, func(r *InvalidateRule) bool { return len(r.MatcherSetsRaw) > 0 })
}

func (m *MatcherRule) provision(ctx caddy.Context) error {
	if len(m.MatcherSetsRaw) == 0 {
		return nil
	}
	raw := m.MatcherSetsRaw
	loaded, err := ctx.LoadModule(m, "MatcherSetsRaw")
	if err != nil {
		return err
	}
	m.MatcherSetsRaw = raw // explain shows it
	return m.matchers.FromInterface(loaded)
}

// matches reports whether the request matches. A matcher that fails counts as
// not matching, with the error for the log.
func (m *MatcherRule) matches(r *http.Request) (bool, error) {
	return m.matchers.AnyMatchWithError(r)
}

// validate checks what the parser of the Caddyfile has checked already, for
// configurations in JSON.
func (p *Policy) validate() error {
	for _, ttl := range p.ttls() {
		if ttl.Duration < 0 {
			return fmt.Errorf("ttl %s is negative", time.Duration(ttl.Duration))
		}
	}
	if p.Jitter != nil && (*p.Jitter < 0 || *p.Jitter > 100) {
		return fmt.Errorf("jitter %v is not between 0 and 100 percent", *p.Jitter)
	}
	if p.MaxBody < 0 {
		return fmt.Errorf("max_body %d is negative", p.MaxBody)
	}
	if p.ByUser != "" && !strings.Contains(p.ByUser, "{") {
		return fmt.Errorf("by_user: %q has no placeholder, so that every user would be the same", p.ByUser)
	}
	for option, names := range map[string][]string{"vary_header": p.VaryHeader, "targets": p.Targets} {
		for _, name := range names {
			if !rfc9111.IsToken(name) {
				return fmt.Errorf("%s: %q is not the name of a field", option, name)
			}
		}
	}
	if err := routes.ValidateCredentialHeaders(p.CredentialHeaders); err != nil {
		return err
	}
	if p.Key != nil {
		if err := p.Key.validate(); err != nil {
			return err
		}
	}
	if p.VaryQuery != nil {
		if err := validateQuery(p.VaryQuery); err != nil {
			return err
		}
	}
	for _, rule := range p.TTLStatus {
		if err := rule.validate(); err != nil {
			return err
		}
	}
	for _, m := range p.Methods {
		if m != http.MethodGet && m != http.MethodHead && !engine.IsBodyMethod(m) {
			return fmt.Errorf("methods: %q cannot be cached: GET, HEAD, POST and QUERY can", m)
		}
	}
	if len(p.Methods) > 0 && !slices.Contains(p.Methods, http.MethodGet) {
		return errors.New("methods: GET is missing: HEAD is answered from stored responses to GET")
	}
	if h := p.Heuristic; h != nil && (h.Percent < 1 || h.Percent > 100 || h.Max <= 0) {
		return fmt.Errorf("heuristic: %d percent, at most %s: want 1 to 100 percent and a duration", h.Percent, time.Duration(h.Max))
	}
	if p.staleWhileRevalidate() < 0 || p.staleIfError() < 0 || p.VaryBody < 0 {
		return errors.New("stale_while_revalidate, stale_if_error and vary_body must not be negative")
	}
	for _, rule := range p.Invalidate {
		if err := rule.Selectors.validate(); err != nil {
			return fmt.Errorf("invalidate: %w", err)
		}
	}
	for _, rule := range p.DiagnosticsRules {
		if err := oneOf("diagnostics", rule.Level, diagnosticLevels); err != nil {
			return err
		}
	}
	return errors.Join(
		p.Encode.validate(),
		oneOf("diagnostics", cmp.Or(p.Diagnostics, diagnosticsFull), diagnosticLevels),
		oneOf("set_cookie", cmp.Or(p.SetCookie, setCookieRefuse), setCookieModes),
		oneOf("coalesce", cmp.Or(p.Coalesce, optionOn), onOff),
		oneOf("refresh_ahead", cmp.Or(p.RefreshAhead, optionOff), onOff),
		oneOf("client_cache_control", cmp.Or(p.ClientCacheControl, clientIgnore), clientModes),
		oneOf("unsafe_invalidates", cmp.Or(p.UnsafeInvalidates, optionOn), onOff),
	)
}

// validateMerged checks options that go together, which a namespace and its
// directives may set apart: without vary_body all bodies would share one stored
// response.
func (p *Policy) validateMerged() error {
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

func validateStatuses(statuses []int) error {
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

func (t *TTLStatus) validate() error {
	for _, s := range t.Status {
		if slices.Contains(neverStored, s) {
			return fmt.Errorf("ttl status: responses with status %d must not be stored", s)
		}
	}
	return validateStatuses(t.Status)
}

func oneOf(option, value string, allowed []string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return fmt.Errorf("%s: unknown value %q, want one of %v", option, value, allowed)
}

// The values of options.
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
)

var (
	diagnosticLevels = []string{diagnosticsFull, diagnosticsMinimal, diagnosticsOff}
	clientModes      = []string{clientIgnore, clientHonor}
	onOff            = []string{optionOn, optionOff}
	setCookieModes   = []string{setCookieRefuse, setCookieStrip, setCookieStore}
)

// matchesBypass reports whether bypass matches. A matcher that cannot decide must not let
// a response be shared.
func (p *Policy) matchesBypass(r *http.Request) bool {
	return slices.ContainsFunc(p.Bypass, func(rule *MatcherRule) bool {
		ok, err := rule.matches(r)
		return ok || err != nil
	})
}

// names reports whether the rule is about a status.
func (t *TTLStatus) names(status int) bool {
	return slices.ContainsFunc(t.Status, func(s int) bool {
		if s == 4 && !slices.Contains(urlErrors, status) {
			return false
		}
		return caddyhttp.StatusCodeMatches(status, s)
	})
}

// urlErrors are the 4xx that are about the URL. The others a client can provoke by
// what it sends, for everybody who asks next; the class does not mean them.
var urlErrors = []int{http.StatusNotFound, http.StatusGone, http.StatusRequestURITooLong}

// noStore reports whether a no_store rule matches the response.
func (p *Policy) noStore(status int, header http.Header) bool {
	return slices.ContainsFunc(p.NoStore, func(m caddyhttp.ResponseMatcher) bool {
		return m.Match(status, header)
	})
}

// diagnosticsFor is the level for this request.
func (p *Policy) diagnosticsFor(r *http.Request) engine.Diagnostics {
	level := p.Diagnostics
	for _, rule := range p.DiagnosticsRules {
		if ok, err := rule.matches(r); ok && err == nil {
			level = rule.Level
			break
		}
	}
	switch level {
	case diagnosticsMinimal:
		return engine.DiagnosticsMinimal
	case diagnosticsOff:
		return engine.DiagnosticsOff
	}
	return engine.DiagnosticsFull
}

// ignoresCookie reports whether a cookie carries no identity.
func (p *Policy) ignoresCookie(name string) bool {
	return matchesAny(analyticsCookies, name) || matchesAny(p.IgnoreCookies, name)
}

func (p *Policy) methods() []string {
	return firstNonEmpty(p.Methods, []string{http.MethodGet, http.MethodHead})
}

func (p *Policy) maxBody() int64 { return cmp.Or(p.MaxBody, engine.DefaultMaxBody) }

func (p *Policy) setCookie() string { return cmp.Or(p.SetCookie, setCookieRefuse) }

func (p *Policy) varyBody() int64 { return cmp.Or(p.VaryBody, engine.DefaultVaryBody) }

func (p *Policy) staleWhileRevalidate() time.Duration {
	if p.StaleWhileRevalidate == nil {
		return 0
	}
	return time.Duration(*p.StaleWhileRevalidate)
}

func (p *Policy) staleIfError() time.Duration {
	if p.StaleIfError == nil {
		return engine.DefaultStaleIfError
	}
	return time.Duration(*p.StaleIfError)
}

func (p *Policy) targets() []string { return firstNonEmpty(p.Targets, engine.DefaultTargets) }
