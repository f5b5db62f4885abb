package journal

// Request marks are what requests have purged: 16 bytes each, of which anybody may
// make any number. They have a bound of their own, so that they take nothing from
// the memory of what operators have purged, and on overflow they raise no floor but
// that of the room whose marks are forgotten: a host, the keys of a namespace, or
// all tags or users.
//
// Hosts are the clients' to choose as well. So rooms are as many as the values of a
// keyed hash, and those with the most marks give up their oldest first: whoever
// floods one host loses the marks of that host, and whoever floods all of them
// leaves an equal share to each.

import (
	"cmp"
	"slices"
	"strings"
	"sync/atomic"
)

const (
	// maxRequestMarks in four million slots are 64 MiB.
	maxRequestMarks = 3_000_000
	// maxRequestRanges bounds the patterns and prefixes that requests have purged, in
	// units.
	maxRequestRanges = 1 << 16
	firstSlots       = 1 << 10
	numRooms         = 1 << 16
	roomShift        = 48
	// maxCuts is how many marks are looked at to find what is to be forgotten.
	maxCuts = 1 << 18
)

// requestMark is one purge by a request. The first bits of hash are the room; at is
// its ID, or zero in a slot that is free.
type requestMark struct {
	hash uint64
	at   shortID
}

// shortID is an ID in 64 bits: 48 of milliseconds, 16 of the sequence.
type shortID uint64

// shorten returns an ID that is not before id: rounding up covers more, never less.
// It reports false if there is none.
func shorten(id ID) (shortID, bool) {
	const maxMs, maxSeq = 1<<48 - 1, 1<<16 - 1
	if id.Seq > maxSeq {
		id = ID{Ms: id.Ms + 1}
	}
	return shortID(id.Ms<<16 | id.Seq), id.Ms <= maxMs && !id.IsZero()
}

func (s shortID) id() ID { return ID{uint64(s) >> 16, uint64(s) & 0xffff} }

// requestMarks is a hash table with linear probing. As table.mu says, one goroutine
// changes it, and reads it without the lock.
type requestMarks struct {
	limit     int
	slots     []requestMark // a power of two, at most three quarters in use
	used      int
	floors    map[uint16]shortID // records in a room that are positioned below are absent
	newest    [numMarkKinds]ID
	ranges    int            // units of patterns and prefixes
	overflows *atomic.Uint64 // nil in a table that takes none
}

func roomIn(hash uint64) uint16 { return uint16(hash >> roomShift) }

// place returns the slot of a hash, or the free one where it belongs.
func place(slots []requestMark, hash uint64) *requestMark {
	for i := hash; ; i++ {
		slot := &slots[i&uint64(len(slots)-1)]
		if slot.at == 0 || slot.hash == hash {
			return slot
		}
	}
}

// find returns when what has the hash was purged, and the floor of its room.
func (m *requestMarks) find(hash uint64) (at, floor ID) {
	if m.used > 0 {
		at = place(m.slots, hash).at.id()
	}
	return at, m.floors[roomIn(hash)].id()
}

// put is called under table.mu, after reserve.
func (m *requestMarks) put(hash uint64, at shortID) {
	if 4*(m.used+1) > 3*len(m.slots) {
		m.slots = grown(m.slots, m.used+1) // more forms of a URL than were expected
	}
	slot := place(m.slots, hash)
	if slot.at == 0 {
		m.used++
	}
	*slot = requestMark{hash, max(slot.at, at)}
}

// grown returns a copy with room for a number of marks.
func grown(slots []requestMark, used int) []requestMark {
	size := max(len(slots), firstSlots)
	for 4*used > 3*size {
		size *= 2
	}
	return copied(slots, size, func(requestMark) bool { return true })
}

func copied(slots []requestMark, size int, keep func(requestMark) bool) []requestMark {
	more := make([]requestMark, size)
	for _, mark := range slots {
		if mark.at != 0 && keep(mark) {
			*place(more, mark.hash) = mark
		}
	}
	return more
}

// reserve makes room for marks. What takes long is done without the lock.
func (t *table) reserve(marks int) {
	m := &t.requests
	if m.used+marks > m.limit {
		m.overflows.Add(1)
		for range 3 { // rooms that the sample has missed have their turn
			if m.used > m.limit*3/4 {
				t.forget(m.cuts(m.limit * 3 / 4))
			}
		}
		if m.used+marks > m.limit {
			t.forget(m.everything())
		}
	}
	if 4*(m.used+marks) > 3*len(m.slots) {
		slots := grown(m.slots, m.used+marks)
		t.mu.Lock()
		m.slots = slots
		t.mu.Unlock()
	}
}

