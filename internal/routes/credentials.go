package routes

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
)

// CredentialHeaders are the request fields, beside Authorization and Cookie, that are
// taken for credentials: keys and tokens that clients send, and what proxies in front
// write when they know who asks. docs/safety.md lists them.
var CredentialHeaders = []string{
	// keys and tokens
	"Access-Token", "Api-Key", "Apikey", "Auth-Token", "Authentication", "Dpop", "Proxy-Authorization", "Session-Id",
	"Session-Token", "Token", "X-Access-Key", "X-Access-Token", "X-Api-Key", "X-Api-Secret", "X-Api-Token", "X-Apikey",
	"X-App-Token", "X-Auth", "X-Auth-Key", "X-Auth-Token", "X-Authentication", "X-Authorization", "X-Bearer-Token",
	"X-Client-Secret", "X-Forwarded-Authorization", "X-Id-Token", "X-Jwt", "X-Jwt-Assertion", "X-Jwt-Token",
	"X-Original-Authorization", "X-Refresh-Token", "X-Secret-Key", "X-Service-Token", "X-Session", "X-Session-Id",
	"X-Session-Token", "X-Token", "X-User-Token",
	// against forged requests: one for each visitor
	"Csrf-Token", "X-Csrf", "X-Csrf-Token", "X-Csrftoken", "X-Wp-Nonce", "X-Xsrf-Token", "Xsrf-Token",
	// of one product or platform
	"Cf-Access-Authenticated-User-Email", "Cf-Access-Client-Id", "Cf-Access-Client-Secret", "Cf-Access-Jwt-Assertion",
	"Dd-Api-Key", "Dd-Application-Key", "Deploy-Token", "Fastly-Key", "Job-Token", "Ocp-Apim-Subscription-Key", "Private-Token",
	"X-Algolia-Api-Key", "X-Amz-Security-Token", "X-Amzn-Mtls-Clientcert", "X-Amzn-Oidc-Accesstoken", "X-Amzn-Oidc-Data",
	"X-Amzn-Oidc-Identity", "X-Apigateway-Api-Userinfo", "X-Auth-Email", "X-Consul-Token", "X-Emby-Authorization", "X-Emby-Token",
	"X-Endpoint-Api-Userinfo", "X-Figma-Token", "X-Functions-Key", "X-Gitlab-Token", "X-Goog-Api-Key",
	"X-Goog-Authenticated-User-Email", "X-Goog-Authenticated-User-Id", "X-Goog-Iam-Authorization-Token",
	"X-Goog-Iap-Jwt-Assertion", "X-Hasura-Access-Key", "X-Hasura-Admin-Secret", "X-Hasura-Role", "X-Hasura-User-Id",
	"X-Mediabrowser-Token", "X-Meili-Api-Key", "X-Metabase-Apikey", "X-Metabase-Session", "X-Ms-Client-Principal",
	"X-Ms-Client-Principal-Id", "X-Ms-Client-Principal-Name", "X-Ms-Token-Aad-Access-Token", "X-Ms-Token-Aad-Id-Token",
	"X-N8n-Api-Key", "X-Nomad-Token", "X-Parse-Master-Key", "X-Parse-Session-Token", "X-Plex-Token", "X-Postmark-Server-Token",
	"X-Rapidapi-Key", "X-Redmine-Api-Key", "X-Shopify-Access-Token", "X-Shopify-Storefront-Access-Token", "X-Subject-Token",
	"X-Typesense-Api-Key", "X-Vault-Token",
	// of proxies that authenticate
	"Remote-Email", "Remote-Groups", "Remote-Name", "Remote-User", "Ssl-Client-Cert", "Tailscale-User-Login", "Tailscale-User-Name",
	"X-Arr-Clientcert", "X-Auth-Request-Access-Token", "X-Auth-Request-Email", "X-Auth-Request-Groups",
	"X-Auth-Request-Preferred-Username", "X-Auth-Request-User", "X-Auth-User", "X-Authenticated-User", "X-Authenticated-Userid",
	"X-Authentik-Email", "X-Authentik-Groups", "X-Authentik-Jwt", "X-Authentik-Uid", "X-Authentik-Username", "X-Client-Cert",
	"X-Consumer-Custom-Id", "X-Consumer-Id", "X-Consumer-Username", "X-Credential-Identifier", "X-Forwarded-Access-Token",
	"X-Forwarded-Client-Cert", "X-Forwarded-Email", "X-Forwarded-Groups", "X-Forwarded-Preferred-Username",
	"X-Forwarded-Tls-Client-Cert", "X-Forwarded-Tls-Client-Cert-Info", "X-Forwarded-User", "X-Pomerium-Claim-Email",
	"X-Pomerium-Jwt-Assertion", "X-Remote-Email", "X-Remote-Group", "X-Remote-User", "X-Ssl-Client-Cert", "X-Ssl-Client-Dn",
	"X-Ssl-Client-S-Dn", "X-User", "X-User-Email", "X-User-Id", "X-Userinfo", "X-Username", "X-Vouch-Idp-Accesstoken",
	"X-Vouch-User", "X-Webauth-Email", "X-Webauth-User",
}

