package routes

import (
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// clientFields tell the address of the client.
var clientFields = []string{
	"Cf-Connecting-Ip", "Cf-Connecting-Ipv6", "Cf-Pseudo-Ipv4", "Client-Ip", "Fastly-Client-Ip", "Fly-Client-Ip", "From",
	"Proxy-Client-Ip", "True-Client-Ip", "Wl-Proxy-Client-Ip", "X-Appengine-User-Ip", "X-Azure-Clientip",
	"X-Azure-Socketip", "X-Client-Ip", "X-Cluster-Client-Ip", "X-Envoy-External-Address", "X-Forwarded-For",
	"X-Original-Forwarded-For", "X-Originating-Ip", "X-Real-Ip", "X-Remote-Addr", "X-Remote-Ip",
}

// copiedPlaceholder begins the names of what a server said that was asked beside the
// request.
const copiedPlaceholder = "http.reverse_proxy.header."

// teller knows what tells who asks.
type teller struct {
	p            *Policy
	f            *Front
	fields       []string // that handlers in front write
	vars         []string
	placeholders []string
}

// spread finds what is written from something that tells who asks, or only for some of
// those who ask.
func (t *teller) spread(writes []write) {
	for known := -1; known != len(t.fields)+len(t.vars)+len(t.placeholders); {
		known = len(t.fields) + len(t.vars) + len(t.placeholders)
		for _, w := range writes {
			if !w.copied && !t.tells(w.value) && !slices.ContainsFunc(w.when, t.selects) {
				continue
			}
			switch w.kind {
			case writesField:
				if !slices.Contains(t.p.VaryHeader, w.name) {
					t.fields = appendNew(t.fields, w.name)
				}
			case writesVar:
				t.vars = appendNew(t.vars, w.name)
			case writesPlaceholder:
				t.placeholders = appendNew(t.placeholders, w.name)
			case writesDeferred:
			}
		}
	}
}

func appendNew(list []string, name string) []string {
	if slices.Contains(list, name) {
		return list
	}
	return append(list, name)
}

// tells reports whether a template reads what tells who asks.
func (t *teller) tells(template string) bool { return reads(template, t.names) }

// reads reports whether a template has a placeholder of a kind.
func reads(template string, is func(placeholder string) bool) bool {
	for {
		_, rest, found := strings.Cut(template, "{")
		if !found {
			return false
		}
		name, _, _ := strings.Cut(rest, "}")
		if is(name) {
			return true
		}
		template = rest
	}
}

// names reports whether a placeholder tells who asks.
func (t *teller) names(placeholder string) bool {
	if cookie, ok := strings.CutPrefix(placeholder, "http.request.cookie."); ok {
		return !slices.Contains(t.p.VaryCookie, cookie) && !slices.Contains(t.p.VaryHeader, "Cookie")
	}
	if field, ok := strings.CutPrefix(placeholder, "http.request.header."); ok {
		return t.field(field)
	}
	if name, ok := strings.CutPrefix(placeholder, "http.vars."); ok {
		return name == caddyhttp.ClientIPVarKey || slices.Contains(t.vars, name)
	}
	for _, prefix := range []string{"http.auth.", copiedPlaceholder, "http.request.tls.client.", "http.request.remote"} {
		if strings.HasPrefix(placeholder, prefix) {
			return true
		}
	}
	return isPlaceholder(t.placeholders, placeholder)
}

// field reports whether a request field tells who asks.
func (t *teller) field(name string) bool {
	name = http.CanonicalHeaderKey(name)
	if slices.Contains(t.p.VaryHeader, name) {
		return false
	}
	return name == "Authorization" || name == "Cookie" || slices.Contains(clientFields, name) ||
		t.f.credentials.has(name) || slices.Contains(t.fields, name)
}

// selects reports whether matchers tell some of those who ask from others.
func (t *teller) selects(sets caddyhttp.MatcherSets) bool {
	for _, m := range slices.Concat(sets...) {
		switch m := m.(type) {
		case *caddyhttp.MatchNot:
			if t.selects(m.MatcherSets) {
				return true
			}
		case *caddyhttp.MatchRemoteIP, *caddyhttp.MatchClientIP:
			return true
		case *caddyhttp.MatchExpression:
			text := strings.ToLower(m.Expr)
			return t.tells(m.Expr) || slices.ContainsFunc([]string{"cookie", "authorization", "_ip(", "header", "vars"},
				func(word string) bool { return strings.Contains(text, word) })
		}
		if slices.ContainsFunc(readBy(m), t.tells) {
			return true
		}
	}
	return false
}

// readBy are the fields and variables that a matcher compares, as placeholders and by name.
func readBy(matcher any) (reads []string) {
	switch m := matcher.(type) {
	case *caddyhttp.MatchHeader:
		for name := range *m {
			reads = append(reads, "{http.request.header."+name+"}")
		}
	case *caddyhttp.MatchHeaderRE:
		for name := range *m {
			reads = append(reads, "{http.request.header."+name+"}")
		}
	case *caddyhttp.VarsMatcher:
		for name := range *m {
			reads = append(reads, "{http.vars."+name+"}", name)
		}
	case *caddyhttp.MatchVarsRE:
		for name := range *m {
			reads = append(reads, "{http.vars."+name+"}", name)
		}
	}
	return reads
}
