package rediscache

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/gplus-recycling/caddy-redis-cache/internal/coalesce"
	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/stats"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// node is the cache of this process on one Redis, database and prefix. It
// outlives the configurations that use it: see nodes in app.go.
//
// Everything but app is set by newNode and never changed. Nothing runs and
// nothing dials before start.
type node struct {
	prefix     string
	stream     string                // which journal it is, whatever the connection; "" with `redis off`
	client     redis.UniversalClient // for records; nil with `redis off`
	log        redis.UniversalClient // of the journal; nil with `redis off`
	replicated bool                  // replicas may take over
	memory     *store.Memory         // nil with `memory off`
	redis      *store.Redis          // nil with `redis off`
	*engine.Cache
	stats     stats.Registry
	endpoints *stats.Endpoints
	history   *stats.History
	fleet     *stats.Fleet
	metrics   nodeMetrics
	errors    latestErrors
	tails     tails

	// The configuration that runs: the logs of an older one may be closed, and
	// its rules are gone.
	app atomic.Pointer[App]

	startOnce sync.Once
	refused   chan struct{} // closed once Redis did not answer
	refuse    sync.Once
	ctx       context.Context // of the goroutines
	cancel    context.CancelFunc
	running   sync.WaitGroup

	inventory inventory
	sweeper   sweeper
	matching  matching
	switches  switches
	emissions chan emission
	coalesced atomic.Uint64 // requests that another one's fetch has answered
}

const (
	// readyTimeout bounds how long a start waits for Redis, so that the first
	// requests after it already find what is stored there.
	readyTimeout = 2500 * time.Millisecond
	// closeTimeout bounds how long a node takes to tell the others that it leaves.
	closeTimeout = time.Second
	// journalTimeout bounds a call of the journal that no request waits for.
	journalTimeout = time.Second
)

func init() {
	// The client would print each failure to connect; the node logs changes.
	redis.SetLogger(discardLogger{})
}

type discardLogger struct{}

func (discardLogger) Printf(context.Context, string, ...any) {}

