// Package siphash is SipHash-2-4 with 128 bits of output (Aumasson and Bernstein):
// who does not know the key cannot search for values that collide.
package siphash

import (
	"encoding/binary"
	"math/bits"
)

// Key is a key.
type Key struct{ K0, K1 uint64 }

// KeyOf reads a key.
func KeyOf(b [16]byte) Key {
	return Key{binary.LittleEndian.Uint64(b[:8]), binary.LittleEndian.Uint64(b[8:])}
}

// round is small enough to be inlined, so that the state stays in registers.
func round(v0, v1, v2, v3 uint64) (w0, w1, w2, w3 uint64) {
	v0 += v1
	v2 += v3
	v1 = bits.RotateLeft64(v1, 13) ^ v0
	v3 = bits.RotateLeft64(v3, 16) ^ v2
	v2 += v1
	v0 = bits.RotateLeft64(v0, 32) + v3
	return v0, bits.RotateLeft64(v1, 17) ^ v2, bits.RotateLeft64(v2, 32), bits.RotateLeft64(v3, 21) ^ v0
}

// Sum hashes text. It allocates nothing.
func Sum(key Key, text string) (first, second uint64) {
	v0, v1 := key.K0^0x736f6d6570736575, key.K1^0x646f72616e646f6d^0xee
	v2, v3 := key.K0^0x6c7967656e657261, key.K1^0x7465646279746573
	rest := text
	for ; len(rest) >= 8; rest = rest[8:] {
		m := uint64(rest[0]) | uint64(rest[1])<<8 | uint64(rest[2])<<16 | uint64(rest[3])<<24 |
			uint64(rest[4])<<32 | uint64(rest[5])<<40 | uint64(rest[6])<<48 | uint64(rest[7])<<56
		v3 ^= m
		v0, v1, v2, v3 = round(v0, v1, v2, v3)
		v0, v1, v2, v3 = round(v0, v1, v2, v3)
		v0 ^= m
	}
	last := uint64(len(text)) << 56
	for i := range len(rest) {
		last |= uint64(rest[i]) << (8 * i)
	}
	v3 ^= last
	v0, v1, v2, v3 = round(v0, v1, v2, v3)
	v0, v1, v2, v3 = round(v0, v1, v2, v3)
	v0, v2 = v0^last, v2^0xee
	for range 4 {
		v0, v1, v2, v3 = round(v0, v1, v2, v3)
	}
	first = v0 ^ v1 ^ v2 ^ v3
	v1 ^= 0xdd
	for range 4 {
		v0, v1, v2, v3 = round(v0, v1, v2, v3)
	}
	return first, v0 ^ v1 ^ v2 ^ v3
}
