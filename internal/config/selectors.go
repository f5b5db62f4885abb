package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/gplus-recycling/caddy-redis-cache/internal/cachekey"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
)

// Selectors names stored responses by templates.
type Selectors struct {
	// `namespace`, `tag`, `key`, `pattern`, `url`, `prefix`, `host`, `user` or
	// `all`.
	Selector string `json:"selector"`

	// What it compares; a union. Values of placeholders in `key` and `pattern`
	// are percent-escaped, as they are in keys. None for `all`.
	Values []string `json:"values,omitempty"`
}

// InvalidateRule purges after a successful answer.
type InvalidateRule struct {
	Selectors

	// The requests whose answers purge; sets are ORed. They add to the condition that
	// the method is unsafe, but for a set with a `method` matcher of its own, which then
	// decides: one inside `not` or `expression` does not count. Where the method is safe,
	// only a 2xx purges, else also a 3xx. Default: those with an unsafe method.
	MatcherRule
}

// EventRule purges on an event.
type EventRule struct {
	Selectors

	// Whether responses become stale instead of absent. Default: false.
	Soft bool `json:"soft,omitempty"`
}

// Validate also refuses placeholders that no event has a value for.
func (r *EventRule) Validate() error {
	if err := r.Selectors.validate(); err != nil {
		return err
	}
	known := caddy.NewReplacer()
	for _, template := range r.Values {
		_, err := known.ReplaceFunc(template, func(name string, _ any) (any, error) {
			if field, ok := strings.CutPrefix(name, "event."); ok {
				if slices.Contains(CaddyEventFields, field) {
					return nil, fmt.Errorf("{%s} is Caddy's own: write {event.data.%s}", name, field)
				}
				return "", nil
			}
			if _, ok := known.Get(name); !ok {
				return nil, fmt.Errorf("{%s} has no value here: events have {event.<name>}", name)
			}
			return "", nil
		})
		if err != nil {
			return fmt.Errorf("%s: %w", r.Selector, err)
		}
	}
	return nil
}

// selectorKinds are the selectors by name.
var selectorKinds = func() map[string]journal.Kind {
	kinds := make(map[string]journal.Kind)
	for kind := journal.KindNamespace; kind <= journal.KindAll; kind++ {
		kinds[kind.String()] = kind
	}
	return kinds
}()

func (s *Selectors) validate() error {
	kind, known := selectorKinds[s.Selector]
	switch {
	case !known:
		return fmt.Errorf("unknown selector %q", s.Selector)
	case kind == journal.KindAll && len(s.Values) > 0:
		return fmt.Errorf("%s takes no value", s.Selector)
	case kind != journal.KindAll && len(s.Values) == 0:
		return fmt.Errorf("%s needs a value", s.Selector)
	case slices.Contains(s.Values, ""):
		return fmt.Errorf("%s: an empty value", s.Selector)
	}
	return nil
}

// Expand replaces the placeholders. Values that are empty then select nothing.
func (s *Selectors) Expand(repl *caddy.Replacer, secret []byte) []journal.Selector {
	kind := selectorKinds[s.Selector]
	if kind == journal.KindAll {
		return []journal.Selector{{Kind: kind}}
	}
	selectors := make([]journal.Selector, 0, len(s.Values))
	for _, template := range s.Values {
		var value string
		if kind == journal.KindKey || kind == journal.KindPattern {
			value, _ = repl.ReplaceFunc(template, func(_ string, value any) (any, error) { return cachekey.Escape(caddy.ToString(value)), nil })
		} else {
			value = repl.ReplaceAll(template, "")
		}
		if value != "" {
			selectors = append(selectors, hashUser(journal.Selector{Kind: kind, Value: value}, secret))
		}
	}
	return selectors
}

// hashUser replaces an identity by the hash under which records hold it.
func hashUser(s journal.Selector, secret []byte) journal.Selector {
	if s.Kind == journal.KindUser {
		s.Value = cachekey.UserHash(secret, s.Value)
	}
	return s
}

// CaddyEventFields are the names below {event.} that Caddy uses itself.
var CaddyEventFields = []string{"id", "name", "time", "time_unix", "module", "data"}
