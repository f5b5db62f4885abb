package config

import (
	"slices"

	"github.com/gplus-recycling/caddy-redis-cache/internal/glob"
)

// ignoresCookie reports whether a cookie carries no identity.
func (p *Policy) ignoresCookie(name string) bool {
	return matchesAny(analyticsCookies, name) || matchesAny(p.IgnoreCookies, name)
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
