package rediscache

import (
	"slices"

	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
)

// Outcome says how a request was answered. Header, statistics and placeholders
// read the same value.
type Outcome uint8

// The outcomes, as X-Cache shows them.
const (
	OutcomeBypass      Outcome = iota // the cache took no part
	OutcomeMiss                       // answered by the upstream
	OutcomeHit                        // answered from a stored response
	OutcomeStale                      // answered from a stale stored response
	OutcomeRevalidated                // answered from a stored response that the upstream confirmed
	numOutcomes
)

var outcomeNames = [numOutcomes]string{"BYPASS", "MISS", "HIT", "STALE", "REVALIDATED"}

func (o Outcome) String() string { return outcomeNames[o] }

// Reason says why a request was not a hit, or why its response was not stored.
type Reason uint8

// The reasons that the cache itself gives; those that come from the HTTP rules
// follow from refused.
const (
	ReasonNone             Reason = iota
	ReasonDisabled                // the cache is switched off
	ReasonMethod                  // a method that the route does not cache
	ReasonRequestBody             // a GET or HEAD with content
	ReasonUpgrade                 // the request asks for another protocol
	ReasonOverrideField           // the request carries a field by which an origin may change method or URL
	ReasonAmbiguousPath           // matchers and the origin may read the path differently
	ReasonMatcher                 // the option bypass matched
	ReasonGraphQL                 // a GraphQL request changes something, or is not readable, or its answer tells of errors
	ReasonNoIdentity              // by_user, or a placeholder of an exact key, has no value
	ReasonKeyTooLong              // the identifier is larger than maxIdentifier
	ReasonCredentials             // the response may not be shared and the request carried credentials
	ReasonIdentityBelow           // an authentication handler below the cache gave the request an identity
	ReasonUnproven                // the node cannot know of every purge, and may not answer from its store
	ReasonAbsent                  // nothing is stored under the key
	ReasonVariant                 // responses are stored, but none for these request fields
	ReasonExpired                 // what is stored is no longer fresh
	ReasonRequestDirective        // the request's Cache-Control does not accept what is stored, or forbids to store
	ReasonOnlyIfCached            // the request accepts a stored response only, and there is none
	ReasonPrecondition            // the 412 is about the conditions of this client
	ReasonRange                   // a range of something that is not stored
	ReasonNoStoreRule             // the option no_store matched
	ReasonTypeMismatch            // the type contradicts the extension, and only the configuration gives a lifetime
	ReasonSetCookie               // the response sets a cookie
	ReasonTooLarge                // the body is larger than max_body
	ReasonStreaming               // the response wants to be flushed at once
	ReasonTrailers                // the response has trailers
	ReasonTagLimit                // the response has too many tags
	ReasonVariantLimit            // the URL has too many variants
	ReasonError                   // the upstream gave an error, or no response at all
	ReasonIncomplete              // the response broke off, or its client gave it up
	ReasonOverload                // too much is kept already for clients that read slowly
	numReasons
)

var reasonNames = [numReasons]string{
	"", "disabled", "method", "request-body", "upgrade", "override-field", "ambiguous-path", "bypass-rule", "graphql", "no-identity",
	"key-too-long", "credentials", "identity-below", "unproven", "absent", "variant", "expired",
	"request-directive", "only-if-cached", "precondition", "range", "no-store-rule", "type-mismatch", "set-cookie", "too-large", "streaming",
	"trailers", "tag-limit", "variant-limit", "error", "incomplete", "overload",
}

// firstRefusal is where the refusals of the HTTP rules begin among the reasons.
const firstRefusal = 128

// refused is the reason for a refusal of the HTTP rules.
func refused(r rfc9111.Refusal) Reason { return firstRefusal + Reason(r) }

func (r Reason) String() string {
	if r >= firstRefusal {
		return rfc9111.Refusal(r - firstRefusal).String()
	}
	return reasonNames[r]
}

// ofResponse reports whether the reason lies in the response and the rules of the
// route, so that it holds whoever asks.
func (r Reason) ofResponse() bool {
	return r >= firstRefusal || slices.Contains(responseReasons, r)
}

var responseReasons = []Reason{
	ReasonNoStoreRule, ReasonTypeMismatch, ReasonSetCookie, ReasonTooLarge, ReasonStreaming, ReasonTrailers, ReasonTagLimit,
}

// unshared reports whether the reason tells that other requests could not have
// the response either, so that they need not wait for the next one.
func (r Reason) unshared() bool {
	return r >= firstRefusal || slices.Contains(unsharedReasons, r)
}

var unsharedReasons = []Reason{
	ReasonGraphQL, ReasonCredentials, ReasonIdentityBelow, ReasonNoStoreRule, ReasonTypeMismatch, ReasonSetCookie, ReasonTooLarge,
	ReasonStreaming, ReasonTrailers, ReasonTagLimit, ReasonVariantLimit,
}
