package journal

// A checkpoint holds a table as items of fixed form, in chunks that split none.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
)

// The items. Each begins with its kind; numbers are little-endian.
const (
	itemRange   = 'p' // kind, severity, request, ID, length in 16 bits, text
	itemMark    = 'm' // severity, hash in 128 bits, ID
	itemCount   = 'c' // about how many requests there are
	itemRequest = 'r' // hash and ID in 64 bits
	itemNewest  = 'n' // request, kind, ID
	itemRoom    = 'h' // room in 16 bits, ID in 64
	itemFloor   = 'f' // ID
	itemEpoch   = 'e' // in 64 bits
)

const (
	// chunkSize is what a chunk is about to exceed: no command holds Redis up.
	chunkSize = 256 << 10
	// maxChunks bounds what is read: more than the largest table has.
	maxChunks = 1024
)

// tableWriter encodes a table in chunks.
type tableWriter struct {
	t      *table
	epochs []uint64 // that are known
	chunk  []byte
	emit   func(chunk []byte) error
	err    error
}

// write encodes what was applied to the table up to now, and some of what is
// applied meanwhile: to whoever goes on from here that is nothing new. Nothing of
// it can be missed, as what gives way is written before what takes its place:
// patterns and prefixes before marks, which they may become, marks before the
// floors that rise when they are forgotten. The lock is held for a moment at a
// time.
func (w *tableWriter) write() error {
	w.count()
	w.ranges()
	for severity := range w.t.marks {
		w.marks(severity)
	}
	w.requests()
	w.rest()
	for _, epoch := range w.epochs {
		w.add(itemEpoch)
		w.number(epoch)
	}
	w.flush()
	return w.err
}

func (w *tableWriter) count() {
	_, requests := w.t.size()
	w.add(itemCount)
	w.number(uint64(requests))
}

func (w *tableWriter) ranges() {
	w.t.mu.RLock()
	groups := make(map[rangeGroup][]rangeMark, len(w.t.ranges))
	maps.Copy(groups, w.t.ranges)
	w.t.mu.RUnlock()
	for group, list := range groups {
		for i := range list {
			r := &list[i]
			w.add(itemRange, byte(group.kind), byte(r.severity), bit(group.request))
			w.id(r.id)
			w.chunk = binary.LittleEndian.AppendUint16(w.chunk, uint16(len(r.text)))
			w.chunk = append(w.chunk, r.text...)
			w.flushFull()
		}
	}
}

func (w *tableWriter) marks(severity int) {
	w.t.mu.RLock()
	defer w.t.mu.RUnlock()
	seen := 0
	for h, id := range w.t.marks[severity] {
		if seen++; seen%lockedMarks == 0 || len(w.chunk) >= chunkSize {
			w.t.mu.RUnlock()
			w.flushFull()
			w.t.mu.RLock()
		}
		w.add(itemMark, byte(severity))
		w.number(h.hi)
		w.number(h.lo)
		w.id(id)
	}
}

func (w *tableWriter) requests() {
	w.t.mu.RLock()
	defer w.t.mu.RUnlock()
	slots := w.t.requests.slots // what replaces it later holds what is newer, or has left floors
	for i := range slots {
		if i%lockedMarks == 0 {
			w.t.mu.RUnlock()
			w.flushFull()
			w.t.mu.RLock()
		}
		if mark := slots[i]; mark.at != 0 {
			w.add(itemRequest)
			w.number(mark.hash)
			w.number(uint64(mark.at))
		}
	}
}

func (w *tableWriter) rest() {
	w.t.mu.RLock()
	defer w.t.mu.RUnlock()
	for request, newest := range [][numMarkKinds]ID{w.t.newest, w.t.requests.newest} {
		for kind, id := range newest {
			w.add(itemNewest, byte(request), byte(kind))
			w.id(id)
		}
	}
	for room, at := range w.t.requests.floors {
		w.add(itemRoom)
		w.chunk = binary.LittleEndian.AppendUint16(w.chunk, room)
		w.number(uint64(at))
	}
	w.add(itemFloor)
	w.id(w.t.floor)
}

func (w *tableWriter) add(kind byte, flags ...byte) {
	w.chunk = append(append(w.chunk, kind), flags...)
}

func (w *tableWriter) number(n uint64) { w.chunk = binary.LittleEndian.AppendUint64(w.chunk, n) }

