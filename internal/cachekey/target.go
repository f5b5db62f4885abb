package cachekey

import (
	"cmp"
	"net"
	"net/url"
	"strings"

	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc3986"
)

// Target is what a request asks for, as the client has written it and as handlers in front
// have rewritten it.
type Target struct {
	Scheme, Host   string // of the connection; host in lower case, without the scheme's default port
	URLScheme      string // of the URL: what a trusted proxy says that the client has used
	Trusted        bool   // to state forwardedFields: proxies behind pass them on
	Path, Query    string // as the client sent them
	Opaque         bool   // it is neither a path nor a URL with one
	RewrittenPath  string // "" where no handler changed it
	RewrittenQuery string // the same as Query where no handler changed it
}

// DefaultPorts are those of the schemes.
var DefaultPorts = map[string]string{"http": "80", "https": "443"}

// Origin is the origin of the URL, RFC 6454.
func (t *Target) Origin() string { return t.URLScheme + "://" + NormalHost(t.URLScheme, t.Host) }

// URL is the URL that the selectors url, prefix and host of purges see: with the parameters
// that count.
func (t *Target) URL(s *Spec) string { return s.Query.URL(t.Origin()+t.Path, t.Query) }

// PathKind judges the path as the client sent it and as it was rewritten. A target that
// has none but is sent on as it came, as "x:http://host/path" is, is read as a URL.
func (t *Target) PathKind() rfc3986.PathKind {
	if t.Opaque {
		return rfc3986.PathAmbiguous
	}
	kind := rfc3986.KindOf(t.Path)
	if t.RewrittenPath != "" {
		kind = max(kind, rfc3986.KindOf(t.RewrittenPath))
	}
	return kind
}

// NormalHost is the host of a request in lower case, without the default port
// of its scheme.
func NormalHost(scheme, host string) string {
	if (scheme == "http" && strings.HasSuffix(host, ":80")) || (scheme == "https" && strings.HasSuffix(host, ":443")) {
		if h, _, err := net.SplitHostPort(host); err == nil {
			if strings.IndexByte(h, ':') >= 0 {
				h = "[" + h + "]"
			}
			host = h
		}
	}
	return strings.ToLower(host)
}

// SplitURI splits the request target as the client sent it. An absolute one
// loses its authority, which the host repeats.
func SplitURI(u *url.URL, requestURI string) (path, query string) {
	if strings.HasPrefix(requestURI, "/") {
		path, query, _ = strings.Cut(requestURI, "?")
		return path, query
	}
	return cmp.Or(u.EscapedPath(), "/"), u.RawQuery
}
