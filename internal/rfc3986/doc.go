// Package rfc3986 is what RFC 3986 says about URLs: when two are the same, and what
// those who read a path may make of it beyond that. It is pure.
package rfc3986
