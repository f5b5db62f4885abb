package rediscache

import (
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/exp/zapslog"
	"go.uber.org/zap/zapcore"

	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
)

// Nothing that is logged or streamed holds a cookie, a token, a body or a query
// value. The path and the names of cookies and fields are shown. A key shows its
// identifier only if that is made of host, path and method.

var logEvents = [engine.NumResults]string{"cache_bypass", "cache_miss", "cache_hit", "cache_hit", "cache_hit"}

// log writes the debug line of a request. Without a log at that level it costs
// one check.
func (c *call) log(out *engine.Outcome) {
	line := c.h.logger.Check(zapcore.DebugLevel, logEvents[out.Result])
	if line == nil {
		return
	}
	line.Write(zap.String("path", c.answer.Request.Target.Path), zap.String("key", c.shownKey(out)), zap.String("namespace", c.h.Namespace),
		zap.Stringer("tier", out.AnsweredBy()), zap.Stringer("outcome", out.Result), zap.String("reason", out.Text()),
		zap.Duration("duration", time.Since(out.Began)))
}

// shownKey is the key, with a dash in place of an identifier that may hold what
// is not to be shown.
func (c *call) shownKey(out *engine.Outcome) string {
	full := out.Key.Full
	if full == "" || !c.h.route.PrivateKeys {
		return full
	}
	start := len(c.h.app.Prefix) + 1 + len(c.h.Namespace) + 1
	end := start + len(out.Identifier)
	if end > len(full) {
		return ""
	}
	return full[:start] + "-" + full[end:]
}

// shown are the selectors of a purge as log and events show them: by name only
// where they may hold what is not to be shown. Who purges by key has seen it in
// X-Cache-Key.
func (a *App) shown(e *journal.Entry) []string {
	shown := make([]string, len(e.Selectors))
	for i, s := range e.Selectors {
		shown[i] = s.String()
		switch s.Kind {
		case journal.KindURL, journal.KindPrefix:
			shown[i], _, _ = strings.Cut(shown[i], "?")
		case journal.KindKey:
			if a.hasPrivateKeys(s.Value) {
				shown[i] = s.Kind.String()
			}
		case journal.KindPattern:
			literal := s.Value
			if end := strings.IndexAny(literal, `*?[\`); end >= 0 {
				literal = literal[:end]
			}
			if a.hasPrivateKeys(literal) {
				shown[i] = s.Kind.String()
			}
		case journal.KindNamespace, journal.KindTag, journal.KindHost, journal.KindUser, journal.KindAll:
		}
		if e.By == engine.ByPrivateRequest {
			shown[i] = s.Kind.String()
		}
	}
	return shown
}

// hasPrivateKeys reports whether what begins so may be of a namespace whose keys
// may hold what is not to be shown.
func (a *App) hasPrivateKeys(begin string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for namespace := range a.private {
		namespace += ":"
		if strings.HasPrefix(begin, namespace) || strings.HasPrefix(namespace, begin) || strings.HasPrefix(a.Prefix+":"+namespace, begin) {
			return true
		}
	}
	return false
}

// slogger writes to the same log as Caddy's logger, with the same fields.
func slogger(log *zap.Logger) *slog.Logger {
	const noStacks = slog.LevelError + 1
	return slog.New(zapslog.NewHandler(log.Core(), zapslog.WithName(log.Name()), zapslog.AddStacktraceAt(noStacks)))
}

// logPanic tells of a panic where it was recovered, with the stack that led to it,
// unless a handler has broken its response off by it.
func logPanic(logger *zap.Logger, what string, recovered any) {
	if recovered == nil || recovered == http.ErrAbortHandler { //nolint:errorlint // the value itself is what is thrown
		return
	}
	logger.Error(what+" panicked", zap.Any("panic", recovered), zap.ByteString("stack", debug.Stack()))
}