// credentialHeaders are those of the route: the common ones and more, without those
// that credential_headers takes out and those that are part of the key.
func (p *Policy) credentialHeaders(more []string) []string {
	names := slices.Concat(CredentialHeaders, more)
	for _, item := range p.CredentialHeaders {
		name, out := strings.CutPrefix(item, "-")
		name = http.CanonicalHeaderKey(name)
		if out {
			names = slices.DeleteFunc(names, func(n string) bool { return n == name })
		} else {
			names = append(names, name)
		}
	}
	return slices.DeleteFunc(names, func(name string) bool { return slices.Contains(p.VaryHeader, name) })
}

// noCredential reports whether credential_headers takes a field out.
func (p *Policy) noCredential(name string) bool {
	return slices.ContainsFunc(p.CredentialHeaders, func(item string) bool {
		item, out := strings.CutPrefix(item, "-")
		return out && http.CanonicalHeaderKey(item) == name
	})
}

// ValidateCredentialHeaders checks what the option credential_headers names.
func ValidateCredentialHeaders(items []string) error {
	for _, item := range items {
		name := strings.TrimPrefix(item, "-")
		if !rfc9111.IsToken(name) {
			return fmt.Errorf("credential_headers: %q is not the name of a field", item)
		}
		switch http.CanonicalHeaderKey(name) {
		case "Authorization":
			return fmt.Errorf("credential_headers: %s always is a credential; vary_header and shared say what it means here", item)
		case "Cookie":
			return fmt.Errorf("credential_headers: %s always is a credential; vary_cookie and ignore_cookies say what cookies mean here", item)
		}
	}
	return nil
}

// fieldSet is a set of field names. A filter spares most fields of a request the
// look-up: there is one for each of them in every request.
type fieldSet struct {
	names  map[string]struct{}
	filter [8]uint64
}

func newFieldSet(names []string) *fieldSet {
	s := &fieldSet{names: make(map[string]struct{}, len(names))}
	for _, name := range names {
		s.names[name] = struct{}{}
		h := fieldHash(name)
		s.filter[h>>6] |= 1 << (h & 63)
	}
	return s
}

// fieldHash is below 512.
func fieldHash(name string) uint {
	if name == "" {
		return 0
	}
	n := uint(len(name))
	return (n*37 ^ uint(name[n/2])<<2 ^ uint(name[n-1])*11) & 511
}

func (s *fieldSet) has(name string) bool {
	h := fieldHash(name)
	if s.filter[h>>6]&(1<<(h&63)) == 0 {
		return false
	}
	_, ok := s.names[name]
	return ok
}

// in returns the first field of a header, by name, that is in the set, or "".
func (s *fieldSet) in(header http.Header) (first string) {
	for name, values := range header {
		if s.has(name) && len(values) > 0 && (first == "" || name < first) {
			first = name
		}
	}
	return first
}
