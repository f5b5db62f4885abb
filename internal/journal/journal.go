package journal

// What a request needs is in two atomic pointers: state (what was applied) and
// lease (until when that is enough). They are written by one cycle at a time,
// which reads the journal to its end; the tail starts cycles, and so does a
// request that finds the lease run out. cycle is held for a whole cycle, Redis
// calls included; nothing that a request waits for without a timeout takes it.
//
// A cycle applies in this order: the table, then the newest ID (publish), then
// the confirmation for others (beat), then the lease. So whoever sees an ID as
// applied, here or in the registry, can rely on the table.
//
// view.mu serializes changes of the state; the queue changes its pending part
// beside the cycle. Locks are taken in the order cycle, queue.mu, view.mu.

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// callTimeout bounds calls that no request waits for.
const callTimeout = time.Second

// Options of a Journal. Zero values mean the default, but for Prefix, which is
// required.
type Options struct {
	// Client reaches the master of the journal. Nil means memory only: one node
	// and a journal of its own. Its ContextTimeoutEnabled must be set, and its
	// ReadTimeout should be a second: each call has a deadline of its own, and
	// catching up takes longer than reading a record. One of its connections is
	// almost always blocked by the tail.
	Client redis.UniversalClient

	Prefix  string
	NodeID  string // default: random
	Version string // shown to other nodes

	ReadTimeout  time.Duration // longest that requests wait for catching up; 50 ms
	WriteTimeout time.Duration // longest that AppendAsync waits for Redis; 50 ms
	Lease        time.Duration // after which a silent node has lapsed; 3 s
	Heartbeat    time.Duration // between proofs of life; a third of the lease

	MaxAge   time.Duration // of entries: the longest that a record is used, grace included; 48 h at least
	MaxLen   int64         // entries kept in Redis; 1,000,000
	MaxMarks int           // size of the table; 1,000,000
	// MaxRequestMarks is how much of what requests have purged is remembered apart
	// from that; 3,000,000.
	MaxRequestMarks int
	// CheckpointEvery is after how many entries a checkpoint is written; 100,000.
	CheckpointEvery int
	MaxQueue        int // purges that wait for Redis before they become wider, and as many by requests; 1024

	// Replicated tells that Redis has replicas that may take over: with Sentinel
	// or Cluster. A purge then waits for one of them.
	Replicated bool

	// URLForms returns the forms in which records may hold a URL with a query.
	// It may be nil. When it would answer otherwise than before, call NewRules.
	URLForms func(url string) []string

	// Rules names what URLForms and Expand answer by, without showing it: nodes whose
	// rules differ do not take over each other's tables. Nil means that it never differs.
	Rules func() string

	// Expand returns the purges that an event stands for under this node's rules.
	// Nil means none. When it would answer otherwise than before, call NewRules.
	Expand func(event string, data json.RawMessage) []Purge

	// The functions below are called by the goroutine that applies entries. They
	// must be quick and must not call back.

	Empty       func()                   // empties the memory tier
	OnEntry     func(Entry)              // after an entry of any kind but epochs has been applied, in order
	OnMalformed func(Malformed)          // at most one in ten seconds
	OnGap       func(Gap)                // continuity could not be proved, older records are absent
	OnReach     func(up bool, err error) // Redis answers, or does not; for each change
	OnNode      func(NodeChange)         // another node is live, has lapsed or has left
}

func (o Options) withDefaults() Options {
	setDefault(&o.ReadTimeout, 50*time.Millisecond)
	setDefault(&o.WriteTimeout, 50*time.Millisecond)
	setDefault(&o.Lease, 3*time.Second)
	setDefault(&o.Heartbeat, o.Lease/3)
	setDefault(&o.MaxAge, 48*time.Hour)
	setDefault(&o.MaxLen, 1_000_000)
	setDefault(&o.MaxMarks, maxMarks)
	setDefault(&o.MaxRequestMarks, maxRequestMarks)
	setDefault(&o.CheckpointEvery, 100_000)
	setDefault(&o.MaxQueue, 1024)
	if o.NodeID == "" {
		o.NodeID = rand.Text()[:16]
	}
	return o.withFuncs()
}