// forget removes the marks of rooms up to an ID, which becomes the floor.
func (t *table) forget(cuts map[uint16]shortID) {
	m := &t.requests
	used := 0
	slots := copied(m.slots, len(m.slots), func(mark requestMark) bool {
		keep := mark.at > cuts[roomIn(mark.hash)]
		if keep {
			used++
		}
		return keep
	})
	t.mu.Lock()
	defer t.mu.Unlock()
	m.slots, m.used = slots, used
	if m.floors == nil {
		m.floors = make(map[uint16]shortID)
	}
	for room, cut := range cuts {
		m.floors[room] = max(m.floors[room], cut)
	}
}

// cuts returns up to where rooms must forget so that about as many marks are left as
// wanted, and each room keeps what all can have.
func (m *requestMarks) cuts(want int) map[uint16]shortID {
	counts := make([]int, numRooms)
	for _, mark := range m.slots {
		if mark.at != 0 {
			counts[roomIn(mark.hash)]++
		}
	}
	share, over := fairShare(counts, want)
	sample := make([]requestMark, 0, min(over, maxCuts)+1)
	every, seen := 1+over/maxCuts, 0
	for _, mark := range m.slots {
		if mark.at == 0 || counts[roomIn(mark.hash)] <= share {
			continue
		}
		if seen++; seen%every == 0 {
			sample = append(sample, mark)
		}
	}
	slices.SortFunc(sample, func(a, b requestMark) int {
		return cmp.Or(cmp.Compare(roomIn(a.hash), roomIn(b.hash)), cmp.Compare(a.at, b.at))
	})
	cuts := make(map[uint16]shortID)
	for len(sample) > 0 {
		room := roomIn(sample[0].hash)
		n := 1
		for n < len(sample) && roomIn(sample[n].hash) == room {
			n++
		}
		surplus := counts[room] - share
		cuts[room] = sample[(n*surplus+counts[room]-1)/counts[room]-1].at
		sample = sample[n:]
	}
	return cuts
}

// fairShare is how many marks each room may keep so that no more than want are left,
// and how many marks lie in the rooms that have more.
func fairShare(counts []int, want int) (share, over int) {
	sorted := slices.Sorted(slices.Values(counts))
	left := want
	for i, n := range sorted {
		if rooms := len(sorted) - i; n*rooms > left {
			share = left / rooms
			break
		}
		left -= n
		share = n
	}
	for _, n := range counts {
		if n > share {
			over += n
		}
	}
	return share, over
}

// everything lets each room forget all of its marks.
func (m *requestMarks) everything() map[uint16]shortID {
	return m.before(^shortID(0))
}

// before returns the newest ID in each room from before a time, if there is any.
func (m *requestMarks) before(at shortID) map[uint16]shortID {
	cuts := make(map[uint16]shortID)
	for _, mark := range m.slots {
		if mark.at != 0 && mark.at < at {
			room := roomIn(mark.hash)
			cuts[room] = max(cuts[room], mark.at)
		}
	}
	return cuts
}

// The parts of a hash of 64 bits: the room, which what is compared lies in, and what
// is compared itself.
func (h *hashes) request(kind markKind, value string, whole markHash) uint64 {
	return uint64(h.room(kind, value))<<roomShift | whole.lo<<(64-roomShift)>>(64-roomShift)
}

// room returns the room of a value. Whoever is compared with the value has it, too.
func (h *hashes) room(kind markKind, value string) uint16 {
	class, of := kind, ""
	switch kind {
	case markURL, markExactURL, markOrigin:
		_, of = cutURL(value)
		class = markHost
	case markHost, markNamespace:
		of = value
	case markKey:
		of, _, _ = strings.Cut(digest(value), ":")
		class = markNamespace
	case markTag:
		// That of a cache group begins with the origin that may name it.
		if _, rest, ok := strings.Cut(value, "://"); ok && len(value) <= maxValue {
			of, _, _ = strings.Cut(rest, "#")
			class = markHost
		}
	case markAll, markUser, markPattern, markPrefix, numMarkKinds:
	}
	return uint16(h.of(class, of).hi)
}
