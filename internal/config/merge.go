package config

import (
	"cmp"
	"net/http"
	"slices"
)

// Merge returns the policy of a directive inside a namespace: option by option,
// the directive's replaces the namespace's; lines that can only widen a rule
// are added.
func (p Policy) Merge(ns Policy) Policy {
	p.TTL = cmp.Or(p.TTL, ns.TTL)
	p.TTLStatus = firstNonEmpty(p.TTLStatus, ns.TTLStatus)
	p.Jitter = cmp.Or(p.Jitter, ns.Jitter)
	p.Key = cmp.Or(p.Key, ns.Key)
	p.VaryQuery = cmp.Or(p.VaryQuery, ns.VaryQuery)
	p.VaryHeader = firstNonEmpty(p.VaryHeader, ns.VaryHeader)
	p.VaryCookie = firstNonEmpty(p.VaryCookie, ns.VaryCookie)
	p.ByUser = cmp.Or(p.ByUser, ns.ByUser)
	p.Shared = p.Shared || ns.Shared
	p.IgnoreCookies = slices.Concat(ns.IgnoreCookies, p.IgnoreCookies)
	p.CredentialHeaders = slices.Concat(ns.CredentialHeaders, p.CredentialHeaders)
	p.NoStore = slices.Concat(ns.NoStore, p.NoStore)
	p.Methods = firstNonEmpty(p.Methods, ns.Methods)
	p.MaxBody = cmp.Or(p.MaxBody, ns.MaxBody)
	p.Diagnostics = cmp.Or(p.Diagnostics, ns.Diagnostics)
	p.SetCookie = cmp.Or(p.SetCookie, ns.SetCookie)
	p.Coalesce = cmp.Or(p.Coalesce, ns.Coalesce)
	p.RefreshAhead = cmp.Or(p.RefreshAhead, ns.RefreshAhead)
	p.StaleWhileRevalidate = cmp.Or(p.StaleWhileRevalidate, ns.StaleWhileRevalidate)
	p.StaleIfError = cmp.Or(p.StaleIfError, ns.StaleIfError)
	p.Heuristic = cmp.Or(p.Heuristic, ns.Heuristic)
	p.Targets = firstNonEmpty(p.Targets, ns.Targets)
	p.ClientCacheControl = cmp.Or(p.ClientCacheControl, ns.ClientCacheControl)
	p.UnsafeInvalidates = cmp.Or(p.UnsafeInvalidates, ns.UnsafeInvalidates)
	p.VaryBody = cmp.Or(p.VaryBody, ns.VaryBody)
	p.Tags = slices.Concat(ns.Tags, p.Tags)
	p.TagHeader = cmp.Or(p.TagHeader, ns.TagHeader)
	p.Encode = cmp.Or(p.Encode, ns.Encode)
	p.Invalidate = slices.Concat(ns.Invalidate, p.Invalidate)
	return p
}

func firstNonEmpty[T any](a, b []T) []T {
	if len(a) > 0 {
		return a
	}
	return b
}

// canonicalize brings field names into the form that http.Header is keyed by.
func (p *Policy) canonicalize() {
	p.VaryHeader = canonical(p.VaryHeader)
	if p.TagHeader != nil {
		p.TagHeader = &TagHeader{Names: canonical(p.TagHeader.Names), Keep: p.TagHeader.Keep}
	}
}

func canonical(names []string) []string {
	names = slices.Clone(names)
	for i, name := range names {
		names[i] = http.CanonicalHeaderKey(name)
	}
	return names
}
