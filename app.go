package rediscache

import (
	"fmt"
	"runtime/debug"
	"slices"
	"sync"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"

	"github.com/gplus-recycling/caddy-redis-cache/internal/config"
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
	config.Global

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

const appID = "redis_cache"

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: appID, New: func() caddy.Module { return new(App) }}
}

// Provision resolves the configuration and takes hold of the node. It neither
// dials nor starts anything.
func (a *App) Provision(ctx caddy.Context) error {
	a.ctx = ctx
	a.logger = ctx.Logger(new(Handler)) // one logger for all that the cache says
	if err := a.Resolve(); err != nil {
		return err
	}
	for namespace, policy := range a.Namespaces {
		a.notePrivate(namespace, policy) // other nodes may use it
	}
	if err := registerMetrics(ctx); err != nil {
		return err
	}
	conn, err := a.Redis.Resolve()
	if err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	if conn == nil && a.Memory == config.MemoryOff {
		return fmt.Errorf("redis off together with memory off leaves no place to store a response")
	}
	password := ""
	if conn != nil {
		password = conn.Password
	}
	if a.secret, err = a.HashSecret(password); err != nil {
		return err
	}
	key := poolKey(conn, &a.Global)
	if err := a.subscribe(ctx); err != nil {
		return err
	}
	shared, _, err := processes.LoadOrNew(key, func() (caddy.Destructor, error) {
		return newProcess(conn, a), nil
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
	if err := a.CheckEvents(); err != nil {
		return err
	}
	for name := range a.On {
		if err := a.events.On(name, eventHandler{a}); err != nil {
			return err
		}
	}
	return nil
}

func (a *App) notePrivate(namespace string, policy *Policy) {
	if !policy.PrivateKey() {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.private == nil {
		a.private = make(map[string]bool)
	}
	a.private[namespace] = true
}

// use takes in the policy of a handler.
func (a *App) use(namespace string, policy *Policy) {
	a.notePrivate(namespace, policy)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.policies = append(a.policies, policy)
	if a.used == nil {
		a.used = make(map[string]bool)
	}
	a.used[namespace] = true
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
func tooMuchMemory(memory, limit int64) bool { return memory != config.MemoryOff && memory > limit/3*2 }

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
