package rfc9111

import (
	"strings"
	"time"
)

// The shapes of an HTTP-date (RFC 9110 §5.6.7). They follow the name of
// the day. D is a digit, d a digit or a space, and m part of the name of a
// month; everything else is literal, letters in either case.
const (
	shapeIMF     = ", DD mmm DDDD DD:DD:DD GMT"
	shapeRFC850  = ", DD-mmm-DD DD:DD:DD GMT"
	shapeASCTime = " mmm dD DD:DD:DD DDDD"
)

var (
	shortDays = [...]string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}
	longDays  = [...]string{"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}
	months    = [...]string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}
)

// ParseDate parses an HTTP-date in one of its three shapes (RFC 9110 §5.6.7).
// Names and GMT match in either case; anything else must be exact, since for a
// cache the meaning of a date it half understands is "already expired" (§5.3).
// That is why http.ParseTime will not do: it accepts double spaces, hours of one
// digit and other time zones, and rejects "gmt".
//
// now places the two-digit year of the RFC 850 shape: not more than 50 years
// ahead.
func ParseDate(s string, now time.Time) (t time.Time, ok bool) {
	comma := strings.IndexByte(s, ',')
	switch {
	case comma == len("Sun") && isName(s[:comma], shortDays[:]):
		return parseIMF(s[comma:])
	case comma > len("Sun") && isName(s[:comma], longDays[:]):
		return parseRFC850(s[comma:], now)
	case comma < 0 && len(s) > len("Sun") && isName(s[:len("Sun")], shortDays[:]):
		return parseASCTime(s[len("Sun"):])
	}
	return time.Time{}, false
}

// parseIMF parses what follows the day name in the preferred shape.
func parseIMF(s string) (time.Time, bool) {
	if !hasShape(s, shapeIMF) {
		return time.Time{}, false
	}
	return date(number(s[9:13]), s[5:8], s[2:4], s[14:22])
}

// parseRFC850 parses what follows the day name in the obsolete shape of RFC 850.
func parseRFC850(s string, now time.Time) (time.Time, bool) {
	if !hasShape(s, shapeRFC850) {
		return time.Time{}, false
	}
	limit := now.UTC().AddDate(50, 0, 0)
	year := limit.Year() - limit.Year()%100 + number(s[9:11])
	t, ok := date(year, s[5:8], s[2:4], s[12:20])
	if year > limit.Year() || ok && t.After(limit) {
		return date(year-100, s[5:8], s[2:4], s[12:20])
	}
	return t, ok
}

// parseASCTime parses what follows the day name in the shape of C's asctime.
func parseASCTime(s string) (time.Time, bool) {
	if !hasShape(s, shapeASCTime) {
		return time.Time{}, false
	}
	return date(number(s[17:21]), s[1:4], s[5:7], s[8:16])
}

// date puts a time together, unless there is no such day or no such time of
// day. Second 60 is a leap second.
func date(year int, month, day, clock string) (time.Time, bool) {
	m := 1 + indexName(month, months[:])
	d := number(day)
	hour, minute, second := number(clock[:2]), number(clock[3:5]), number(clock[6:8])
	if m == 0 || hour > 23 || minute > 59 || second > 60 {
		return time.Time{}, false
	}
	// time.Date turns February 30 into a day of March.
	if time.Date(year, time.Month(m), d, 0, 0, 0, 0, time.UTC).Day() != d {
		return time.Time{}, false
	}
	return time.Date(year, time.Month(m), d, hour, minute, second, 0, time.UTC), true
}

// hasShape reports whether s has the shape; the name of the month is not looked
// at.
func hasShape(s, shape string) bool {
	if len(s) != len(shape) {
		return false
	}
	for i := range len(s) {
		ok := true
		switch shape[i] {
		case 'D':
			ok = isDigit(s[i])
		case 'd':
			ok = isDigit(s[i]) || s[i] == ' '
		case 'm':
		default:
			ok = lower(s[i]) == lower(shape[i])
		}
		if !ok {
			return false
		}
	}
	return true
}

// number is the value of digits that hasShape has seen. A space counts as 0.
func number(digits string) (n int) {
	for i := range len(digits) {
		n *= 10
		if digits[i] != ' ' {
			n += int(digits[i] - '0')
		}
	}
	return n
}

func isName(s string, names []string) bool { return indexName(s, names) >= 0 }

// indexName is the index of s among names in lower case, or -1.
func indexName(s string, names []string) int {
	for i, name := range names {
		if equalFold(s, name) {
			return i
		}
	}
	return -1
}

// equalFold compares a string with one in lower case. Unlike strings.EqualFold
// it folds ASCII only: no other letter is equal to one of HTTP's.
func equalFold(s, folded string) bool {
	if len(s) != len(folded) {
		return false
	}
	for i := range len(s) {
		if lower(s[i]) != folded[i] {
			return false
		}
	}
	return true
}

// lower is the lower case of an ASCII letter, and any other byte as it is.
func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + ('a' - 'A')
	}
	return c
}
