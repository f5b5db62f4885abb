package rfc9111

import (
	"net/http"
	"strings"
)

// connectionFields are fields that §3.1 forbids to store: those for one
// connection (RFC 9110 §7.6.1), and those that only concern a proxy.
var connectionFields = [...]string{
	"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	"Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization",
}

// NotStored returns the names of the fields of h that §3.1 forbids to store,
// those included that Connection names. A name may occur twice.
func NotStored(h http.Header) (names []string) {
	for _, name := range connectionFields {
		if _, ok := h[name]; ok {
			names = append(names, name)
		}
	}
	for _, line := range h["Connection"] {
		for option := range strings.SplitSeq(line, ",") {
			name := http.CanonicalHeaderKey(trimOWS(option))
			if _, ok := h[name]; ok {
				names = append(names, name)
			}
		}
	}
	return names
}

// IsToken reports whether s is a token (RFC 9110 §5.6.2), as methods, names of
// fields and names of codings are.
func IsToken(s string) bool {
	for i := range len(s) {
		c := lower(s[i])
		if !isDigit(c) && (c < 'a' || c > 'z') && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}
