// Package rfc9111 holds what HTTP says about caching, for a shared cache, as
// pure functions: the current time is an argument, nothing is read, written or
// logged, and no argument is changed. The rules are those of RFC 9111 with
// RFC 5861 (stale-while-revalidate, stale-if-error), RFC 9211 (Cache-Status),
// RFC 9213 (targeted fields) and RFC 9875 (cache groups). Section numbers
// without an RFC are those of RFC 9111.
//
// Where a field is malformed or contradicts itself, the reading that leads to
// less reuse is taken: a needless request to the origin costs time, a response
// in the wrong hands cannot be taken back.
package rfc9111
