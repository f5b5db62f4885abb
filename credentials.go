package rediscache

import (
	"slices"
	"strings"
	"sync/atomic"

	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
	"github.com/gplus-recycling/caddy-redis-cache/internal/glob"
	"github.com/gplus-recycling/caddy-redis-cache/internal/reason"
)

// credentialed counts the requests of a handler, and those of them that credentials
// kept from a stored response, or whose response they kept from being stored. It is
// for the doctor, and lasts as long as the handler.
type credentialed struct {
	requests, kept atomic.Uint64
	name           atomic.Pointer[string] // of a credential that did, the latest
}

func (c *credentialed) count(name string, out *engine.Outcome) {
	c.requests.Add(1)
	if name == "" || out.Reason != reason.Credentials && out.Forward != reason.Credentials {
		return
	}
	c.kept.Add(1)
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
