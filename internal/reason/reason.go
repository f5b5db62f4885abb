// Package reason is the table of reasons: why a request was not a hit, or why its response
// was not stored. Header, log, statistics, explain and the page of reasons in the
// documentation read it. It knows nothing of requests: begin to read at the entries.
package reason

import "github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"

// Reason says why a request was not a hit, or why its response was not stored. Its
// numbers hold within one process only; what leaves it is the name.
type Reason uint8

// entry is all that is known of a reason. A new reason is one more entry below,
// and `go test -run TestReasonsPage -update .` for the page in docs.
type entry struct {
	name    string
	fwd     string // the word of RFC 9211, section 2.2, for what goes upstream because of it; "" for bypass
	classes Class
	meaning string // a sentence for the page of reasons
	advice  string // what would have to change for a hit, in a sentence
	line    string // the line of redis_cache that lets such responses be stored, where one gives nobody what is somebody else's
}

// Class is a set of what holds for a reason.
type Class uint8

const (
	OfResponse  Class = 1 << iota // it lies in the response and the rules of the route, so it holds whoever asks
	NotShared                     // other requests could not have the response either, so they need not wait for the next one
	FetchMends                    // what is fetched because of it will be stored
	Passes                        // it passes by itself, or no line of the policy changes it
	Wanted                        // the policy itself has given it
	NotMeasured                   // no configuration lets the request be cached, or the one at hand keeps it out: it says nothing about an endpoint
)

// None says that there is no reason: it was a hit.
const None Reason = 0

// table is indexed by Reason; define adds to it.
var table = []entry{None: {
	classes: FetchMends,
	advice:  "Nothing: it is a hit.",
}}

func define(e entry) Reason {
	table = append(table, e)
	return Reason(len(table) - 1)
}

// What keeps a request from the cache.
var (
	Disabled = define(entry{
		name:    "disabled",
		classes: Passes | NotMeasured,
		meaning: "The cache is switched off, at run time or by `enabled` in the configuration.",
		advice:  "Switch the cache on: caddy redis-cache enable, or POST /redis_cache/enable.",
	})
	Method = define(entry{
		name:    "method",
		fwd:     "method",
		classes: Wanted | NotMeasured,
		meaning: "The route does not cache the method, or stores no answer to it (HEAD).",
		advice:  "Use GET or HEAD, or name the method in methods, those with a body together with vary_body.",
		line:    "methods GET HEAD POST, together with vary_body",
	})
	RequestBody = define(entry{
		name:    "request-body",
		classes: NotMeasured,
		meaning: "A GET or HEAD with content, or a body larger than `vary_body`.",
		advice:  "Send no content with GET or HEAD; for POST and QUERY keep it below vary_body.",
	})
	Upgrade = define(entry{
		name:    "upgrade",
		classes: Wanted | NotMeasured,
		meaning: "The request asks for another protocol, such as WebSocket.",
		advice:  "Send no Upgrade field: another protocol cannot be cached.",
	})
	OverrideField = define(entry{
		name:    "override-field",
		classes: NotMeasured,
		meaning: "The request carries a field by which some origins change method or URL, or which only a framework's own proxy sends, or a field named in Connection.",
		advice:  "Remove the field that overrides method or URL, such as X-HTTP-Method-Override, X-Original-URL or X-Middleware-Subrequest, or Connection if it names fields, in front of the cache.",
	})
	AmbiguousPath = define(entry{
		name:    "ambiguous-path",
		classes: NotMeasured,
		meaning: "Matchers and the origin may read the path differently: `..`, backslashes, `;` before the last segment, however escaped.",
		advice:  "Ask for the path as it is meant: without . and .. segments, backslashes, and parameters behind ; in front of its last segment.",
	})
	Matcher = define(entry{
		name:    "bypass-rule",
		classes: Wanted | NotMeasured,
		meaning: "The option `bypass` matches.",
		advice:  "Narrow the matcher of the option bypass, which matches this request.",
	})
	GraphQL = define(entry{
		name:    "graphql",
		classes: NotShared | NotMeasured,
		meaning: "A GraphQL mutation or subscription; or `unreadable`, a request that does not say what it asks, or `errors`, an answer that tells of them, where only `ttl` gives a lifetime.",
		advice:  "Send queries as whole documents, and mutations as they are: they run each time. Or let the origin state a lifetime for what it answers to a hash alone, or with errors.",
	})
	NoIdentity = define(entry{
		name:    "no-identity",
		meaning: "`by_user`, or a placeholder of an exact key, has no value.",
		advice:  "Authenticate the request before the cache, or let it have what by_user or key … exact reads.",
	})
	KeyTooLong = define(entry{
		name:    "key-too-long",
		meaning: "The identifier is longer than 8 KiB.",
		advice:  "Shorten the URL or the key template: identifiers end at 8 KiB.",
	})
)

