package lint

import (
	"slices"
	"strings"

	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
	"github.com/gplus-recycling/caddy-redis-cache/internal/glob"
)

// ofVisitors looks for options by which one visitor's response may become everybody's.
func (l *linter) ofVisitors(where string, d *Directive) {
	const forms = "a page with a token against forged requests (CSRF) is then everybody's, and the forms of the others fail"
	switch {
	case d.ByUser != "":
	case d.SetCookie == "store":
		l.add(api.Warn, where+": set_cookie store without by_user gives everybody the cookies of one: "+forms,
			"let the origin set no cookie on pages that are for everybody, or use by_user")
	case d.SetCookie == "strip":
		l.add(api.Warn, where+": set_cookie strip stores for everybody what the origin made for one visitor: "+forms,
			"let the origin set no cookie on pages that are for everybody; limit strip to what is the same for all")
	}
	for _, pattern := range d.IgnoreCookies {
		if ofSession(pattern) {
			l.add(api.Warn, where+": ignore_cookies "+pattern+" ignores cookies by which origins know visitors: "+forms,
				"leave it out: such requests are bypassed. Name cookies that change no page")
		}
	}
	for option, names := range map[string][]string{"vary_cookie": d.VaryCookie, "vary_header": d.VaryHeader} {
		for _, name := range names {
			if ofSession(name) {
				l.add(api.Warn, where+": "+option+" "+name+" stores a response for each visitor: few are asked for twice, and the forms in them fail when their tokens (CSRF) are old",
					"leave it out: such requests are bypassed. by_user is for responses of one user")
			}
		}
	}
}

// ofSession reports whether a pattern stands for cookies or fields by which an origin
// knows visitors or guards their forms.
func ofSession(pattern string) bool {
	lower := strings.ToLower(pattern)
	return slices.ContainsFunc([]string{"csrf", "xsrf", "sess"}, func(word string) bool { return strings.Contains(lower, word) }) ||
		slices.ContainsFunc([]string{"csrftoken", "XSRF-TOKEN", "sessionid", "PHPSESSID"}, func(name string) bool { return glob.Match(pattern, name) })
}

// seenByCache are response fields by which the cache decides.
var seenByCache = []string{"Cache-Control", "Cdn-Cache-Control", "Expires", "Set-Cookie", "Surrogate-Control", "Vary"}

// written looks at what handlers in front of a cache write.
func (l *linter) written(where string, d *Directive) {
	f := d.Front
	if len(f.Copied) > 0 && d.ByUser == "" && !d.Shared {
		l.add(api.Warn, where+": forward_auth in front, or a reverse_proxy like it, copies "+strings.Join(f.Copied, ", ")+
			" into requests, which counts as a credential: only what the origin calls public is stored or answered",
			"say what it means here: by_user for responses of one user, vary_header where they depend on it;"+
				" shared or credential_headers -<name> only where everybody gets the same")
	}
	for _, name := range f.Deferred {
		late := slices.ContainsFunc(slices.Concat(seenByCache, d.Targets), func(field string) bool { return glob.Match(strings.ToLower(name), strings.ToLower(field)) })
		if late {
			l.add(api.Warn, where+": header in front changes "+name+" when the response is sent (a block with - or ?, or >): the cache has decided by then, and does not see it",
				"let the origin send it, or change it behind redis_cache: header_down of reverse_proxy, or header in a route behind it; in front, a block of its own without -, ? and >")
		}
	}
}
