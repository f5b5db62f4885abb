package rfc9111

import (
	"strings"
	"testing"
	"time"
)

func TestParseDeltaSeconds(t *testing.T) {
	for _, tt := range []struct {
		section, in string
		want        time.Duration
		ok          bool
	}{
		{"1.3", "0", 0, true},
		{"1.3", "3600", time.Hour, true},
		{"1.3 leading zeros", "003600", time.Hour, true},
		{"1.3 many leading zeros", strings.Repeat("0", 40) + "60", time.Minute, true},
		{"RFC 9110 5.6.3 white space around it", " \t60 ", time.Minute, true},
		{"1.3 largest", "2147483648", MaxDelta, true},
		{"1.3 one less", "2147483647", MaxDelta - time.Second, true},
		{"1.3 overflow", "2147483649", MaxDelta, true},
		{"1.3 overflow of a Duration", "99999999999", MaxDelta, true},
		{"1.3 overflow of 64 bits", strings.Repeat("9", 100), MaxDelta, true},
		{"1.3 empty", "", 0, false},
		{"1.3 white space only", " ", 0, false},
		{"1.3 no digits", "abc", 0, false},
		{"1.3 negative", "-7200", 0, false},
		{"1.3 sign", "+7200", 0, false},
		{"1.3 decimal", "7200.0", 0, false},
		{"1.3 digits first", "0a100", 0, false},
		{"1.3 digits last", "a100", 0, false},
		{"1.3 overflow, then no digit", "99999999999x", 0, false},
		{"1.3 white space inside", "7 200", 0, false},
		{"1.3 other digits", "٣", 0, false},
	} {
		got, ok := ParseDeltaSeconds(tt.in)
		if ok != tt.ok || ok && got != tt.want {
			t.Errorf("%s: ParseDeltaSeconds(%q) = %v, %t, want %v, %t", tt.section, tt.in, got, ok, tt.want, tt.ok)
		}
	}
}

func TestParseAge(t *testing.T) {
	for _, tt := range []struct {
		section string
		in      []string
		want    time.Duration
		ok      bool
	}{
		{"5.1", []string{"60"}, time.Minute, true},
		{"5.1 absent", nil, 0, false},
		{"5.1 empty", []string{""}, 0, false},
		{"5.1 first member", []string{"60, 7200"}, time.Minute, true},
		{"5.1 first line", []string{"0", "7200"}, 0, true},
		{"5.1 first member invalid", []string{"abc, 60"}, 0, false},
		{"5.1 first line invalid", []string{"-1", "60"}, 0, false},
		{"5.1 empty first member", []string{",60"}, 0, false},
		{"5.1 parameter", []string{"7200;foo=bar"}, 0, false},
		{"1.3 overflow", []string{"99999999999"}, MaxDelta, true},
	} {
		got, ok := ParseAge(tt.in)
		if ok != tt.ok || ok && got != tt.want {
			t.Errorf("%s: ParseAge(%q) = %v, %t, want %v, %t", tt.section, tt.in, got, ok, tt.want, tt.ok)
		}
	}
}

func FuzzAge(f *testing.F) {
	for _, s := range []string{"0", "60", "60, 7200", "99999999999", "-1", " 1 ", "1.0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, ok := ParseAge([]string{s})
		if d < 0 || d > MaxDelta || d%time.Second != 0 || !ok && d != 0 {
			t.Errorf("ParseAge(%q) = %v, %t", s, d, ok)
		}
		first, _, _ := strings.Cut(s, ",")
		if digits := strings.Trim(first, " \t"); ok != (digits != "" && strings.Trim(digits, "0123456789") == "") {
			t.Errorf("ParseAge(%q) = %v, %t", s, d, ok)
		}
	})
}
