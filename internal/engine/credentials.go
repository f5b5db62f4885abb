package engine

import (
	"net/http"
	"slices"
	"strings"

	"github.com/gplus-recycling/caddy-redis-cache/internal/cachekey"
	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
)

// Credentials are what a request carries by which its answer could be somebody's own.
// They forbid to share the answer unless the answer, or the route, says that it may be
// shared.
type Credentials struct {
	Authorization bool // RFC 9111 section 3.5
	Other         bool
	Name          string // one of them, for the reason: never its value
}

// Allow reports whether a request that carries these credentials may be answered with a
// stored response, or make one fresh.
func (c *Credentials) Allow(f *rfc9111.Freshness) bool {
	return (!c.Authorization || f.ForAuthorization) && (!c.Other || f.ForCredentials)
}

// storable reports whether the answer to a request that carries these credentials may be
// stored, and shared with those who wait for it: what is stored for everybody was not
// fetched as somebody, unless the origin says that everybody may have it.
func (c *Credentials) storable(d *rfc9111.Decision) bool {
	return c.Allow(&d.Freshness) && (!c.Other || d.Explicit)
}

// Any reports whether there are any.
func (c *Credentials) Any() bool { return c.Authorization || c.Other }

// findCredentials finds the credentials that the route does not account for.
func (q *Request) findCredentials() (c Credentials) {
	rt, r := q.Route, q.HTTP
	if rt.Shared || rt.ByUser {
		return c
	}
	if len(r.Header["Authorization"]) > 0 && !slices.Contains(rt.Key.Headers, "Authorization") {
		c.Authorization = true
		c.Name = "Authorization"
	}
	if hasCertificate(r) {
		c.Other = true
		c.Name = "client certificate"
	}
	if q.UserID != "" {
		c.Other = true
		c.Name = "http.auth.user.id"
	}
	if field := q.Upstream.Identity(r); field != "" {
		c.Other = true
		c.Name = field
	}
	if slices.Contains(rt.Key.Headers, "Cookie") {
		return c
	}
	for name := range cachekey.Cookies(r.Header) {
		if !slices.Contains(rt.Key.Cookies, name) && !rt.IgnoresCookie(name) {
			c.Other = true
			c.Name = CookieName(r.Header, name)
			break
		}
	}
	return c
}

func hasCertificate(r *http.Request) bool { return r.TLS != nil && len(r.TLS.PeerCertificates) > 0 }

// CookieName is how a cookie is called where credentials are shown. One without "=" may be
// all value.
func CookieName(header http.Header, name string) string {
	for _, line := range header["Cookie"] {
		for pair := range strings.SplitSeq(line, ";") {
			if n, _, named := strings.Cut(pair, "="); named && strings.TrimSpace(n) == name {
				return "cookie " + name
			}
		}
	}
	return "cookie without a name"
}

// mayBePrivate reports whether the answer to a request may be somebody's own, even where a
// stored response is shared or selected by the credential. Nothing of it may get into a
// dictionary, which other responses are compressed with. came is the request as it came in.
func (q *Request) mayBePrivate(came *http.Request) bool {
	rt := q.Route
	if rt.Shared {
		return false
	}
	if rt.ByUser || q.UserID != "" || len(came.Header["Authorization"]) > 0 || hasCertificate(came) || q.Upstream.Identity(came) != "" {
		return true
	}
	for name := range cachekey.Cookies(came.Header) {
		if !rt.IgnoresCookie(name) {
			return true
		}
	}
	// What selects a response may be an API key, unless it negotiates content.
	return slices.ContainsFunc(rt.Key.Headers, func(name string) bool {
		return !strings.HasPrefix(name, "Accept") && len(came.Header[name]) > 0
	})
}
