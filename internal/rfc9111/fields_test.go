package rfc9111

import (
	"slices"
	"testing"
)

func TestNotStored(t *testing.T) {
	for _, tt := range []struct {
		section string
		in      []string
		want    []string
	}{
		{"3.1 nothing", []string{"Content-Type: a", "Cache-Control: b"}, nil},
		{"3.1 Connection", []string{"Connection: close"}, []string{"Connection"}},
		{"3.1 what Connection names", []string{"Connection: x-A , ,b", "Connection: C", "X-A: 1", "C: 1", "D: 1"}, []string{"C", "Connection", "X-A"}},
		{"3.1 named twice", []string{"Connection: upgrade", "Upgrade: h2c"}, []string{"Connection", "Upgrade", "Upgrade"}},
		{
			"RFC 9110 7.6.1 hop by hop",
			[]string{"Keep-Alive: 1", "TE: 1", "Trailer: 1", "Transfer-Encoding: 1", "Proxy-Connection: 1"},
			[]string{"Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding"},
		},
		{
			"3.1 for a proxy",
			[]string{"Proxy-Authenticate: 1", "Proxy-Authentication-Info: 1", "Proxy-Authorization: 1"},
			[]string{"Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization"},
		},
	} {
		got := NotStored(headerLines(tt.in...))
		slices.Sort(got)
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: NotStored(%q) = %q, want %q", tt.section, tt.in, got, tt.want)
		}
	}
}