func (o Options) withFuncs() Options {
	if o.Rules == nil {
		o.Rules = func() string { return "" }
	}
	if o.Expand == nil {
		o.Expand = func(string, json.RawMessage) []Purge { return nil }
	}
	if o.Empty == nil {
		o.Empty = func() {}
	}
	if o.OnEntry == nil {
		o.OnEntry = func(Entry) {}
	}
	if o.OnMalformed == nil {
		o.OnMalformed = func(Malformed) {}
	}
	if o.OnGap == nil {
		o.OnGap = func(Gap) {}
	}
	if o.OnReach == nil {
		o.OnReach = func(bool, error) {}
	}
	if o.OnNode == nil {
		o.OnNode = func(NodeChange) {}
	}
	return o
}

func setDefault[T ~int | ~int64](v *T, value T) {
	if *v <= 0 {
		*v = value
	}
}

// Malformed is an entry that was skipped.
type Malformed struct {
	ID         ID
	Err        error
	Suppressed uint64 // others that were skipped without a notice since the last one
}

// Gap tells that a node could not prove that it had seen every purge, and
// dropped what it could not vouch for.
type Gap struct {
	Reason string
	Epoch  uint64 // from now on
	Floor  ID     // records of the epoch that are positioned below it are absent
}

// state is what requests look at. It is replaced, never changed.
type state struct {
	position Position // applied; Local is not set
	table    *table
	local    uint64             // counts the purges that the queues have taken
	pending  [numSources]*table // those that are not read back, each with its count as ID; nil without any
	tableRules
}

// tableRules are under which rules a table was made.
type tableRules struct {
	version uint64 // how often they had changed
	name    string // what Options.Rules said
}

// Journal is the part of one node in the journal. It makes its parts, starts and ends
// them, and passes on what users ask of them. Each part has what it needs of the others.
type Journal struct {
	*shared

	view     *view
	cycle    *cycle
	lease    *lease
	registry *registry
	presence *presence
	appender *appender
	applier  *applier
	epochs   *epochs
	keeper   *keeper
	saved    *checkpoints
	tail     *tail
	local    *local    // without Redis
	removals *removals // likewise

	stop    context.CancelFunc // of what Start launches
	running *sync.WaitGroup
}

// shared is what every part has: it is set once, but for what is counted.
type shared struct {
	opts     Options
	client   redis.UniversalClient
	keys     keys
	tokens   atomic.Uint64
	counters counters
}

// view is what this node has applied, for requests. rules may change at any time; mu
// serializes changes of the state.
type view struct {
	*shared

	state atomic.Pointer[state]
	mu    sync.Mutex
	rules atomic.Uint64 // how often they have changed
}

// keys are the Redis keys of a journal. All lie in the slot of the stream, which
// Redis Cluster finds by hashing the whole name, braces being absent.
type keys struct {
	stream, epoch, nodes, removed, checkpoint string
	halves                                    [2]string // of chunks
}

func newKeys(prefix string) keys {
	stream := prefix + "::journal"
	name := func(of string) string { return prefix + "::" + of + ":{" + stream + "}" }
	return keys{
		stream, name("epoch"), name("nodes"), name("removed"), name("checkpoint"),
		[2]string{name("checkpoint0"), name("checkpoint1")},
	}
}

