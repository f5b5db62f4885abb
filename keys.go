package rediscache

import (
	"errors"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gplus-recycling/caddy-redis-cache/internal/cachekey"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
)

// targetOf is what a request asks for.
func targetOf(r *http.Request) cachekey.Target {
	t := cachekey.Target{Scheme: "http"}
	if r.TLS != nil {
		t.Scheme = "https"
	}
	t.Host = cachekey.NormalHost(t.Scheme, r.Host)
	t.Trusted, _ = caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	t.URLScheme = t.Scheme
	if t.Trusted {
		t.URLScheme = statedScheme(r.Header, t.Scheme)
	}
	original := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	t.Path, t.Query = cachekey.SplitURI(original.URL, original.RequestURI)
	if path := r.URL.EscapedPath(); path != t.Path {
		t.RewrittenPath = path
	}
	t.RewrittenQuery = r.URL.RawQuery
	t.Opaque = r.URL.Opaque != ""
	return t
}

// statedScheme is the scheme that the client of a proxy has used: that of the
// connection, unless the proxy states another one in X-Forwarded-Proto.
func statedScheme(header http.Header, scheme string) string {
	if lines := header["X-Forwarded-Proto"]; len(lines) == 1 {
		for _, stated := range []string{"http", "https"} {
			if strings.EqualFold(lines[0], stated) {
				return stated
			}
		}
	}
	return scheme
}

// User is the value of by_user; nobody has one.
func (c *call) User() string {
	identity, err := c.repl.ReplaceOrErr(c.h.policy.ByUser, true, true)
	if err != nil || c.warms {
		return ""
	}
	return identity
}

// Identifier expands the template of the key.
func (c *call) Identifier() (identifier, missing string, ok bool) {
	key := c.h.policy.Key
	identifier, err := c.repl.ReplaceFunc(key.Template, func(name string, value any) (any, error) {
		text := caddy.ToString(value)
		if key.Exact && text == "" {
			// The key is nothing but its template: without one of its values, requests would
			// share it that have nothing in common.
			missing = name
			return nil, errNoValue
		}
		return cachekey.Escape(text), nil
	})
	return identifier, missing, err == nil
}

var errNoValue = errors.New("a placeholder of an exact key has no value")

// Tags expands the templates of tags.
func (c *call) Tags() []string {
	if len(c.h.policy.Tags) == 0 {
		return nil
	}
	tags := make([]string, 0, len(c.h.policy.Tags))
	for _, template := range c.h.policy.Tags {
		tags = append(tags, c.repl.ReplaceAll(template, ""))
	}
	return tags
}

// Selectors expands those of an invalidate rule.
func (c *call) Selectors(rule int) []journal.Selector {
	return c.h.policy.Invalidate[rule].Expand(c.repl, c.h.app.secret)
}
