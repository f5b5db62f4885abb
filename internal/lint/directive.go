package lint

import (
	"fmt"
	"slices"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
	"github.com/gplus-recycling/caddy-redis-cache/internal/routes"
)

// Directive is what is known of a redis_cache: its policy, merged with that of its
// namespace, what is in front of it, and what its requests were like.
type Directive struct {
	Namespace string

	// TTL tells whether there are configured lifetimes, Override whether one for all
	// requests replaces what the origin states.
	TTL, Override bool
	// Shared tells that credentials do not matter. PublicSecret tells that anybody can
	// compute the hashes that stand for the users of ByUser.
	Shared, PublicSecret bool
	ByUser               string // a template, or ""
	KeyTemplate          string // or ""
	SetCookie            string // refuse, strip or store
	IgnoreCookies        []string
	VaryCookie           []string
	VaryHeader           []string
	Targets              []string // the fields that take the place of Cache-Control
	Bypass               []caddyhttp.MatcherSets

	Front *routes.Front

	// Requests are those that were counted, Kept those of them that credentials kept
	// from a stored response, or whose response they kept from being stored, and
	// Credential names one.
	Requests, Kept uint64
	Credential     string
	// Redirected is the path to which a stranger's request was redirected after which
	// rules of the route have purged, or "".
	Redirected string
	// Unstored is nil where no reason keeps most responses from being stored.
	Unstored *Unstored
}

// Unstored is what keeps most responses of a directive out of the cache.
type Unstored struct {
	Status         api.Status
	Credentials    bool // credentials do
	Detail, Advice string
}

// From how many requests on, and for credentials from which share, 1/leastKept, it is
// said what keeps a route from the cache.
const (
	EnoughKept = 10
	leastKept  = 10
)

// directive looks at the policy of one handler, and at what its requests were like.
func (l *linter) directive(d *Directive, path []caddyhttp.MatcherSets, grouped bool) {
	where := l.where(d, path)
	if !grouped && !slices.ContainsFunc(path, narrows) {
		if d.Shared {
			l.add(api.Warn, where+": shared holds for the whole site", "limit it by a matcher to what is the same for everybody")
		}
		if d.Override {
			l.add(api.Warn, where+": ttl … override holds for the whole site, whatever the origin forbids", "limit it by a matcher to where the origin is wrong")
		}
	}
	l.ofVisitors(where, d)
	if path := d.Redirected; path != "" {
		l.add(api.Warn, fmt.Sprintf("%s: invalidate has purged after a redirect to %q, which was answered to a request without credentials: any stranger can purge so", where, path),
			"authenticate in front of redis_cache, or let a matcher of invalidate ask for what only users send, such as header Cookie *session=*")
	}
	l.written(where, d)
	credentials := d.TTL && d.Kept >= EnoughKept && d.Kept*leastKept >= d.Requests
	if credentials {
		l.add(api.Warn, fmt.Sprintf("%s: ttl does not hold for %d of %d requests, which carried credentials such as %q", where, d.Kept, d.Requests, d.Credential),
			"let the origin answer with public what is for everybody, and say what the others depend on: by_user, vary_cookie or vary_header."+
				" ignore_cookies, credential_headers -<name> and shared give to all what one was answered: only where that is the same for everybody")
	}
	if u := d.Unstored; u != nil && (!credentials || !u.Credentials) {
		l.add(u.Status, where+": "+u.Detail, u.Advice)
	}
	if d.ByUser != "" && d.PublicSecret {
		l.add(api.Warn, where+": by_user without a secret and without a password of Redis: who reads keys can guess users", "set secret")
	}
}
