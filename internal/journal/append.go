package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Result says what became of a purge.
type Result struct {
	ID ID // of its last entry, if its selectors needed several; zero while it waits
	// Waits is why the purge is not recorded yet. It covers what this node began to
	// fetch before it, and is appended once the journal takes it. Nil once it is
	// recorded.
	Waits error
	// Confirmed nodes have applied it, this one included. Pending ones have not
	// yet. Lapsed ones did not, and may not answer from their stores before they
	// have.
	Confirmed, Pending, Lapsed []string
	// Replicated tells whether a replica has it; nil without replicas.
	Replicated *bool
	Duration   time.Duration
}

// Complete reports whether the purge is final: no live node will answer a
// request that begins from now on from a response it covers.
func (r *Result) Complete() bool {
	return r.Waits == nil && len(r.Pending) == 0 && (r.Replicated == nil || *r.Replicated)
}

// purge is Append.
func (a *appender) purge(ctx context.Context, p Purge, wait time.Duration) (Result, error) {
	start := time.Now()
	r, items, err := a.record(ctx, p, wait)
	if !errors.Is(err, ErrNotRecorded) || errors.Is(err, errSkipped) || !a.enqueue(items) {
		return r, err
	}
	peers := a.registry.tally(Position{ID: maxID})
	return Result{
		Waits: err, Confirmed: []string{a.opts.NodeID}, Pending: peers.pending, Lapsed: peers.lapsed, Duration: time.Since(start),
	}, nil
}

// recordOnly is Record.
func (a *appender) recordOnly(ctx context.Context, p Purge, wait time.Duration) (Result, error) {
	r, _, err := a.record(ctx, p, wait)
	return r, err
}

func (a *appender) record(ctx context.Context, p Purge, wait time.Duration) (Result, []*item, error) {
	if a.client == nil {
		r, err := a.local.purge(p)
		return r, nil, err
	}
	items, err := a.newItems(p)
	if err != nil {
		return Result{}, nil, err
	}
	r, err := a.appendAndWait(ctx, items, wait)
	return r, items, err
}

// toggle is Switch.
func (a *appender) toggle(ctx context.Context, enable bool, namespace, by, reason string, wait time.Duration) (Result, error) {
	op, target := OpDisable, Selector{Kind: KindAll}
	if enable {
		op = OpEnable
	}
	field, value := KindAll.String(), "1"
	if namespace != "" {
		target = Selector{KindNamespace, namespace}
		field, value = KindNamespace.String(), namespace
	}
	if len(value) > maxValue {
		return Result{}, fmt.Errorf("%w: a namespace of %d bytes", ErrInvalid, len(value))
	}
	if a.client == nil {
		return a.local.apply(Entry{Op: op, Selectors: []Selector{target}, By: clip(by), Reason: clip(reason)}), nil
	}
	token := a.token()
	entry := fields{fieldOp, string(op), field, value}.note(by, reason)
	return a.appendAndWait(ctx, []*item{{fields: append(entry, fieldToken, token), token: token}}, wait)
}

func (a *appender) appendAndWait(ctx context.Context, items []*item, wait time.Duration) (r Result, err error) {
	start := time.Now()
	seen := a.sights.expect(items)
	defer a.sights.forget(items)
	var conn *redis.Conn
	if a.opts.Replicated {
		if conn, r.ID, err = a.appendToMaster(ctx, items); err != nil && conn != nil {
			conn.Close()
		}
	} else {
		r.ID, err = a.appendOn(ctx, a.client, items, false)
	}
	if err != nil {
		return Result{}, a.notRecorded(err)
	}
	a.lease.hear(nil)
	a.counters.appended.Add(uint64(len(items)))
	ctx, cancel := context.WithDeadline(ctx, start.Add(wait))
	defer cancel()
	var replication sync.WaitGroup
	if conn != nil {
		replication.Go(func() { r.Replicated = a.replicated(ctx, conn) })
	}
	c, err := a.confirm(ctx, r.ID, seen)
	replication.Wait()
	if err != nil {
		return Result{}, fmt.Errorf("%w: %w: %w", ErrNotRecorded, errSkipped, err)
	}
	a.keep(items, seen)
	r.Confirmed, r.Pending, r.Lapsed = c.confirmed, c.pending, c.lapsed
	r.Duration = time.Since(start)
	return r, nil
}