func (w *tableWriter) id(id ID) {
	w.number(id.Ms)
	w.number(id.Seq)
}

func (w *tableWriter) flushFull() {
	if len(w.chunk) >= chunkSize {
		w.flush()
	}
}

func (w *tableWriter) flush() {
	if w.err == nil {
		w.err = w.emit(w.chunk)
	}
	w.chunk = w.chunk[:0]
}

func bit(set bool) byte {
	if set {
		return 1
	}
	return 0
}

var errItem = errors.New("journal: a checkpoint with an item that is none")

// tableReader fills a table, which nobody else knows of yet, from chunks.
type tableReader struct {
	t      *table
	epochs []uint64
	rest   []byte
	wrong  bool
}

func (r *tableReader) read(chunk []byte) error {
	r.rest = chunk
	for len(r.rest) > 0 {
		kind := r.rest[0]
		r.rest = r.rest[1:]
		r.item(kind)
		if r.wrong {
			return fmt.Errorf("%w: %q", errItem, kind)
		}
	}
	return nil
}

func (r *tableReader) item(kind byte) {
	switch t := r.t; kind {
	case itemRange:
		flags, id := r.bytes(3), r.id()
		text := string(r.bytes(int(r.small())))
		if !r.wrong {
			r.addRange(markKind(flags[0]), flags[1], flags[2] == 1, rangeMark{text: text, id: id})
		}
	case itemMark:
		severity, h, id := r.bytes(1), markHash{r.number(), r.number()}, r.id()
		if r.wrong = r.wrong || severity[0] > soft; r.wrong {
			return
		}
		marks := t.marks[severity[0]]
		old, present := marks[h]
		if !present {
			t.units++
		}
		marks[h] = laterOf(old, id)
	case itemFloor:
		t.floor = laterOf(t.floor, r.id())
	case itemEpoch:
		r.epochs = append(r.epochs, r.number())
		r.wrong = r.wrong || len(r.epochs) > maxKnown
	default:
		r.itemOfRequests(kind)
	}
}

// itemOfRequests is item for what is remembered of purges by requests, and for the newest
// purges of either table.
func (r *tableReader) itemOfRequests(kind byte) {
	switch t := r.t; kind {
	case itemCount:
		// Marks come in the order of their slots, and would crowd in a table that grows.
		m := &t.requests
		if n := int(min(r.number(), uint64(m.limit))); 4*n > 3*len(m.slots) {
			m.slots = grown(m.slots, n)
		}
	case itemRequest:
		hash, at := r.number(), shortID(r.number())
		if r.wrong = r.wrong || at == 0; !r.wrong {
			t.requests.put(hash, at)
		}
	case itemNewest:
		flags, id := r.bytes(2), r.id()
		if r.wrong = r.wrong || flags[1] >= byte(numMarkKinds); r.wrong {
			return
		}
		newest := &t.newest
		if flags[0] == 1 {
			newest = &t.requests.newest
		}
		newest[flags[1]] = laterOf(newest[flags[1]], id)
	case itemRoom:
		room, at := r.small(), shortID(r.number())
		if t.requests.floors == nil {
			t.requests.floors = make(map[uint16]shortID)
		}
		t.requests.floors[room] = max(t.requests.floors[room], at)
	default:
		r.wrong = true
	}
}

func (r *tableReader) addRange(kind markKind, severity byte, request bool, m rangeMark) {
	group := rangeGroup{kind: kind, request: request}
	switch kind { //nolint:exhaustive // the others are no ranges
	case markPattern:
		group.of = r.t.patternGroup(m.text)
	case markPrefix:
		group.of = prefixGroup(m.text)
	default:
		r.wrong = true
	}
	_, short := shorten(m.id)
	if m.severity = int(severity); severity > soft || request && (severity != hard || !short) {
		r.wrong = true
	}
	if !r.wrong {
		r.t.addRange(group, m)
	}
}

// bytes returns so many, even when there are not: then they are zero.
func (r *tableReader) bytes(n int) []byte {
	if len(r.rest) < n {
		r.wrong, r.rest = true, nil
		return make([]byte, n)
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *tableReader) small() uint16 { return binary.LittleEndian.Uint16(r.bytes(2)) }

func (r *tableReader) number() uint64 { return binary.LittleEndian.Uint64(r.bytes(8)) }

func (r *tableReader) id() ID { return ID{r.number(), r.number()} }
