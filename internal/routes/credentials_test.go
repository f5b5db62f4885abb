package routes

import (
	"net/http"
	"testing"
)

// Names in the list are as requests have them. The documentation has the same list, which
// the root package's tests see to.
func TestCredentialHeadersList(t *testing.T) {
	for _, name := range CredentialHeaders {
		if name != http.CanonicalHeaderKey(name) {
			t.Errorf("%s is not canonical", name)
		}
	}
}

func TestPolicyCredentialHeaders(t *testing.T) {
	p := &Policy{CredentialHeaders: []string{"x-shop-key", "-X-Token", "-x-person"}, VaryHeader: []string{"X-Api-Key"}}
	s := newFieldSet(p.credentialHeaders([]string{"X-Person", "Visitor"}))
	for name, want := range map[string]bool{
		"X-Shop-Key": true, "X-Token": false, "X-Person": false, "Visitor": true, "X-Api-Key": false, "Api-Key": true, "Accept": false, "": false,
	} {
		if s.has(name) != want {
			t.Errorf("%q: %t", name, !want)
		}
	}
	if got := s.in(http.Header{"X-Vault-Token": {"a"}, "Api-Key": {"b"}, "Auth-Token": nil}); got != "Api-Key" {
		t.Errorf("the first is %q", got)
	}
}

// BenchmarkCredentialFields compares looking a browser's fields up with asking for
// each name of the list.
func BenchmarkCredentialFields(b *testing.B) {
	header := make(http.Header)
	for _, name := range []string{
		"Accept", "Accept-Encoding", "Accept-Language", "Cache-Control", "Cookie", "Referer", "Sec-Ch-Ua", "Sec-Ch-Ua-Mobile",
		"Sec-Ch-Ua-Platform", "Sec-Fetch-Dest", "Sec-Fetch-Mode", "Sec-Fetch-Site", "Upgrade-Insecure-Requests", "User-Agent",
	} {
		header[name] = []string{"x"}
	}
	set := newFieldSet(new(Policy).credentialHeaders(nil))
	b.Run("set", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if set.in(header) != "" {
				b.Fatal("found one")
			}
		}
	})
	b.Run("list", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for _, name := range CredentialHeaders {
				if len(header[name]) > 0 {
					b.Fatal("found one")
				}
			}
		}
	})
}
