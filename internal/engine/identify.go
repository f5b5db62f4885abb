package engine

import (
	"net/http"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/cachekey"
	"github.com/gplus-recycling/caddy-redis-cache/internal/graphql"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/reason"
	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc3986"
	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
)

// Request is a request as the cache knows it. It is set by identify and never changed
// after; only HTTP is what the handlers behind will make of it.
type Request struct {
	Route    *Route
	Upstream Upstream
	HTTP     *http.Request

	Began       time.Time
	Method      string
	Target      cachekey.Target // what is asked for, as the client has written it
	Diagnostics Diagnostics

	// Why the cache takes no part, and what that is about. Without a reason, what follows is set.
	Bypass reason.Reason
	Detail string

	Key         cachekey.Key // of the URL, without a variant
	User        string       // hash of the identity, with by_user
	UserID      string       // what authentication in front has found
	Credentials Credentials

	Directives   *rfc9111.Directives // where its Cache-Control is honoured
	OnlyIfCached bool                // RFC 9111 section 5.2.1.7
	NoStore      bool                // it forbids to store, section 5.2.1.5

	Body       []byte       // part of the key, with vary_body
	Operation  graphql.Kind // of a request with such a body
	Unread     bool         // the body is too large for that
	AnswersGet bool         // a POST whose response may answer GET

	// What the journal had applied when it came: whatever is fetched from now on is
	// covered by every later purge.
	Position journal.Position

	invalidations []int  // of the route, that a successful answer carries out
	ended         uint64 // flights before the look
}

// identify finds out everything that can be known of a request without looking for what is
// stored.
func (q *Request) identify(rt *Route, r *http.Request, up Upstream, target *cachekey.Target, now time.Time) {
	q.Route, q.Upstream, q.HTTP, q.Began, q.Method = rt, up, r, now, r.Method
	q.Position = rt.Cache.Journal.Position()
	q.ended = rt.Cache.flights.Ended()
	q.Target = *target
	q.Diagnostics = rt.Diagnostics(r)
	q.Bypass = q.whyBypass()
	q.readContent(q.Bypass != reason.None)
	if q.Bypass == reason.None && q.Operation.Changes() {
		q.Bypass, q.Detail = reason.GraphQL, q.Operation.String()
	}
	if q.Bypass == reason.None {
		q.Bypass = q.findKey()
	}
	q.matchInvalidations()
}

// answeringGet is a POST that bypasses as the GET that its response may answer. Its key is
// empty if there can be none.
func (q *Request) answeringGet() *Request {
	get := *q
	get.AnswersGet = true
	if get.findKey() != reason.None {
		get.Key = cachekey.Key{}
	}
	return &get
}

// whyBypass says why the cache takes no part in a request.
func (q *Request) whyBypass() reason.Reason {
	r, rt := q.HTTP, q.Route
	cached := rt.Caches(r.Method)
	switch {
	case rt.Disabled():
		return reason.Disabled
	case len(r.Header["Upgrade"]) > 0:
		return reason.Upgrade
	case cached && !IsBodyMethod(r.Method) && hasContent(r):
		return reason.RequestBody
	case dropsFields(r) || overrides(r.Header):
		return reason.OverrideField
	case q.Target.PathKind() == rfc3986.PathAmbiguous:
		return reason.AmbiguousPath
	case rt.bypasses(r, q.hasParams()):
		return reason.Matcher
	}
	if !cached {
		return reason.Method // last: a POST may answer GET, but for these reasons
	}
	return reason.None
}

// hasParams reports whether segments of the path have parameters.
func (q *Request) hasParams() bool { return q.Target.PathKind() == rfc3986.PathParams }

// findKey makes the key of the request, and reads what else counts for what is stored.
func (q *Request) findKey() reason.Reason {
	rt := q.Route
	parts := cachekey.Request{Target: &q.Target, Header: q.HTTP.Header}
	if rt.ByUser {
		identity := q.Upstream.User()
		if identity == "" {
			return reason.NoIdentity
		}
		q.User = cachekey.UserHash(rt.Secret, identity)
		parts.User = q.User
	}
	if rt.Key.Templated {
		identifier, missing, ok := q.Upstream.Identifier()
		if !ok {
			if q.Detail = missing; missing == "" { // an unbalanced brace, which no validation lets pass
				return reason.KeyTooLong
			}
			return reason.NoIdentity
		}
		parts.Identifier = identifier
	}
	if IsBodyMethod(q.Method) && !q.AnswersGet {
		if q.Unread {
			return reason.RequestBody
		}
		parts.Method, parts.Body, parts.GraphQL = q.Method, q.Body, q.Operation != graphql.None
	}
	key, err := rt.Key.Key(&parts)
	if err != nil {
		return reason.KeyTooLong
	}
	q.Key = key
	q.readDirectives()
	q.UserID = q.Upstream.UserID()
	q.Credentials = q.findCredentials()
	return reason.None
}

// readDirectives reads the request's Cache-Control.
func (q *Request) readDirectives() {
	lines := q.HTTP.Header["Cache-Control"]
	if len(lines) == 0 {
		return
	}
	d := rfc9111.ParseCacheControl(lines)
	q.OnlyIfCached = d.OnlyIfCached
	if q.Route.HonorsClient {
		q.NoStore = d.NoStore
		q.Directives = &d
	}
}

// matchInvalidations finds the rules that will purge when the answer is a success. Their
// matchers see the request as it came in.
func (q *Request) matchInvalidations() {
	for i := range q.Route.Invalidations {
		if q.Route.Invalidations[i].Matches(q.HTTP, q.isUnsafe()) {
			q.invalidations = append(q.invalidations, i)
		}
	}
}

// isUnsafe reports whether the request may change something. One with a method that the
// route caches is a way to read, unless its content says otherwise, or could not be read.
func (q *Request) isUnsafe() bool {
	if q.Operation.Changes() {
		return true
	}
	return !rfc9111.SafeMethod(q.Method) && (q.Unread || !q.Route.Caches(q.Method))
}
