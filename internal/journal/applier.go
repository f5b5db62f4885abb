package journal

import (
	"time"

	"github.com/redis/go-redis/v9"
)

// applier applies entries. The cycle guards it.
type applier struct {
	*shared

	view     *view
	epochs   *epochs
	appender *appender

	noticed    time.Time // when OnMalformed was told last
	suppressed uint64
}

// apply takes entries into p. Nobody knows of them before settle.
func (a *applier) apply(p *progress, messages []redis.XMessage) []Entry {
	entries := make([]Entry, 0, len(messages))
	for _, message := range messages {
		id, err := ParseID(message.ID)
		if err != nil {
			continue // Redis does not write such
		}
		p.anchor, p.position.ID = message, id
		e, err := decode(id, message.Values, a.opts.Prefix)
		if e.token != "" {
			p.own = append(p.own, ownEntry{e.token, err})
		}
		e.Replayed = p.replay != nil && !p.replay.upTo.Before(id) && !a.appender.sights.awaits(e.token) && !a.appender.queues[ofOperators].holds(e.token)
		told := p.replay != nil && p.replay.anchor != nil
		if err != nil {
			if !told {
				a.malformed(id, err)
			}
			continue
		}
		a.applyEntry(p, &e)
		if !told {
			entries = append(entries, e)
		}
	}
	p.table.bound()
	p.read += len(messages)
	p.entries += len(messages)
	return entries
}

func (a *applier) applyEntry(p *progress, e *Entry) {
	switch e.Op {
	case OpPurge, OpSoftPurge:
		if e.Request && !e.Soft() {
			p.table.applyRequest(e.Selectors, e.ID)
		} else {
			p.table.apply(e.Selectors, e.Soft(), e.ID)
		}
	case OpEvent:
		for _, purge := range a.opts.Expand(e.Event, e.Data) {
			a.applyExpanded(p, purge, e.ID)
		}
	case OpEpoch:
		// Positions in an epoch are not before its entry.
		if e.epoch != p.position.Epoch || p.replay != nil {
			p.position.Epoch = e.epoch
			p.table.raise(e.ID)
		}
		a.epochs.know(e.epoch, p.position.Epoch)
	case OpEnable, OpDisable:
	}
}

func (a *applier) applyExpanded(p *progress, purge Purge, id ID) {
	selectors, err := normalizeAll(purge.Selectors, a.opts.Prefix)
	if err != nil {
		a.malformed(id, err)
		return
	}
	p.table.apply(selectors, purge.Soft, id)
}

// settle publishes what was applied, and then counts it and tells whoever waits
// for it: what is counted can be relied on.
func (a *applier) settle(p *progress, entries []Entry) {
	a.view.publish(func(s *state) { s.position, s.table, s.tableRules = p.position, p.table, p.tableRules })
	a.counters.applied.Add(uint64(p.read))
	p.read = 0
	a.deliver(entries)
	for _, e := range p.own {
		a.appender.sights.see(e, p.position)
	}
	for i := range a.appender.queues {
		a.appender.queues[i].remove(p.own)
	}
	p.own = nil
}

func (a *applier) deliver(entries []Entry) {
	for _, e := range entries {
		if e.Op != OpEpoch {
			a.opts.OnEntry(e)
		}
	}
}

func (a *applier) malformed(id ID, err error) {
	a.counters.malformed.Add(1)
	if now := time.Now(); a.noticed.IsZero() || now.Sub(a.noticed) >= noticeEvery {
		a.opts.OnMalformed(Malformed{ID: id, Err: err, Suppressed: a.suppressed})
		a.noticed, a.suppressed = now, 0
		return
	}
	a.suppressed++
}

// gap empties the memory tier, whose records are absent now, and tells why.
func (a *applier) gap(reason gapError) {
	a.opts.Empty()
	if reason == errJoined {
		return
	}
	a.counters.gaps.Add(1)
	st := a.view.state.Load()
	a.opts.OnGap(Gap{Reason: string(reason), Epoch: st.position.Epoch, Floor: st.table.lowest()})
}
