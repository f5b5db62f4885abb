package journal

// A queue holds purges that this node has made and not yet read back from the
// journal. Until then each covers here what it matches and what was being fetched
// before: state.local counts them, a position holds the count of its time, and
// state.pending, tables like that of the journal, has counts as IDs. What is
// fetched later is not covered before the entry is recorded, and then once more,
// as nobody can tell it from the rest by the ID.
//
// Purges by requests have a queue of their own, for anybody may make any number of
// them: when it overflows they become wider, and those of operators and events stay
// as they are.
//
// An item is waiting (to be appended), in flight (one goroutine is appending it)
// or appended (and will be read). Reading it back removes it; one that a later
// read lacks is lost, and waits again. mu guards items and the changes of
// state.pending.

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
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
	source    source
	token     string
	count     uint64 // what was being fetched before it has a lower one
	state     itemState
	since     time.Time // when it was queued
	appended  time.Time // when Redis had it
}

type queue struct {
	source source // whose purges it holds
	mu     sync.Mutex
	items  []*item
}

// source says on whose behalf a purge is made.
type source uint8

const (
	ofOperators source = iota // and of events
	ofRequests
	numSources
)

func (p *Purge) source() source {
	if p.Request {
		return ofRequests
	}
	return ofOperators
}

// add lets purges cover records from now on.
func (q *queue) add(j *Journal, items []*item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	fresh := make([]*item, 0, len(items))
	for _, it := range items {
		if it.since.IsZero() {
			it.since = time.Now()
		}
		old := q.repeated(it)
		if old == nil {
			q.items = append(q.items, it)
		}
		fresh = append(fresh, cmp.Or(old, it))
	}
	if q.full(j.opts.MaxQueue) {
		since := q.items[0].since
		q.overflow(j)
		for _, it := range q.items {
			if it.since.IsZero() {
				it.since = since
			}
		}
		q.publish(j, q.items)
		return
	}
	j.publish(func(s *state) {
		number(s, fresh)
		if s.pending[q.source] == nil {
			s.pending[q.source] = j.newTable()
		}
		for _, it := range fresh {
			s.pending[q.source].apply(it.selectors, it.soft, localID(it.count))
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

// repeated returns a purge by a request that covers as much as another one and
// waits to be appended, later than that was made. One in flight may be in the
// journal already: what others fetch after it is not covered by it.
func (q *queue) repeated(it *item) *item {
	if q.source != ofRequests || it.state != itemWaiting {
		return nil
	}
	scope, known := it.scope()
	for _, old := range q.items {
		wider := len(old.selectors) == 1 && (old.selectors[0].Kind == KindAll || known && old.selectors[0] == scope)
		if old.state == itemWaiting && !old.soft && (wider || slices.Equal(old.selectors, it.selectors)) {
			return old
		}
	}
	return nil
}

// scope is the host or namespace that all records lie in that an item covers, if
// its selectors name one.
func (it *item) scope() (wider Selector, known bool) {
	for i, s := range it.selectors {
		var next Selector
		switch s.Kind {
		case KindURL, KindPrefix:
			_, authority := cutURL(prefixGroup(s.Value))
			next = Selector{KindHost, authority}
		case KindKey:
			if !strings.HasPrefix(s.Value, digestMark) { // which tells no namespace
				namespace, _, _ := strings.Cut(s.Value, ":")
				next = Selector{KindNamespace, namespace}
			}
		case KindHost, KindNamespace:
			next = s
		case KindTag, KindPattern, KindUser, KindAll:
		}
		if next.Value == "" || i > 0 && next != wider {
			return Selector{}, false
		}
		wider = next
	}
	return wider, len(it.selectors) > 0
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

// overflow makes room: purges by requests become purges of their hosts, and where
// that does not do, as operators' purges, one of everything.
func (q *queue) overflow(j *Journal) {
	j.counters.overflows.Add(1)
	if q.source == ofRequests && q.widen(j) {
		return
	}
	everything, err := j.newItems(q.wider(Selector{Kind: KindAll}))
	if err != nil {
		panic(err) // the selector `all` is valid
	}
	q.items = append(slices.DeleteFunc(q.items, func(it *item) bool { return it.state != itemInFlight }), everything...)
}

func (q *queue) wider(s Selector) Purge {
	return Purge{
		Selectors: []Selector{s}, By: "journal", Reason: "too many purges waited for redis", Request: q.source == ofRequests,
	}
}

// widen replaces the purges of a host, or of keys of a namespace, by one of all of
// it, those with the most purges first, until half of the queue is free. It reports
// whether there is room. Names are the clients' to choose, so there may be as many
// as purges.
func (q *queue) widen(j *Journal) bool {
	members := make(map[Selector][]*item)
	left := 0
	for _, it := range q.items {
		if it.state == itemInFlight {
			continue
		}
		left++
		if scope, known := it.scope(); known {
			members[scope] = append(members[scope], it)
		}
	}
	replaced := make(map[*item]bool)
	var wider []*item
	for _, scope := range slices.SortedFunc(maps.Keys(members), func(a, b Selector) int {
		return cmp.Or(cmp.Compare(len(members[b]), len(members[a])), cmp.Compare(a.Value, b.Value))
	}) {
		if left <= j.opts.MaxQueue/2 || len(members[scope]) < 2 {
			break
		}
		one, err := j.newItems(q.wider(scope))
		if err != nil {
			continue // it cannot be written
		}
		for _, it := range members[scope] {
			replaced[it] = true
		}
		wider = append(wider, one...)
		left -= len(members[scope]) - len(one)
	}
	q.items = append(slices.DeleteFunc(q.items, func(it *item) bool { return replaced[it] }), wider...)
	return left <= j.opts.MaxQueue
}

// publish makes the items cover what they match, and nothing else; those that are
// new cover what is being fetched by now.
func (q *queue) publish(j *Journal, fresh []*item) {
	j.publish(func(s *state) {
		if len(fresh) > 0 {
			number(s, fresh)
		}
		s.pending[q.source] = nil
		if len(q.items) > 0 {
			s.pending[q.source] = j.newTable()
		}
		for _, it := range q.items {
			s.pending[q.source].apply(it.selectors, it.soft, localID(it.count))
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

// Waiting returns how many entries of purges are yet to be appended, and since
// when the first of them is.
func (j *Journal) Waiting() (entries int, since time.Time) {
	for i := range j.queues {
		n, first := j.queues[i].unrecorded()
		entries += n
		if since.IsZero() || !first.IsZero() && first.Before(since) {
			since = first
		}
	}
	return entries, since
}

// holds reports whether an entry is one that has not been read back before.
func (q *queue) holds(token string) bool {
	if token == "" {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.ContainsFunc(q.items, func(it *item) bool { return it.token == token })
}

func (q *queue) unrecorded() (n int, since time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, it := range q.items {
		if it.state == itemAppended {
			continue
		}
		n++
		if since.IsZero() || it.since.Before(since) {
			since = it.since
		}
	}
	return n, since
}

func (q *queue) size() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items)
}

// backlog reports whether something waits to be appended.
func (j *Journal) backlog() bool {
	return j.queues[ofOperators].waiting() || j.queues[ofRequests].waiting()
}

// queued returns how many purges have not been read back.
func (j *Journal) queued() (n int) {
	for i := range j.queues {
		n += j.queues[i].size()
	}
	return n
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
		it := &item{fields: append(e, fieldToken, token), soft: p.Soft, source: p.source(), token: token}
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
	if j.phase.Load() == phaseAway || j.closed.Load() {
		if !j.enqueue(items) {
			return errClosed
		}
		return nil
	}
	for _, it := range items {
		it.state = itemInFlight
	}
	seen := j.sights.expect(items)
	defer j.sights.forget(items)
	q := &j.queues[p.source()]
	q.add(j, items)
	ctx, cancel := context.WithTimeout(context.Background(), j.opts.WriteTimeout)
	defer cancel()
	err = j.appendItems(ctx, items)
	q.land(items, err == nil)
	if err != nil {
		// Who has taken over what waited does not look for more.
		if heir := j.heir.Load(); heir != nil && !heir.enqueue(copies(items)) {
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
func (j *Journal) enqueue(items []*item) bool {
	j.queues[items[0].source].add(j, items)
	if heir := j.heir.Load(); heir != nil {
		return heir.enqueue(copies(items))
	}
	return !j.closed.Load()
}

// Adopt takes over the purges that a journal which has been closed could not
// append, and those that it will yet be given. Both are about the same stream.
func (j *Journal) Adopt(closed *Journal) {
	closed.heir.Store(j)
	for i := range closed.queues {
		if items := closed.queues[i].leftOver(); len(items) > 0 {
			j.queues[i].add(j, items)
		}
	}
}

// leftOver returns copies of what has not been appended, as far as is known.
func (q *queue) leftOver() (items []*item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, it := range q.items {
		if it.state != itemAppended {
			items = append(items, it)
		}
	}
	return copies(items)
}

// copies returns items that wait, of the same entries.
func copies(items []*item) []*item {
	list := make([]*item, len(items))
	for i, it := range items {
		list[i] = &item{fields: it.fields, selectors: it.selectors, soft: it.soft, source: it.source, token: it.token, since: it.since}
	}
	return list
}

// drainBatch is how many items are appended in one round trip.
const drainBatch = 256

// drain appends what waits, purges of operators first.
func (j *Journal) drain(ctx context.Context) error {
	for i := range j.queues {
		if err := j.drainOne(ctx, &j.queues[i]); err != nil {
			return err
		}
	}
	return nil
}

func (j *Journal) drainOne(ctx context.Context, q *queue) error {
	for {
		items := q.take(drainBatch)
		if len(items) == 0 {
			return nil
		}
		callCtx, answered := j.call(ctx)
		err := j.appendItems(callCtx, items)
		answered()
		q.land(items, err == nil)
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
