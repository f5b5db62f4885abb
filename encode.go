package rediscache

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
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
		return engine.DefaultMinEncode
	case p.Encode.Format == encodeOff:
		return 0
	}
	return int(cmp.Or(p.Encode.MinSize, engine.DefaultMinEncode))
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
