// Package node is the cache of one process on one Redis, database and prefix: what is
// stored and what was purged, the sweep, the switches, and the bookkeeping for statistics.
// It outlives the configurations that use it, which Start tells it of. It knows no
// server: what it has to tell goes to the functions of its Settings.
//
// Begin with [Node]; each of its parts has a file, with the goroutine that it runs and the
// lock that it takes.
//
// The root package keeps nodes in a caddy.UsagePool, so that the old and the new
// configuration of a reload share one. Nothing runs or dials before Start. Where a reload
// fails after that, Start is told of the older configuration again, with its limits.
package node

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
	"github.com/gplus-recycling/caddy-redis-cache/internal/cachekey"
	"github.com/gplus-recycling/caddy-redis-cache/internal/coalesce"
	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/stats"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// Options are what a node is made with.
type Options struct {
	Prefix  string // of every key in Redis
	Version string // of the module, for other nodes
	Memory  int64  // the size of the memory tier in bytes; 0: there is none

	// Redis is the connection, or nil without Redis.
	Redis *Redis
}

// Redis is the connection of a node. It closes the clients when it ends.
type Redis struct {
	Client  redis.UniversalClient // for records
	Journal redis.UniversalClient // for all that no request waits for, with timeouts of [JournalTimeout]

	ReadTimeout, WriteTimeout time.Duration // of Client
	Replicated                bool          // replicas may take over
	Stream                    string        // which journal it is, whatever the connection
	Secrets                   []string      // that no text of an error may hold
}

// Settings are what a configuration says to a node, which goes by those of the latest one.
type Settings struct {
	Log *slog.Logger

	Memory          int64 // the size of the memory tier in bytes
	Collector       bool  // the garbage collector is told of it
	BreakerFailures int
	BreakerRecovery time.Duration

	// Queries are the rules by which URLs of stored responses keep a query.
	Queries func() []*cachekey.Query
	// Expand expands the rules for an event of the journal; missing are the data that they
	// read and that are not there.
	Expand func(event string, data json.RawMessage) (purges []journal.Purge, missing []string, err error)
	// Rules stand for what Queries and Expand do, without showing it.
	Rules func() string
	// Shown are the selectors of a purge as log and events show them.
	Shown func(*journal.Entry) []string

	// Emits reports whether somebody wants an event, and Emit sends it.
	Emits func(name string) bool
	Emit  func(name string, data map[string]any)
}

// Node is the cache of a process. Its exported fields, and all but settings, are set by New
// and never changed. Nothing runs and nothing dials before Start.
type Node struct {
	*engine.Cache

	Prefix     string
	Stream     string                // see Redis; "" without
	Client     redis.UniversalClient // nil without Redis
	Slow       redis.UniversalClient // the journal's; nil without Redis
	Replicated bool
	Memory     *store.Memory // nil without a memory tier
	Redis      *store.Redis  // nil without Redis

	Counters  stats.Registry
	Coalesced atomic.Uint64 // requests that another one's fetch has answered
	Purges    PurgeCounts
	Tails     Tails

	Endpoints *stats.Endpoints
	history   *stats.History
	fleet     *stats.Fleet
	errors    latestErrors
	inventory inventory
	sweeper   sweeper
	matching  matching
	switches  switches
	emissions chan emission

	// The configuration that runs: the logs of an older one may be closed, and
	// its rules are gone.
	settings atomic.Pointer[Settings]

	startOnce sync.Once
	refused   chan struct{} // closed once Redis did not answer
	refuse    sync.Once
	ctx       context.Context // of the goroutines
	cancel    context.CancelFunc
	running   sync.WaitGroup
}

const (
	// JournalTimeout bounds a call of the journal that no request waits for.
	JournalTimeout = time.Second
	// readyTimeout bounds how long a start waits for Redis, so that the first
	// requests after it already find what is stored there.
	readyTimeout = 2500 * time.Millisecond
	// closeTimeout bounds how long a node takes to tell the others that it leaves.
	closeTimeout = time.Second
)

