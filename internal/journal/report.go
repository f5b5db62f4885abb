package journal

import (
	"cmp"
	"context"
	"slices"
	"sync/atomic"
	"time"
)

// counters count since the start.
type counters struct {
	appended  atomic.Uint64
	refused   atomic.Uint64
	applied   atomic.Uint64
	malformed atomic.Uint64
	gaps      atomic.Uint64
	overflows atomic.Uint64
	forgotten atomic.Uint64

	checkpoints atomic.Uint64 // written
	loaded      atomic.Uint64
}

// Stats describe a journal. Those in the first group count since the start.
type Stats struct {
	Appended  uint64 // entries appended by this node
	Refused   uint64 // attempts to append that failed
	Applied   uint64 // entries read, of any kind; what is counted has been applied
	Malformed uint64 // entries skipped
	Gaps      uint64 // times at which continuity could not be proved
	Overflows uint64 // times at which waiting purges became wider ones

	// Forgotten counts the times at which requests had purged too much to remember:
	// what was stored before, of the hosts about which there was most, is absent.
	Forgotten uint64
	// Checkpoints counts those written by this node, Loaded those from which it went on.
	Checkpoints, Loaded uint64

	Standing Standing
	Position Position
	Floor    ID
	// Lag is how long ago the last read began that came to the end of the journal,
	// or how long ago the node started if none has. A quiet node reads once per
	// heartbeat.
	Lag   time.Duration
	Marks int // size of the table
	// RequestMarks is how many purges by requests are remembered, of MaxRequestMarks.
	RequestMarks, MaxRequestMarks int
	Queue                         int // purges that wait for Redis, or have not been read back
	Nodes                         int // live nodes, this one included
}

// Stats returns the state and the counters of the journal.
func (j *Journal) Stats() Stats {
	st := j.view.state.Load()
	s := Stats{
		Appended:  j.counters.appended.Load(),
		Refused:   j.counters.refused.Load(),
		Applied:   j.counters.applied.Load(),
		Malformed: j.counters.malformed.Load(),
		Gaps:      j.counters.gaps.Load(),
		Overflows: j.counters.overflows.Load(),
		Position:  st.position,
		Floor:     st.table.lowest(),
		Forgotten: j.counters.forgotten.Load(),

		Checkpoints: j.counters.checkpoints.Load(),
		Loaded:      j.counters.loaded.Load(),
		Queue:       j.appender.queued(),
		Nodes:       1 + j.registry.live(),
	}
	s.Marks, s.RequestMarks = st.table.size()
	s.MaxRequestMarks = j.opts.MaxRequestMarks
	if j.client != nil {
		s.Standing = j.lease.standing()
		s.Lag = j.lease.lag()
	}
	return s
}

func (l *lease) lag() time.Duration {
	if since := cmp.Or(l.read.Load(), l.began.Load()); since != nil {
		return elapsed(*since, time.Now())
	}
	return 0
}

// Entries lists the newest entries, newest first. Malformed ones are listed
// without Op. Removed is filled in.
func (j *Journal) Entries(ctx context.Context, limit int) ([]Entry, error) {
	if limit <= 0 {
		return nil, nil
	}
	if j.client == nil {
		list := j.local.newest(limit)
		return list, j.removals.fill(ctx, list)
	}
	messages, err := j.client.XRevRangeN(ctx, j.keys.stream, "+", "-", int64(limit)).Result()
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, 0, len(messages))
	for _, message := range messages {
		if id, err := ParseID(message.ID); err == nil {
			e, err := decode(id, message.Values, j.opts.Prefix)
			e.Malformed = err
			entries = append(entries, e)
		}
	}
	return entries, j.removals.fill(ctx, entries)
}

func (l *local) newest(limit int) []Entry {
	l.cycle.Lock()
	defer l.cycle.Unlock()
	list := l.list()
	list = list[max(0, len(list)-limit):]
	slices.Reverse(list)
	return list
}

// Nodes lists the fleet by ID, this node included, as the registry shows it now.
func (j *Journal) Nodes(ctx context.Context) ([]NodeInfo, error) {
	own := NodeInfo{ID: j.opts.NodeID, Self: true, State: stateLive, Version: j.opts.Version, Position: j.Position()}
	if j.client == nil {
		return []NodeInfo{own}, nil
	}
	if err := j.registry.readAfter(ctx); err != nil {
		return nil, err
	}
	if !j.lease.holds() {
		own.State = stateJoining
	}
	own.Lag = j.lease.lag()
	list := append(j.registry.nodes(own.Position), own)
	slices.SortFunc(list, func(a, b NodeInfo) int { return cmp.Compare(a.ID, b.ID) })
	return list, nil
}
