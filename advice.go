package rediscache

import "github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"

// reasonAdvice is what would have to change for a hit, by reason.
var reasonAdvice = [numReasons]string{
	ReasonNone:             "Nothing: it is a hit.",
	ReasonDisabled:         "Switch the cache on: caddy redis-cache enable, or POST /redis_cache/enable.",
	ReasonMethod:           "Use GET or HEAD, or name the method in methods, those with a body together with vary_body.",
	ReasonRequestBody:      "Send no content with GET or HEAD; for POST and QUERY keep it below vary_body.",
	ReasonUpgrade:          "Send no Upgrade field: another protocol cannot be cached.",
	ReasonOverrideField:    "Remove the field that overrides method or URL, such as X-HTTP-Method-Override, X-Original-URL or X-Middleware-Subrequest, or Connection if it names fields, in front of the cache.",
	ReasonAmbiguousPath:    "Ask for the path as it is meant: without . and .. segments, backslashes, and parameters behind ; in front of its last segment.",
	ReasonMatcher:          "Narrow the matcher of the option bypass, which matches this request.",
	ReasonGraphQL:          "Send queries as whole documents, and mutations as they are: they run each time. Or let the origin state a lifetime for what it answers to a hash alone, or with errors.",
	ReasonNoIdentity:       "Authenticate the request before the cache, or let it have what by_user or key … exact reads.",
	ReasonKeyTooLong:       "Shorten the URL or the key template: identifiers end at 8 KiB.",
	ReasonCredentials:      "Let the origin answer with public where everybody may have the response; where it is about who asks, use by_user, or vary_cookie or vary_header for what it depends on. shared, ignore_cookies and credential_headers -<name> give to all what one was answered: only where that is the same for everybody.",
	ReasonIdentityBelow:    "Put authentication in front of redis_cache.",
	ReasonUnproven:         "Make Redis reachable, and wait until the node has caught up with the journal.",
	ReasonAbsent:           "Ask once: the first answer that may be stored makes the next request a hit.",
	ReasonVariant:          "Ask once with these request fields, or let the origin name fewer fields in Vary.",
	ReasonExpired:          "Give it a longer lifetime, or a window of stale_while_revalidate; the next answer makes it fresh.",
	ReasonRequestDirective: "Leave out the request's Cache-Control, or set client_cache_control ignore.",
	ReasonOnlyIfCached:     "Leave out only-if-cached, so that the response can be fetched.",
	ReasonPrecondition:     "Ask once without conditions: what answers a request with them is not stored.",
	ReasonRange:            "Ask for the whole once: ranges are answered from what is stored.",
	ReasonNoStoreRule:      "Narrow the option no_store, which matches the response.",
	ReasonTypeMismatch:     "Let the origin state a lifetime, or a type that fits the extension in the URL.",
	ReasonSetCookie:        "Let the origin set no cookie here: it has made the response for one visitor. set_cookie strip and store give it to all, with its token against forged requests (CSRF) if it has one, and the forms of the others fail.",
	ReasonTooLarge:         "Raise max_body, or make the response smaller.",
	ReasonStreaming:        "Let the origin answer without streaming: event streams are passed on.",
	ReasonTrailers:         "Let the origin send no trailers.",
	ReasonTagLimit:         "Let the origin send fewer or shorter tags.",
	ReasonVariantLimit:     "Let the origin name fewer fields in Vary, or normalise them in front of the cache.",
	ReasonError:            "Mend the origin: it gave an error or no response.",
	ReasonOverload:         "Wait: slow clients keep the memory that copies of responses may take.",
	ReasonIncomplete:       "Mend the origin or the network: the response broke off, or its client gave it up.",
}

// refusalAdvice is advice for the refusals of the HTTP rules.
var refusalAdvice = map[rfc9111.Refusal]string{
	rfc9111.RefusalNone:           "Nothing: the response may be stored.",
	rfc9111.RefusalStatus:         "Let the origin answer with another status: this one is never stored.",
	rfc9111.RefusalPartial:        "Ask for the whole: partial responses are not stored.",
	rfc9111.RefusalMustUnderstand: "Let the origin leave out must-understand, or use a status that the cache knows.",
	rfc9111.RefusalNoStore:        "Let the origin leave out no-store, or use ttl … override.",
	rfc9111.RefusalPrivate:        "Let the origin leave out private, or use ttl … override together with by_user.",
	rfc9111.RefusalVaryAny:        "Let the origin name the fields in Vary in place of *, and none that proxies set for each client.",
	rfc9111.RefusalNoCache:        "Let the origin leave out no-cache or send a validator, or use ttl … override.",
	rfc9111.RefusalNoLifetime:     "Let the origin state a lifetime, or use ttl or heuristic.",
	rfc9111.RefusalExpired:        "Let the origin state a lifetime that is longer than the age, or use ttl … override.",
}

// reasonLine is the line of redis_cache that lets such responses be stored, where there
// is one that gives nobody what is somebody else's.
var reasonLine = [256]string{
	ReasonMethod:           "methods GET HEAD POST, together with vary_body",
	ReasonRequestDirective: "client_cache_control ignore",
	ReasonTooLarge:         "max_body 64MiB",

	firstRefusal + Reason(rfc9111.RefusalNoStore):    "ttl 5m override, limited by a matcher to where the origin is wrong",
	firstRefusal + Reason(rfc9111.RefusalPrivate):    "by_user {http.auth.user.id}, together with ttl 5m override",
	firstRefusal + Reason(rfc9111.RefusalNoCache):    "ttl 5m override, limited by a matcher to where the origin is wrong",
	firstRefusal + Reason(rfc9111.RefusalNoLifetime): "ttl 5m",
	firstRefusal + Reason(rfc9111.RefusalExpired):    "ttl 5m override, limited by a matcher to where the origin is wrong",
}

// advice is about an explained request.
func (x *exchange) advice(what act) string {
	because := x.reason
	if what == actFetch {
		switch never := x.unstored(); {
		case because != ReasonAbsent && because != ReasonVariant && because != never:
		case never == ReasonMethod:
			return "Ask with GET: its response is stored, and answers HEAD, too."
		case never != ReasonNone:
			because = never
		case x.why != ReasonNone:
			because = x.why
		}
	}
	switch {
	case because == ReasonDisabled && !x.h.app.enabled:
		return "Leave out what switches the cache off in the configuration: the global option enabled, or REDIS_CACHE_ENABLED."
	case because == ReasonUnproven && x.h.app.Consistency == consistencyStrict:
		return adviceFor(because) + " With consistency available it answers from memory meanwhile."
	case because == ReasonExpired && x.soft:
		return "Nothing: a soft purge made it stale, and the next answer makes it fresh."
	}
	return adviceFor(because)
}

func adviceFor(r Reason) string {
	if r >= firstRefusal {
		return refusalAdvice[rfc9111.Refusal(r-firstRefusal)]
	}
	return reasonAdvice[r]
}
