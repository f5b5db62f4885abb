package journal

import (
	"fmt"
	"slices"
	"time"
)

// maxListed is how many entries a journal without Redis remembers for listing.
const maxListed = 1000

// local is the journal of a node without Redis: a counter, and the entries that
// were appended last. The cycle guards it.
type local struct {
	*shared

	view    *view
	cycle   *cycle
	applier *applier
	keeper  *keeper

	entries []Entry // a ring, once it is full
	next    int     // where the oldest one lies
}

// list returns what is remembered, oldest first.
func (l *local) list() []Entry {
	return slices.Concat(l.entries[l.next:], l.entries[:l.next])
}

// purge applies a purge to a journal without Redis.
func (l *local) purge(p Purge) (Result, error) {
	selectors, err := normalizeAll(p.Selectors, l.opts.Prefix)
	if err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	e := Entry{Op: OpPurge, Selectors: selectors, By: clip(p.By), Reason: clip(p.Reason), Request: p.Request}
	if p.Soft {
		e.Op = OpSoftPurge
	}
	return l.apply(e), nil
}

func (l *local) apply(e Entry) Result {
	start := time.Now()
	l.cycle.Lock()
	defer l.cycle.Unlock()
	st := l.view.state.Load()
	p := progress{position: st.position, table: st.table, tableRules: st.tableRules}
	p.position.ID = nextID(p.position.ID, start)
	e.ID = p.position.ID
	l.applier.applyEntry(&p, &e)
	p.table.bound()
	l.keeper.expire(&p, start)
	l.remember(e)
	p.read = 1
	l.counters.appended.Add(1)
	l.applier.settle(&p, []Entry{e})
	return Result{ID: e.ID, Confirmed: []string{l.opts.NodeID}, Duration: time.Since(start)}
}

// renewLocal applies again what is remembered. Records from before are absent.
func (l *local) renew() {
	l.cycle.Lock()
	defer l.cycle.Unlock()
	st := l.view.state.Load()
	p := progress{position: st.position, table: l.newTable(), tableRules: tableRules{version: l.view.rules.Load()}}
	p.table.raise(st.table.lowest())
	entries := l.list()
	if len(entries) == maxListed {
		p.table.raise(entries[0].ID)
	}
	for i := range entries {
		l.applier.applyEntry(&p, &entries[i])
	}
	p.table.bound()
	l.applier.settle(&p, nil)
}

// nextID is what Redis would choose for `*`.
func nextID(last ID, now time.Time) ID {
	if ms := uint64(now.UnixMilli()); ms > last.Ms {
		return ID{Ms: ms}
	}
	return ID{last.Ms, last.Seq + 1}
}

func (l *local) remember(e Entry) {
	if len(l.entries) < maxListed {
		l.entries = append(l.entries, e)
		return
	}
	l.entries[l.next] = e
	l.next = (l.next + 1) % maxListed
}
