package engine

import (
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/cachekey"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
)

// Route is what a configuration says about some requests. It is set by provisioning and
// never changed after.
type Route struct {
	Cache *Cache
	Log   *slog.Logger

	// Key is what keys are made of; its namespace is the route's.
	Key cachekey.Spec
	// Secret is the key of the hash by which users go into keys.
	Secret []byte
	// Disabled reports whether the cache is switched off now.
	Disabled func() bool
	// Strict sends requests to the upstream while the node cannot know of purges.
	Strict bool

	// Methods are those whose responses are cached. Default: GET and HEAD.
	Methods []string
	// Bypass reports whether a request is neither looked up nor stored; params, whether
	// segments of its path have parameters, which matchers and the upstream may read
	// differently. Nil: no request.
	Bypass func(r *http.Request, params bool) bool
	// Lifetime is the configured lifetime for the responses to a request, or nil. Nil:
	// none for any.
	Lifetime func(r *http.Request, params bool) *TTL
	// StatusLifetime is that of a response, or nil. ofRequest is that of its request.
	StatusLifetime func(status int, ofRequest *TTL) *TTL
	// Jitter is the share of a configured lifetime, in percent, that is taken off at random.
	Jitter float64
	// HeuristicPercent is the share of the time since a response was modified for which it
	// stays fresh, for at most HeuristicMax, RFC 9111 section 4.2.2. 0: none.
	HeuristicPercent int
	HeuristicMax     time.Duration
	// The windows of responses that state none, RFC 5861.
	StaleWhileRevalidate, StaleIfError time.Duration
	// Targets are the fields that take the place of Cache-Control, RFC 9213.
	Targets []string
	// HonorsClient tells whether Cache-Control of requests is honoured, RFC 9111 section
	// 5.2.1. only-if-cached always is.
	HonorsClient bool
	// Refuses reports whether a response is passed on without being stored. Nil: none.
	Refuses func(status int, header http.Header) bool
	// MaxBody is the size of the largest body that is stored, in bytes.
	MaxBody int64
	// VaryBody is that of the largest request body that is part of a key.
	VaryBody int64
	// SetCookie says what becomes of responses with Set-Cookie.
	SetCookie SetCookie
	// MinEncode is the size from which bodies are compressed in Redis; 0: never.
	MinEncode int

	// ByUser tells whether there is one stored response for each user, Shared whether
	// credentials do not matter.
	ByUser, Shared bool
	// IgnoresCookie reports whether a cookie says nothing of who asks.
	IgnoresCookie func(name string) bool

	// TagFields are the fields of a response that are read as tags, RemovedTagFields
	// those of them that clients do not see.
	TagFields, RemovedTagFields []string
	// PrivateKeys tells whether keys may hold what is not to be shown.
	PrivateKeys bool

	// Coalesce lets requests for one key wait for one fetch.
	Coalesce bool
	// RefreshAhead refreshes what is often asked for before it expires.
	RefreshAhead bool
	// UnsafeInvalidates lets successful answers to unsafe methods purge, RFC 9111 section 4.4.
	UnsafeInvalidates bool
	// Invalidations are what successful answers purge besides.
	Invalidations []Invalidation

	// Diagnostics is the level for a request.
	Diagnostics func(r *http.Request) Diagnostics
	// IsFailure tells an upstream that fails from one whose answer is an error, such as a
	// file that is not there.
	IsFailure func(err error) bool
	// IsIncremental reports whether a header asks for every piece of the body to be passed
	// on at once.
	IsIncremental func(header http.Header) bool
	// IdentityBelow is told of a request whose identity was found behind the cache, where
	// a hit would not ask for it.
	IdentityBelow func(path string)
	// Redirected is told of a redirect after which Invalidations purge.
	Redirected func(r *http.Request, up Upstream, header http.Header)
}

// TTL is a configured freshness lifetime.
type TTL struct {
	Duration time.Duration
	// Override replaces what the origin states: lifetimes, no-cache and no-store; private
	// only where there is one response for each user.
	Override bool
	// From names the line of the configuration, for explain.
	From string
}

// Invalidation is a rule by which successful answers purge.
type Invalidation struct {
	// Matches reports whether the rule holds for a request as it came in.
	Matches func(r *http.Request, unsafe bool) bool
	// Private tells whether its selectors may hold what is not to be shown.
	Private bool
}

// SetCookie says what becomes of a response with Set-Cookie.
type SetCookie uint8

// What becomes of a response with Set-Cookie.
const (
	RefuseCookies SetCookie = iota // it is not stored
	StripCookies                   // it is stored without the field
	StoreCookies                   // it is stored whole
)

