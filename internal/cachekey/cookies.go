package cachekey

import (
	"iter"
	"net/http"
	"strings"
)

// Cookies iterates over the names and values of a request's cookies. It is
// laxer than net/http: a cookie that an origin might read must not be missed.
func Cookies(header http.Header) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, line := range header["Cookie"] {
			for pair := range strings.SplitSeq(line, ";") {
				name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
				name = strings.TrimSpace(name)
				if (name != "" || value != "") && !yield(name, value) {
					return
				}
			}
		}
	}
}

// CookieValues iterates over the values of the cookies with one name.
func CookieValues(header http.Header, name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for n, value := range Cookies(header) {
			if n == name && !yield(value) {
				return
			}
		}
	}
}
