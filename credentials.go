package rediscache

import (
	"iter"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"

	"github.com/gplus-recycling/caddy-redis-cache/internal/glob"
	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
)

// credentials are what a request carries by which its answer could be somebody's
// own. They forbid to share the answer unless the answer, or the route, says
// that it may be shared.
type credentials struct {
	authorization bool // RFC 9111 section 3.5
	other         bool
	name          string // one of them, for the reason: never its value
}

// allowed reports whether a request that carries these credentials may be answered
// with a stored response, or make one fresh.
func (c *credentials) allowed(f *rfc9111.Freshness) bool {
	return (!c.authorization || f.ForAuthorization) && (!c.other || f.ForCredentials)
}

// storable reports whether the answer to a request that carries these credentials
// may be stored, and shared with those who wait for it: what is stored for everybody
// was not fetched as somebody, unless the origin says that everybody may have it.
func (c *credentials) storable(d *rfc9111.Decision) bool {
	return c.allowed(&d.Freshness) && (!c.other || d.Explicit)
}

// count reports whether there are any.
func (c *credentials) count() bool { return c.authorization || c.other }

// credentialsOf finds the credentials that the route does not account for.
func (h *Handler) credentialsOf(r *http.Request, userID string) (c credentials) {
	p := &h.policy
	if p.Shared || p.ByUser != "" {
		return c
	}
	if len(r.Header["Authorization"]) > 0 && !slices.Contains(p.VaryHeader, "Authorization") {
		c.authorization = true
		c.name = "Authorization"
	}
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		c.other = true
		c.name = "client certificate"
	}
	if userID != "" {
		c.other = true
		c.name = "http.auth.user.id"
	}
	if field := h.inFront(r).Identity(r); field != "" {
		c.other = true
		c.name = field
	}
	if slices.Contains(p.VaryHeader, "Cookie") {
		return c
	}
	for name := range cookies(r.Header) {
		if !p.isAnonymousCookie(name) {
			c.other = true
			c.name = cookieCredential(r.Header, name)
			break
		}
	}
	return c
}

// credentialed counts the requests of a handler, and those of them that credentials
// kept from a stored response, or whose response they kept from being stored. It is
// for the doctor, and lasts as long as the handler.
type credentialed struct {
	requests, kept atomic.Uint64
	name           atomic.Pointer[string] // of a credential that did, the latest
}

func (c *credentialed) count(x *exchange) {
	c.requests.Add(1)
	if x.credentials.name == "" || x.reason != ReasonCredentials && x.forward != ReasonCredentials {
		return
	}
	c.kept.Add(1)
	name := x.credentials.name
	name = name[:min(len(name), maxShownName)]
	if latest := c.name.Load(); latest == nil || *latest != name {
		c.setName(name)
	}
}

// maxShownName bounds what is kept of a name that a client has chosen.
const maxShownName = 64

// setName is apart, so that counting alone allocates nothing.
func (c *credentialed) setName(name string) {
	name = strings.Clone(name) // it is a part of the request's header
	c.name.Store(&name)
}

func (c *credentialed) counts() (requests, kept uint64, name string) {
	requests, kept = c.requests.Load(), c.kept.Load()
	if latest := c.name.Load(); latest != nil {
		name = *latest
	}
	return requests, kept, name
}

// userID is the identity that Caddy's authentication handlers set.
func userID(repl *caddy.Replacer) string {
	id, _ := repl.GetString("http.auth.user.id")
	return id
}

func (p *Policy) isAnonymousCookie(name string) bool {
	return slices.Contains(p.VaryCookie, name) ||
		matchesAny(analyticsCookies, name) || matchesAny(p.IgnoreCookies, name)
}

func matchesAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return glob.Match(pattern, name) })
}

// analyticsCookies are set by common analytics and consent scripts in the
// browser; no origin answers by them.
var analyticsCookies = []string{
	"_ga", "_ga_*", "_gid", "_gat", "_gat_*", "_gcl_*", "_gac_*", "__gads", "__gpi", "__utm?", "__utm??", "__utmzz*",
	"_fbp", "_fbc", "_hj*", "_pk_*", "_matomo_*", "_clck", "_clsk", "_uetsid", "_uetvid", "_uetmsclkid", "_scid",
	"_scid_r", "_tt_*", "_ttp", "_pin_unauth", "_rdt_uuid", "_li_*", "li_fat_id", "__hstc", "__hssc", "__hssrc",
	"hubspotutk", "_mkto_trk", "ajs_anonymous_id", "mp_*_mixpanel", "amp_*", "AMP_*", "_vwo_*", "_vis_opt_*",
	"optimizelyEndUserId", "OptanonConsent", "OptanonAlertBoxClosed", "CookieConsent", "cookieyes-consent",
	"_ym_*", "_dc_gtm_*", "__qca", "_sp_id.*", "_sp_ses.*", "sbjs_*", "_chartbeat*", "_parsely_*", "__adroll_fpc", "__ar_v4", "_derived_epik",
	"__cf_bm", "_cfuvid", "cf_clearance", "_dd_s", "nmstat", "plausible_*",
}

// cookies iterates over the names and values of a request's cookies. It is
// laxer than net/http: a cookie that an origin might read must not be missed.
func cookies(header http.Header) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, line := range header["Cookie"] {
			for pair := range strings.SplitSeq(line, ";") {
				name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
				name = strings.TrimSpace(name)
				if (name != "" || value != "") && !yield(name, value) {
					return
				}
			}
		}
	}
}

// cookieCredential is how a cookie is called where the reason is shown. One without
// "=" may be all value.
func cookieCredential(header http.Header, name string) string {
	for _, line := range header["Cookie"] {
		for pair := range strings.SplitSeq(line, ";") {
			if n, _, named := strings.Cut(pair, "="); named && strings.TrimSpace(n) == name {
				return "cookie " + name
			}
		}
	}
	return "cookie without a name"
}

// cookieValues iterates over the values of the cookies with one name.
func cookieValues(header http.Header, name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for n, value := range cookies(header) {
			if n == name && !yield(value) {
				return
			}
		}
	}
}
