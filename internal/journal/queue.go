package journal

// The queue holds the purges that this node has made and not yet read back from
// the journal. Until then each covers here what it matches and what was being
// fetched before: state.local counts them, a position holds the count of its
// time, and state.pending, a table like that of the journal, has counts as IDs.
// What is fetched later is not covered before the entry is recorded, and then
// once more, as nobody can tell it from the rest by the ID.
//
// An item is waiting (to be appended), in flight (one goroutine is appending it)
// or appended (and will be read). Reading it back removes it; one that a later
// read lacks is lost, and waits again. mu guards items and the changes of
// state.pending.

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

type itemState uint8

const (
	itemWaiting itemState = iota
	itemInFlight
	itemAppended
)

// item is one entry to append.
type item struct {
	fields    fields
	selectors []Selector
	soft      bool
	token     string
	count     uint64 // what was being fetched before it has a lower one
	state     itemState
	appended  time.Time // when Redis had it
}

type queue struct {
	mu    sync.Mutex
	items []*item
}

// add lets purges cover records from now on.
func (q *queue) add(j *Journal, items []*item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.items = append(q.items, items...)
	if q.full(j.opts.MaxQueue) {
		q.collapse(j)
		q.publish(j, q.items)
		return
	}
	j.publish(func(s *state) {
		number(s, items)
		if s.pending == nil {
			s.pending = j.newTable()
		}
		for _, it := range items {
			s.pending.apply(it.selectors, it.soft, localID(it.count))
		}
	})
}

// number lets items cover what is being fetched by now. It is done in the state
// that publishes them: whoever sees a count sees what has it.
func number(s *state, items []*item) {
	s.local++
	for _, it := range items {
		it.count = s.local
	}
}

// maxUnread is how many purges may have been appended but not read back, as a
// multiple of those that may wait.
const maxUnread = 16

// full reports whether there are too many items. Those in flight are as many as
// requests, and do not count.
func (q *queue) full(limit int) bool {
	if len(q.items) <= limit {
		return false
	}
	var count [itemAppended + 1]int
	for _, it := range q.items {
		count[it.state]++
	}
	return count[itemWaiting] > limit || count[itemAppended] > maxUnread*limit
}

// collapse replaces all items but those in flight by one that covers everything.
func (q *queue) collapse(j *Journal) {
	everything := Purge{Selectors: []Selector{{Kind: KindAll}}, By: "journal", Reason: "too many purges waited for redis"}
	items, err := j.newItems(everything)
	if err != nil {
		panic(err) // the selector `all` is valid
	}
	for _, it := range q.items {
		if it.state == itemInFlight {
			items = append(items, it)
		}
	}
	q.items = items
	j.counters.overflows.Add(1)
}

// publish makes the items cover what they match, and nothing else; those that are
// new cover what is being fetched by now.
func (q *queue) publish(j *Journal, fresh []*item) {
	j.publish(func(s *state) {
		if len(fresh) > 0 {
			number(s, fresh)
		}
		s.pending = nil
		if len(q.items) > 0 {
			s.pending = j.newTable()
		}
		for _, it := range q.items {
			s.pending.apply(it.selectors, it.soft, localID(it.count))
		}
	})
}

// refresh applies the items again, under other rules. What was found not to be
// covered may be, so that they cover what was fetched before now.
func (q *queue) refresh(j *Journal) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.publish(j, q.items)
}

// remove drops the items that were read back.
func (q *queue) remove(j *Journal, own []ownEntry) {
	if len(own) == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	before := len(q.items)
	read := make(map[string]struct{}, len(own))
	for _, e := range own {
		read[e.token] = struct{}{}
	}
	q.items = slices.DeleteFunc(q.items, func(it *item) bool {
		_, done := read[it.token]
		return done
	})
	if len(q.items) != before {
		q.publish(j, nil)
	}
}

// again makes everything wait that Redis had when a read to the end of the
// journal began, and that is not in it: the stream is gone, or another master
// lacks what was appended last.
func (q *queue) again(read time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, it := range q.items {
		if it.state == itemAppended && it.appended.Before(read) {
			it.state = itemWaiting
		}
	}
}

