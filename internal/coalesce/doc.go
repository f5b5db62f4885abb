// Package coalesce lets one fetch answer many requests: in the process by
// flights (flight.go), across the fleet by leases in Redis (lease.go). It
// remembers for a short time which keys cannot be shared, so that nobody waits
// for them, and which origins fail (memo.go).
//
// It knows nothing of HTTP: what a flight shares before its body is a type
// parameter. It writes no log: it returns outcomes and keeps counters.
package coalesce

import "crypto/sha256"

// ID stands for a key.
type ID [16]byte

// IDOf returns the ID of a key. Nodes agree on it.
func IDOf(key string) ID {
	sum := sha256.Sum256([]byte(key))
	return ID(sum[:16])
}
