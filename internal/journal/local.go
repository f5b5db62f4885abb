package journal

import (
	"fmt"
	"slices"
	"time"
)

// maxListed is how many entries a journal without Redis remembers for listing.
const maxListed = 1000

// local is the journal of a node without Redis: a counter, and the entries that
// were appended last. Journal.cycle guards it.
type local struct {
	entries []Entry // a ring, once it is full
	next    int     // where the oldest one lies
}

// list returns what is remembered, oldest first.
func (l *local) list() []Entry {
	return slices.Concat(l.entries[l.next:], l.entries[:l.next])
}

// appendLocal applies a purge to a journal without Redis.
func (j *Journal) appendLocal(p Purge) (Result, error) {
	selectors, err := normalizeAll(p.Selectors, j.opts.Prefix)
	if err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	e := Entry{Op: OpPurge, Selectors: selectors, By: clip(p.By), Reason: clip(p.Reason), Request: p.Request}
	if p.Soft {
		e.Op = OpSoftPurge
	}
	return j.applyLocal(e), nil
}

func (j *Journal) applyLocal(e Entry) Result {
	start := time.Now()
	j.cycle.Lock()
	defer j.cycle.Unlock()
	st := j.state.Load()
	p := progress{position: st.position, table: st.table, tableRules: st.tableRules}
	p.position.ID = nextID(p.position.ID, start)
	e.ID = p.position.ID
	j.applyEntry(&p, &e)
	p.table.bound()
	j.expire(&p, start)
	j.remember(e)
	p.read = 1
	j.counters.appended.Add(1)
	j.settle(&p, []Entry{e})
	return Result{ID: e.ID, Confirmed: []string{j.opts.NodeID}, Duration: time.Since(start)}
}

// renewLocal applies again what is remembered. Records from before are absent.
func (j *Journal) renewLocal() {
	j.cycle.Lock()
	defer j.cycle.Unlock()
	st := j.state.Load()
	p := progress{position: st.position, table: j.newTable(), tableRules: tableRules{version: j.rules.Load()}}
	p.table.raise(st.table.lowest())
	entries := j.local.list()
	if len(entries) == maxListed {
		p.table.raise(entries[0].ID)
	}
	for i := range entries {
		j.applyEntry(&p, &entries[i])
	}
	p.table.bound()
	j.settle(&p, nil)
}

// nextID is what Redis would choose for `*`.
func nextID(last ID, now time.Time) ID {
	if ms := uint64(now.UnixMilli()); ms > last.Ms {
		return ID{Ms: ms}
	}
	return ID{last.Ms, last.Seq + 1}
}

func (j *Journal) remember(e Entry) {
	l := &j.local
	if len(l.entries) < maxListed {
		l.entries = append(l.entries, e)
		return
	}
	l.entries[l.next] = e
	l.next = (l.next + 1) % maxListed
}
