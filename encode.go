package rediscache

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Encode says how stored responses are compressed in Redis. Memory holds them
// as they are sent.
type Encode struct {
	// `zstd` or `off`. Responses with a Content-Encoding, and those that would
	// hardly get smaller, are never compressed. Default: zstd.
	Format string `json:"format,omitempty"`

	// The size in bytes from which bodies are compressed. Smaller ones are
	// compressed as soon as the namespace has a dictionary for them. Default:
	// 1 KiB.
	MinSize int64 `json:"min_size,omitempty"`
}

const (
	encodeZstd = "zstd"
	encodeOff  = "off"

	defaultMinEncode = 1 << 10
)

var encodeFormats = []string{encodeZstd, encodeOff}

func (e *Encode) validate() error {
	if e == nil {
		return nil
	}
	if e.MinSize < 0 {
		return fmt.Errorf("encode: min_size %d is negative", e.MinSize)
	}
	if e.Format == encodeOff && e.MinSize > 0 {
		return errors.New("encode off takes no size")
	}
	return oneOf("encode", cmp.Or(e.Format, encodeZstd), encodeFormats)
}

// minEncode is the size from which bodies are compressed; 0: never.
func (p *Policy) minEncode() int {
	switch {
	case p.Encode == nil:
		return defaultMinEncode
	case p.Encode.Format == encodeOff:
		return 0
	}
	return int(cmp.Or(p.Encode.MinSize, defaultMinEncode))
}

// parseEncode parses `encode zstd [<min size>] | off`.
func (o *policyParser) parseEncode() (err error) {
	args := o.d.RemainingArgs()
	if len(args) == 0 || len(args) > 2 {
		return o.d.ArgErr()
	}
	o.policy.Encode = &Encode{Format: args[0]}
	if len(args) == 2 {
		if o.policy.Encode.MinSize, err = parseSize(o.d, "encode", args[1]); err != nil {
			return err
		}
	}
	return o.wrap(o.policy.Encode.validate())
}

// mayBePrivate is that of the policy, and knows the other fields by which clients are told.
func (x *exchange) mayBePrivate() bool {
	return !x.h.policy.Shared && x.h.inFront(x.r).Identity(x.came) != "" || x.h.policy.mayBePrivate(x.came, x.userID)
}

// mayBePrivate reports whether the answer to a request may be somebody's own,
// even where a stored response is shared or selected by the credential. Nothing
// of it may get into a dictionary, which other responses are compressed with.
func (p *Policy) mayBePrivate(r *http.Request, userID string) bool {
	if p.Shared {
		return false
	}
	if p.ByUser != "" || userID != "" || len(r.Header["Authorization"]) > 0 || (r.TLS != nil && len(r.TLS.PeerCertificates) > 0) {
		return true
	}
	for name := range cookies(r.Header) {
		if !matchesAny(analyticsCookies, name) && !matchesAny(p.IgnoreCookies, name) {
			return true
		}
	}
	// What selects a response may be an API key, unless it negotiates content.
	return slices.ContainsFunc(p.VaryHeader, func(name string) bool {
		return !strings.HasPrefix(name, "Accept") && len(r.Header[name]) > 0
	})
}