// What keeps a request from being answered with what is stored.
var (
	Credentials = define(entry{
		name:    "credentials",
		fwd:     "request",
		classes: NotShared,
		meaning: "The request carries [credentials](safety.md#credentials), and nothing says that the response may be shared.",
		advice:  "Let the origin answer with public where everybody may have the response; where it is about who asks, use by_user, or vary_cookie or vary_header for what it depends on. shared, ignore_cookies and credential_headers -<name> give to all what one was answered: only where that is the same for everybody.",
	})
	IdentityBelow = define(entry{
		name:    "identity-below",
		classes: NotShared,
		meaning: "A handler behind the cache has authenticated the request.",
		advice:  "Put authentication in front of redis_cache.",
	})
	Unproven = define(entry{
		name:    "unproven",
		classes: Passes,
		meaning: "The node cannot know of every purge, so it may not answer from its store: not yet, or, with `consistency strict`, not while Redis is away.",
		advice:  "Make Redis reachable, and wait until the node has caught up with the journal.",
	})
	Absent = define(entry{
		name:    "absent",
		fwd:     "uri-miss",
		classes: FetchMends,
		meaning: "Nothing is stored under the key.",
		advice:  "Ask once: the first answer that may be stored makes the next request a hit.",
	})
	Variant = define(entry{
		name:    "variant",
		fwd:     "vary-miss",
		classes: FetchMends,
		meaning: "Responses are stored, but none for these request fields.",
		advice:  "Ask once with these request fields, or let the origin name fewer fields in Vary.",
	})
	Expired = define(entry{
		name:    "expired",
		fwd:     "stale",
		classes: FetchMends,
		meaning: "What is stored is stale.",
		advice:  "Give it a longer lifetime, or a window of stale_while_revalidate; the next answer makes it fresh.",
	})
	RequestDirective = define(entry{
		name:    "request-directive",
		fwd:     "request",
		meaning: "Cache-Control of the request, where `client_cache_control honor` is set, does not accept what is stored, or forbids to store.",
		advice:  "Leave out the request's Cache-Control, or set client_cache_control ignore.",
		line:    "client_cache_control ignore",
	})
	OnlyIfCached = define(entry{
		name:    "only-if-cached",
		classes: FetchMends,
		meaning: "The request forbids to ask the origin, and nothing stored answers it: 504.",
		advice:  "Leave out only-if-cached, so that the response can be fetched.",
	})
	Precondition = define(entry{
		name:    "precondition",
		meaning: "What answers a request with conditions, such as If-None-Match, is not stored.",
		advice:  "Ask once without conditions: what answers a request with them is not stored.",
	})
	Range = define(entry{
		name:    "range",
		meaning: "A range of something that is not stored.",
		advice:  "Ask for the whole once: ranges are answered from what is stored.",
	})
)

// What keeps a response from being stored.
var (
	NoStoreRule = define(entry{
		name:    "no-store-rule",
		classes: OfResponse | NotShared | Wanted,
		meaning: "The option `no_store` matches.",
		advice:  "Narrow the option no_store, which matches the response.",
	})
	TypeMismatch = define(entry{
		name:    "type-mismatch",
		classes: OfResponse | NotShared,
		meaning: "The type contradicts the extension in the URL, and only `ttl` gives a lifetime.",
		advice:  "Let the origin state a lifetime, or a type that fits the extension in the URL.",
	})
	SetCookie = define(entry{
		name:    "set-cookie",
		classes: OfResponse | NotShared,
		meaning: "The response sets a cookie: it was made for one visitor.",
		advice:  "Let the origin set no cookie here: it has made the response for one visitor. set_cookie strip and store give it to all, with its token against forged requests (CSRF) if it has one, and the forms of the others fail.",
	})
	TooLarge = define(entry{
		name:    "too-large",
		classes: OfResponse | NotShared,
		meaning: "The body is larger than `max_body`, or the fields are larger than 128 KiB.",
		advice:  "Raise max_body, or make the response smaller.",
		line:    "max_body 64MiB",
	})
	Streaming = define(entry{
		name:    "streaming",
		classes: OfResponse | NotShared,
		meaning: "An event stream, pushed images (`multipart/x-mixed-replace`) or a response that says Incremental.",
		advice:  "Let the origin answer without streaming: event streams are passed on.",
	})
	Trailers = define(entry{
		name:    "trailers",
		classes: OfResponse | NotShared,
		meaning: "The response has trailers.",
		advice:  "Let the origin send no trailers.",
	})
	TagLimit = define(entry{
		name:    "tag-limit",
		classes: OfResponse | NotShared,
		meaning: "The response has more than 128 tags, or one longer than 1 KiB.",
		advice:  "Let the origin send fewer or shorter tags.",
	})
	VariantLimit = define(entry{
		name:    "variant-limit",
		classes: NotShared,
		meaning: "The URL has more than 64 variants.",
		advice:  "Let the origin name fewer fields in Vary, or normalise them in front of the cache.",
	})
	Error = define(entry{
		name:    "error",
		classes: Passes,
		meaning: "The origin gave an error, or no response at all; with STALE, a stored response stood in.",
		advice:  "Mend the origin: it gave an error or no response.",
	})
	Incomplete = define(entry{
		name:    "incomplete",
		classes: Passes,
		meaning: "The response broke off, or its client gave it up.",
		advice:  "Mend the origin or the network: the response broke off, or its client gave it up.",
	})
	Overload = define(entry{
		name:    "overload",
		classes: Passes,
		meaning: "Too much is kept already for clients that read slowly; it passes.",
		advice:  "Wait: slow clients keep the memory that copies of responses may take.",
	})
)

