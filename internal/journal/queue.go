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
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
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
	view   *view
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
func (q *queue) add(items []*item) {
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
	if q.full(q.view.opts.MaxQueue) {
		since := q.items[0].since
		q.overflow()
		for _, it := range q.items {
			if it.since.IsZero() {
				it.since = since
			}
		}
		q.publish(q.items)
		return
	}
	q.view.publish(func(s *state) {
		number(s, fresh)
		if s.pending[q.source] == nil {
			s.pending[q.source] = q.view.newTable()
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
func (q *queue) overflow() {
	q.view.counters.overflows.Add(1)
	if q.source == ofRequests && q.widen() {
		return
	}
	everything, err := q.view.newItems(q.wider(Selector{Kind: KindAll}))
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
func (q *queue) widen() bool {
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
		if left <= q.view.opts.MaxQueue/2 || len(members[scope]) < 2 {
			break
		}
		one, err := q.view.newItems(q.wider(scope))
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
	return left <= q.view.opts.MaxQueue
}

// publish makes the items cover what they match, and nothing else; those that are
// new cover what is being fetched by now.
func (q *queue) publish(fresh []*item) {
	q.view.publish(func(s *state) {
		if len(fresh) > 0 {
			number(s, fresh)
		}
		s.pending[q.source] = nil
		if len(q.items) > 0 {
			s.pending[q.source] = q.view.newTable()
		}
		for _, it := range q.items {
			s.pending[q.source].apply(it.selectors, it.soft, localID(it.count))
		}
	})
}

// refresh applies the items again, under other rules. What was found not to be
// covered may be, so that they cover what was fetched before now.
func (q *queue) refresh() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.publish(q.items)
}

// remove drops the items that were read back.
func (q *queue) remove(own []ownEntry) {
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
		q.publish(nil)
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
