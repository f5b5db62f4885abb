package journal

// A cycle reads the journal from the entry applied last to its end, applies it,
// publishes that in the registry, and extends the lease. XREAD only wakes: it
// cannot see that the stream was emptied, replaced or rolled back. XRANGE from
// the anchor can, as it must return the anchor first.
//
// When the anchor is not there, the node reads the journal anew from its first
// entry (rebuild): in the same epoch if entries were only trimmed away, else in
// another one. Everything in tail belongs to the holder of the cycle.

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	minPage = 4    // entries; few that are huge must not make each read time out
	maxPage = 1000 // entries
	// nodesTTL is how long the registry outlives the last node.
	nodesTTL = time.Hour
	// strayLimit is how many reads in a row may find another epoch in the key than
	// in the stream. One does when the epoch changes at that moment.
	strayLimit = 3
	// noticeEvery limits OnMalformed.
	noticeEvery = 10 * time.Second
)

// progress is what a node has read of the journal.
type progress struct {
	position Position
	table    *table
	anchor   redis.XMessage // the entry applied last
	own      []ownEntry     // that were read, until they are sighted
	read     int            // entries, until they are counted
	tableRules
	replay  *replay // while the journal is read from its first entry
	from    string  // the ID of the checkpoint that was loaded; "" without one
	entries int     // read since then, or since one was written
}

// replay says what of a replay is news: what is newer than what was read before,
// and what this node waits for.
type replay struct {
	upTo   ID              // entries up to it may have been there before
	anchor *redis.XMessage // if set, they end here, and OnEntry was told of them
}

// ownEntry is an entry that this node may have appended.
type ownEntry struct {
	token string
	err   error // it was skipped, here and by every other node
}

// tail reads the journal. The cycle guards it.
type tail struct {
	*shared
	progress

	view        *view
	cycle       *cycle
	lease       *lease
	registry    *registry
	presence    *presence
	appender    *appender
	applier     *applier
	epochs      *epochs
	keeper      *keeper
	checkpoints *checkpoints

	attached bool
	page     int64
	replayed ID   // up to which OnEntry was told by a replay, which may have failed
	keyGone  bool // the epoch key has to be written again
	strays   int

	reported, up bool // what OnReach was told

	base    context.Context // of what Start launches
	running *sync.WaitGroup
}

// cycle is held for a whole cycle, Redis calls included. Whoever holds it may change limit,
// which each call to Redis has; sent is when the last one was, and asked when the one under
// way was, for those who wait without the lock.
type cycle struct {
	*shared
	sync.Mutex

	limit time.Duration
	sent  time.Time
	asked atomic.Pointer[time.Time] // nil while there is an answer
}

// adopt goes on from what was replayed.
func (t *tail) adopt(p progress) {
	t.progress = p
	t.checkpoints.reached, _ = ParseID(p.from) // zero without one
}

// gapError tells why continuity could not be proved.
type gapError string

func (e gapError) Error() string { return "journal: " + string(e) }

const (
	errJoined     gapError = "joined"
	errAnchorGone gapError = "the entry applied last is gone"
	errEpochBegun gapError = "another epoch has begun"
	errStrayEpoch gapError = "the key of the epoch was changed"
	errTrimmed    gapError = "trimmed before it was read"
	errVanished   gapError = "the journal vanished while it was read"
)

// follow runs cycles until ctx ends: one when an entry arrives, and one per
// heartbeat.
func (t *tail) follow(ctx context.Context) {
	for ctx.Err() == nil {
		if !t.turn(ctx, callTimeout) {
			pause(ctx, t.opts.Heartbeat)
			continue
		}
		t.maintain(ctx)
		t.checkpoint()
		t.wait(ctx)
	}
}

// wait returns when there is something to read, or a heartbeat is due.
func (t *tail) wait(ctx context.Context) {
	block, from := t.nextWake()
	callCtx, cancel := context.WithTimeout(ctx, block+callTimeout)
	defer cancel()
	args := redis.XReadArgs{Streams: []string{t.keys.stream, from}, Count: 1, Block: block}
	if err := t.client.XRead(callCtx, &args).Err(); err != nil && !errors.Is(err, redis.Nil) {
		pause(ctx, t.opts.Heartbeat/10) // the next cycle will tell what is wrong
	}
}

