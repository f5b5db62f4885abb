package rfc9111

import (
	"strconv"
	"strings"
	"time"
)

// cacheName is how this cache calls itself in Cache-Status.
const cacheName = "redis_cache"

// CacheStatus is this cache's member of the Cache-Status field (RFC 9211).
// Parameters with a zero value are left out.
type CacheStatus struct {
	// Hit says that nothing went to the origin. It excludes Fwd and what
	// only makes sense beside it: FwdStatus, Stored and Collapsed
	// (RFC 9211 §2.1).
	Hit bool

	// Fwd is why the request went to the origin, such as uri-miss
	// (RFC 9211 §2.2).
	Fwd string

	// FwdStatus is what the origin answered, if another status than the
	// client's or of interest all the same (RFC 9211 §2.3).
	FwdStatus int

	// Stored says that the response was stored (RFC 9211 §2.5).
	Stored bool

	// Collapsed says that another request's fetch answered this one
	// (RFC 9211 §2.6).
	Collapsed bool

	// TTL is the freshness left, negative for a stale response
	// (RFC 9211 §2.4). It is written in whole seconds, rounded down, if
	// HasTTL is set.
	TTL    time.Duration
	HasTTL bool

	// Key is the key the response is stored under (RFC 9211 §2.7).
	Key string

	// Detail is what no other parameter says (RFC 9211 §2.8).
	Detail string
}

// Append writes the member to dst and returns it, as in
// `redis_cache; fwd=uri-miss; fwd-status=200; stored; ttl=300`. The result is
// a valid member of a structured list whatever the texts hold (RFC 9651 §3.1).
// It allocates nothing but room in dst.
func (c *CacheStatus) Append(dst []byte) []byte {
	dst = append(dst, cacheName...)
	switch {
	case c.Hit:
		dst = append(dst, "; hit"...)
	case c.Fwd != "":
		dst = c.appendForward(dst)
	}
	if c.HasTTL {
		dst = append(dst, "; ttl="...)
		dst = strconv.AppendInt(dst, floorSeconds(c.TTL), 10)
	}
	if c.Key != "" {
		dst = append(dst, "; key="...)
		dst = appendString(dst, c.Key)
	}
	if c.Detail != "" {
		dst = append(dst, "; detail="...)
		dst = appendText(dst, c.Detail)
	}
	return dst
}

func (c *CacheStatus) appendForward(dst []byte) []byte {
	dst = append(dst, "; fwd="...)
	dst = appendText(dst, c.Fwd)
	if c.FwdStatus != 0 {
		dst = append(dst, "; fwd-status="...)
		dst = strconv.AppendInt(dst, int64(c.FwdStatus), 10)
	}
	if c.Stored {
		dst = append(dst, "; stored"...)
	}
	if c.Collapsed {
		dst = append(dst, "; collapsed"...)
	}
	return dst
}

// floorSeconds rounds down, so that a response stale by a moment does not
// read as one that expires now.
func floorSeconds(d time.Duration) int64 {
	seconds := int64(d / time.Second)
	if d%time.Second < 0 {
		seconds--
	}
	return seconds
}

// appendText writes s as a token if it can be one, else as a string.
func appendText(dst []byte, s string) []byte {
	if isStructuredToken(s) {
		return append(dst, s...)
	}
	return appendString(dst, s)
}

// isStructuredToken reports whether s, which is not empty, is a token of structured
// fields (RFC 9651 §3.3.4).
func isStructuredToken(s string) bool {
	if !isAlpha(s[0]) && s[0] != '*' {
		return false
	}
	for i := 1; i < len(s); i++ {
		if !isAlpha(s[i]) && !isDigit(s[i]) && strings.IndexByte("!#$%&'*+-.^_`|~:/", s[i]) < 0 {
			return false
		}
	}
	return true
}

func isAlpha(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z'
}

// appendString writes s as a string of structured fields (RFC 9651 §3.3.3),
// with a question mark for each byte that such a string cannot hold.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := range len(s) {
		switch b := s[i]; {
		case b < ' ' || b > '~':
			dst = append(dst, '?')
		case b == '"' || b == '\\':
			dst = append(dst, '\\', b)
		default:
			dst = append(dst, b)
		}
	}
	return append(dst, '"')
}
