package rediscache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/caddyserver/caddy/v2"

	"github.com/gplus-recycling/caddy-redis-cache/internal/admin"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/node"
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

func newProcess(conn *connection, app *App) *process {
	p := &process{confirm: newConfirm(), redis: newRedisHook()}
	o := node.Options{Prefix: app.Prefix, Version: moduleVersion(), Memory: max(app.Memory, 0)}
	if conn != nil {
		own := *conn
		own.ReadTimeout, own.WriteTimeout = node.JournalTimeout, node.JournalTimeout
		o.Redis = &node.Redis{
			Client: conn.client(), Journal: own.client(),
			ReadTimeout: conn.ReadTimeout, WriteTimeout: conn.WriteTimeout, Replicated: conn.replicated(),
			Stream:  fmt.Sprintf("%q %d %q %s", conn.addrs, conn.DB, conn.sentinel.Master, app.Prefix),
			Secrets: []string{conn.Password, conn.sentinel.Password, string(app.secret)},
		}
		for _, client := range []redis.UniversalClient{o.Redis.Client, o.Redis.Journal} {
			client.AddHook(p.redis)
		}
	}
	p.Node = node.New(o, app.settings())
	return p
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
	return &node.Settings{
		Log:       slogger(a.logger),
		Memory:    started.memory(a.node),
		Collector: a.Collector != optionOff, BreakerFailures: a.CircuitBreaker.failures(), BreakerRecovery: a.CircuitBreaker.recovery(),
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

func init() {
	// The client would print each failure to connect; the node logs changes.
	redis.SetLogger(discardLogger{})
}

type discardLogger struct{}

func (discardLogger) Printf(context.Context, string, ...any) {}
