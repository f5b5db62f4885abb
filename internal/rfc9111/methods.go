package rfc9111

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc3986"
)

// SafeMethod reports whether the method is known to be safe: one that the
// IANA registry lists so (RFC 9110 §9.2.1, §16.1.1). Methods are
// case-sensitive, and an unknown one may change anything (§4.4).
func SafeMethod(m string) bool {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace,
		"PRI", "PROPFIND", "QUERY", "REPORT", "SEARCH":
		return true
	}
	return false
}

// InvalidationTargets returns the URIs whose stored responses an answer to an
// unsafe method invalidates (§4.4): those of its target, which is absolute,
// and those that Location and Content-Location name on the same origin, so
// that nobody can invalidate what is another's. An error answer invalidates
// nothing. Named URIs are spelled as the target is in scheme and host, and
// without fragment.
func InvalidationTargets(target *url.URL, status int, h http.Header) []*url.URL {
	if status < 200 || status > 399 {
		return nil
	}
	targets := []*url.URL{target}
	for _, name := range [...]string{"Location", "Content-Location"} {
		if u := sameOriginReference(target, trimmed(h, name)); u != nil && !containsURL(targets, u) {
			targets = append(targets, u)
		}
	}
	return targets
}

// sameOriginReference resolves ref, or returns nil if there is none, if it is
// malformed, or if it leaves the origin of target.
func sameOriginReference(target *url.URL, ref string) *url.URL {
	if ref == "" {
		return nil
	}
	u, err := target.Parse(ref)
	if err != nil || !sameOrigin(u, target) {
		return nil
	}
	u.Scheme, u.Host, u.User = target.Scheme, target.Host, nil
	u.Fragment, u.RawFragment = "", ""
	if u.Path == "" {
		u.Path = "/" // the same resource (RFC 9110 §4.2.3)
	}
	return u
}

// sameOrigin compares scheme, host and port (RFC 9110 §4.3.1).
func sameOrigin(a, b *url.URL) bool {
	return strings.EqualFold(a.Scheme, b.Scheme) &&
		rfc3986.NormalAuthority(a.Scheme, a.Host) == rfc3986.NormalAuthority(b.Scheme, b.Host)
}

func containsURL(list []*url.URL, u *url.URL) bool {
	for _, other := range list {
		if other.String() == u.String() {
			return true
		}
	}
	return false
}
