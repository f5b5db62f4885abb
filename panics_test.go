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
				task := warmTask{"/", httptest.NewRequest(http.MethodGet, "/", nil), thrower}
				if result := task.send(t.Context(), logger); !result.failed() {
					t.Errorf("%+v", result)
				}
				return nil
			},
			"explaining": func(_ *site, logger *zap.Logger) any {
				new(explanation).send(t.Context(), logger, thrower, httptest.NewRequest(http.MethodGet, "/", nil))
				return nil
			},
			"writing to the client": func(s *site, logger *zap.Logger) (caught any) {
				s.handler.logger = logger
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

// TestWarmResultsAreBounded keeps the failed ones.
func TestWarmResultsAreBounded(t *testing.T) {
	job := new(warmJob)
	for i := range 3 * maxWarmResults {
		status := http.StatusOK
		if i%5 == 4 {
			status = http.StatusNotFound
		}
		job.add(warmResult{URL: "/", Status: status})
	}
	progress, failed := job.snapshot(true), 0
	for _, r := range progress.Results {
		if r.failed() {
			failed++
		}
	}
	if len(progress.Results) != maxWarmResults || progress.Omitted != 2*maxWarmResults || failed != progress.Failed || failed != 3*maxWarmResults/5 {
		t.Errorf("%d results, %d omitted, %d of %d failed ones", len(progress.Results), progress.Omitted, failed, progress.Failed)
	}
}
