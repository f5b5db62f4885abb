package journal

// The registry is one Redis hash: a random ID per process, and what it has
// applied. The tail alone writes the own line, after it has read and applied
// (tail.go); anybody reads all of them.
//
// Whether a peer lives is decided by the observer on its own clock: the peer has
// lapsed when its counter stayed the same for a whole lease. registry.mu guards
// what was observed. Reads are shared (readAfter): each caller gets one that was
// sent after it called.

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The states of a node as its line tells them.
const (
	stateJoining = "joining" // has not answered from its store yet
	stateLive    = "live"
	stateLeft    = "left" // will not answer from its store again
	// stateLapsed is what others see: it has been silent for a lease.
	stateLapsed = "lapsed"
)

// line is what a node publishes of itself.
type line struct {
	counter  uint64
	position Position
	state    string
	version  string
}

func (l line) String() string {
	return strconv.FormatUint(l.counter, 10) + " " + formatEpoch(l.position.Epoch) + " " + l.position.ID.String() +
		" " + l.state + " " + l.version
}

// parseLine returns the zero line, which confirms nothing, for what is none.
func parseLine(s string) line {
	parts := strings.SplitN(s, " ", 5)
	if len(parts) != 5 {
		return line{}
	}
	counter, errCounter := strconv.ParseUint(parts[0], 10, 64)
	id, errID := ParseID(parts[2])
	if errCounter != nil || errID != nil {
		return line{}
	}
	return line{counter, Position{Epoch: parseEpoch(parts[1]), ID: id}, parts[3], parts[4]}
}

// applied reports whether the node has applied an entry of an epoch.
func (l line) applied(at Position) bool {
	return l.position.Epoch == at.Epoch && !l.position.ID.Before(at.ID)
}

// peer is what was observed of another node.
type peer struct {
	line
	changed time.Time // when a read was received that first showed this counter
	read    time.Time // when the last read was sent
	present bool      // the last read showed it
	told    string    // the state that changes has told last
	raw     string    // as it stands in Redis
}

// lapsed reports whether the counter has not moved for a whole lease.
func (p *peer) lapsed(lease time.Duration) bool { return p.read.Sub(p.changed) >= lease }

// registry is what this node observed of the others.
type registry struct {
	self  string
	lease time.Duration
	// longest is the time between two reads after which a peer may have come
	// and gone unseen.
	longest time.Duration
	fetch   func(context.Context) (map[string]string, error)

	mu    sync.Mutex
	peers map[string]*peer
	gone  []NodeChange // for changes: lapsed and removed at once
	since time.Time    // reads have followed each other closely since then
	last  time.Time    // when the last read was sent

	current, next *registryRead
	running       sync.WaitGroup // of run
	closed        bool
}

// errClosed is the error of a read after close.
var errClosed = errors.New("journal: closed")

// registryRead is one read of all lines, and what it showed when it is done.
type registryRead struct {
	done chan struct{}
	err  error
}