// keep lets what is recorded and not read back yet cover what this node has begun
// to fetch by now, for Redis may go before it is.
func (a *appender) keep(items []*item, seen *sight) {
	if seen.isDone() || len(items[0].selectors) == 0 {
		return
	}
	for _, it := range items {
		it.state, it.appended = itemAppended, time.Now()
	}
	q := &a.queues[items[0].source]
	q.add(items)
	if seen.isDone() { // before the queue had them
		own := make([]ownEntry, len(items))
		for i, it := range items {
			own[i].token = it.token
		}
		q.remove(own)
	}
}

func (a *appender) notRecorded(err error) error {
	a.counters.refused.Add(1)
	a.lease.hear(err)
	if cluster, ok := a.client.(*redis.ClusterClient); ok {
		cluster.ReloadState(context.Background()) // the slot may have moved
	}
	if strings.Contains(err.Error(), "exhausted the last possible ID") {
		return fmt.Errorf("%w: %w: %w", ErrNotRecorded, ErrExhausted, err)
	}
	return fmt.Errorf("%w: %w", ErrNotRecorded, err)
}

// add returns the command that appends an entry.
func (s *shared) xadd(f fields) *redis.XAddArgs {
	return &redis.XAddArgs{Stream: s.keys.stream, MaxLen: s.opts.MaxLen, Approx: true, Values: []any(f)}
}

// writer is what entries are appended with.
type writer interface {
	Pipelined(context.Context, func(redis.Pipeliner) error) ([]redis.Cmder, error)
}

// appendToMaster appends on one connection to the master, for use with replicas:
// WAIT is about the writes of the connection that asks. While the slot of the
// journal moves, and after it has, the master says where to go.
func (a *appender) appendToMaster(ctx context.Context, items []*item) (*redis.Conn, ID, error) {
	conn, err := a.masterConn(ctx)
	if err != nil {
		return nil, ID{}, err
	}
	id, err := a.appendOn(ctx, conn, items, false)
	cluster, ok := a.client.(*redis.ClusterClient)
	if err == nil || !ok {
		return conn, id, err
	}
	addr, asking := redis.IsAskError(err)
	if !asking {
		addr, _ = redis.IsMovedError(err)
	}
	if addr == "" {
		return conn, id, err
	}
	conn.Close()
	if conn = connTo(ctx, cluster, addr); conn == nil {
		return nil, ID{}, err
	}
	id, err = a.appendOn(ctx, conn, items, asking)
	return conn, id, err
}

// connTo returns a connection to the master at an address, or nil.
func connTo(ctx context.Context, cluster *redis.ClusterClient, addr string) *redis.Conn {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var found atomic.Pointer[redis.Client]
	_ = cluster.ForEachMaster(ctx, func(_ context.Context, master *redis.Client) error {
		if master.Options().Addr == addr {
			found.Store(master)
		}
		return nil
	})
	if master := found.Load(); master != nil {
		return master.Conn()
	}
	return nil
}

// masterConn returns a connection to the master.
func (a *appender) masterConn(ctx context.Context) (*redis.Conn, error) {
	switch client := a.client.(type) {
	case *redis.Client:
		return client.Conn(), nil
	case *redis.ClusterClient:
		master, err := client.MasterForKey(ctx, a.keys.stream)
		if err != nil {
			return nil, err
		}
		return master.Conn(), nil
	default:
		return nil, fmt.Errorf("journal: no replicas with a %T", client)
	}
}

// waitStep is how long a WAIT takes: it cannot be broken off when the client has
// left.
const waitStep = 100 * time.Millisecond

// replicated waits for a replica until ctx ends. Without an answer there is none,
// and neither for those who would take the last connections from the tail.
func (a *appender) replicated(ctx context.Context, conn *redis.Conn) *bool {
	defer conn.Close()
	answer := false
	select {
	case a.waits <- struct{}{}:
		defer func() { <-a.waits }()
	default:
		return &answer
	}
	for {
		step := waitStep
		if deadline, ok := ctx.Deadline(); ok {
			step = min(step, time.Until(deadline))
		}
		acknowledged, err := conn.Wait(context.WithoutCancel(ctx), 1, max(step, time.Millisecond)).Result()
		if answer = acknowledged >= 1; answer || err != nil || ctx.Err() != nil {
			return &answer
		}
	}
}

