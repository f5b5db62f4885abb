package node

import (
	"strings"
	"testing"
	"time"
)

func TestErrorTexts(t *testing.T) {
	l := latestErrors{secrets: []string{"s3cret", ""}}
	for text, want := range map[string]string{
		"OOM command not allowed":                    "OOM command not allowed",
		"dial tcp 10.0.0.1:6379: connection refused": "dial tcp 10.0.0.1:6379: connection refused",
		"ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'default' 'pass'": "ERR unknown command 'HELLO'",
		"AUTH s3cret failed":     "AUTH … failed",
		"two\r\nlines\x1b":       "two  lines ",
		strings.Repeat("é", 200): strings.Repeat("é", 100) + "…",
	} {
		if got := l.note("redis", text).Text; got != want {
			t.Errorf("%q is kept as %q", text, got)
		}
	}
}

// TestErrorsAreToldOnceAMinute counts what the log leaves out.
func TestErrorsAreToldOnceAMinute(t *testing.T) {
	var l latestErrors
	start := time.Now()
	for _, tt := range []struct {
		after  time.Duration
		kind   string
		untold uint64
		told   bool
	}{
		{0, "a", 0, true},
		{time.Second, "a", 0, false},
		{time.Second, "b", 0, true},
		{59 * time.Second, "a", 0, false},
		{time.Minute, "a", 2, true},
		{61 * time.Second, "b", 0, true},
		{3 * time.Minute, "a", 0, true},
	} {
		if untold, told := l.tell(tt.kind, start.Add(tt.after)); untold != tt.untold || told != tt.told {
			t.Errorf("%s after %s: %d, %t", tt.kind, tt.after, untold, told)
		}
	}
}