func (t *tail) nextWake() (block time.Duration, from string) {
	t.cycle.Lock()
	defer t.cycle.Unlock()
	block = t.opts.Heartbeat
	if until := time.Until(t.presence.proveFrom); until > 0 {
		block = min(block, until)
	}
	// Redis takes 0 for ever, and rounds down.
	return block + time.Millisecond, t.anchor.ID
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// turn runs one cycle and reports whether Redis answered. It waits for each of its
// answers no longer than limit, but when there is much to read: then nobody waits
// for the cycle any more.
func (t *tail) turn(ctx context.Context, limit time.Duration) bool {
	t.cycle.Lock()
	defer t.cycle.Unlock()
	if t.lease.closed.Load() {
		return false
	}
	t.cycle.limit = limit
	err := t.advance(ctx)
	if err != nil && t.cycle.overslept() {
		// That Redis did not answer in time says nothing: the answer may lie there.
		err = t.advance(ctx)
	}
	t.lease.hear(err)
	if t.lease.closed.Load() {
		return false
	}
	if err != nil {
		t.lease.phase.Store(t.phaseAfter(err))
		t.lease.beReady()
	}
	if !t.reported || t.up != (err == nil) {
		t.reported, t.up = true, err == nil
		t.opts.OnReach(t.up, err)
	}
	return err == nil
}

// phaseAfter is the phase of a node whose cycle has failed. One that Redis lets
// read but not write must not answer: purges are confirmed without it. Who never
// came to read has no part in them, and where Redis takes no writes from anybody,
// nobody purges.
func (t *tail) phaseAfter(err error) uint32 {
	if !t.attached || unreadable(err) || hasPrefix(err, "OOM", "MISCONF", "NOREPLICAS") {
		return phaseAway
	}
	return phaseProving
}

// unreadable reports whether an error tells that the master cannot even be read.
func unreadable(err error) bool {
	if _, answered := errors.AsType[redis.Error](err); !answered {
		_, gap := errors.AsType[gapError](err)
		return !gap
	}
	return hasPrefix(err, "LOADING", "MASTERDOWN", "CLUSTERDOWN", "READONLY", "NOAUTH", "WRONGPASS", "max number of clients")
}

func hasPrefix(err error, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(prefix string) bool { return redis.HasErrorPrefix(err, prefix) })
}

// call notes that Redis is asked, and bounds how long; answered ends that.
func (c *cycle) call(ctx context.Context) (limited context.Context, answered func()) {
	sent := time.Now()
	c.sent = sent
	c.asked.Store(&sent)
	limited, cancel := context.WithTimeout(ctx, c.limit)
	return limited, func() {
		c.asked.Store(nil)
		cancel()
	}
}

// overslept reports whether the last call took much longer than it may: the process
// was stopped meanwhile.
func (c *cycle) overslept() bool {
	return elapsed(c.sent, time.Now()) > c.limit+c.limit/4
}

// silent reports whether Redis has left a call unanswered while a request has waited
// since then, or for most of that time.
func (c *cycle) silent(since time.Time) bool {
	asked := c.asked.Load()
	return asked != nil && asked.Before(since.Add(c.opts.ReadTimeout/4))
}

func (t *tail) advance(ctx context.Context) error {
	if t.presence.lineSent.IsZero() {
		if err := t.presence.register(ctx); err != nil {
			return err
		}
	}
	refused := t.appender.drain(ctx)
	if refused != nil && unreadable(refused) {
		return refused
	}
	proof, err := time.Time{}, error(errJoined)
	if t.attached {
		proof, err = t.readOn(ctx)
	}
	if err == nil && t.version != t.view.rules.Load() {
		ctx, t.cycle.limit = t.base, callTimeout
		proof, err = t.renew(ctx)
	}
	if gap, ok := errors.AsType[gapError](err); ok {
		ctx, t.cycle.limit = t.base, callTimeout // a request that found the gap will not wait, but the work goes on
		proof, err = t.rebuild(ctx, gap)
	}
	if err != nil {
		return err
	}
	t.lease.read.Store(&proof)
	for i := range t.appender.queues {
		t.appender.queues[i].again(proof)
	}
	return cmp.Or(t.beat(ctx, proof), refused)
}

