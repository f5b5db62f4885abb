package cachekey

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"net/http"
	"strings"

	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
)

// Tags of the parts that go into the hash of a key. A part is hashed as its
// tag, its length and its bytes, so that no two lists of parts look the same.
const (
	partScheme byte = iota + 1
	partHost
	partPath
	partRewrittenPath
	partQuery
	partRewrittenQuery
	partField
	partCookie
	partForwarded
	partValue // of the field or cookie named before it
	partUser
	partIdentifier
	partMethod
	partBody
)

// partHash hashes parts. Its buffer usually stays on the stack.
type partHash struct{ buf []byte }

func (h *partHash) add(tag byte, part string) {
	h.buf = append(h.buf, tag)
	h.buf = binary.AppendUvarint(h.buf, uint64(len(part)))
	h.buf = append(h.buf, part...)
}

// addField adds a request field; an absent one differs from an empty one.
func (h *partHash) addField(name string, header http.Header) {
	h.add(partField, name)
	if value, present := rfc9111.VaryValue(name, header[name]); present {
		h.add(partValue, value)
	}
}

func (h *partHash) appendSum(dst []byte) []byte {
	sum := sha256.Sum256(h.buf)
	return hex.AppendEncode(dst, sum[:hashSize])
}

// appendHash appends the hash of everything by which responses may differ.
func (s *Spec) appendHash(dst []byte, r *Request) []byte {
	var stack [512]byte
	h := partHash{buf: stack[:0]}
	s.hashTarget(&h, r)
	for _, name := range s.Headers {
		h.addField(name, r.Header)
	}
	for _, name := range s.Cookies {
		h.add(partCookie, name)
		for value := range CookieValues(r.Header, name) {
			h.add(partValue, value)
		}
	}
	r.hashForwarded(&h, r.Header)
	if r.Method != "" {
		body := sha256.Sum256(r.Body)
		h.addField("Content-Type", r.Header)
		h.addField("Content-Encoding", r.Header)
		if r.GraphQL {
			h.addField("Accept", r.Header)
		}
		h.add(partMethod, r.Method)
		h.add(partBody, string(body[:]))
	}
	if r.User != "" {
		h.add(partUser, r.User)
	}
	return h.appendSum(dst)
}

// hashTarget adds what is asked for.
func (s *Spec) hashTarget(h *partHash, r *Request) {
	h.add(partScheme, r.Scheme)
	h.add(partHost, r.Host)
	if s.Templated {
		h.add(partIdentifier, r.Identifier)
	} else {
		h.add(partPath, r.Path)
	}
	if r.RewrittenPath != "" {
		h.add(partRewrittenPath, r.RewrittenPath)
	}
	for _, pair := range s.Query.Kept(r.Query) {
		h.add(partQuery, pair)
	}
	if r.RewrittenQuery != r.Query {
		for _, pair := range s.Query.keptRewritten(r.Query, r.RewrittenQuery) {
			h.add(partRewrittenQuery, pair)
		}
	}
}

// forwardedFields are read by origins in place of the request's own host and
// scheme, whether or not Caddy trusts the client that sent them. Forwarded is read
// apart.
var forwardedFields = []string{
	"X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Scheme", "X-Forwarded-Port", "X-Forwarded-Prefix",
	"X-Forwarded-Server", "X-Forwarded-Ssl", "Front-End-Https", "X-Host",
}

// hashForwarded adds what the header states in place of the request's own host and scheme,
// unless it says the same.
func (t *Target) hashForwarded(h *partHash, header http.Header) {
	before := len(h.buf)
	add := func(name, kind, value string) {
		if !t.confirms(kind, value) {
			h.add(partForwarded, name)
			h.add(partValue, value)
		}
	}
	for _, name := range forwardedFields {
		for _, value := range header[name] {
			add(name, name, value)
		}
	}
	for _, line := range header["Forwarded"] {
		for pair := range strings.FieldsFuncSeq(line, func(c rune) bool { return c == ',' || c == ';' }) {
			name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
			switch strings.ToLower(name) {
			case "host":
				name = "X-Forwarded-Host"
			case "proto":
				name = "X-Forwarded-Proto"
			default:
				continue // for and by differ from client to client
			}
			add("Forwarded "+name, name, strings.Trim(value, `"`))
		}
	}
	if t.Trusted && len(h.buf) > before {
		h.add(partForwarded, "trusted")
	}
}

// confirms reports whether a forwarded field says what the request says itself.
func (t *Target) confirms(name, value string) bool {
	switch name {
	case "X-Forwarded-Host", "X-Host", "X-Forwarded-Server":
		return strings.EqualFold(value, t.Host)
	case "X-Forwarded-Port":
		_, port, found := strings.Cut(t.Host[strings.LastIndexByte(t.Host, ']')+1:], ":")
		if !found {
			port = DefaultPorts[t.Scheme]
		}
		return value == port
	case "X-Forwarded-Prefix":
		return value == "" || value == "/"
	case "X-Forwarded-Ssl", "Front-End-Https":
		if t.Scheme == "https" {
			return strings.EqualFold(value, "on")
		}
		return strings.EqualFold(value, "off")
	}
	return strings.EqualFold(value, t.Scheme)
}
