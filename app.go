package rediscache

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
)

func init() {
	caddy.RegisterModule(new(App))
}

// App holds what all handlers of a configuration share: the connection to
// Redis, the memory tier and the namespaces.
//
// Configurations that name the same Redis, database and prefix share one node,
// so that a reload keeps the cache.
type App struct {
	// Whether anything is cached. Default: the environment variable
	// REDIS_CACHE_ENABLED, else true.
	Enabled *bool `json:"enabled,omitempty"`

	// What every key in Redis begins with: letters, digits, `.`, `_` and `-`.
	// Default: the environment variable REDIS_CACHE_KEY_PREFIX, else cache.
	Prefix string `json:"prefix,omitempty"`

	// The connection to Redis.
	Redis *RedisConfig `json:"redis,omitempty"`

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

	enabled bool
	secret  []byte
	node    *process
	poolKey string
	logger  *zap.Logger
	ctx     caddy.Context
	events  *caddyevents.App

	mu       sync.Mutex      // guards what follows
	policies []*Policy       // of every handler, for selectors by URL
	used     map[string]bool // namespaces that a handler names
	private  map[string]bool // namespaces whose keys may hold what is not to be shown
}

const (
	appID            = "redis_cache"
	defaultNamespace = "general"
	defaultPrefix    = "cache"
	defaultMemory    = 256 << 20
	memoryOff        = -1

	consistencyAvailable = "available"
	consistencyStrict    = "strict"
)

var consistencyModes = []string{consistencyAvailable, consistencyStrict}