// readOn applies what is behind the anchor. It returns when the read was sent
// that came to the end.
func (t *tail) readOn(ctx context.Context) (time.Time, error) {
	for {
		sent := time.Now()
		epoch, messages, end, err := t.readPage(ctx, t.anchor.ID)
		if err != nil {
			return sent, err
		}
		if len(messages) == 0 || !sameMessage(messages[0], t.anchor) {
			return sent, errAnchorGone
		}
		was := t.position.Epoch
		if messages = messages[1:]; len(messages) > 0 {
			entries := t.applier.apply(&t.progress, messages)
			t.applier.settle(&t.progress, entries)
		}
		if was != t.position.Epoch {
			t.applier.gap(errEpochBegun)
		}
		if end {
			return sent, t.compareKey(epoch)
		}
		// Redis answers, but what it says takes time: requests go to the origin.
		t.lease.phase.CompareAndSwap(phaseProved, phaseProving)
		ctx, t.cycle.limit = t.base, callTimeout
	}
}

func sameMessage(a, b redis.XMessage) bool {
	return a.ID == b.ID && maps.Equal(a.Values, b.Values)
}

// readPage reads entries from an ID on, and the key of the epoch before them, so
// that the stream is never behind it.
func (t *tail) readPage(ctx context.Context, from string) (epoch uint64, messages []redis.XMessage, end bool, err error) {
	t.page = max(minPage, min(maxPage, t.page))
	ctx, answered := t.cycle.call(ctx)
	defer answered()
	var key *redis.StringCmd
	var page *redis.XMessageSliceCmd
	_, err = t.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		key = pipe.Get(ctx, t.keys.epoch)
		page = pipe.XRangeN(ctx, t.keys.stream, from, "+", t.page)
		return nil
	})
	if err == nil || errors.Is(err, redis.Nil) {
		messages, err = page.Result()
	}
	end = int64(len(messages)) < t.page
	if err != nil {
		t.page /= 4 // entries may be large
	} else {
		t.page *= 2
	}
	return parseEpoch(key.Val()), messages, end, err
}

// compareKey compares the key of the epoch with what the stream said.
func (t *tail) compareKey(epoch uint64) error {
	t.keyGone = epoch == 0
	if epoch == 0 || epoch == t.position.Epoch {
		t.strays = 0
		return nil
	}
	if t.strays++; t.strays < strayLimit {
		return nil
	}
	t.strays = 0
	return errStrayEpoch
}

// beat publishes what the node has applied and, if nothing speaks against it,
// extends the lease from the moment when the proof began.
func (t *tail) beat(ctx context.Context, proof time.Time) error {
	proved := func() bool { return !proof.Before(t.presence.proveFrom) && (t.lease.holds() || !t.appender.backlog()) }
	state := stateJoining
	if proved() {
		state = stateLive
	}
	sent := time.Now()
	if err := t.presence.sendLine(ctx, state, sent); err != nil {
		return err
	}
	t.presence.lineWritten(sent)
	if !proved() {
		t.lease.proof.Store(nil)
		t.lease.phase.Store(phaseProving)
		return nil
	}
	t.lease.grant(proof)
	return nil
}

// grant extends the lease, unless the journal has been closed.
func (l *lease) grant(proof time.Time) {
	l.proof.Store(&proof)
	l.phase.Store(phaseProved)
	if l.closed.Load() {
		l.proof.Store(nil)
	}
	l.beReady()
}

func (s *shared) epochTTL() time.Duration { return 2 * s.opts.MaxAge }