// New returns a journal that does nothing by itself before Start.
func New(opts Options) *Journal {
	if opts.Prefix == "" {
		panic("journal: no prefix")
	}
	opts = opts.withDefaults()
	sh := &shared{opts: opts, client: opts.Client, keys: newKeys(opts.Prefix)}
	j := &Journal{
		shared: sh, view: &view{shared: sh}, cycle: &cycle{shared: sh}, epochs: &epochs{shared: sh}, keeper: &keeper{shared: sh},
		removals: &removals{shared: sh},
		stop:     func() {}, running: new(sync.WaitGroup),
	}
	j.lease = &lease{shared: sh, view: j.view, cycle: j.cycle, running: j.running, ready: make(chan struct{})}
	j.presence = &presence{shared: sh, view: j.view, cycle: j.cycle, lease: j.lease}
	j.registry = &registry{
		self:    opts.NodeID,
		lease:   opts.Lease,
		longest: opts.Lease * 2 / 3,
		fetch:   j.presence.fetchLines,
		peers:   make(map[string]*peer),
	}
	j.presence.registry = j.registry
	j.appender = &appender{
		shared: sh, view: j.view, cycle: j.cycle, lease: j.lease, registry: j.registry, waits: make(chan struct{}, maxWaits(opts.Client)),
	}
	j.appender.queues[ofRequests].source = ofRequests
	j.appender.sights.waiting = make(map[string]*sight)
	for i := range j.appender.queues {
		j.appender.queues[i].view = j.view
	}
	j.applier = &applier{shared: sh, view: j.view, epochs: j.epochs, appender: j.appender}
	j.local = &local{shared: sh, view: j.view, cycle: j.cycle, applier: j.applier, keeper: j.keeper}
	j.appender.local = j.local
	j.saved = &checkpoints{
		shared: sh, cycle: j.cycle, epochs: j.epochs, presence: j.presence, believes: (*checkpointHeader).proves,
	}
	j.tail = &tail{
		shared: sh, view: j.view, cycle: j.cycle, lease: j.lease, registry: j.registry, presence: j.presence, appender: j.appender,
		applier: j.applier, epochs: j.epochs, keeper: j.keeper, checkpoints: j.saved, base: context.Background(), running: j.running,
	}
	j.lease.tail, j.presence.tail = j.tail, j.tail
	first := state{table: j.newTable()}
	if j.client == nil {
		first.position = Position{Epoch: newEpoch(), ID: ID{Ms: uint64(time.Now().UnixMilli())}}
	}
	j.view.state.Store(&first)
	return j
}

func (s *shared) newTable() *table {
	t := newTable(s.opts.Prefix, s.opts.URLForms, s.opts.MaxMarks)
	t.requests.limit, t.requests.overflows = s.opts.MaxRequestMarks, &s.counters.forgotten
	return t
}

func newEpoch() uint64 {
	var random [8]byte
	rand.Read(random[:])
	return max(1, binary.BigEndian.Uint64(random[:]))
}

// Start begins to follow the journal. It is called once.
func (j *Journal) Start() {
	if j.client == nil {
		j.lease.beReady()
		return
	}
	now := time.Now()
	j.lease.began.Store(&now)
	j.tail.base, j.stop = context.WithCancel(context.Background())
	j.running.Go(func() { j.tail.follow(j.tail.base) })
}

// Ready is closed once the node may answer from its store, or knows that Redis
// does not answer.
func (j *Journal) Ready() <-chan struct{} { return j.lease.ready }

func (l *lease) beReady() { l.readied.Do(func() { close(l.ready) }) }

// Close stops the node from answering from its store, tells the others, and
// waits for what Start launched. A blocked read ends by itself within a second.
func (j *Journal) Close(ctx context.Context) {
	j.lease.close()
	j.stop()
	j.leave(ctx)
	j.running.Wait()
	j.registry.close()
}

// leave appends what the queue still holds and tells others that this node need
// not be waited for. A cycle that is under way ends first, and no other begins.
// Where it fails, the others wait for a lease.
func (j *Journal) leave(ctx context.Context) {
	j.cycle.Lock()
	defer j.cycle.Unlock()
	if j.client == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	j.cycle.limit = callTimeout // not that of the last cycle, which may have been a request's
	_ = j.appender.drain(ctx)
	if j.presence.counter == 0 {
		return // it never came to announce itself
	}
	_ = j.client.HSet(ctx, j.keys.nodes, j.opts.NodeID, j.presence.nextLine(stateLeft)).Err()
}

