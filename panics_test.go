package rediscache

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/gplus-recycling/caddy-redis-cache/internal/subrequest"
)

// throwing is a handler in front whose writer throws.
type throwing struct {
	*httptest.ResponseRecorder
	what any
}

func (w throwing) Write([]byte) (int, error) { panic(w.what) }

// TestPanicsAreLogged has handlers throw where somebody has to catch it: the log has what
// was thrown and the stack that threw it, unless a response was broken off on purpose.
func TestPanicsAreLogged(t *testing.T) {
	for _, what := range []any{"a string", errors.New("an error"), http.ErrAbortHandler} {
		thrower := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(what) })
		for name, throws := range map[string]func(s *site, logger *zap.Logger) (caught any){
			"warming": func(_ *site, logger *zap.Logger) any {
				subrequest.Warm(t.Context(), thrower, httptest.NewRequest(http.MethodGet, "/", http.NoBody), func(recovered any) {
					logPanic(logger, "a handler that warms", recovered)
				})
				return nil
			},
			"explaining": func(_ *site, logger *zap.Logger) any {
				subrequest.Explain(t.Context(), thrower, httptest.NewRequest(http.MethodGet, "/", nil), nil, func(recovered any) {
					logPanic(logger, "a handler that an explained request has met", recovered)
				})
				return nil
			},
			"writing to the client": func(s *site, logger *zap.Logger) (caught any) {
				s.handler.logger, s.handler.route.Log = logger, slogger(logger)
				defer func() { caught = recover() }()
				s.ServeHTTP(throwing{httptest.NewRecorder(), what}, httptest.NewRequest(http.MethodGet, "/a", nil))
				return nil
			},
		} {
			core, logged := observer.New(zap.ErrorLevel)
			s := newSite(t, `{"ttl":{"duration":60000000000}}`, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x") })
			if caught := throws(s, zap.New(core)); name == "writing to the client" && caught != what { //nolint:errorlint // the value itself
				t.Errorf("%s: %v is thrown on, want %v", name, caught, what)
			}
			s.close()
			lines := logged.All()
			if what == any(http.ErrAbortHandler) {
				if len(lines) != 0 {
					t.Errorf("%s: %v", name, lines)
				}
				continue
			}
			if len(lines) != 1 || !strings.Contains(lines[0].Message, "panicked") {
				t.Errorf("%s: %v", name, lines)
				continue
			}
			stack, _ := lines[0].ContextMap()["stack"].(string)
			if !strings.Contains(stack, "panics_test.go") {
				t.Errorf("%s: the stack is %s", name, stack)
			}
		}
	}
}
