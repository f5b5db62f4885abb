package rfc3986

import (
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Normal returns the normal form of an absolute http or https URL without user
// information and fragment: two that RFC 3986 calls equivalent have the same
// (sections 6.2.2 and 6.2.3, and section 3.2.2 for names in Unicode). What may not
// stand in a URL, such as a blank or a letter outside ASCII, is escaped. What is in
// normal form is returned as it is, and nothing is allocated then.
func Normal(url string) string { return normal(url, true) }

// NormalPrefix is Normal for the beginning of a URL. It may end within the host, which
// then gets no path.
func NormalPrefix(prefix string) string { return normal(prefix, false) }

func normal(url string, whole bool) string {
	scheme, authority, path, query := split(url)
	if (path != "" || !whole && query == "") && isNormal(scheme, authority, path, query) {
		return url
	}
	b := make([]byte, 0, len(url)+16)
	b = append(b, strings.ToLower(scheme)...)
	b = append(b, "://"...)
	b = append(b, NormalAuthority(scheme, authority)...)
	if path == "" && (whole || query != "") {
		path = "/"
	}
	if start := len(b); path != "" {
		b = appendNormalText(b, path, '/')
		b = b[:start+removeDots(b[start:])]
	}
	if query != "" {
		b = append(b, '?')
		b = appendNormalText(b, query[1:], '?')
	}
	return string(b)
}

// isNormal reports whether the parts of a URL are in normal form.
func isNormal(scheme, authority, path, query string) bool {
	return isLower(scheme) && isPlainAuthority(scheme, authority) && isNormalText(path, '/') && !hasDots(path) &&
		(query == "" || isNormalText(query[1:], '?'))
}

// split splits a URL; the query keeps its question mark.
func split(url string) (scheme, authority, path, query string) {
	scheme, rest, _ := strings.Cut(url, "://")
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		return scheme, rest, "", ""
	}
	authority, rest = rest[:end], rest[end:]
	if end = strings.IndexByte(rest, '?'); end < 0 {
		return scheme, authority, rest, ""
	}
	return scheme, authority, rest[:end], rest[end:]
}

func isLower(s string) bool {
	for i := range len(s) {
		if 'A' <= s[i] && s[i] <= 'Z' {
			return false
		}
	}
	return true
}

// isPlainAuthority reports whether an authority is in normal form without a further
// look at it: a name or an IPv4 address, with a port that is not the scheme's.
func isPlainAuthority(scheme, authority string) bool {
	for i := range len(authority) {
		if c := authority[i]; c != ':' && (!isUnreserved(c) || 'A' <= c && c <= 'Z') {
			return false
		}
	}
	_, port, found := strings.Cut(authority, ":")
	return !found || port != "" && NormalPort(scheme, port) == port
}

// NormalAuthority is host[:port] in normal form, section 3.2.
func NormalAuthority(scheme, authority string) string {
	host, port := SplitPort(authority)
	host = NormalHost(host)
	if port = NormalPort(scheme, port); port != "" {
		return host + ":" + port
	}
	return host
}

// SplitPort splits host[:port]; an IPv6 address keeps its brackets.
func SplitPort(authority string) (host, port string) {
	colon := strings.LastIndexByte(authority, ':')
	if colon < 0 || strings.HasSuffix(authority, "]") || strings.IndexByte(authority, ':') < colon && authority[0] != '[' {
		return authority, ""
	}
	return authority[:colon], authority[colon+1:]
}

// NormalPort is a port in normal form, "" for the one of the scheme, sections 3.2.3
// and 6.2.3.
func NormalPort(scheme, port string) string {
	for len(port) > 1 && port[0] == '0' {
		port = port[1:]
	}
	if port == DefaultPort(scheme) {
		return ""
	}
	return port
}

// DefaultPort is the port of http or https, and "" for other schemes.
func DefaultPort(scheme string) string {
	switch {
	case strings.EqualFold(scheme, "https"):
		return "443"
	case strings.EqualFold(scheme, "http"):
		return "80"
	}
	return ""
}

// toASCII maps names as browsers do: case and width are folded, and they may have
// underscores. RFC 5891, UTS 46.
var toASCII = idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false))

// maxName bounds what is looked at as a name: those of the DNS end there.
const maxName = 255