// now is Position.
func (v *view) now() Position {
	st := v.state.Load()
	at := st.position
	at.Local = st.local
	return at
}

// NodeID returns the name of this node among others.
func (j *Journal) NodeID() string { return j.opts.NodeID }

// NewRules tells that URLForms or Expand answer otherwise than before. What was
// purged is applied again; until that is done the node answers nothing from its
// store.
func (j *Journal) NewRules() {
	j.view.rules.Add(1)
	for i := range j.appender.queues {
		j.appender.queues[i].refresh()
	}
	if j.client == nil {
		j.local.renew()
	}
}

// outdated reports whether the table was made under other rules.
func (v *view) outdated() bool {
	st := v.state.Load()
	return st.position.Epoch != 0 && st.version != v.rules.Load()
}

// Heard reports whether Redis has ever answered, be it with an error. Without it
// no other node can be known.
func (j *Journal) Heard() bool { return j.lease.heard.Load() }

// hear notes what the outcome of a call says about Redis.
func (l *lease) hear(err error) {
	_, answered := errors.AsType[redis.Error](err)
	_, gap := errors.AsType[gapError](err)
	if err == nil || answered || gap {
		l.heard.Store(true)
	}
}

// HasPeers reports whether other nodes are there.
func (j *Journal) HasPeers() bool { return j.registry.hasOthers() }

// check is Check.
func (v *view) check(s *Subject, upTo Checked) (Verdict, Checked) {
	st := v.state.Load()
	if s.Position.Epoch != st.position.Epoch {
		return Absent, upTo
	}
	proved := Checked{s.Position.ID, max(s.Position.Local, upTo.Local), st.version}
	if upTo.rules == st.version {
		proved.ID = laterOf(proved.ID, upTo.ID)
	}
	verdict := Valid
	if proved.ID.Before(st.position.ID) {
		verdict = st.table.check(s, proved.ID)
	}
	searched := upTo == Checked{} // where nothing waits, a later count is no news but to a new record
	for _, pending := range st.pending {
		if pending != nil && proved.Local < st.local && verdict < Covered {
			verdict, searched = max(verdict, pending.check(s, localID(proved.Local))), true
		}
	}
	if verdict != Valid {
		return verdict, upTo
	}
	if proved.ID = laterOf(proved.ID, st.position.ID); searched {
		proved.Local = max(proved.Local, st.local)
	}
	return Valid, proved
}

// localID is the ID under which the table of waiting purges holds one.
func localID(count uint64) ID { return ID{Seq: count} }

// matcher is Matcher.
func (v *view) matcher(p Purge) (func(*Subject) bool, error) {
	selectors, err := normalizeAll(p.Selectors, v.opts.Prefix)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	t := v.newTable()
	t.apply(selectors, false, maxID)
	return func(s *Subject) bool { return t.check(s, ID{}) != Valid }, nil
}

// publish replaces the state.
func (v *view) publish(change func(*state)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	next := *v.state.Load()
	change(&next)
	v.state.Store(&next)
}

var (
	// ErrNotRecorded is wrapped by the error of a purge of which nothing is
	// promised. It may have been recorded all the same.
	ErrNotRecorded = errors.New("it could not be recorded in the journal")
	// errSkipped is wrapped along with it where appending again would not help.
	errSkipped = errors.New("every node skips it")
	// ErrInvalid is wrapped by the error of a purge that cannot be appended.
	ErrInvalid = errors.New("invalid purge")
	// ErrExhausted is wrapped along with ErrNotRecorded when an entry with the
	// last possible ID has ended the stream. Deleting its key mends it.
	ErrExhausted = errors.New("the journal has come to the last possible ID: delete its key, and every node begins anew")
)
