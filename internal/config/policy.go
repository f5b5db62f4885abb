// Package config is what users write about the cache: the options of the app and of the
// policies, in JSON and in a Caddyfile, how they are checked and merged, and how a policy
// becomes a route of the engine.
package config

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gplus-recycling/caddy-redis-cache/internal/cachekey"
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

	matchers caddyhttp.MatcherSets // loaded
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

// Encode says how stored responses are compressed in Redis. Memory holds them
// as they are sent.
type Encode struct {
	// `zstd` or `off`. Responses with a Content-Encoding, and those that would
	// hardly get smaller, are never compressed. Default: zstd.
	Format string `json:"format,omitempty"`

	// The size in bytes from which bodies are compressed. Smaller ones are
	// compressed as soon as the namespace has a dictionary for them. Default:
	// 1 KiB.
	MinSize int64 `json:"min_size,omitempty"`
}
