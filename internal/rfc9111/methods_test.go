package rfc9111

import (
	"net/http"
	"net/url"
	"slices"
	"testing"
)

func TestSafeMethod(t *testing.T) {
	for _, c := range []struct {
		section string
		methods []string
		want    bool
	}{
		{"9110 9.2.1", []string{"GET", "HEAD", "OPTIONS", "TRACE"}, true},
		{"9110 16.1.1", []string{"PRI", "PROPFIND", "QUERY", "REPORT", "SEARCH"}, true},
		{"9110 9.2.1", []string{"POST", "PUT", "DELETE", "CONNECT", "PATCH", "MKCOL", "PURGE"}, false},
		{"9111 4.4", []string{"FOO", ""}, false},
		{"9110 9.1", []string{"get", "Head"}, false},
	} {
		for _, m := range c.methods {
			if got := SafeMethod(m); got != c.want {
				t.Errorf("RFC %s %q: got %v, want %v", c.section, m, got, c.want)
			}
		}
	}
}

func TestInvalidationTargets(t *testing.T) {
	const target = "https://example.com/a/b?q=1"
	for _, c := range []struct {
		section, name, target string
		status                int
		h                     http.Header
		want                  []string
	}{
		{"9111 4.4", "target", target, 200, newHeader(), []string{target}},
		{"9111 4.4", "redirect", target, 303, newHeader(), []string{target}},
		{"9111 4.4", "last of the redirects", target, 399, newHeader(), []string{target}},
		{"9111 4.4", "client error", target, 400, newHeader("Location", "/x"), nil},
		{"9111 4.4", "server error", target, 500, newHeader(), nil},
		{"9111 4.4", "interim", target, 103, newHeader(), nil},
		{"9111 4.4", "both fields", target, 201, newHeader("Location", "/x", "Content-Location", "y?z=1"), []string{target, "https://example.com/x", "https://example.com/a/y?z=1"}},
		{"9111 4.4", "absolute", target, 201, newHeader("Location", "https://example.com/x"), []string{target, "https://example.com/x"}},
		{"9111 4.4", "the target itself", target, 200, newHeader("Content-Location", target), []string{target}},
		{"9111 4.4", "the same twice", target, 200, newHeader("Location", "/x", "Content-Location", "./../x"), []string{target, "https://example.com/x"}},
		{"9111 4.4", "other host", target, 201, newHeader("Location", "https://example.org/x", "Content-Location", "//www.example.com/y"), []string{target}},
		{"9111 4.4", "other scheme", target, 201, newHeader("Location", "http://example.com/x"), []string{target}},
		{"9111 4.4", "other port", target, 201, newHeader("Location", "https://example.com:8443/x"), []string{target}},
		{"9111 4.4", "no hierarchy", target, 201, newHeader("Location", "mailto:x@example.com", "Content-Location", "https:x"), []string{target}},
		{"9111 4.4", "malformed", target, 201, newHeader("Location", "http://[", "Content-Location", "%zz"), []string{target}},
		{"9111 4.4", "empty", target, 201, newHeader("Location", " "), []string{target}},
		{"9110 4.2.3", "default port in the reference", target, 201, newHeader("Location", "HTTPS://user@EXAMPLE.com:443/x#top"), []string{target, "https://example.com/x"}},
		{"9110 4.2.3", "default port in the target", "http://example.com:80/", 201, newHeader("Location", "http://example.com/x"), []string{"http://example.com:80/", "http://example.com:80/x"}},
		{"9110 4.2.3", "empty path", target, 201, newHeader("Location", "https://example.com?x"), []string{target, "https://example.com/?x"}},
		{"9110 4.3.1", "IPv6", "http://[::1]:8080/", 201, newHeader("Location", "http://[::1]:8080/x"), []string{"http://[::1]:8080/", "http://[::1]:8080/x"}},
		{"9110 4.3.1", "a scheme without a port of its own", "coap://example.com/", 204, newHeader("Location", "/x"), []string{"coap://example.com/", "coap://example.com/x"}},
	} {
		u, err := url.Parse(c.target)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, v := range InvalidationTargets(u, c.status, c.h) {
			got = append(got, v.String())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("RFC %s %s: got %q, want %q", c.section, c.name, got, c.want)
		}
		if u.String() != c.target {
			t.Errorf("RFC %s %s: the target was changed to %s", c.section, c.name, u)
		}
	}
}
