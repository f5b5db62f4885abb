package journal

// A cycle reads the journal from the entry applied last to its end, applies it,
// publishes that in the registry, and extends the lease. XREAD only wakes: it
// cannot see that the stream was emptied, replaced or rolled back. XRANGE from
// the anchor can, as it must return the anchor first.
//
// When the anchor is not there, the node reads the journal anew from its first
// entry (rebuild): in the same epoch if entries were only trimmed away, else in
// another one. Everything in tail belongs to the holder of Journal.cycle.

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
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

// tail is the state of the reader.
type tail struct {
	progress
	attached bool
	known    map[uint64]bool // epochs that were seen; none is ever entered again
	entering uint64          // but for this one, in which nothing was vouched for yet
	page     int64
	replayed ID   // up to which OnEntry was told by a replay, which may have failed
	keyGone  bool // the epoch key has to be written again
	strays   int

	limit time.Duration // of each call to Redis
	sent  time.Time     // when the last one was

	counter   uint64
	lineSent  time.Time // when the own line was sent last
	fullSent  time.Time // when it was sent along with a read of the others
	proveFrom time.Time // after a lapse: a proof must not be older

	reported, up bool // what OnReach was told
	noticed      time.Time
	suppressed   uint64
	maintained   time.Time

	checkpointed   ID        // what the last known checkpoint reaches
	nextCheckpoint time.Time // not to be written before
}

