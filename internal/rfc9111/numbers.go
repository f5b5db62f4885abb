package rfc9111

import (
	"strings"
	"time"
)

// MaxDelta is what a number of seconds too large to represent counts as
// (§1.3). Ages and lifetimes are clamped to it after every sum, so that they
// never wrap: it is a quarter of what a time.Duration holds.
const MaxDelta = (1 << 31) * time.Second

// ParseDeltaSeconds parses a delta-seconds value (§1.3): digits and nothing
// else. Optional white space around it is ignored.
func ParseDeltaSeconds(s string) (d time.Duration, ok bool) {
	s = trimOWS(s)
	var seconds int64
	for i := range len(s) {
		if !isDigit(s[i]) {
			return 0, false
		}
		seconds = min(seconds*10+int64(s[i]-'0'), int64(MaxDelta/time.Second))
	}
	return time.Duration(seconds) * time.Second, s != ""
}

// ParseAge parses the lines of an Age field. The first member of the first line
// counts; when that is invalid, the field is ignored (§5.1).
func ParseAge(lines []string) (d time.Duration, ok bool) {
	if len(lines) == 0 {
		return 0, false
	}
	first, _, _ := strings.Cut(lines[0], ",")
	return ParseDeltaSeconds(first)
}

// clampDelta brings a computed age or lifetime into the range from 0 to
// MaxDelta.
func clampDelta(d time.Duration) time.Duration {
	return min(max(d, 0), MaxDelta)
}

// addDelta adds two clamped durations.
func addDelta(a, b time.Duration) time.Duration { return clampDelta(a + b) }

// elapsed is the time from one instant to another, 0 when they are the other
// way round: a clock that was set back makes nothing younger.
func elapsed(from, to time.Time) time.Duration { return clampDelta(to.Sub(from)) }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// trimOWS removes optional white space (RFC 9110 §5.6.3) at both ends.
func trimOWS(s string) string { return strings.Trim(s, " \t") }
