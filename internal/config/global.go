package config

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// Global is what all handlers of a configuration share.
type Global struct {
	// Whether anything is cached. Default: the environment variable
	// REDIS_CACHE_ENABLED, else true.
	Enabled *bool `json:"enabled,omitempty"`

	// What every key in Redis begins with: letters, digits, `.`, `_` and `-`.
	// Default: the environment variable REDIS_CACHE_KEY_PREFIX, else cache.
	Prefix string `json:"prefix,omitempty"`

	// The connection to Redis.
	Redis *Redis `json:"redis,omitempty"`

	// The size of the memory tier in bytes; -1 switches it off. Default: 256 MiB.
	Memory int64 `json:"memory,omitempty"`

	// Whether the garbage collector of the process is told to let the heap grow less, the
	// more of it is stored responses, so that the process outgrows the memory tier by a half
	// at most: `on` or `off`. It changes what GOGC sets, for the whole process; where GOGC is
	// in the environment, nothing is changed. With `off` a full memory tier may cost the
	// process twice its size. Default: on. Another word is an error.
	Collector string `json:"collector,omitempty"`

	// The key of the hash by which user identities go into keys. Every node
	// needs the same. Placeholders are accepted. Default: derived from the
	// prefix and the password of Redis.
	Secret string `json:"secret,omitempty"`

	// What a node does that cannot reach Redis, and so cannot know of purges:
	// `available` answers from its store within the freshness lifetime, `strict`
	// asks the origin. Default: available.
	Consistency string `json:"consistency,omitempty"`

	// When requests leave Redis out because it does not answer.
	CircuitBreaker *CircuitBreaker `json:"circuit_breaker,omitempty"`

	// What is purged on an event, by its name: events come from the admin API,
	// from the journal and from Caddy.
	On map[string][]*EventRule `json:"on,omitempty"`

	// The policies of namespaces, by name. The namespace `general` always
	// exists.
	Namespaces map[string]*Policy `json:"namespaces,omitempty"`
}

// DefaultNamespace always exists.
const DefaultNamespace = "general"

const (
	appID         = "redis_cache"
	defaultPrefix = "cache"

	// DefaultMemory is the size of the memory tier in bytes.
	DefaultMemory = 256 << 20
	// MemoryOff is the size of a memory tier that is switched off.
	MemoryOff = -1

	consistencyAvailable = "available"
	consistencyStrict    = "strict"
)

var consistencyModes = []string{consistencyAvailable, consistencyStrict}

var (
	prefixFormat    = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
	namespaceFormat = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]*$`)
)

// IsNamespace reports whether a namespace may have the name.
func IsNamespace(name string) bool { return namespaceFormat.MatchString(name) }

// Resolve applies the environment and the defaults, and checks what they lead to.
func (g *Global) Resolve() error {
	g.Prefix = cmp.Or(g.Prefix, os.Getenv("REDIS_CACHE_KEY_PREFIX"), defaultPrefix)
	if g.Prefix == DefaultNamespace {
		return fmt.Errorf("prefix %q: a namespace has this name", g.Prefix)
	}
	if !prefixFormat.MatchString(g.Prefix) {
		return fmt.Errorf("prefix %q: only letters, digits, '.', '_' and '-' are allowed", g.Prefix)
	}
	g.Memory = cmp.Or(g.Memory, DefaultMemory)
	if g.Memory < MemoryOff {
		return fmt.Errorf("memory %d is negative", g.Memory)
	}
	if env := os.Getenv("REDIS_CACHE_ENABLED"); env != "" && g.Enabled == nil {
		enabled, err := strconv.ParseBool(strings.ToLower(env))
		if err != nil {
			return fmt.Errorf("environment variable REDIS_CACHE_ENABLED: %q is neither true nor false", env)
		}
		g.Enabled = &enabled
	}
	if err := oneOf("consistency", cmp.Or(g.Consistency, consistencyAvailable), consistencyModes); err != nil {
		return err
	}
	if err := oneOf("collector", cmp.Or(g.Collector, optionOn), onOff); err != nil {
		return err
	}
	if err := g.CircuitBreaker.validate(); err != nil {
		return err
	}
	for name, policy := range g.Namespaces {
		if err := g.checkNamespace(name, policy); err != nil {
			return fmt.Errorf("namespace %s: %w", name, err)
		}
	}
	return nil
}

func (g *Global) checkNamespace(name string, policy *Policy) error {
	if !namespaceFormat.MatchString(name) {
		return fmt.Errorf("a name has lower-case letters, digits, '_' and '-' and begins with a letter or digit")
	}
	if name == g.Prefix {
		return fmt.Errorf("the name is the same as the prefix")
	}
	if policy == nil {
		return fmt.Errorf("the policy is null")
	}
	if policy.hasMatchers() {
		return fmt.Errorf("rules with matchers belong into the handler")
	}
	policy.canonicalize()
	return policy.Validate()
}

// IsEnabled reports whether anything is cached.
func (g *Global) IsEnabled() bool { return g.Enabled == nil || *g.Enabled }

// Strict reports whether a node that cannot know of purges asks the origin.
func (g *Global) Strict() bool { return g.Consistency == consistencyStrict }

// Collects reports whether the collector is told of the memory tier.
func (g *Global) Collects() bool { return g.Collector != optionOff }

// HashSecret is the key of the hash by which users go into keys. The password is that of
// Redis.
func (g *Global) HashSecret(password string) ([]byte, error) {
	if g.Secret == "" {
		return []byte(g.PublicSecret() + password), nil
	}
	secret, err := caddy.NewReplacer().ReplaceOrErr(g.Secret, true, true)
	if err != nil {
		return nil, fmt.Errorf("secret: %w", err)
	}
	return []byte(secret), nil
}

// PublicSecret is the secret where there is nothing to derive one from.
func (g *Global) PublicSecret() string { return "redis_cache " + g.Prefix }

// CheckEvents checks the rules of events.
func (g *Global) CheckEvents() error {
	for name, rules := range g.On {
		if strings.HasPrefix(name, appID+".") || name == "" {
			return fmt.Errorf("on %q: events of redis_cache itself cannot purge", name)
		}
		for _, rule := range rules {
			if err := rule.Validate(); err != nil {
				return fmt.Errorf("on %s: %w", name, err)
			}
		}
	}
	return nil
}

// PolicyOf is the merged and checked policy of a handler in a namespace.
func (g *Global) PolicyOf(namespace string, directive *Policy) (*Policy, error) {
	ns, declared := g.Namespaces[namespace]
	if !declared {
		if namespace != DefaultNamespace {
			return nil, fmt.Errorf("namespace %q is not declared: the global option redis_cache declares namespaces", namespace)
		}
		ns = new(Policy)
	}
	merged := directive.Merge(*ns)
	merged.canonicalize()
	return &merged, errors.Join(merged.Validate(), merged.ValidateMerged())
}
