// Package rfc3986 is what RFC 3986 says about URLs, and what those who read them make
// of a path beyond that. It is pure.
package rfc3986
