package coalesce

// A flight is one fetch and whoever waits for it. Its leader fetches; followers
// wait for the header, and then read the body while it grows. Nobody waits for
// anybody else's client: the leader writes into memory only.
//
// A flight goes through open → shared → ended, or from open to ended at once.
// The header is set once, before the flight is shared. The body only grows, so
// that what a reader was given stays as it is. A flight leaves its group when it
// ends or is retired: whoever joins later starts another one.
//
// The memory of all bodies is bounded together, as long as anybody reads them: a
// flight gives back what it has taken when it has landed and nobody follows it.
//
// Group.mu guards which flights there are, the numbers of followers and landed;
// taken belongs to the leader until it lands. Flight.mu guards everything else. No
// two are held at a time.

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// Ending says how a flight ended.
type Ending uint8

const (
	Flying   Ending = iota // it has not ended
	Complete               // the body is complete
	Alone                  // the response is not for others: each fetches for itself
	Again                  // nothing came of it, which says nothing about other fetches
	Broken                 // the body broke off after the header had been shared
	TooLarge               // the body outgrew its bound after the header had been shared
)

// maxFollowers bounds the followers of a group.
const maxFollowers = 1 << 16

// Group is the flights of a node. Its zero value is ready for use.
type Group[H any] struct {
	mu        sync.Mutex
	flights   map[ID]*Flight[H]
	followers int
	ended     atomic.Uint64
	held      atomic.Int64 // bytes of bodies
}

// Take reserves memory for n bytes of a body that is kept while a client reads it,
// unless that would be more than limit for all of them. Give gives it back.
func (g *Group[H]) Take(n, limit int64) bool {
	if g.held.Add(n) > limit {
		g.held.Add(-n)
		return false
	}
	return true
}

// Give gives back what was taken.
func (g *Group[H]) Give(n int64) { g.held.Add(-n) }

// Held returns how many bytes are taken.
func (g *Group[H]) Held() int64 { return g.held.Load() }

// Ended returns how many flights have ended. A fetch may have been stored since a
// lookup only if it has changed since before that lookup.
func (g *Group[H]) Ended() uint64 { return g.ended.Load() }

// Join returns the flight of a key, and whether the caller leads it. A leader
// must end it, whatever happens; a follower must leave it. The flight is nil if
// there is none and the caller may not lead, or if it has too many followers.
func (g *Group[H]) Join(id ID, mayLead bool) (f *Flight[H], leads bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f = g.flights[id]; f == nil {
		if !mayLead {
			return nil, false
		}
		f = &Flight[H]{group: g, id: id}
		if g.flights == nil {
			g.flights = make(map[ID]*Flight[H])
		}
		g.flights[id] = f
		return f, true
	}
	if g.followers >= maxFollowers {
		return nil, false
	}
	g.followers++
	f.followers++
	return f, false
}

// Len returns the number of flights.
func (g *Group[H]) Len() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.flights)
}

// Flight is one fetch.
type Flight[H any] struct {
	group     *Group[H]
	id        ID
	followers int   // Group.mu guards it
	landed    bool  // Group.mu guards it
	taken     int64 // bytes of Group.held; the leader's until it lands

	mu      sync.Mutex
	changed chan struct{} // closed at the next change; nil while nobody waits
	header  *H
	body    Buffer
	flushes int // requests to flush what has been written
	ending  Ending
}

// Followers returns how many follow the flight.
func (f *Flight[H]) Followers() int {
	f.group.mu.Lock()
	defer f.group.mu.Unlock()
	return f.followers
}

// Leave is called by a follower that is done.
func (f *Flight[H]) Leave() {
	f.group.mu.Lock()
	defer f.group.mu.Unlock()
	f.followers--
	f.group.followers--
	if f.landed && f.followers == 0 {
		f.group.Give(f.taken)
	}
}

// Land is called by the leader when its client has been served, once.
func (f *Flight[H]) Land() {
	f.Retire() // who joins later would read what is no longer counted
	f.group.mu.Lock()
	defer f.group.mu.Unlock()
	f.landed = true
	if f.followers == 0 {
		f.group.Give(f.taken)
	}
}

