// Package cachekey makes the keys under which responses are stored: which requests share a
// response is decided here, and nowhere else. It is pure. Nodes of all versions share keys,
// so none of their bytes may change.
//
// Begin with [Spec.Key].
package cachekey

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"

	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

const (
	// maxNameIdentifier is how much of an identifier a Redis key shows.
	maxNameIdentifier = 200
	// MaxIdentifier bounds what a client can make the cache remember of a URL.
	MaxIdentifier = 8 << 10
	// hashSize is the length of a hash in a key: 128 bits, so that no client can
	// search for a request that has the key of another.
	hashSize = 16
)

// Spec says what keys are made of. It is set once and never changed.
type Spec struct {
	Prefix, Namespace string

	Query   *Query   // the parameters that count; nil: all
	Headers []string // the request fields that count
	Cookies []string // the cookies that count

	// Templated tells that the identifier comes from a template, not from host and path;
	// Exact, that it alone is the key.
	Templated, Exact bool
}

// Request is what a request brings for its key.
type Request struct {
	*Target
	Header     http.Header
	Identifier string // where the spec has a template
	User       string // keyed hash of the identity, or ""

	Method  string // "" for GET and HEAD
	Body    []byte // that counts with another method
	GraphQL bool   // so that what the answer is made for counts, too
}

// Key is a key with its parts: <prefix>:<namespace>:<identifier>:<hash>.
type Key struct {
	store.Key
	Namespace, Identifier string
}

// ErrTooLong is of an identifier above MaxIdentifier.
var ErrTooLong = errors.New("the identifier is too long")

// Key makes the key of a request. The only error is ErrTooLong.
func (s *Spec) Key(r *Request) (Key, error) {
	var stack [512]byte
	full := append(stack[:0], s.Prefix...)
	full = append(full, ':')
	full = append(full, s.Namespace...)
	full = append(full, ':')
	start := len(full)
	if s.Templated {
		full = append(full, r.Identifier...)
	} else {
		full = appendEscaped(full, r.Host)
		full = appendEscaped(full, r.Path)
	}
	end := len(full)
	if end-start > MaxIdentifier {
		return Key{}, ErrTooLong
	}
	if !s.Exact {
		full = append(full, ':')
		full = s.appendHash(full, r)
	}
	key := Key{Namespace: s.Namespace}
	key.Full = string(full)
	key.Identifier = key.Full[start:end]
	key.Name = key.Full
	if end-start > maxNameIdentifier {
		key.Name = s.cutName(key.Full, start, end)
	}
	return key, nil
}

// cutName is the Redis key of a long identifier. Where the hash does not cover
// the identifier, a hash of it is appended: two identifiers must not share one
// Redis key only for being long.
func (s *Spec) cutName(full string, start, end int) string {
	name := []byte(full[:start+maxNameIdentifier])
	name = append(name, full[end:]...)
	if s.Exact {
		h := partHash{}
		h.add(partIdentifier, full[start:end])
		name = h.appendSum(append(name, ':'))
	}
	return string(name)
}

// NamesOf are the keys in Redis that a full key below a prefix may have: of one with a long
// identifier it cannot be told where the identifier ends.
func NamesOf(prefix, full string) []store.Key {
	keys := []store.Key{{Full: full, Name: full}}
	_, rest, ok := strings.Cut(strings.TrimPrefix(full, prefix+":"), ":")
	start := len(full) - len(rest)
	if !ok || len(rest) <= maxNameIdentifier {
		return keys
	}
	end := len(full)
	for range 2 { // the hash, and that of a variant
		if end -= 2*hashSize + 1; end <= start+maxNameIdentifier || full[end] != ':' {
			break
		}
		keys = append(keys, store.Key{Full: full, Name: full[:start+maxNameIdentifier] + full[end:]})
	}
	exact := Spec{Exact: true}
	return append(keys, store.Key{Full: full, Name: exact.cutName(full, start, len(full))})
}

// Variant is the key of the variant that these fields of a request select, and the hash
// that sets it apart.
func Variant(of store.Key, names []string, header http.Header) (key store.Key, hash string) {
	var stack [256]byte
	h := partHash{buf: stack[:0]}
	for _, name := range names {
		h.addField(name, header)
	}
	hash = string(h.appendSum(nil))
	return VariantOf(of, hash), hash
}

// VariantOf is the key of the variant with a hash.
func VariantOf(of store.Key, hash string) store.Key {
	return store.Key{Full: of.Full + ":" + hash, Name: of.Name + ":" + hash}
}

// UserHash is the identity as it goes into keys: without the secret nobody who can read
// Redis can tell users by trying their names.
func UserHash(secret []byte, identity string) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(identity))
	return hex.EncodeToString(mac.Sum(nil)[:hashSize])
}

const upperHex = "0123456789ABCDEF"

// appendEscaped escapes what would make a key ambiguous or a glob.
func appendEscaped(dst []byte, value string) []byte {
	for i := range len(value) {
		if c := value[i]; mustEscape(c) {
			dst = append(dst, '%', upperHex[c>>4], upperHex[c&15])
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}

// Escape escapes in a part of an identifier what would make a key ambiguous or a glob.
func Escape(value string) string { return string(appendEscaped(nil, value)) }

func mustEscape(c byte) bool {
	return c <= ' ' || c >= 0x7f || strings.IndexByte(`:*?[]{}\%`, c) >= 0
}
