package journal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Result says what became of a purge.
type Result struct {
	ID ID // of its last entry, if its selectors needed several
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
	return len(r.Pending) == 0 && (r.Replicated == nil || *r.Replicated)
}

// Append records a purge and waits, no longer than wait, until every live node
// has applied it. The error is ErrInvalid or ErrNotRecorded; after the latter
// nothing is promised. The end of ctx ends the wait as well.
func (j *Journal) Append(ctx context.Context, p Purge, wait time.Duration) (Result, error) {
	if j.client == nil {
		return j.appendLocal(p)
	}
	items, err := j.newItems(p)
	if err != nil {
		return Result{}, err
	}
	return j.appendAndWait(ctx, items, wait)
}

// Switch enables or disables the cache in the whole fleet, or one namespace of
// it. It waits as Append does.
func (j *Journal) Switch(ctx context.Context, enable bool, namespace, by, reason string, wait time.Duration) (Result, error) {
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
	if j.client == nil {
		return j.applyLocal(Entry{Op: op, Selectors: []Selector{target}, By: clip(by), Reason: clip(reason)}), nil
	}
	token := j.token()
	entry := fields{fieldOp, string(op), field, value}.note(by, reason)
	return j.appendAndWait(ctx, []*item{{fields: append(entry, fieldToken, token), token: token}}, wait)
}

func (j *Journal) appendAndWait(ctx context.Context, items []*item, wait time.Duration) (r Result, err error) {
	start := time.Now()
	last := items[len(items)-1]
	seen := j.sights.expect(last.token)
	defer j.sights.forget(last.token)
	appendCtx, cancel := context.WithTimeout(ctx, callTimeout+wait)
	defer cancel()
	if r.ID, r.Replicated, err = j.appendNow(appendCtx, items, wait); err != nil {
		j.counters.refused.Add(1)
		return Result{}, notRecorded(err)
	}
	j.counters.appended.Add(uint64(len(items)))
	waitCtx, cancel := context.WithDeadline(ctx, start.Add(wait))
	defer cancel()
	j.confirm(waitCtx, &r, seen)
	r.Duration = time.Since(start)
	return r, nil
}

func notRecorded(err error) error {
	if strings.Contains(err.Error(), "exhausted the last possible ID") {
		return fmt.Errorf("%w: %w: %w", ErrNotRecorded, ErrExhausted, err)
	}
	return fmt.Errorf("%w: %w", ErrNotRecorded, err)
}

// add returns the command that appends an entry.
func (j *Journal) add(f fields) *redis.XAddArgs {
	return &redis.XAddArgs{Stream: j.keys.stream, MaxLen: j.opts.MaxLen, Approx: true, Values: []any(f)}
}

// appendNow appends entries in order, on one connection, and where there are
// replicas waits for one of them on the same connection: WAIT is about the
// writes of the connection that asks.
func (j *Journal) appendNow(ctx context.Context, items []*item, wait time.Duration) (ID, *bool, error) {
	if !j.opts.Replicated {
		id, err := j.appendOn(ctx, j.client, items)
		return id, nil, err
	}
	conn, err := j.masterConn(ctx)
	if err != nil {
		return ID{}, nil, err
	}
	defer conn.Close()
	id, err := j.appendOn(ctx, conn, items)
	if err != nil {
		if cluster, ok := j.client.(*redis.ClusterClient); ok {
			cluster.ReloadState(ctx) // the slot may have moved
		}
		return ID{}, nil, err
	}
	// What is appended is appended: without an answer it is not replicated.
	acknowledged, _ := conn.Wait(ctx, 1, max(wait, time.Millisecond)).Result()
	replicated := acknowledged >= 1
	return id, &replicated, nil
}

// masterConn returns a connection to the master of the journal.
func (j *Journal) masterConn(ctx context.Context) (*redis.Conn, error) {
	switch client := j.client.(type) {
	case *redis.Client:
		return client.Conn(), nil
	case *redis.ClusterClient:
		master, err := client.MasterForKey(ctx, j.keys.stream)
		if err != nil {
			return nil, err
		}
		return master.Conn(), nil
	}
	return nil, fmt.Errorf("journal: no replicas with a %T", j.client)
}

func (j *Journal) appendOn(ctx context.Context, client redis.Cmdable, items []*item) (ID, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	cmds, err := client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, it := range items {
			pipe.XAdd(ctx, j.add(it.fields))
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

// confirm fills in who has applied the entry: first this node, which learns in
// which epoch the entry lies, then those whom the registry shows after the entry
// was appended.
func (j *Journal) confirm(ctx context.Context, r *Result, seen *sight) {
	select {
	case <-seen.done:
	case <-ctx.Done():
		r.Pending = []string{j.opts.NodeID}
		r.Pending = append(r.Pending, j.registry.tally(Position{ID: maxID}).pending...)
		return
	}
	at := Position{Epoch: seen.epoch, ID: r.ID}
	for poll := firstPoll; ; poll = min(2*poll, lastPoll) {
		err := j.registry.readAfter(ctx)
		t := j.registry.tally(at)
		r.Confirmed, r.Pending, r.Lapsed = t.confirmed, t.pending, t.lapsed
		if err == nil && !t.young && j.Position().Epoch == at.Epoch {
			r.Confirmed = append([]string{j.opts.NodeID}, r.Confirmed...)
			if len(r.Pending) == 0 {
				return
			}
		} else {
			// This node cannot tell yet who must confirm.
			r.Pending = append([]string{j.opts.NodeID}, r.Pending...)
		}
		if pause(ctx, poll); ctx.Err() != nil {
			return
		}
	}
}

// sights tells those who append when their entries have been read back. mu
// guards waiting.
type sights struct {
	mu      sync.Mutex
	waiting map[string]*sight // by token
}

// sight is closed when an entry has been applied. epoch is set before.
type sight struct {
	done  chan struct{}
	epoch uint64
}

func (s *sights) expect(token string) *sight {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &sight{done: make(chan struct{})}
	s.waiting[token] = w
	return w
}

func (s *sights) forget(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, token)
}

// see tells that an entry has been applied. It may be seen again in a replay.
func (s *sights) see(token string, at Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.waiting[token]; w != nil {
		w.epoch = at.Epoch
		close(w.done)
		delete(s.waiting, token)
	}
}
