package rfc9111

import (
	"net/http"
	"testing"
	"time"
)

var dateNow = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestParseDate(t *testing.T) {
	want := time.Date(1994, 11, 6, 8, 49, 37, 0, time.UTC)
	for _, tt := range []struct {
		section, in string
		want        time.Time
	}{
		{"RFC 9110 5.6.7 IMF-fixdate", "Sun, 06 Nov 1994 08:49:37 GMT", want},
		{"RFC 9110 5.6.7 RFC 850", "Sunday, 06-Nov-94 08:49:37 GMT", want},
		{"RFC 9110 5.6.7 asctime", "Sun Nov  6 08:49:37 1994", want},
		{"RFC 9110 5.6.7 asctime, day of two digits", "Sun Nov 16 08:49:37 1994", want.AddDate(0, 0, 10)},
		{"RFC 9110 5.6.7 leap second", "Sat, 31 Dec 2016 23:59:60 GMT", time.Date(2017, 1, 1, 0, 0, 0, 0, time.UTC)},
		{"RFC 9110 5.6.7 leap day", "Thu, 29 Feb 2024 00:00:00 GMT", time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC)},
		{"RFC 9110 5.6.7 far future", "Fri, 31 Dec 9999 23:59:59 GMT", time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)},
		{"4.2 lower case", "sun, 06 nov 1994 08:49:37 gmt", want},
		{"4.2 mixed case", "SUN, 06 nOV 1994 08:49:37 gMT", want},
		{"4.2 mixed case, RFC 850", "sUNDAY, 06-NOV-94 08:49:37 gMt", want},
		{"4.2 mixed case, asctime", "sUN NOV  6 08:49:37 1994", want},
		{"RFC 9110 5.6.7 50 years ahead", "Sunday, 01-Mar-76 12:00:00 GMT", dateNow.AddDate(50, 0, 0)},
		{"RFC 9110 5.6.7 more than 50 years ahead", "Monday, 01-Mar-76 12:00:01 GMT", time.Date(1976, 3, 1, 12, 0, 1, 0, time.UTC)},
		{"RFC 9110 5.6.7 a year more than 50 years ahead", "Tuesday, 01-Mar-77 12:00:00 GMT", time.Date(1977, 3, 1, 12, 0, 0, 0, time.UTC)},

		{"5.3 empty", "", time.Time{}},
		{"5.3 zero", "0", time.Time{}},
		{"5.3 minus one", "-1", time.Time{}},
		{"5.3 day only", "Sun", time.Time{}},
		{"5.3 other zone", "Sun, 06 Nov 1994 08:49:37 EST", time.Time{}},
		{"5.3 other zone that begins the same", "Sun, 06 Nov 1994 08:49:37 GXT", time.Time{}},
		{"5.3 offset", "Sun, 06 Nov 1994 08:49:37 +00", time.Time{}},
		{"5.3 other zone in RFC 850", "Sunday, 06-Nov-94 08:49:37 AEST", time.Time{}},
		{"5.3 no zone", "Sun, 06 Nov 1994 08:49:37", time.Time{}},
		{"5.3 year of two digits", "Sun, 06 Nov 94 08:49:37 GMT", time.Time{}},
		{"5.3 no comma", "Sun 06 Nov 1994 08:49:37 GMT", time.Time{}},
		{"5.3 double space", "Sun,  06 Nov 1994 08:49:37 GMT", time.Time{}},
		{"5.3 double space inside", "Sun, 06 Nov 1994  08:49:37 GMT", time.Time{}},
		{"5.3 dashes", "Sun, 06-Nov-1994 08:49:37 GMT", time.Time{}},
		{"5.3 dashes for spaces, same length", "Sun, 06-Nov-1994 08:49:37 GMT", time.Time{}},
		{"5.3 dots", "Sun, 06 Nov 1994 08.49.37 GMT", time.Time{}},
		{"5.3 hour of one digit", "Sun, 06 Nov 1994 8:49:37 GMT", time.Time{}},
		{"5.3 day of one digit", "Sun, 6 Nov 1994 08:49:37 GMT", time.Time{}},
		{"5.3 space for a digit", "Sun,  6 Nov 1994 08:49:37 GMT", time.Time{}},
		{"5.3 white space behind", "Sun, 06 Nov 1994 08:49:37 GMT ", time.Time{}},
		{"5.3 no name of a day", "Xyz, 06 Nov 1994 08:49:37 GMT", time.Time{}},
		{"5.3 long name in IMF", "Sunday, 06 Nov 1994 08:49:37 GMT", time.Time{}},
		{"5.3 short name in RFC 850", "Sun, 06-Nov-94 08:49:37 GMT", time.Time{}},
		{"5.3 no name of a long day", "Someday, 06-Nov-94 08:49:37 GMT", time.Time{}},
		{"5.3 no name of a day in asctime", "Xyz Nov  6 08:49:37 1994", time.Time{}},
		{"5.3 long name in asctime", "Sunday Nov  6 08:49:37 1994", time.Time{}},
		{"5.3 day of one digit in asctime", "Sun Nov 6 08:49:37 1994", time.Time{}},
		{"5.3 letter for the day in asctime", "Sun Nov  x 08:49:37 1994", time.Time{}},
		{"5.3 letter for the tens in asctime", "Sun Nov x6 08:49:37 1994", time.Time{}},
		{"5.3 zone behind asctime", "Sun Nov  6 08:49:37 1994 GMT", time.Time{}},
		{"5.3 no name of a month", "Sun, 06 Xyz 1994 08:49:37 GMT", time.Time{}},
		{"5.3 no such day", "Wed, 30 Feb 1994 08:49:37 GMT", time.Time{}},
		{"5.3 day zero", "Sun, 00 Nov 1994 08:49:37 GMT", time.Time{}},
		{"5.3 no such hour", "Sun, 06 Nov 1994 24:00:00 GMT", time.Time{}},
		{"5.3 no such minute", "Sun, 06 Nov 1994 08:60:00 GMT", time.Time{}},
		{"5.3 no such second", "Sun, 06 Nov 1994 08:49:61 GMT", time.Time{}},
		{"5.3 letter in the year", "Sun, 06 Nov 199x 08:49:37 GMT", time.Time{}},
	} {
		got, ok := ParseDate(tt.in, dateNow)
		if ok == tt.want.IsZero() || !got.Equal(tt.want) {
			t.Errorf("%s: ParseDate(%q) = %v, %t, want %v", tt.section, tt.in, got, ok, tt.want)
		}
	}
}