// Room reports whether the body may grow by n bytes, where all bodies of the group
// may take limit. The leader asks before each Write.
func (f *Flight[H]) Room(n int, limit int64) bool {
	more := int64(f.Len()+n) - f.taken
	if more <= 0 {
		return true
	}
	if !f.group.Take(more, limit) {
		return false
	}
	f.taken += more
	return true
}

// wake tells whoever waits that something has changed. f.mu is held.
func (f *Flight[H]) wake() {
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

// change returns a channel that is closed at the next change. f.mu is held.
func (f *Flight[H]) change() <-chan struct{} {
	if f.changed == nil {
		f.changed = make(chan struct{})
	}
	return f.changed
}

// Share lets followers have the header. size is the length of the body where it
// is known and there is Room for it.
func (f *Flight[H]) Share(header *H, size int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.header = header
	f.body.Reserve(size)
	f.wake()
}

// Write appends to the body. It never fails.
func (f *Flight[H]) Write(p []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, _ = f.body.Write(p) // it never fails
	f.wake()
}

// Flush asks readers to flush what has been written so far.
func (f *Flight[H]) Flush() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.flushes++
	f.wake()
}

// Body returns the body as far as it has come, in one piece.
func (f *Flight[H]) Body() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.body.Bytes()
}

// Retire lets nobody join any more, so that the next one starts a flight anew.
func (f *Flight[H]) Retire() {
	f.group.mu.Lock()
	defer f.group.mu.Unlock()
	if f.group.flights[f.id] == f {
		delete(f.group.flights, f.id)
	}
}

// Len returns the length of the body as far as it has come.
func (f *Flight[H]) Len() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.body.Len()
}

// End ends the flight, unless it has ended already.
func (f *Flight[H]) End(how Ending) {
	f.group.ended.Add(1) // before another one can start
	f.Retire()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ending == Flying {
		f.ending = how
		f.wake()
	}
}

// Ending says how the flight has ended, if it has.
func (f *Flight[H]) Ending() Ending {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ending
}

// ErrTooSlow is returned to a follower that has waited long enough.
var ErrTooSlow = errors.New("coalesce: the leader is too slow")

// Shared reports whether the header has arrived.
func (f *Flight[H]) Shared() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.header != nil
}

// Header waits for the header, or for the end of a flight without one: header is
// nil then. The error is ErrTooSlow after limit, or that of ctx.
func (f *Flight[H]) Header(ctx context.Context, limit time.Duration) (header *H, how Ending, err error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		f.mu.Lock()
		if f.header != nil || f.ending != Flying {
			defer f.mu.Unlock()
			return f.header, f.ending, nil
		}
		changed := f.change()
		f.mu.Unlock()
		select {
		case <-changed:
		case <-timer.C:
			return nil, Flying, ErrTooSlow
		case <-ctx.Done():
			return nil, Flying, ctx.Err()
		}
	}
}

// Reader reads the body of a flight. It belongs to one goroutine.
type Reader[H any] struct {
	f       *Flight[H]
	at      place
	flushes int // requests to flush that were passed on
}

// Reader returns a reader from the start.
func (f *Flight[H]) Reader() *Reader[H] { return &Reader[H]{f: f} }

// Next waits for more of the body. flush asks to flush once it has been written.
// After an ending other than Flying nothing follows. The error is ErrTooSlow after
// limit, where it is not 0, or that of ctx.
func (r *Reader[H]) Next(ctx context.Context, limit time.Duration) (body []byte, flush bool, how Ending, err error) {
	f := r.f
	var late <-chan time.Time
	for {
		f.mu.Lock()
		if body = f.body.next(&r.at); len(body) > 0 {
			f.mu.Unlock()
			return body, false, Flying, nil
		}
		flush, how = f.flushes > r.flushes, f.ending
		if flush || how != Flying {
			r.flushes = f.flushes
			f.mu.Unlock()
			return nil, flush, how, nil
		}
		changed := f.change()
		f.mu.Unlock()
		if limit > 0 && late == nil {
			timer := time.NewTimer(limit)
			defer timer.Stop()
			late = timer.C
		}
		select {
		case <-changed:
		case <-late:
			return nil, false, Flying, ErrTooSlow
		case <-ctx.Done():
			return nil, false, Flying, ctx.Err()
		}
	}
}

// More returns more of the body, or nothing where there is no more by now.
func (r *Reader[H]) More() []byte {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	return r.f.body.next(&r.at)
}
