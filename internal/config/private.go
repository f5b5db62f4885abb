package config

import (
	"regexp"
	"strings"
)

var placeholders = regexp.MustCompile(`\{([^{}]*)\}`)

// private reports whether a template holds placeholders whose values may be
// secrets: all but those of host, path and method.
func private(template string) bool {
	for _, match := range placeholders.FindAllStringSubmatch(template, -1) {
		if !shownPlaceholder(match[1]) {
			return true
		}
	}
	return false
}

// PrivateKey reports whether keys may hold what is not to be shown.
func (p *Policy) PrivateKey() bool { return p.Key != nil && private(p.Key.Template) }

func shownPlaceholder(name string) bool {
	for _, prefix := range []string{"http.request.uri.path.", "http.request.orig_uri.path.", "http.request.host.labels."} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	switch name {
	case "http.request.uri.path", "http.request.orig_uri.path", "http.request.host", "http.request.hostport",
		"http.request.port", "http.request.scheme", "http.request.method", "http.request.orig_method":
		return true
	}
	return false
}