func newNode(conn *connection, app *App) *node {
	n := &node{
		prefix: app.Prefix, refused: make(chan struct{}), emissions: make(chan emission, maxEmissions), sweeper: newSweeper(),
		metrics:  newNodeMetrics(),
		switches: newSwitches(),
	}
	n.app.Store(app)
	n.ctx, n.cancel = context.WithCancel(context.Background())
	var readTimeout, writeTimeout time.Duration
	var leases *coalesce.Leases
	if conn != nil {
		n.stream = fmt.Sprintf("%q %d %q %s", conn.addrs, conn.DB, conn.sentinel.Master, app.Prefix)
		readTimeout, writeTimeout, n.replicated = conn.ReadTimeout, conn.WriteTimeout, conn.replicated()
		n.errors.secrets = []string{conn.Password, conn.sentinel.Password, string(app.secret)}
		n.client = conn.client()
		n.client.AddHook(n.metrics.redis)
		n.redis = store.NewRedis(n.client, app.Prefix)
		leases = coalesce.NewLeases(coalesce.LeaseOptions{Client: n.client, Prefix: app.Prefix, Timeout: readTimeout})
		own := *conn
		own.ReadTimeout, own.WriteTimeout = journalTimeout, journalTimeout
		n.log = own.client()
		n.log.AddHook(n.metrics.redis)
		n.redis.WalkWith(n.log)
	}
	log := journal.New(journal.Options{
		Client: n.log, Prefix: app.Prefix, Version: moduleVersion(), ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		MaxAge: engine.MaxLifetime, Replicated: n.replicated,
		URLForms: n.urlForms, Expand: n.expandEvent, Rules: n.purgeRules,
		Empty: n.emptyMemory, OnEntry: n.onEntry, OnMalformed: n.onMalformed, OnGap: n.onGap, OnReach: n.onReach, OnNode: n.onNode,
	})
	check := func(rec *store.Record, upTo journal.Checked) (journal.Verdict, journal.Checked) {
		return engine.Check(log, rec, upTo)
	}
	if app.Memory != memoryOff {
		n.memory = store.NewMemory(app.Memory, check)
	}
	options := store.Options{ReadTimeout: readTimeout, Check: check, OnHealth: n.onHealth, OnRefused: n.onRefused, OnError: n.onError}
	if n.redis == nil {
		options.OnSwept = n.onSwept
	}
	n.Cache = engine.NewCache(store.NewTiered(n.memory, n.redis, options), log, leases)
	n.endpoints = stats.NewEndpoints()
	n.history = stats.NewHistory(n.totals, n.endpoints)
	n.fleet = stats.NewFleet(n.log, app.Prefix, n.Journal.NodeID(), n.history)
	return n
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

// start connects to Redis, the first time, and applies what may change with
// each configuration.
func (n *node) start(app *App) {
	if old := n.app.Swap(app); old != app && old.purgeRules() != app.purgeRules() {
		n.Journal.NewRules()
	}
	if n.memory != nil {
		n.memory.SetMax(started.memory(n))
	}
	n.Store.TuneCollector(app.Collector != optionOff)
	n.Store.SetBreaker(app.CircuitBreaker.failures(), app.CircuitBreaker.recovery())
	n.startOnce.Do(func() {
		n.running.Go(n.sendEvents)
		n.Store.Start()
		n.Journal.Start()
		n.running.Go(n.sweep)
		n.running.Go(n.keepStatistics)
		if n.client == nil {
			return
		}
		n.Leases.Start()
		n.running.Go(n.keepSwitches)
		late := time.After(readyTimeout)
		select {
		case <-n.Journal.Ready(): // also where Redis does not answer; until then nothing is answered from the store
		case <-late:
			return
		}
		select {
		case <-n.switches.merged:
		case <-n.refused:
		case <-late:
		}
	})
}

// Destruct ends the node when no configuration uses it any more. Requests that
// outlive their configuration then find the client closed, which to them is a
// Redis that does not answer.
func (n *node) Destruct() error {
	n.cancel()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	n.Journal.Close(ctx)
	n.bequeath()
	n.running.Wait()
	n.shareStatistics(context.Background())
	n.Store.Close()
	if n.client == nil {
		return nil
	}
	n.Leases.Close()
	return errors.Join(n.log.Close(), n.client.Close())
}

// bequeath leaves purges that Redis has not taken to the node of a configuration
// that differs in the connection only.
func (n *node) bequeath() {
	if n.stream == "" {
		return
	}
	nodes.Range(func(_, value any) bool {
		heir := value.(*node)
		if heir == n || heir.stream != n.stream {
			return true
		}
		heir.Journal.Adopt(n.Journal)
		return false
	})
}

func (n *node) logger() *zap.Logger { return n.app.Load().logger }

func (n *node) emptyMemory() {
	if n.memory != nil {
		n.memory.Clear()
	}
}

func (n *node) onReach(up bool, err error) {
	if up {
		n.logger().Info("the journal is followed")
		n.switches.again()
		n.Store.Probe()
	} else {
		n.logger().Warn("the journal cannot be followed for now: it is tried again", zap.Error(err))
	}
}

func (n *node) onNode(c journal.NodeChange) {
	node := zap.String("node", c.ID)
	switch c.State {
	case "live":
		n.logger().Info("another node is live", node, zap.String("version", c.Version))
	case "lapsed":
		n.logger().Warn("another node is silent: purges do not wait for it", node)
	case "left":
		n.logger().Info("another node has left", node)
	}
}

func (n *node) onGap(g journal.Gap) {
	// Redis may have been emptied.
	n.switches.again()
	n.history.WriteAgain()
	n.errors.note(errorGap, g.Reason)
	n.logger().Warn("journal_gap: not every purge can have been seen; what was stored before is dropped",
		zap.String("reason", g.Reason), zap.String("floor", g.Floor.String()))
	n.emit("journal_gap", map[string]any{"reason": g.Reason})
}

func (n *node) onMalformed(m journal.Malformed) {
	n.errors.note(errorMalformed, m.ID.String()+": "+m.Err.Error())
	n.logger().Warn("a malformed journal entry is skipped", zap.String("id", m.ID.String()), zap.Error(m.Err),
		zap.Uint64("suppressed", m.Suppressed))
}

// emission is a Caddy event to be sent.
type emission struct {
	name string
	data map[string]any
}

// maxEmissions bounds the Caddy events that wait for slow subscribers.
const maxEmissions = 1024

// emit sends a Caddy event of this module without waiting for its subscribers.
// When they are too slow, events are dropped.
func (n *node) emit(name string, data map[string]any) {
	app := n.app.Load()
	if !app.events.ShouldEmit(appID + "." + name) {
		return
	}
	select {
	case n.emissions <- emission{name, data}:
	default:
	}
}

func (n *node) sendEvents() {
	for {
		select {
		case <-n.ctx.Done():
			return
		case e := <-n.emissions:
			app := n.app.Load()
			app.events.Emit(app.ctx, appID+"."+e.name, e.data)
		}
	}
}
