package rediscache

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/gplus-recycling/caddy-redis-cache/internal/stats"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// node is the cache of this process on one Redis, database and prefix. It
// outlives the configurations that use it: see nodes in app.go.
//
// Everything but logger is set by newNode and never changed. Nothing runs and
// nothing dials before start.
type node struct {
	prefix string
	client redis.UniversalClient // nil with `redis off`
	redis  *store.Redis          // nil with `redis off`
	memory *store.Memory         // nil with `memory off`
	store  *store.Tiered
	stats  stats.Registry
	window stats.Window

	// Of the configuration that was started last: the logs of an older one may
	// be closed.
	logger atomic.Pointer[zap.Logger]

	startOnce sync.Once
	ctx       context.Context // of the goroutines
	cancel    context.CancelFunc
	running   sync.WaitGroup
	attached  chan struct{} // closed once the node hears the purges of others
	refused   chan struct{} // closed once Redis did not answer
	refuse    sync.Once

	refreshes refreshes

	variantLocks [64]sync.Mutex // see variantLock
}

// attachTimeout bounds how long a start waits for Redis, so that the first
// requests after it already find what is stored there.
const attachTimeout = 500 * time.Millisecond

func init() {
	// The client would print each failure to connect; the node logs changes.
	redis.SetLogger(discardLogger{})
}

type discardLogger struct{}

func (discardLogger) Printf(context.Context, string, ...any) {}

func newNode(opts *redis.Options, prefix string, memory int64, logger *zap.Logger) *node {
	n := &node{prefix: prefix, attached: make(chan struct{}), refused: make(chan struct{})}
	n.logger.Store(logger)
	n.ctx, n.cancel = context.WithCancel(context.Background())
	if memory != memoryOff {
		n.memory = store.NewMemory(memory)
	}
	var readTimeout time.Duration
	if opts != nil {
		n.client = redis.NewClient(opts)
		n.redis = store.NewRedis(n.client, prefix)
		readTimeout = opts.ReadTimeout
	}
	n.store = store.NewTiered(n.memory, n.redis, store.Options{ReadTimeout: readTimeout, OnHealth: n.onHealth})
	return n
}

// start connects to Redis, the first time, and applies what may change with
// each configuration.
func (n *node) start(memory int64, logger *zap.Logger) {
	n.logger.Store(logger)
	if n.memory != nil {
		n.memory.SetMax(memory)
	}
	n.startOnce.Do(func() {
		n.store.Start()
		if n.client == nil {
			return
		}
		n.running.Go(n.listen)
		select {
		case <-n.attached:
		case <-n.refused:
		case <-time.After(attachTimeout):
		}
	})
}

// Destruct ends the node when no configuration uses it any more. Requests that
// outlive their configuration then find the client closed, which to them is a
// Redis that does not answer.
func (n *node) Destruct() error {
	n.cancel()
	n.store.Close()
	var err error
	if n.client != nil {
		err = n.client.Close()
	}
	n.running.Wait()
	if n.memory != nil {
		n.memory.Close()
	}
	return err
}

func (n *node) onHealth(up bool, err error) {
	if up {
		n.logger.Load().Info("redis answers")
	} else {
		n.refuse.Do(func() { close(n.refused) })
		n.logger.Load().Warn("redis is left out until it answers again", zap.Error(err))
	}
}