// maxWaits is how many purges may wait for a replica at a time: half of the
// connections.
func maxWaits(client redis.UniversalClient) int {
	size := 0
	switch client := client.(type) {
	case *redis.Client:
		size = client.Options().PoolSize
	case *redis.ClusterClient:
		size = client.Options().PoolSize
	}
	return max(1, size/2)
}

// appendOn appends entries in order and returns the ID of the last one. A node
// that a slot is moving to wants to hear that the sender knows.
func (a *appender) appendOn(ctx context.Context, w writer, items []*item, asking bool) (ID, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	cmds, err := w.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, it := range items {
			if asking {
				pipe.Do(ctx, "asking")
			}
			pipe.XAdd(ctx, a.xadd(it.fields))
		}
		return nil
	})
	if err != nil {
		return ID{}, err
	}
	last, ok := cmds[len(cmds)-1].(*redis.StringCmd)
	if !ok {
		return ID{}, errors.New("journal: XADD answered no string")
	}
	return ParseID(last.Val())
}

const (
	firstPoll = 500 * time.Microsecond
	lastPoll  = 50 * time.Millisecond
)

// confirm returns who has applied an entry: first this node, which learns in
// which epoch the entry lies, then those whom the registry shows after the entry
// was appended. The error is that the nodes have skipped it.
func (a *appender) confirm(ctx context.Context, id ID, seen *sight) (tally, error) {
	self := []string{a.opts.NodeID}
	select {
	case <-seen.done:
	case <-ctx.Done():
		t := a.registry.tally(Position{ID: maxID})
		return tally{pending: append(self, t.pending...), lapsed: t.lapsed}, nil
	}
	if seen.err != nil {
		return tally{}, seen.err
	}
	at := Position{Epoch: seen.epoch, ID: id}
	for poll := firstPoll; ; poll = min(2*poll, lastPoll) {
		err := a.registry.readAfter(ctx)
		t := a.registry.tally(at)
		if err == nil && !t.young && a.view.now().Epoch == at.Epoch {
			t.confirmed = append(self, t.confirmed...)
			if len(t.pending) == 0 {
				return t, nil
			}
		} else {
			// This node cannot tell yet who must confirm.
			t.pending = append(self, t.pending...)
		}
		if pause(ctx, poll); ctx.Err() != nil {
			return t, nil
		}
	}
}

// appender records purges and switches, and keeps those that wait for Redis. Its queues
// and sights have locks of their own; sights.mu is taken without any other.
type appender struct {
	*shared

	view     *view
	cycle    *cycle
	lease    *lease
	registry *registry
	local    *local

	queues [numSources]queue
	sights sights
	waits  chan struct{}            // purges that wait for a replica
	heir   atomic.Pointer[appender] // has what waited when this one was closed
}

// sights tells those who append when their entries have been read back. mu
// guards waiting.
type sights struct {
	mu      sync.Mutex
	waiting map[string]*sight // by token
}

// sight is closed when all entries of a purge have been read: any of them may be
// lost alone. What follows done is set before, under mu.
type sight struct {
	done  chan struct{}
	left  int
	epoch uint64
	err   error // an entry was skipped
}

func (s *sights) expect(items []*item) *sight {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &sight{done: make(chan struct{}), left: len(items)}
	for _, it := range items {
		s.waiting[it.token] = w
	}
	return w
}

func (w *sight) isDone() bool {
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

// awaits reports whether an own entry has not been read yet.
func (s *sights) awaits(token string) bool {
	if token == "" {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting[token] != nil
}

func (s *sights) forget(items []*item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, it := range items {
		delete(s.waiting, it.token)
	}
}

// see tells that an entry has been read. It may be seen again in a replay.
func (s *sights) see(e ownEntry, at Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.waiting[e.token]
	if w == nil {
		return
	}
	delete(s.waiting, e.token)
	w.epoch, w.err = at.Epoch, cmp.Or(w.err, e.err)
	if w.left--; w.left == 0 {
		close(w.done)
	}
}