// readAfter reads the registry and waits for it. Callers share reads, but never
// one that was sent before they called: it could lack a node that has registered
// since and has not applied what the caller appended.
func (r *registry) readAfter(ctx context.Context) error {
	r.mu.Lock()
	var read *registryRead
	switch {
	case r.closed:
		r.mu.Unlock()
		return errClosed
	case r.current == nil:
		read = &registryRead{done: make(chan struct{})}
		r.current = read
		r.running.Go(func() { r.run(read) })
	case r.next == nil:
		r.next = &registryRead{done: make(chan struct{})}
		fallthrough
	default:
		read = r.next
	}
	r.mu.Unlock()
	select {
	case <-read.done:
		return read.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close waits for the reads that have begun. No other begins.
func (r *registry) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.running.Wait()
}

// run reads until nobody waits for another read.
func (r *registry) run(read *registryRead) {
	for read != nil {
		ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
		sent := time.Now()
		lines, err := r.fetch(ctx)
		cancel()
		if err == nil {
			r.observe(sent, time.Now(), lines)
		}
		read.err = err
		close(read.done)
		r.mu.Lock()
		read, r.next = r.next, nil
		r.current = read
		r.mu.Unlock()
	}
}

// observe takes in one read of all lines.
func (r *registry) observe(sent, received time.Time, lines map[string]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if sent.Before(r.last) {
		return // overtaken by a later read
	}
	if r.since.IsZero() || received.Sub(r.last) >= r.longest {
		r.since = received
	}
	r.last = sent
	for id, p := range r.peers {
		p.present, p.read = false, sent
		if _, ok := lines[id]; !ok && p.lapsed(r.lease) {
			if p.told == stateLive {
				r.gone = append(r.gone, NodeChange{id, p.version, stateLapsed})
			}
			delete(r.peers, id)
		}
	}
	for id, raw := range lines {
		if id != r.self {
			r.observeOne(id, raw, sent, received)
		}
	}
}

func (r *registry) observeOne(id, raw string, sent, received time.Time) {
	l := parseLine(raw)
	p := r.peers[id]
	if p == nil {
		p = &peer{changed: received}
		r.peers[id] = p
	} else if p.counter != l.counter {
		p.changed = received
	}
	p.line, p.raw, p.read, p.present = l, raw, sent, true
}

// tally is what the peers say about an entry.
type tally struct {
	confirmed, pending, lapsed []string
	// young is set while a peer may live that was never seen.
	young bool
}

// tally counts who has applied an entry, as of the last read: those whom it
// showed, and those seen within a lease before.
func (r *registry) tally(at Position) tally {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := tally{young: r.since.IsZero() || r.last.Sub(r.since) < r.lease}
	for id, p := range r.peers {
		switch {
		case p.state == stateLeft: // it stopped answering from its store first
		case p.present && p.applied(at):
			t.confirmed = append(t.confirmed, id)
		case p.lapsed(r.lease):
			t.lapsed = append(t.lapsed, id)
		default:
			t.pending = append(t.pending, id)
		}
	}
	slices.Sort(t.confirmed)
	slices.Sort(t.pending)
	slices.Sort(t.lapsed)
	return t
}

const (
	// After so many leases the line of a node that left, and one of a node that
	// is silent, is removed.
	leasesAfterLeft   = 10
	leasesAfterSilent = 100
)

// remains returns the lines to remove, as they stand in Redis.
func (r *registry) remains() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := make(map[string]string)
	for id, p := range r.peers {
		silent := p.read.Sub(p.changed)
		if p.present && (silent >= leasesAfterSilent*r.lease || p.state == stateLeft && silent >= leasesAfterLeft*r.lease) {
			old[id] = p.raw
		}
	}
	return old
}

// NodeInfo is what is known of one node of the fleet.
type NodeInfo struct {
	ID       string
	Self     bool
	State    string // live, joining, or lapsed: silent for a lease
	Version  string
	Position Position
	Lag      time.Duration // by which its newest entry is older than the newest applied here
}

// NodeChange tells what has become of another node.
type NodeChange struct {
	ID, Version string
	State       string // live, lapsed or left
}

// changes returns what has become of the peers since the last call. A node that
// had lapsed or left before it was first seen has not changed.
func (r *registry) changes() []NodeChange {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.gone
	r.gone = nil
	for id, p := range r.peers {
		state := p.state
		if state != stateLeft && p.lapsed(r.lease) {
			state = stateLapsed
		}
		if state == p.told || state == stateJoining {
			continue
		}
		if p.told != "" || state == stateLive {
			list = append(list, NodeChange{id, p.version, state})
		}
		p.told = state
	}
	slices.SortFunc(list, func(a, b NodeChange) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// hasOthers reports whether the last read showed a peer that has not left.
func (r *registry) hasOthers() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.peers {
		if p.present && p.state != stateLeft {
			return true
		}
	}
	return false
}

// nodes lists the peers as of the last read, by ID.
func (r *registry) nodes(own Position) []NodeInfo {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]NodeInfo, 0, 1+len(r.peers))
	for id, p := range r.peers {
		if !p.present || p.state == stateLeft {
			continue
		}
		info := NodeInfo{ID: id, State: p.state, Version: p.version, Position: p.position}
		if p.lapsed(r.lease) {
			info.State = stateLapsed
		}
		if p.position.ID.Ms < own.ID.Ms {
			info.Lag = time.Duration(own.ID.Ms-p.position.ID.Ms) * time.Millisecond
		}
		list = append(list, info)
	}
	slices.SortFunc(list, func(a, b NodeInfo) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// elects reports whether this node is the live one with the lowest ID.
func (r *registry) elects() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, p := range r.peers {
		if id < r.self && p.present && p.state == stateLive && !p.lapsed(r.lease) {
			return false
		}
	}
	return true
}

// live returns how many peers have not lapsed or left.
func (r *registry) live() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for p := range maps.Values(r.peers) {
		if p.present && p.state != stateLeft && !p.lapsed(r.lease) {
			n++
		}
	}
	return n
}