// New makes a node for a configuration with these settings.
func New(o Options, settings *Settings) *Node {
	n := &Node{
		Prefix: o.Prefix, refused: make(chan struct{}), emissions: make(chan emission, maxEmissions), sweeper: newSweeper(),
		switches: newSwitches(),
	}
	n.settings.Store(settings)
	n.ctx, n.cancel = context.WithCancel(context.Background())
	var r Redis
	var leases *coalesce.Leases
	if o.Redis != nil {
		r = *o.Redis
		n.Stream, n.Client, n.Slow, n.Replicated, n.errors.secrets = r.Stream, r.Client, r.Journal, r.Replicated, r.Secrets
		n.Redis = store.NewRedis(n.Client, n.Prefix)
		n.Redis.WalkWith(n.Slow)
		leases = coalesce.NewLeases(coalesce.LeaseOptions{Client: n.Client, Prefix: n.Prefix, Timeout: r.ReadTimeout})
	}
	log := journal.New(journal.Options{
		Client: n.Slow, Prefix: n.Prefix, Version: o.Version, ReadTimeout: r.ReadTimeout, WriteTimeout: r.WriteTimeout,
		MaxAge: engine.MaxLifetime, Replicated: n.Replicated,
		URLForms: n.urlForms, Expand: n.expandEvent, Rules: func() string { return n.settings.Load().Rules() },
		Empty: n.emptyMemory, OnEntry: n.onEntry, OnMalformed: n.onMalformed, OnGap: n.onGap, OnReach: n.onReach, OnNode: n.onNode,
	})
	check := func(rec *store.Record, upTo journal.Checked) (journal.Verdict, journal.Checked) {
		return engine.Check(log, rec, upTo)
	}
	if o.Memory > 0 {
		n.Memory = store.NewMemory(o.Memory, check)
	}
	options := store.Options{ReadTimeout: r.ReadTimeout, Check: check, OnHealth: n.onHealth, OnRefused: n.onRefused, OnError: n.onError}
	if n.Redis == nil {
		options.OnSwept = n.onSwept
	}
	n.Cache = engine.NewCache(store.NewTiered(n.Memory, n.Redis, options), log, leases)
	n.Endpoints = stats.NewEndpoints()
	n.history = stats.NewHistory(n.Totals, n.Endpoints)
	n.fleet = stats.NewFleet(n.Slow, n.Prefix, n.Journal.NodeID(), n.history)
	return n
}

// Start connects to Redis, the first time, and applies the settings of a configuration.
func (n *Node) Start(settings *Settings) {
	if old := n.settings.Swap(settings); old != settings && old.Rules() != settings.Rules() {
		n.Journal.NewRules()
	}
	if n.Memory != nil {
		n.Memory.SetMax(settings.Memory)
	}
	n.Store.TuneCollector(settings.Collector)
	n.Store.SetBreaker(settings.BreakerFailures, settings.BreakerRecovery)
	n.startOnce.Do(n.launch)
}

// launch starts the goroutines, and waits a little for Redis.
func (n *Node) launch() {
	n.running.Go(n.sendEvents)
	n.Store.Start()
	n.Journal.Start()
	n.running.Go(n.sweep)
	n.running.Go(n.keepStatistics)
	if n.Client == nil {
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
}

// Close ends the node when no configuration uses it any more. Requests that outlive their
// configuration then find the client closed, which to them is a Redis that does not
// answer. Purges that Redis has not taken are left to the heir, if there is one: the node
// of a configuration that differs in the connection only.
func (n *Node) Close(heir func() *Node) error {
	n.cancel()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	n.Journal.Close(ctx)
	if other := heir(); other != nil {
		other.Journal.Adopt(n.Journal)
	}
	n.running.Wait()
	n.shareStatistics(context.Background())
	n.Store.Close()
	if n.Client == nil {
		return nil
	}
	n.Leases.Close()
	return errors.Join(n.Slow.Close(), n.Client.Close())
}

// Done is closed when the node ends.
func (n *Node) Done() <-chan struct{} { return n.ctx.Done() }

// Log is that of the configuration that runs.
func (n *Node) Log() *slog.Logger { return n.settings.Load().Log }

// IsOff reports whether a namespace, or [Everything], is switched off.
func (n *Node) IsOff(namespace string) bool { return n.switches.off(namespace) }

// Off names what is switched off.
func (n *Node) Off() []string { return n.switches.list() }

// Waiting are the purges that are not recorded yet, or nil.
func (n *Node) Waiting() *api.Waiting {
	count, since := n.Journal.Waiting()
	if count == 0 {
		return nil
	}
	return &api.Waiting{Purges: count, Since: since.UTC()}
}

func (n *Node) emptyMemory() {
	if n.Memory != nil {
		n.Memory.Clear()
	}
}
