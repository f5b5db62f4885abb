package config

import (
	"cmp"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gplus-recycling/caddy-redis-cache/internal/cachekey"
	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
)

// Compile sets what the policy says of a route. The policy is a merged one; directive is
// that of the handler alone, which explain names where a lifetime comes from it.
func (p *Policy) Compile(rt *engine.Route, directive *Policy) {
	rt.Methods = p.CachedMethods()
	if len(p.Bypass) > 0 {
		rt.Bypass = func(r *http.Request, params bool) bool {
			return p.matchesBypass(r) || params && withoutParams(r, p.matchesBypass)
		}
	}
	if p.Jitter != nil {
		rt.Jitter = *p.Jitter
	}
	if p.Heuristic != nil {
		rt.HeuristicPercent, rt.HeuristicMax = p.Heuristic.Percent, time.Duration(p.Heuristic.Max)
	}
	rt.StaleWhileRevalidate, rt.StaleIfError = p.staleWhileRevalidate(), p.staleIfError()
	rt.Targets = p.TargetFields()
	rt.HonorsClient = p.ClientCacheControl == clientHonor
	if len(p.NoStore) > 0 {
		rt.Refuses = p.noStore
	}
	rt.MaxBody, rt.VaryBody, rt.MinEncode = p.maxBody(), p.varyBody(), p.minEncode()
	switch p.SetCookie {
	case setCookieStrip:
		rt.SetCookie = engine.StripCookies
	case setCookieStore:
		rt.SetCookie = engine.StoreCookies
	}
	rt.ByUser, rt.Shared = p.ByUser != "", p.Shared
	rt.IgnoresCookie = p.ignoresCookie
	rt.TagFields, rt.RemovedTagFields = p.tagFields(), p.removedTagFields()
	rt.PrivateKeys = p.PrivateKey()
	rt.Coalesce, rt.RefreshAhead = p.Coalesce != optionOff, p.RefreshAhead == optionOn
	rt.UnsafeInvalidates = p.UnsafeInvalidates != optionOff
	rt.Diagnostics = p.diagnosticsFor
	l := p.lifetimes(directive, rt.Log)
	rt.Lifetime, rt.StatusLifetime = l.ofRequest, l.ofStatus
	for _, rule := range p.Invalidate {
		rt.Invalidations = append(rt.Invalidations, engine.Invalidation{
			Matches: func(r *http.Request, unsafe bool) bool {
				matches, err := rule.matches(r, unsafe)
				if err != nil {
					rt.Log.Error("an invalidate matcher failed", "error", err)
				}
				return matches
			},
			Private: slices.ContainsFunc(rule.Values, private),
		})
	}
}

// KeySpec is what keys of the namespace are made of.
func (p *Policy) KeySpec(prefix, namespace string) cachekey.Spec {
	return cachekey.Spec{
		Prefix: prefix, Namespace: namespace, Query: p.VaryQuery, Headers: p.VaryHeader, Cookies: p.VaryCookie,
		Templated: p.Key != nil, Exact: p.Key != nil && p.Key.Exact,
	}
}

// matchesBypass reports whether bypass matches. A matcher that cannot decide must not let
// a response be shared.
func (p *Policy) matchesBypass(r *http.Request) bool {
	return slices.ContainsFunc(p.Bypass, func(rule *MatcherRule) bool {
		ok, err := rule.matches(r)
		return ok || err != nil
	})
}

// noStore reports whether a no_store rule matches the response.
func (p *Policy) noStore(status int, header http.Header) bool {
	return slices.ContainsFunc(p.NoStore, func(m caddyhttp.ResponseMatcher) bool {
		return m.Match(status, header)
	})
}

// diagnosticsFor is the level for this request.
func (p *Policy) diagnosticsFor(r *http.Request) engine.Diagnostics {
	level := p.Diagnostics
	for _, rule := range p.DiagnosticsRules {
		if ok, err := rule.matches(r); ok && err == nil {
			level = rule.Level
			break
		}
	}
	switch level {
	case diagnosticsMinimal:
		return engine.DiagnosticsMinimal
	case diagnosticsOff:
		return engine.DiagnosticsOff
	}
	return engine.DiagnosticsFull
}

// minEncode is the size from which bodies are compressed; 0: never.
func (p *Policy) minEncode() int {
	switch {
	case p.Encode == nil:
		return engine.DefaultMinEncode
	case p.Encode.Format == encodeOff:
		return 0
	}
	return int(cmp.Or(p.Encode.MinSize, engine.DefaultMinEncode))
}

// tagFields are the upstream fields that are read as tags.
func (p *Policy) tagFields() []string {
	if p.TagHeader != nil {
		return p.TagHeader.Names
	}
	return engine.DefaultTagFields
}

// removedTagFields are the fields that concern this cache only.
func (p *Policy) removedTagFields() []string {
	if p.TagHeader != nil && p.TagHeader.Keep {
		return nil
	}
	return p.tagFields()
}

// CachedMethods are the methods that are cached.
func (p *Policy) CachedMethods() []string {
	return firstNonEmpty(p.Methods, []string{http.MethodGet, http.MethodHead})
}

func (p *Policy) maxBody() int64 { return cmp.Or(p.MaxBody, engine.DefaultMaxBody) }

// SetCookieMode is what becomes of Set-Cookie.
func (p *Policy) SetCookieMode() string { return cmp.Or(p.SetCookie, setCookieRefuse) }

func (p *Policy) varyBody() int64 { return cmp.Or(p.VaryBody, engine.DefaultVaryBody) }

func (p *Policy) staleWhileRevalidate() time.Duration {
	if p.StaleWhileRevalidate == nil {
		return 0
	}
	return time.Duration(*p.StaleWhileRevalidate)
}

func (p *Policy) staleIfError() time.Duration {
	if p.StaleIfError == nil {
		return engine.DefaultStaleIfError
	}
	return time.Duration(*p.StaleIfError)
}

// TargetFields are the fields that take the place of Cache-Control.
func (p *Policy) TargetFields() []string { return firstNonEmpty(p.Targets, engine.DefaultTargets) }
