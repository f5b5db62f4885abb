package config

import (
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
)

// lifetimes are the configured ones with the lines of the configuration that they
// come from, for explain.
type lifetimes struct {
	p      *Policy
	log    *slog.Logger
	plain  *engine.TTL   // of option ttl, or nil
	rules  []*engine.TTL // of ttl lines with a matcher
	status []*engine.TTL // of ttl status lines
}

// lifetimes compiles ttl and its rules.
func (p *Policy) lifetimes(directive *Policy, log *slog.Logger) *lifetimes {
	l := &lifetimes{p: p, log: log}
	compiled := func(ttl *TTL, from string) *engine.TTL {
		return &engine.TTL{Duration: time.Duration(ttl.Duration), Override: ttl.Override, From: from}
	}
	if ttl := p.TTL; ttl != nil {
		from := "namespace, ttl"
		if ttl == directive.TTL {
			from = "directive, ttl"
		}
		l.plain = compiled(ttl, from)
	}
	for i, rule := range p.TTLRules {
		l.rules = append(l.rules, compiled(&rule.TTL, fmt.Sprintf("directive, ttl line %d with a matcher", i+1)))
	}
	where := "namespace"
	if len(directive.TTLStatus) > 0 {
		where = "directive"
	}
	for i, rule := range p.TTLStatus {
		l.status = append(l.status, compiled(&rule.TTL, fmt.Sprintf("%s, ttl status line %d", where, i+1)))
	}
	return l
}

// ofRequest is the configured lifetime for the responses to a request, or nil. Where its
// path has parameters and their absence makes a difference, the safer one holds.
func (l *lifetimes) ofRequest(r *http.Request, params bool) *engine.TTL {
	ttl := l.matching(r)
	if len(l.rules) == 0 || !params {
		return ttl
	}
	return safer(ttl, withoutParams(r, l.matching))
}

// matching is the lifetime of the first rule that matches, or the plain one. None, if a
// matcher fails: it may be the one that would have said so.
func (l *lifetimes) matching(r *http.Request) *engine.TTL {
	for i, rule := range l.p.TTLRules {
		if ok, err := rule.matches(r); err != nil {
			l.log.Error("a ttl matcher failed", "error", err)
			return nil
		} else if ok {
			return l.rules[i]
		}
	}
	return l.plain
}

// ofStatus is the configured lifetime of a response, or nil.
func (l *lifetimes) ofStatus(status int, ofRequest *engine.TTL) *engine.TTL {
	for i, rule := range l.p.TTLStatus {
		if rule.names(status) {
			return l.status[i]
		}
	}
	if slices.Contains(DefaultStatuses, status) {
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

// names reports whether the rule is about a status.
func (t *TTLStatus) names(status int) bool {
	return slices.ContainsFunc(t.Status, func(s int) bool {
		if s == 4 && !slices.Contains(urlErrors, status) {
			return false
		}
		return caddyhttp.StatusCodeMatches(status, s)
	})
}

// urlErrors are the 4xx that are about the URL. The others a client can provoke by
// what it sends, for everybody who asks next; the class does not mean them.
var urlErrors = []int{http.StatusNotFound, http.StatusGone, http.StatusRequestURITooLong}

// DefaultStatuses are those to which a plain ttl applies.
var DefaultStatuses = []int{
	http.StatusOK, http.StatusNonAuthoritativeInfo, http.StatusNoContent,
	http.StatusMultipleChoices, http.StatusMovedPermanently, http.StatusPermanentRedirect,
}
