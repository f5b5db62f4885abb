package journal

// This file is how purges come into the queues, and from there into Redis.

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// waiting is Waiting.
func (a *appender) waiting() (entries int, since time.Time) {
	for i := range a.queues {
		n, first := a.queues[i].unrecorded()
		entries += n
		if since.IsZero() || !first.IsZero() && first.Before(since) {
			since = first
		}
	}
	return entries, since
}

// backlog reports whether something waits to be appended.
func (a *appender) backlog() bool {
	return a.queues[ofOperators].waiting() || a.queues[ofRequests].waiting()
}

// queued returns how many purges have not been read back.
func (a *appender) queued() (n int) {
	for i := range a.queues {
		n += a.queues[i].size()
	}
	return n
}

// newItems returns the entries of a purge. Each covers what those who read it
// will understand, and no reader skips it.
func (s *shared) newItems(p Purge) ([]*item, error) {
	entries, err := p.encode(s.opts.Prefix)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	items := make([]*item, len(entries))
	for i, e := range entries {
		token := s.token()
		it := &item{fields: append(e, fieldToken, token), soft: p.Soft, source: p.source(), token: token}
		read, err := decode(ID{}, it.fields.values(), s.opts.Prefix)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		it.selectors = read.Selectors
		items[i] = it
	}
	return items, nil
}

// token returns a name that no other entry carries.
func (s *shared) token() string {
	return s.opts.NodeID + "/" + strconv.FormatUint(s.tokens.Add(1), 36)
}

// purgeSoon is AppendAsync.
func (a *appender) purgeSoon(p Purge) error {
	if a.client == nil {
		_, err := a.local.purge(p)
		return err
	}
	items, err := a.newItems(p)
	if err != nil {
		return err
	}
	if a.lease.phase.Load() == phaseAway || a.lease.closed.Load() {
		if !a.enqueue(items) {
			return errClosed
		}
		return nil
	}
	for _, it := range items {
		it.state = itemInFlight
	}
	seen := a.sights.expect(items)
	defer a.sights.forget(items)
	q := &a.queues[p.source()]
	q.add(items)
	ctx, cancel := context.WithTimeout(context.Background(), a.opts.WriteTimeout)
	defer cancel()
	err = a.appendItems(ctx, items)
	q.land(items, err == nil)
	if err != nil {
		// Who has taken over what waited does not look for more.
		if heir := a.heir.Load(); heir != nil && !heir.enqueue(copies(items)) {
			return errClosed
		}
		return nil
	}
	select {
	case <-seen.done:
		return seen.err
	case <-ctx.Done():
	}
	return nil
}

// enqueue lets items wait. It reports false where nobody will ever append them.
func (a *appender) enqueue(items []*item) bool {
	a.queues[items[0].source].add(items)
	if heir := a.heir.Load(); heir != nil {
		return heir.enqueue(copies(items))
	}
	return !a.lease.closed.Load()
}

// adopt is Adopt.
func (a *appender) adopt(closed *appender) {
	closed.heir.Store(a)
	for i := range closed.queues {
		if items := closed.queues[i].leftOver(); len(items) > 0 {
			a.queues[i].add(items)
		}
	}
}

// drainBatch is how many items are appended in one round trip.
const drainBatch = 256

// drain appends what waits, purges of operators first.
func (a *appender) drain(ctx context.Context) error {
	for i := range a.queues {
		if err := a.drainOne(ctx, &a.queues[i]); err != nil {
			return err
		}
	}
	return nil
}

func (a *appender) drainOne(ctx context.Context, q *queue) error {
	for {
		items := q.take(drainBatch)
		if len(items) == 0 {
			return nil
		}
		callCtx, answered := a.cycle.call(ctx)
		err := a.appendItems(callCtx, items)
		answered()
		q.land(items, err == nil)
		if err != nil {
			return err
		}
	}
}

// appendItems appends all items or returns an error; some may be in the journal
// all the same, and appending them again does no harm.
func (a *appender) appendItems(ctx context.Context, items []*item) error {
	_, err := a.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, it := range items {
			pipe.XAdd(ctx, a.xadd(it.fields))
		}
		return nil
	})
	if err != nil {
		a.counters.refused.Add(1)
	}
	return err
}