// Diagnostics is how much of the cache's own fields an answer shows.
type Diagnostics uint8

// The levels of diagnostics. Age is always shown.
const (
	DiagnosticsFull    Diagnostics = iota
	DiagnosticsMinimal             // X-Cache
	DiagnosticsOff
)

// NewRoute returns a route with the defaults of every option, without templates and
// matchers.
func NewRoute(c *Cache, key cachekey.Spec) *Route {
	return &Route{
		Cache: c, Log: slog.New(slog.DiscardHandler), Key: key, Disabled: func() bool { return false },
		Methods:        []string{http.MethodGet, http.MethodHead},
		StatusLifetime: func(_ int, ofRequest *TTL) *TTL { return ofRequest }, Jitter: DefaultJitter,
		StaleIfError: DefaultStaleIfError, Targets: DefaultTargets,
		MaxBody: DefaultMaxBody, VaryBody: DefaultVaryBody, MinEncode: DefaultMinEncode,
		IgnoresCookie: func(string) bool { return false },
		TagFields:     DefaultTagFields, RemovedTagFields: DefaultTagFields,
		Coalesce: true, UnsafeInvalidates: true,
		Diagnostics:   func(*http.Request) Diagnostics { return DiagnosticsFull },
		IsFailure:     func(error) bool { return true },
		IsIncremental: func(http.Header) bool { return false },
		IdentityBelow: func(string) {},
		Redirected:    func(*http.Request, Upstream, http.Header) {},
	}
}

// The defaults of options.
const (
	DefaultJitter       = 5.0
	DefaultMaxBody      = 8 << 20
	DefaultVaryBody     = 64 << 10
	DefaultMinEncode    = 1 << 10
	DefaultStaleIfError = 10 * time.Minute
)

// DefaultTargets are the fields that take the place of Cache-Control, RFC 9213.
var DefaultTargets = []string{"CDN-Cache-Control"}

// DefaultTagFields are those in which applications state tags for other caches.
var DefaultTagFields = []string{
	"Surrogate-Key", "Cache-Tag", "Cache-Tags", "Xkey", "Edge-Cache-Tag", "X-Litespeed-Tag",
}

// Caches reports whether responses to a method are cached.
func (rt *Route) Caches(method string) bool { return slices.Contains(rt.Methods, method) }

// MethodQuery is a safe method with a body.
const MethodQuery = "QUERY"

// IsBodyMethod reports whether a cacheable method may have content.
func IsBodyMethod(method string) bool { return method == http.MethodPost || method == MethodQuery }

func (rt *Route) lifetime(r *http.Request, params bool) *TTL {
	if rt.Lifetime == nil {
		return nil
	}
	return rt.Lifetime(r, params)
}

func (rt *Route) bypasses(r *http.Request, params bool) bool {
	return rt.Bypass != nil && rt.Bypass(r, params)
}

// Upstream is what surrounds the cache, for one request: what handlers in front know of
// who asks, templates that read the request, and the handlers behind. Its methods are
// called by the goroutine of the request, or by that which fetches for it.
type Upstream interface {
	// Serve lets the handlers behind answer. It is called once for each request; an
	// upstream that breaks off panics with [http.ErrAbortHandler].
	Serve(w http.ResponseWriter, r *http.Request) error
	// Again makes of a request as it came in, or a changed copy of it, one that the
	// handlers behind have not seen.
	Again(came *http.Request, w http.ResponseWriter, body []byte) *http.Request
	// Nobody makes a request that nobody has sent of one as it came in, for a fetch in the
	// background: what is stored for everybody must not be what one of them got. outcome is
	// what its placeholders read. It returns nil for a request that nobody could not have
	// sent.
	Nobody(came *http.Request, w http.ResponseWriter, body []byte, outcome func() *Outcome) (*http.Request, Upstream)
	// Presents reports whether the request carries what may get it more than nobody gets.
	Presents(r *http.Request) bool
	// Unstorable reports whether the handlers behind have read what nobody does not have.
	Unstorable() bool

	// UserID is the identity that authentication has found by now, or "".
	UserID() string
	// Identity names what handlers in front, or the client, have written into the request
	// that tells who asks, or "".
	Identity(r *http.Request) string
	// User is the identity by which stored responses are kept apart, or "".
	User() string
	// Identifier is the identifier of the key, where the route has a template for it. If
	// a placeholder that must have one has no value, it is named; ok is false then, and
	// where the template cannot be read.
	Identifier() (identifier, missing string, ok bool)
	// Tags are those of the templates of the route, for the response at hand.
	Tags() []string
	// Selectors are what an invalidation of the route purges, by its place.
	Selectors(invalidation int) []journal.Selector
}
