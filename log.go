package rediscache

import (
	"regexp"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Nothing that is logged or streamed holds a cookie, a token, a body or a query
// value. The path and the names of cookies and fields are shown. A key shows its
// identifier only if that is made of host, path and method.

var logEvents = [numOutcomes]string{"cache_bypass", "cache_miss", "cache_hit", "cache_hit", "cache_hit"}

// log writes the debug line of a request. Without a log at that level it costs
// one check.
func (x *exchange) log(took time.Duration) {
	line := x.h.logger.Check(zapcore.DebugLevel, logEvents[x.outcome])
	if line == nil {
		return
	}
	line.Write(zap.String("path", x.q.path), zap.String("key", x.shownKey()), zap.String("namespace", x.h.Namespace),
		zap.Stringer("tier", x.answeredBy()), zap.Stringer("outcome", x.outcome), zap.String("reason", x.reasonText()),
		zap.Duration("duration", took))
}

// shownKey is the key, with a dash in place of an identifier that may hold what
// is not to be shown.
func (x *exchange) shownKey() string {
	full := x.answered.Full
	if full == "" || x.h.policy.Key == nil || !private(x.h.policy.Key.Template) {
		return full
	}
	start := len(x.h.app.Prefix) + 1 + len(x.h.Namespace) + 1
	end := start + len(x.key.identifier)
	if end > len(full) {
		return ""
	}
	return full[:start] + "-" + full[end:]
}

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

const (
	// byRequest names a request as the one who purged.
	byRequest = "request"
	// byPrivateRequest is the same where selectors may hold what is not to be
	// logged. The journal tells it to other nodes, which log the purge, too.
	byPrivateRequest = "request, selectors withheld"
)