// NormalHost is a host without its port in normal form, sections 3.2.2 and 6.2.2.1: in
// lower case, a name in Unicode as its A-labels, an IPv6 address as RFC 5952 writes it.
// What is no name stays, escaped.
func NormalHost(host string) string {
	if inner, ok := strings.CutPrefix(host, "["); ok {
		if addr, err := netip.ParseAddr(strings.TrimSuffix(inner, "]")); err == nil && strings.HasSuffix(inner, "]") {
			return "[" + addr.String() + "]"
		}
		return strings.ToLower(host)
	}
	name := unescapedName(host)
	if isASCII(name) {
		return strings.ToLower(name)
	}
	if len(name) <= maxName && !strings.ContainsRune(name, utf8.RuneError) { // nor what is not UTF-8
		if ascii, err := toASCII.ToASCII(name); err == nil && isASCII(ascii) && !strings.ContainsAny(ascii, "/?#@:%") {
			return ascii
		}
	}
	b := make([]byte, 0, len(name))
	for i := range len(name) {
		if c := name[i]; c < utf8.RuneSelf {
			b = append(b, c)
		} else {
			b = appendEscape(b, c)
		}
	}
	return strings.ToLower(string(b))
}

// unescapedName is a host with the characters of names, and those outside ASCII, unescaped.
func unescapedName(host string) string {
	b := make([]byte, 0, len(host))
	for i := 0; i < len(host); i++ {
		c := host[i]
		if isEscape(host, i) {
			if u := unhex(host[i+1])<<4 | unhex(host[i+2]); isUnreserved(u) || u >= utf8.RuneSelf {
				c, i = u, i+2
			}
		}
		b = append(b, c)
	}
	return string(b)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// isNormalText reports whether a path or query is in normal form but for its dot
// segments. also is the character that it may hold beside those of segments.
func isNormalText(s string, also byte) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case isEscape(s, i):
			if isLowerHex(s[i+1]) || isLowerHex(s[i+2]) || isUnreserved(unhex(s[i+1])<<4|unhex(s[i+2])) {
				return false
			}
			i += 2
		case c != also && !isPchar(c) && c != '/':
			return false
		}
	}
	return true
}

// appendNormalText decodes what needs no escape and escapes what may not stand as it
// is, sections 2.1, 2.3 and 6.2.2.
func appendNormalText(dst []byte, s string, also byte) []byte {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if isEscape(s, i) {
			c = unhex(s[i+1])<<4 | unhex(s[i+2])
			if i += 2; isUnreserved(c) {
				dst = append(dst, c)
			} else {
				dst = appendEscape(dst, c)
			}
			continue
		}
		if c == also || c == '/' || isPchar(c) {
			dst = append(dst, c)
		} else {
			dst = appendEscape(dst, c)
		}
	}
	return dst
}

func appendEscape(dst []byte, c byte) []byte {
	const hex = "0123456789ABCDEF"
	return append(dst, '%', hex[c>>4], hex[c&15])
}

func isLowerHex(c byte) bool { return 'a' <= c && c <= 'f' }

// isUnreserved is section 2.3.
func isUnreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}

// isPchar is section 3.3, but for escapes.
func isPchar(c byte) bool {
	return isUnreserved(c) || strings.IndexByte("!$&'()*+,;=:@", c) >= 0
}

// hasDots reports whether a path has a segment that is "." or "..".
func hasDots(path string) bool {
	for rest := path; ; {
		dot := strings.Index(rest, "/.")
		if dot < 0 {
			return false
		}
		rest = rest[dot+2:]
		if len(rest) > 0 && rest[0] == '.' {
			if len(rest) == 1 || rest[1] == '/' {
				return true
			}
		} else if rest == "" || rest[0] == '/' {
			return true
		}
	}
}

// removeDots is section 5.2.4 for an absolute path, in place. It returns the length.
func removeDots(path []byte) int {
	n := 0
	for i := 0; i < len(path); {
		end := i + 1 // of the segment that begins with the slash at i
		for end < len(path) && path[end] != '/' {
			end++
		}
		segment := string(path[i+1 : end])
		switch segment {
		case "..", ".":
			for segment == ".." && n > 0 {
				if n--; path[n] == '/' {
					break
				}
			}
			if end == len(path) {
				path[n] = '/'
				n++
			}
		default:
			n += copy(path[n:], path[i:end])
		}
		i = end
	}
	return n
}