// take puts up to limit waiting items in flight.
func (q *queue) take(limit int) (items []*item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, it := range q.items {
		if it.state == itemWaiting && len(items) < limit {
			it.state = itemInFlight
			items = append(items, it)
		}
	}
	return items
}

// land ends the flight of items.
func (q *queue) land(items []*item, appended bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, it := range items {
		if appended {
			it.state, it.appended = itemAppended, time.Now()
		} else {
			it.state = itemWaiting
		}
	}
}

// waiting reports whether something waits to be appended.
func (q *queue) waiting() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.ContainsFunc(q.items, func(it *item) bool { return it.state == itemWaiting })
}

func (q *queue) size() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items)
}

// newItems returns the entries of a purge. Each covers what those who read it
// will understand, and no reader skips it.
func (j *Journal) newItems(p Purge) ([]*item, error) {
	entries, err := p.encode(j.opts.Prefix)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	items := make([]*item, len(entries))
	for i, e := range entries {
		token := j.token()
		it := &item{fields: append(e, fieldToken, token), soft: p.Soft, token: token}
		read, err := decode(ID{}, it.fields.values(), j.opts.Prefix)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		it.selectors = read.Selectors
		items[i] = it
	}
	return items, nil
}

// token returns a name that no other entry carries.
func (j *Journal) token() string {
	return j.opts.NodeID + "/" + strconv.FormatUint(j.tokens.Add(1), 36)
}

// AppendAsync records a purge that a request has made, and covers at once what
// matches and was being fetched here. It waits until this node has read the purge
// back, so that what is fetched from then on is not covered, but not longer than
// the write timeout, and not for other nodes. While Redis is away the purge is
// kept and appended later. A purge that is invalid does nothing.
func (j *Journal) AppendAsync(p Purge) error {
	if j.client == nil {
		_, err := j.appendLocal(p)
		return err
	}
	items, err := j.newItems(p)
	if err != nil {
		return err
	}
	if j.phase.Load() == phaseAway {
		j.queue.add(j, items)
		return nil
	}
	for _, it := range items {
		it.state = itemInFlight
	}
	seen := j.sights.expect(items)
	defer j.sights.forget(items)
	j.queue.add(j, items)
	ctx, cancel := context.WithTimeout(context.Background(), j.opts.WriteTimeout)
	defer cancel()
	err = j.appendItems(ctx, items)
	j.queue.land(items, err == nil)
	if err == nil {
		select {
		case <-seen.done:
			return seen.err
		case <-ctx.Done():
		}
	}
	return nil
}

// Adopt takes over the purges that a journal which has been closed could not
// append. Both are about the same stream.
func (j *Journal) Adopt(closed *Journal) {
	if items := closed.queue.leftOver(); len(items) > 0 {
		j.queue.add(j, items)
	}
}

// leftOver returns copies of what has not been appended, as far as is known.
func (q *queue) leftOver() (items []*item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, it := range q.items {
		if it.state != itemAppended {
			items = append(items, &item{fields: it.fields, selectors: it.selectors, soft: it.soft, token: it.token})
		}
	}
	return items
}

// drainBatch is how many items are appended in one round trip.
const drainBatch = 256

// drain appends what waits.
func (j *Journal) drain(ctx context.Context) error {
	for {
		items := j.queue.take(drainBatch)
		if len(items) == 0 {
			return nil
		}
		callCtx, answered := j.call(ctx)
		err := j.appendItems(callCtx, items)
		answered()
		j.queue.land(items, err == nil)
		if err != nil {
			return err
		}
	}
}

// appendItems appends all items or returns an error; some may be in the journal
// all the same, and appending them again does no harm.
func (j *Journal) appendItems(ctx context.Context, items []*item) error {
	_, err := j.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, it := range items {
			pipe.XAdd(ctx, j.add(it.fields))
		}
		return nil
	})
	if err != nil {
		j.counters.refused.Add(1)
	}
	return err
}
