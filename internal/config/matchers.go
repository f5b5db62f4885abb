package config

import (
	"fmt"
	"iter"
	"net/http"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Provision loads the matchers of every rule.
func (p *Policy) Provision(ctx caddy.Context) error {
	for option, rules := range p.matcherRules() {
		for _, rule := range rules {
			if err := rule.provision(ctx); err != nil {
				return fmt.Errorf("%s: %w", option, err)
			}
		}
	}
	return nil
}

// matcherRules are the rules with matchers, by their names in JSON.
func (p *Policy) matcherRules() iter.Seq2[string, []*MatcherRule] {
	return func(yield func(string, []*MatcherRule) bool) {
		_ = yield("ttl_rules", ruleOf(p.TTLRules, func(r *TTLRule) *MatcherRule { return &r.MatcherRule })) &&
			yield("bypass", p.Bypass) &&
			yield("diagnostics_rules", ruleOf(p.DiagnosticsRules, func(r *DiagnosticsRule) *MatcherRule { return &r.MatcherRule })) &&
			yield("invalidate", ruleOf(p.Invalidate, func(r *InvalidateRule) *MatcherRule { return &r.MatcherRule }))
	}
}

func ruleOf[T any](rules []T, of func(T) *MatcherRule) []*MatcherRule {
	matchers := make([]*MatcherRule, len(rules))
	for i, rule := range rules {
		matchers[i] = of(rule)
	}
	return matchers
}

// hasMatchers reports whether a rule needs the matchers of a site.
func (p *Policy) hasMatchers() bool {
	return len(p.TTLRules)+len(p.Bypass)+len(p.DiagnosticsRules) > 0 ||
		slices.ContainsFunc(p.Invalidate, func(r *InvalidateRule) bool { return len(r.MatcherSetsRaw) > 0 })
}

func (m *MatcherRule) provision(ctx caddy.Context) error {
	if len(m.MatcherSetsRaw) == 0 {
		return nil
	}
	raw := m.MatcherSetsRaw
	loaded, err := ctx.LoadModule(m, "MatcherSetsRaw")
	if err != nil {
		return err
	}
	m.MatcherSetsRaw = raw // explain shows it
	return m.matchers.FromInterface(loaded)
}

// matches reports whether the request matches. A matcher that fails counts as
// not matching, with the error for the log.
func (m *MatcherRule) matches(r *http.Request) (bool, error) {
	return m.matchers.AnyMatchWithError(r)
}

// matches reports whether the rule purges after the request. A matcher that cannot
// decide must not keep what is wrong from being purged.
func (r *InvalidateRule) matches(request *http.Request, unsafe bool) (bool, error) {
	if len(r.matchers) == 0 {
		return unsafe, nil
	}
	for i, set := range r.matchers {
		if _, own := r.MatcherSetsRaw[i]["method"]; !own && !unsafe {
			continue
		}
		if ok, err := set.MatchWithError(request); ok || err != nil {
			return true, err
		}
	}
	return false, nil
}

// Matchers are those of the rules of option bypass, loaded.
func (p *Policy) Matchers() []caddyhttp.MatcherSets {
	sets := make([]caddyhttp.MatcherSets, len(p.Bypass))
	for i, rule := range p.Bypass {
		sets[i] = rule.matchers
	}
	return sets
}
