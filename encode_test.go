package rediscache

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestMinEncode(t *testing.T) {
	for config, want := range map[string]int{
		`{}`:                          1 << 10,
		`{"encode":{}}`:               1 << 10,
		`{"encode":{"min_size":100}}`: 100,
		`{"encode":{"format":"zstd","min_size":100}}`: 100,
		`{"encode":{"format":"off"}}`:                 0,
	} {
		var p Policy
		if err := json.Unmarshal([]byte(config), &p); err != nil {
			t.Fatal(err)
		}
		if got := p.minEncode(); got != want {
			t.Errorf("%s: %d, want %d", config, got, want)
		}
	}
}

// Whose answer may be somebody's own is no sample for a dictionary, even where
// it is stored.
func TestMayBePrivate(t *testing.T) {
	withHeader := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	certificate := func(r *http.Request) {
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{}}}
	}
	plain := func(*http.Request) {}
	for _, c := range []struct {
		name    string
		policy  Policy
		request func(*http.Request)
		userID  string
		want    bool
	}{
		{"plain", Policy{}, plain, "", false},
		{"by_user", Policy{ByUser: "{x}"}, plain, "", true},
		{"user", Policy{}, plain, "u", true},
		{"authorization", Policy{}, withHeader("Authorization", "Basic x"), "", true},
		{"certificate", Policy{}, certificate, "", true},
		{"cookie", Policy{}, withHeader("Cookie", "session=1"), "", true},
		{"ignored cookie", Policy{IgnoreCookies: []string{"theme"}}, withHeader("Cookie", "theme=1; _ga=2"), "", false},
		{"cookie in the key", Policy{VaryCookie: []string{"session"}}, withHeader("Cookie", "session=1"), "", true},
		{"authorization in the key", Policy{VaryHeader: []string{"Authorization"}}, withHeader("Authorization", "Basic x"), "", true},
		{"API key", Policy{VaryHeader: []string{"X-Api-Key"}}, withHeader("X-Api-Key", "k"), "", true},
		{"no API key", Policy{VaryHeader: []string{"X-Api-Key"}}, plain, "", false},
		{"language", Policy{VaryHeader: []string{"Accept-Language"}}, withHeader("Accept-Language", "de"), "", false},
		{"shared", Policy{Shared: true}, withHeader("Cookie", "session=1"), "u", false},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
		c.request(r)
		if got := c.policy.mayBePrivate(r, c.userID); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