var (
	prefixFormat    = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
	namespaceFormat = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]*$`)
)

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: appID, New: func() caddy.Module { return new(App) }}
}

// Provision resolves the configuration and takes hold of the node. It neither
// dials nor starts anything.
func (a *App) Provision(ctx caddy.Context) error {
	a.ctx = ctx
	a.logger = ctx.Logger(new(Handler)) // one logger for all that the cache says
	if err := a.resolve(); err != nil {
		return err
	}
	if err := registerMetrics(ctx); err != nil {
		return err
	}
	opts, err := a.Redis.options()
	if err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	if opts == nil && a.Memory == memoryOff {
		return fmt.Errorf("redis off together with memory off leaves no place to store a response")
	}
	if err := a.resolveSecret(opts); err != nil {
		return err
	}
	key := poolKey(opts, a.Prefix, a.Memory)
	if err := a.subscribe(ctx); err != nil {
		return err
	}
	shared, _, err := processes.LoadOrNew(key, func() (caddy.Destructor, error) {
		return newProcess(opts, a), nil
	})
	if err != nil {
		return err
	}
	a.node = shared.(*process)
	a.poolKey = key
	return nil
}

// subscribe asks Caddy for the events that have rules.
func (a *App) subscribe(ctx caddy.Context) error {
	events, err := ctx.App("events")
	if err != nil {
		return err
	}
	a.events = events.(*caddyevents.App)
	for name, rules := range a.On {
		if strings.HasPrefix(name, appID+".") || name == "" {
			return fmt.Errorf("on %q: events of redis_cache itself cannot purge", name)
		}
		for _, rule := range rules {
			if err := rule.validate(); err != nil {
				return fmt.Errorf("on %s: %w", name, err)
			}
		}
		if err := a.events.On(name, eventHandler{a}); err != nil {
			return err
		}
	}
	return nil
}

// resolve applies the environment and the defaults.
func (a *App) resolve() error {
	a.Prefix = cmp.Or(a.Prefix, os.Getenv("REDIS_CACHE_KEY_PREFIX"), defaultPrefix)
	if a.Prefix == defaultNamespace {
		return fmt.Errorf("prefix %q: a namespace has this name", a.Prefix)
	}
	if !prefixFormat.MatchString(a.Prefix) {
		return fmt.Errorf("prefix %q: only letters, digits, '.', '_' and '-' are allowed", a.Prefix)
	}
	a.Memory = cmp.Or(a.Memory, defaultMemory)
	if a.Memory < memoryOff {
		return fmt.Errorf("memory %d is negative", a.Memory)
	}
	a.enabled = true
	if a.Enabled != nil {
		a.enabled = *a.Enabled
	} else if env := os.Getenv("REDIS_CACHE_ENABLED"); env != "" {
		enabled, err := strconv.ParseBool(strings.ToLower(env))
		if err != nil {
			return fmt.Errorf("environment variable REDIS_CACHE_ENABLED: %q is neither true nor false", env)
		}
		a.enabled = enabled
	}
	if err := oneOf("consistency", cmp.Or(a.Consistency, consistencyAvailable), consistencyModes); err != nil {
		return err
	}
	if err := oneOf("collector", cmp.Or(a.Collector, optionOn), onOff); err != nil {
		return err
	}
	if err := a.CircuitBreaker.validate(); err != nil {
		return err
	}
	for name, policy := range a.Namespaces {
		if err := a.checkNamespace(name, policy); err != nil {
			return fmt.Errorf("namespace %s: %w", name, err)
		}
		a.notePrivate(name, policy) // other nodes may use it
	}
	return nil
}

func (a *App) notePrivate(namespace string, policy *Policy) {
	if !policy.privateKey() {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.private == nil {
		a.private = make(map[string]bool)
	}
	a.private[namespace] = true
}

func (a *App) checkNamespace(name string, policy *Policy) error {
	if !namespaceFormat.MatchString(name) {
		return fmt.Errorf("a name has lower-case letters, digits, '_' and '-' and begins with a letter or digit")
	}
	if name == a.Prefix {
		return fmt.Errorf("the name is the same as the prefix")
	}
	if policy == nil {
		return fmt.Errorf("the policy is null")
	}
	if policy.hasMatchers() {
		return fmt.Errorf("rules with matchers belong into the handler")
	}
	policy.canonicalize()
	return policy.validate()
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

func (a *App) resolveSecret(opts *connection) error {
	if a.Secret != "" {
		secret, err := caddy.NewReplacer().ReplaceOrErr(a.Secret, true, true)
		if err != nil {
			return fmt.Errorf("secret: %w", err)
		}
		a.secret = []byte(secret)
		return nil
	}
	a.secret = []byte(a.publicSecret())
	if opts != nil {
		a.secret = append(a.secret, opts.Password...)
	}
	return nil
}

// publicSecret is the secret where there is nothing to derive one from.
func (a *App) publicSecret() string { return "redis_cache " + a.Prefix }

// policyOf is the merged policy of a handler in a namespace.
func (a *App) policyOf(namespace string, directive Policy) (Policy, error) {
	ns, declared := a.Namespaces[namespace]
	if !declared {
		if namespace != defaultNamespace {
			return Policy{}, fmt.Errorf("namespace %q is not declared: the global option redis_cache declares namespaces", namespace)
		}
		ns = new(Policy)
	}
	merged := directive.merge(*ns)
	merged.canonicalize()
	a.mu.Lock()
	a.policies = append(a.policies, &merged)
	if a.used == nil {
		a.used = make(map[string]bool)
	}
	a.used[namespace] = true
	a.mu.Unlock()
	a.notePrivate(namespace, &merged)
	return merged, errors.Join(merged.validate(), merged.validateMerged())
}

// queryRules returns the vary_query rules that are in use, for selectors by
// URL.
func (a *App) queryRules() []*VaryQuery {
	a.mu.Lock()
	defer a.mu.Unlock()
	rules := make([]*VaryQuery, 0, len(a.policies))
	for _, p := range a.policies {
		rules = append(rules, p.VaryQuery)
	}
	return rules
}

// Start connects to Redis in the background and applies the limits of this
// configuration to the node.
func (a *App) Start() error {
	started.push(a)
	if limit := debug.SetMemoryLimit(-1); tooMuchMemory(a.Memory, limit) {
		a.logger.Warn("a full memory tier would exceed GOMEMLIMIT, and the collector would not rest: lower memory or raise the limit",
			zap.Int64("memory", a.Memory), zap.Int64("limit", limit))
	}
	a.node.Start(a.settings())
	return nil
}

// tooMuchMemory reports whether the process may outgrow a limit: it grows by up
// to one and a half times what the memory tier holds.
func tooMuchMemory(memory, limit int64) bool { return memory != memoryOff && memory > limit/3*2 }

// Stop takes the limits back when the configuration that runs on is another
// one. What requests still need is released in Cleanup.
func (a *App) Stop() error {
	if active := started.remove(a); active != nil && active.node == a.node {
		a.node.Start(active.settings())
	}
	return nil
}

// Cleanup lets go of the node.
func (a *App) Cleanup() error {
	if a.poolKey == "" {
		return nil
	}
	_, err := processes.Delete(a.poolKey)
	a.poolKey = ""
	return err
}

// started are the apps that run, oldest first. During a reload there are two;
// the last is active. It is a stack because Caddy stops the newer one when
// another app fails to start, and then goes on with the older.
var started appStack

type appStack struct {
	mu   sync.Mutex
	apps []*App
}

func (s *appStack) push(a *App) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apps = append(s.apps, a)
}

// remove returns the app that is active now.
func (s *appStack) remove(a *App) *App {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apps = slices.DeleteFunc(s.apps, func(other *App) bool { return other == a })
	return s.top()
}

// memory is how much the memory tier of a node may hold: the most that an app which
// runs gives it. So a smaller one displaces nothing before the older app has
// stopped, when the reload can no longer fail.
func (s *appStack) memory(n *process) (most int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.apps {
		if a.node == n {
			most = max(most, a.Memory)
		}
	}
	return most
}

func (s *appStack) active() *App {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.top()
}

func (s *appStack) top() *App {
	if len(s.apps) == 0 {
		return nil
	}
	return s.apps[len(s.apps)-1]
}

// Interface guards
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