// adopt goes on from what was replayed.
func (t *tail) adopt(p progress) {
	t.progress = p
	t.checkpointed, _ = ParseID(p.from) // zero without one
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
func (j *Journal) follow(ctx context.Context) {
	for ctx.Err() == nil {
		if !j.turn(ctx, callTimeout) {
			pause(ctx, j.opts.Heartbeat)
			continue
		}
		j.maintain(ctx)
		j.checkpoint()
		j.wait(ctx)
	}
}

// wait returns when there is something to read, or a heartbeat is due.
func (j *Journal) wait(ctx context.Context) {
	block, from := j.nextWake()
	callCtx, cancel := context.WithTimeout(ctx, block+callTimeout)
	defer cancel()
	args := redis.XReadArgs{Streams: []string{j.keys.stream, from}, Count: 1, Block: block}
	if err := j.client.XRead(callCtx, &args).Err(); err != nil && !errors.Is(err, redis.Nil) {
		pause(ctx, j.opts.Heartbeat/10) // the next cycle will tell what is wrong
	}
}

func (j *Journal) nextWake() (block time.Duration, from string) {
	j.cycle.Lock()
	defer j.cycle.Unlock()
	block = j.opts.Heartbeat
	if until := time.Until(j.tail.proveFrom); until > 0 {
		block = min(block, until)
	}
	// Redis takes 0 for ever, and rounds down.
	return block + time.Millisecond, j.tail.anchor.ID
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
func (j *Journal) turn(ctx context.Context, limit time.Duration) bool {
	j.cycle.Lock()
	defer j.cycle.Unlock()
	if j.closed.Load() {
		return false
	}
	j.tail.limit = limit
	err := j.advance(ctx)
	if err != nil && j.overslept() {
		// That Redis did not answer in time says nothing: the answer may lie there.
		err = j.advance(ctx)
	}
	j.hear(err)
	if j.closed.Load() {
		return false
	}
	if err != nil {
		j.phase.Store(j.phaseAfter(err))
		j.beReady()
	}
	if t := &j.tail; !t.reported || t.up != (err == nil) {
		t.reported, t.up = true, err == nil
		j.opts.OnReach(t.up, err)
	}
	return err == nil
}

// phaseAfter is the phase of a node whose cycle has failed. One that Redis lets
// read but not write must not answer: purges are confirmed without it. Who never
// came to read has no part in them, and where Redis takes no writes from anybody,
// nobody purges.
func (j *Journal) phaseAfter(err error) uint32 {
	if !j.tail.attached || unreadable(err) || hasPrefix(err, "OOM", "MISCONF", "NOREPLICAS") {
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
func (j *Journal) call(ctx context.Context) (limited context.Context, answered func()) {
	sent := time.Now()
	j.tail.sent = sent
	j.asked.Store(&sent)
	limited, cancel := context.WithTimeout(ctx, j.tail.limit)
	return limited, func() {
		j.asked.Store(nil)
		cancel()
	}
}

// overslept reports whether the last call took much longer than it may: the process
// was stopped meanwhile.
func (j *Journal) overslept() bool {
	t := &j.tail
	return elapsed(t.sent, time.Now()) > t.limit+t.limit/4
}

// silent reports whether Redis has left a call unanswered while a request has waited
// since then, or for most of that time.
func (j *Journal) silent(since time.Time) bool {
	asked := j.asked.Load()
	return asked != nil && asked.Before(since.Add(j.opts.ReadTimeout/4))
}

func (j *Journal) advance(ctx context.Context) error {
	t := &j.tail
	if t.lineSent.IsZero() {
		if err := j.register(ctx); err != nil {
			return err
		}
	}
	refused := j.drain(ctx)
	if refused != nil && unreadable(refused) {
		return refused
	}
	proof, err := time.Time{}, error(errJoined)
	if t.attached {
		proof, err = j.readOn(ctx)
	}
	if err == nil && t.version != j.rules.Load() {
		ctx, t.limit = j.base, callTimeout
		proof, err = j.renew(ctx)
	}
	if gap, ok := errors.AsType[gapError](err); ok {
		ctx, t.limit = j.base, callTimeout // a request that found the gap will not wait, but the work goes on
		proof, err = j.rebuild(ctx, gap)
	}
	if err != nil {
		return err
	}
	j.read.Store(&proof)
	for i := range j.queues {
		j.queues[i].again(proof)
	}
	return cmp.Or(j.beat(ctx, proof), refused)
}

// register announces the node before it reads what it will vouch for: a purge
// either sees the line or is seen.
func (j *Journal) register(ctx context.Context) error {
	ctx, answered := j.call(ctx)
	defer answered()
	sent := time.Now()
	if err := j.client.HSet(ctx, j.keys.nodes, j.opts.NodeID, j.nextLine(stateJoining)).Err(); err != nil {
		return err
	}
	j.lineWritten(sent)
	if err := j.registry.readAfter(ctx); err != nil {
		j.tail.lineSent = time.Time{} // registers again
		return err
	}
	if j.registry.hasOthers() {
		// Redis may have lost purges that others have applied. Those that live read
		// the journal within their lease, and begin a new epoch if so.
		j.tail.proveFrom = sent.Add(j.ownLease())
	}
	return nil
}

// lineWritten notes that the own line was sent. If the one before is too old,
// purges may have been confirmed without this node. Those after the new line
// wait for it; those before it are found by a read that follows. That is put off
// as for a joiner: what Redis has lost meanwhile, others may have yet to notice.
func (j *Journal) lineWritten(sent time.Time) {
	t := &j.tail
	if !t.lineSent.IsZero() && elapsed(t.lineSent, time.Now()) >= j.unbroken() {
		t.proveFrom = sent.Add(j.opts.Heartbeat)
		if j.registry.hasOthers() {
			t.proveFrom = sent.Add(j.ownLease())
		}
	}
	t.lineSent = sent
}

func (j *Journal) nextLine(state string) string {
	j.tail.counter++
	return line{j.tail.counter, j.Position(), state, j.opts.Version}.String()
}

// readOn applies what is behind the anchor. It returns when the read was sent
// that came to the end.
func (j *Journal) readOn(ctx context.Context) (time.Time, error) {
	t := &j.tail
	for {
		sent := time.Now()
		epoch, messages, end, err := j.readPage(ctx, t.anchor.ID)
		if err != nil {
			return sent, err
		}
		if len(messages) == 0 || !sameMessage(messages[0], t.anchor) {
			return sent, errAnchorGone
		}
		was := t.position.Epoch
		if messages = messages[1:]; len(messages) > 0 {
			entries := j.apply(&t.progress, messages)
			j.settle(&t.progress, entries)
		}
		if was != t.position.Epoch {
			j.gap(errEpochBegun)
		}
		if end {
			return sent, j.compareKey(epoch)
		}
		// Redis answers, but what it says takes time: requests go to the origin.
		j.phase.CompareAndSwap(phaseProved, phaseProving)
		ctx, t.limit = j.base, callTimeout
	}
}

func sameMessage(a, b redis.XMessage) bool {
	return a.ID == b.ID && maps.Equal(a.Values, b.Values)
}

// readPage reads entries from an ID on, and the key of the epoch before them, so
// that the stream is never behind it.
func (j *Journal) readPage(ctx context.Context, from string) (epoch uint64, messages []redis.XMessage, end bool, err error) {
	t := &j.tail
	t.page = max(minPage, min(maxPage, t.page))
	ctx, answered := j.call(ctx)
	defer answered()
	var key *redis.StringCmd
	var page *redis.XMessageSliceCmd
	_, err = j.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		key = pipe.Get(ctx, j.keys.epoch)
		page = pipe.XRangeN(ctx, j.keys.stream, from, "+", t.page)
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
func (j *Journal) compareKey(epoch uint64) error {
	t := &j.tail
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

// apply takes entries into p. Nobody knows of them before settle.
func (j *Journal) apply(p *progress, messages []redis.XMessage) []Entry {
	entries := make([]Entry, 0, len(messages))
	for _, message := range messages {
		id, err := ParseID(message.ID)
		if err != nil {
			continue // Redis does not write such
		}
		p.anchor, p.position.ID = message, id
		e, err := decode(id, message.Values, j.opts.Prefix)
		if e.token != "" {
			p.own = append(p.own, ownEntry{e.token, err})
		}
		e.Replayed = p.replay != nil && !p.replay.upTo.Before(id) && !j.sights.awaits(e.token) && !j.queues[ofOperators].holds(e.token)
		told := p.replay != nil && p.replay.anchor != nil
		if err != nil {
			if !told {
				j.malformed(id, err)
			}
			continue
		}
		j.applyEntry(p, &e)
		if !told {
			entries = append(entries, e)
		}
	}
	p.table.bound()
	p.read += len(messages)
	p.entries += len(messages)
	return entries
}

func (j *Journal) applyEntry(p *progress, e *Entry) {
	switch e.Op {
	case OpPurge, OpSoftPurge:
		if e.Request && !e.Soft() {
			p.table.applyRequest(e.Selectors, e.ID)
		} else {
			p.table.apply(e.Selectors, e.Soft(), e.ID)
		}
	case OpEvent:
		for _, purge := range j.opts.Expand(e.Event, e.Data) {
			j.applyExpanded(p, purge, e.ID)
		}
	case OpEpoch:
		// Positions in an epoch are not before its entry.
		if e.epoch != p.position.Epoch || p.replay != nil {
			p.position.Epoch = e.epoch
			p.table.raise(e.ID)
		}
		j.know(e.epoch, p.position.Epoch)
	case OpEnable, OpDisable:
	}
}

func (j *Journal) applyExpanded(p *progress, purge Purge, id ID) {
	selectors, err := normalizeAll(purge.Selectors, j.opts.Prefix)
	if err != nil {
		j.malformed(id, err)
		return
	}
	p.table.apply(selectors, purge.Soft, id)
}

// settle publishes what was applied, and then counts it and tells whoever waits
// for it: what is counted can be relied on.
func (j *Journal) settle(p *progress, entries []Entry) {
	j.publish(func(s *state) { s.position, s.table, s.tableRules = p.position, p.table, p.tableRules })
	j.counters.applied.Add(uint64(p.read))
	p.read = 0
	j.deliver(entries)
	for _, e := range p.own {
		j.sights.see(e, p.position)
	}
	for i := range j.queues {
		j.queues[i].remove(j, p.own)
	}
	p.own = nil
}

func (j *Journal) deliver(entries []Entry) {
	for _, e := range entries {
		if e.Op != OpEpoch {
			j.opts.OnEntry(e)
		}
	}
}

func (j *Journal) malformed(id ID, err error) {
	j.counters.malformed.Add(1)
	t := &j.tail
	if now := time.Now(); t.noticed.IsZero() || now.Sub(t.noticed) >= noticeEvery {
		j.opts.OnMalformed(Malformed{ID: id, Err: err, Suppressed: t.suppressed})
		t.noticed, t.suppressed = now, 0
		return
	}
	t.suppressed++
}

// gap empties the memory tier, whose records are absent now, and tells why.
func (j *Journal) gap(reason gapError) {
	j.opts.Empty()
	if reason == errJoined {
		return
	}
	j.counters.gaps.Add(1)
	st := j.state.Load()
	j.opts.OnGap(Gap{Reason: string(reason), Epoch: st.position.Epoch, Floor: st.table.lowest()})
}

// beat publishes what the node has applied and, if nothing speaks against it,
// extends the lease from the moment when the proof began.
func (j *Journal) beat(ctx context.Context, proof time.Time) error {
	proved := func() bool { return !proof.Before(j.tail.proveFrom) && (j.leased() || !j.backlog()) }
	state := stateJoining
	if proved() {
		state = stateLive
	}
	sent := time.Now()
	if err := j.sendLine(ctx, state, sent); err != nil {
		return err
	}
	j.lineWritten(sent)
	if !proved() {
		j.lease.Store(nil)
		j.phase.Store(phaseProving)
		return nil
	}
	j.grant(proof)
	return nil
}

// grant extends the lease, unless the journal has been closed.
func (j *Journal) grant(proof time.Time) {
	j.lease.Store(&proof)
	j.phase.Store(phaseProved)
	if j.closed.Load() {
		j.lease.Store(nil)
	}
	j.beReady()
}

// sendLine writes the own line. At each heartbeat it reads the others as well,
// and refreshes what would expire.
func (j *Journal) sendLine(ctx context.Context, state string, now time.Time) error {
	t := &j.tail
	own := j.nextLine(state)
	ctx, answered := j.call(ctx)
	defer answered()
	if now.Sub(t.fullSent) < j.opts.Heartbeat/2 {
		return j.client.HSet(ctx, j.keys.nodes, j.opts.NodeID, own).Err()
	}
	var lines *redis.MapStringStringCmd
	_, err := j.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.HSet(ctx, j.keys.nodes, j.opts.NodeID, own)
		pipe.Expire(ctx, j.keys.nodes, nodesTTL)
		if t.keyGone {
			// The stream has proved the epoch, so that it may be told again.
			pipe.SetNX(ctx, j.keys.epoch, formatEpoch(t.position.Epoch), j.epochTTL())
		} else {
			pipe.Expire(ctx, j.keys.epoch, j.epochTTL())
		}
		lines = pipe.HGetAll(ctx, j.keys.nodes)
		return nil
	})
	if err != nil {
		return err
	}
	t.fullSent = now
	j.registry.observe(now, time.Now(), lines.Val())
	for _, c := range j.registry.changes() {
		j.opts.OnNode(c)
	}
	return nil
}

func (j *Journal) epochTTL() time.Duration { return 2 * j.opts.MaxAge }

func (j *Journal) fetchLines(ctx context.Context) (map[string]string, error) {
	return j.client.HGetAll(ctx, j.keys.nodes).Result()
}
