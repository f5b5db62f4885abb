package engine

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/internal/cachekey"
)

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
	ignores := func(name string) bool { return name == "theme" || name == "_ga" }
	for _, c := range []struct {
		name    string
		route   Route
		request func(*http.Request)
		userID  string
		want    bool
	}{
		{"plain", Route{}, plain, "", false},
		{"by_user", Route{ByUser: true}, plain, "", true},
		{"user", Route{}, plain, "u", true},
		{"authorization", Route{}, withHeader("Authorization", "Basic x"), "", true},
		{"certificate", Route{}, certificate, "", true},
		{"cookie", Route{}, withHeader("Cookie", "session=1"), "", true},
		{"ignored cookie", Route{}, withHeader("Cookie", "theme=1; _ga=2"), "", false},
		{"cookie in the key", Route{Key: cachekey.Spec{Cookies: []string{"session"}}}, withHeader("Cookie", "session=1"), "", true},
		{"authorization in the key", Route{Key: cachekey.Spec{Headers: []string{"Authorization"}}}, withHeader("Authorization", "Basic x"), "", true},
		{"API key", Route{Key: cachekey.Spec{Headers: []string{"X-Api-Key"}}}, withHeader("X-Api-Key", "k"), "", true},
		{"no API key", Route{Key: cachekey.Spec{Headers: []string{"X-Api-Key"}}}, plain, "", false},
		{"language", Route{Key: cachekey.Spec{Headers: []string{"Accept-Language"}}}, withHeader("Accept-Language", "de"), "", false},
		{"shared", Route{Shared: true}, withHeader("Cookie", "session=1"), "u", false},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
		c.request(r)
		c.route.IgnoresCookie = ignores
		q := Request{Route: &c.route, UserID: c.userID, Upstream: new(upstream)}
		if got := q.mayBePrivate(r); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
