package rediscache

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/caddyserver/caddy/v2"

	"github.com/gplus-recycling/caddy-redis-cache/internal/admin"
	"github.com/gplus-recycling/caddy-redis-cache/internal/config"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/node"
	"github.com/gplus-recycling/caddy-redis-cache/internal/redisconn"
)

// process is the cache of this process on one Redis, database and prefix, with the metrics
// that nobody else keeps. It outlives the configurations that use it: see processes.
type process struct {
	*node.Node

	confirm prometheus.Histogram
	redis   *redisHook
}

// processes are those of this process, by poolKey.
var processes = caddy.NewUsagePool()

func newProcess(conn *redisconn.Connection, app *App) *process {
	p := &process{confirm: newConfirm(), redis: newRedisHook()}
	o := node.Options{Prefix: app.Prefix, Version: moduleVersion(), Memory: max(app.Memory, 0)}
	if conn != nil {
		o.Redis = &node.Redis{
			Client: conn.Client(), Journal: conn.Waiting(node.JournalTimeout).Client(),
			ReadTimeout: conn.ReadTimeout, WriteTimeout: conn.WriteTimeout, Replicated: conn.Replicated(),
			Stream:  conn.Data() + " " + app.Prefix,
			Secrets: append(conn.Secrets(), string(app.secret)),
		}
		for _, client := range []redis.UniversalClient{o.Redis.Client, o.Redis.Journal} {
			client.AddHook(p.redis)
		}
	}
	p.Node = node.New(o, app.settings())
	return p
}

// poolKey identifies a process: configurations with the same key share one.
func poolKey(conn *redisconn.Connection, g *config.Global) string {
	if conn == nil {
		return "off " + g.Prefix
	}
	return fmt.Sprintf("%s memory=%t %s", conn.Key(), g.Memory != config.MemoryOff, g.Prefix)
}

// Destruct ends the node when no configuration uses it any more.
func (p *process) Destruct() error { return p.Close(p.heir) }

// heir is the node of a configuration that differs in the connection only, or nil.
func (p *process) heir() (heir *node.Node) {
	if p.Stream == "" {
		return nil
	}
	processes.Range(func(_, value any) bool {
		if other := value.(*process); other != p && other.Stream == p.Stream {
			heir = other.Node
		}
		return heir == nil
	})
	return heir
}

// settings are what this configuration says to its node.
func (a *App) settings() *node.Settings {
	failures, recovery := a.CircuitBreaker.Limits()
	return &node.Settings{
		Log:       slogger(a.logger),
		Memory:    started.memory(a.node),
		Collector: a.Collects(), BreakerFailures: failures, BreakerRecovery: recovery,
		Queries: a.queryRules, Rules: a.purgeRules, Shown: a.shown,
		Expand: func(event string, data json.RawMessage) ([]journal.Purge, []string, error) {
			purges, missing, err := a.expand(event, data)
			if errors.Is(err, admin.ErrNoRule) {
				err = nil // it purges nothing here
			}
			return purges, missing, err
		},
		Emits: func(name string) bool { return a.events.ShouldEmit(appID + "." + name) },
		Emit:  func(name string, data map[string]any) { a.events.Emit(a.ctx, appID+"."+name, data) },
	}
}

// moduleVersion is the version of this module in the binary.
func moduleVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, module := range info.Deps {
		if module.Path == modulePath {
			return module.Version
		}
	}
	return info.Main.Version
}

const modulePath = "github.com/gplus-recycling/caddy-redis-cache"
