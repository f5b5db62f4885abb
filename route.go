package rediscache

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
)

// compile makes the policy of a handler what the engine knows of it.
func (h *Handler) compile() *engine.Route {
	p, app, n := &h.policy, h.app, h.node
	rt := engine.NewRoute(n.Cache, p.keySpec(app.Prefix, h.Namespace))
	rt.Log, rt.Secret, rt.Strict = slogger(h.logger), app.secret, app.Consistency == consistencyStrict
	rt.Disabled = func() bool { return !app.enabled || n.IsOff(h.Namespace) }
	p.compile(rt)
	l := h.lifetimeRules()
	rt.Lifetime, rt.StatusLifetime = l.ofRequest, l.ofStatus
	rt.IsFailure, rt.IsIncremental = isFailure, caddyhttp.IsIncremental
	rt.IdentityBelow = h.warnIdentityBelow
	rt.Redirected = func(r *http.Request, up engine.Upstream, header http.Header) {
		h.strangers.note(r, up.UserID(), header)
	}
	for _, rule := range p.Invalidate {
		rt.Invalidations = append(rt.Invalidations, engine.Invalidation{
			Matches: func(r *http.Request, unsafe bool) bool {
				matches, err := rule.matches(r, unsafe)
				if err != nil {
					h.logger.Error("an invalidate matcher failed", zap.Error(err))
				}
				return matches
			},
			Private: slices.ContainsFunc(rule.Values, private),
		})
	}
	return rt
}

// compile sets what the policy alone says.
func (p *Policy) compile(rt *engine.Route) {
	rt.Methods = p.methods()
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
	rt.Targets = p.targets()
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
	rt.PrivateKeys = p.privateKey()
	rt.Coalesce, rt.RefreshAhead = p.Coalesce != optionOff, p.RefreshAhead == optionOn
	rt.UnsafeInvalidates = p.UnsafeInvalidates != optionOff
	rt.Diagnostics = p.diagnosticsFor
}

// lifetimeRules are the configured lifetimeRules with the lines of the configuration that they
// come from, for explain.
type lifetimeRules struct {
	p      *Policy
	log    *zap.Logger
	plain  *engine.TTL   // of option ttl, or nil
	rules  []*engine.TTL // of ttl lines with a matcher
	status []*engine.TTL // of ttl status lines
}

// lifetimeRules compiles ttl and its rules.
func (h *Handler) lifetimeRules() *lifetimeRules {
	l := &lifetimeRules{p: &h.policy, log: h.logger}
	compiled := func(ttl *TTL, from string) *engine.TTL {
		return &engine.TTL{Duration: time.Duration(ttl.Duration), Override: ttl.Override, From: from}
	}
	if ttl := h.policy.TTL; ttl != nil {
		from := "namespace, ttl"
		if ttl == h.Policy.TTL {
			from = "directive, ttl"
		}
		l.plain = compiled(ttl, from)
	}
	for i, rule := range h.policy.TTLRules {
		l.rules = append(l.rules, compiled(&rule.TTL, fmt.Sprintf("directive, ttl line %d with a matcher", i+1)))
	}
	where := "namespace"
	if len(h.Policy.TTLStatus) > 0 {
		where = "directive"
	}
	for i, rule := range h.policy.TTLStatus {
		l.status = append(l.status, compiled(&rule.TTL, fmt.Sprintf("%s, ttl status line %d", where, i+1)))
	}
	return l
}

// ofRequest is the configured lifetime for the responses to a request, or nil. Where its
// path has parameters and their absence makes a difference, the safer one holds.
func (l *lifetimeRules) ofRequest(r *http.Request, params bool) *engine.TTL {
	ttl := l.matching(r)
	if len(l.rules) == 0 || !params {
		return ttl
	}
	return safer(ttl, withoutParams(r, l.matching))
}

// matching is the lifetime of the first rule that matches, or the plain one. None, if a
// matcher fails: it may be the one that would have said so.
func (l *lifetimeRules) matching(r *http.Request) *engine.TTL {
	for i, rule := range l.p.TTLRules {
		if ok, err := rule.matches(r); err != nil {
			l.log.Error("a ttl matcher failed", zap.Error(err))
			return nil
		} else if ok {
			return l.rules[i]
		}
	}
	return l.plain
}

// ofStatus is the configured lifetime of a response, or nil.
func (l *lifetimeRules) ofStatus(status int, ofRequest *engine.TTL) *engine.TTL {
	for i, rule := range l.p.TTLStatus {
		if rule.names(status) {
			return l.status[i]
		}
	}
	if slices.Contains(defaultStatuses, status) {
		return ofRequest
	}
	return nil
}

// safer is the lifetime of two that stores less: one that overrides the origin with
// zero, else none, else the one that does not override, else the shorter one.
func safer(a, b *engine.TTL) *engine.TTL {
	for _, ttl := range []*engine.TTL{a, b} {
		if ttl != nil && ttl.Override && ttl.Duration == 0 {
			return ttl
		}
	}
	switch {
	case a == nil || b == nil:
		return nil
	case a.Override != b.Override:
		if a.Override {
			return b
		}
		return a
	case b.Duration < a.Duration:
		return b
	}
	return a
}

// isFailure tells an upstream that fails from one whose answer is an error route's, such
// as a file that is not there.
func isFailure(err error) bool {
	var handlerError caddyhttp.HandlerError
	return !errors.As(err, &handlerError) || handlerError.StatusCode >= http.StatusInternalServerError
}

// warnIdentityBelow tells the operator, once, that authentication runs behind the cache: a
// hit would not ask for it.
func (h *Handler) warnIdentityBelow(path string) {
	h.warnOnce.Do(func() {
		h.logger.Warn("an authentication handler runs behind redis_cache; its responses are not stored."+
			" Put it in front of redis_cache", zap.String("path", path))
	})
}