// What the HTTP rules refuse: rfc9111 gives these their names.
var (
	Status = refusal(rfc9111.RefusalStatus, entry{
		meaning: "A status that is never stored.",
		advice:  "Let the origin answer with another status: this one is never stored.",
	})
	Partial = refusal(rfc9111.RefusalPartial, entry{
		meaning: "206, a part of something.",
		advice:  "Ask for the whole: partial responses are not stored.",
	})
	MustUnderstand = refusal(rfc9111.RefusalMustUnderstand, entry{
		meaning: "The origin says must-understand, and the cache does not know the status.",
		advice:  "Let the origin leave out must-understand, or use a status that the cache knows.",
	})
	NoStore = refusal(rfc9111.RefusalNoStore, entry{
		meaning: "The origin's Cache-Control says no-store.",
		advice:  "Let the origin leave out no-store, or use ttl … override.",
		line:    "ttl 5m override, limited by a matcher to where the origin is wrong",
	})
	Private = refusal(rfc9111.RefusalPrivate, entry{
		meaning: "The origin's Cache-Control says private.",
		advice:  "Let the origin leave out private, or use ttl … override together with by_user.",
		line:    "by_user {http.auth.user.id}, together with ttl 5m override",
	})
	VaryAny = refusal(rfc9111.RefusalVaryAny, entry{
		meaning: "`Vary: *`, or Vary on what proxies set for each client.",
		advice:  "Let the origin name the fields in Vary in place of *, and none that proxies set for each client.",
	})
	NoCache = refusal(rfc9111.RefusalNoCache, entry{
		meaning: "The origin's Cache-Control says no-cache, and there is no validator.",
		advice:  "Let the origin leave out no-cache or send a validator, or use ttl … override.",
		line:    "ttl 5m override, limited by a matcher to where the origin is wrong",
	})
	NoLifetime = refusal(rfc9111.RefusalNoLifetime, entry{
		meaning: "Neither the origin nor the policy states a lifetime.",
		advice:  "Let the origin state a lifetime, or use ttl or heuristic.",
		line:    "ttl 5m",
	})
	StaleOnArrival = refusal(rfc9111.RefusalExpired, entry{
		meaning: "The response was stale when it came.",
		advice:  "Let the origin state a lifetime that is longer than the age, or use ttl … override.",
		line:    "ttl 5m override, limited by a matcher to where the origin is wrong",
	})
)

// refusals are the reasons for the refusals of the HTTP rules, indexed by these.
var refusals [16]Reason

func refusal(r rfc9111.Refusal, e entry) Reason {
	e.name = r.String()
	e.classes |= OfResponse | NotShared
	refusals[r] = define(e)
	return refusals[r]
}

// All returns every reason but None.
func All() []Reason {
	all := make([]Reason, 0, len(table)-1)
	for r := None + 1; int(r) < len(table); r++ {
		all = append(all, r)
	}
	return all
}

// Refused is the reason for a refusal of the HTTP rules.
func Refused(r rfc9111.Refusal) Reason { return refusals[r] }

func (r Reason) String() string { return table[r].name }

// Fwd is the word of RFC 9211, section 2.2, for a request that goes upstream because of it.
func (r Reason) Fwd() string {
	if word := table[r].fwd; word != "" {
		return word
	}
	return "bypass"
}

// Meaning is a sentence of Markdown that says what the reason is.
func (r Reason) Meaning() string { return table[r].meaning }

// Advice says in a sentence what would have to change for a hit.
func (r Reason) Advice() string { return table[r].advice }

// Line is the line of redis_cache that lets such responses be stored, or "".
func (r Reason) Line() string { return table[r].line }

func (r Reason) Is(c Class) bool { return table[r].classes&c != 0 }