// RFC 9110 §5.6.7: the century is that of now, not a fixed one.
func TestParseDateCentury(t *testing.T) {
	for _, tt := range []struct {
		now  int
		in   string
		want int
	}{
		{2026, "Sunday, 01-Jan-95 00:00:00 GMT", 1995},
		{2026, "Sunday, 01-Jan-30 00:00:00 GMT", 2030},
		{2060, "Sunday, 01-Jan-05 00:00:00 GMT", 2105},
		{2060, "Sunday, 01-Jan-95 00:00:00 GMT", 2095},
		{2026, "Sunday, 29-Feb-00 00:00:00 GMT", 2000}, // 2100 has none
	} {
		got, ok := ParseDate(tt.in, time.Date(tt.now, 6, 1, 0, 0, 0, 0, time.UTC))
		if !ok || got.Year() != tt.want {
			t.Errorf("in %d ParseDate(%q) = %v, %t, want %d", tt.now, tt.in, got, ok, tt.want)
		}
	}
}

func FuzzDate(f *testing.F) {
	for _, s := range []string{
		"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994",
		"Sun,  06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 AEST", "0", "Sun, 31 Dec 2016 23:59:60 GMT",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := ParseDate(s, dateNow)
		if !ok {
			if !got.IsZero() {
				t.Errorf("ParseDate(%q) = %v without ok", s, got)
			}
			return
		}
		if got.After(dateNow.AddDate(50, 0, 0)) && len(s) > len("Sun, 06 Nov 1994 08:49:37 GMT") {
			t.Errorf("ParseDate(%q) = %v is too far ahead", s, got)
		}
		// Whatever is read survives being written.
		if again, ok := ParseDate(got.Format(http.TimeFormat), dateNow); !ok || !again.Equal(got) {
			if got.Year() <= 9999 { // a leap second may lead out of the shape
				t.Errorf("ParseDate(%q) = %v, then %v, %t", s, got, again, ok)
			}
		}
	})
}
