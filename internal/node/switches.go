package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
)

// The cache is switched off and on by entries of the journal, which every node
// applies as it applies purges. The journal is trimmed, so the state is kept in
// Redis as well: a hash with one field for each switch that was ever used, and in
// it the position of the entry that turned it last. Each node holds the whole
// state, merges it with the hash now and then, the newer entry of each switch
// winning, and so writes it anew when Redis was emptied. Every merge prolongs the
// hash, which ends a year after the last node.
//
// Everything and a namespace are switches of their own: the cache is off for a
// request if one of its two is. Enabling everything turns all of them on.

const (
	// switchesTTL is how long the state outlives the last node.
	switchesTTL = 365 * 24 * time.Hour
	// mergeEvery is how often the state is merged when nothing has happened.
	mergeEvery = time.Minute
	// Everything is the switch of all namespaces; no namespace has this name.
	Everything = "*"
	// reset stands for the last time that everything was enabled, which is
	// remembered while everything is disabled again.
	reset = "!"
)

// turn is what a switch was turned to last, and by which entry.
type turn struct {
	id  journal.ID
	off bool
}

func (t turn) String() string {
	if t.off {
		return t.id.String() + " off"
	}
	return t.id.String() + " on"
}

func parseTurn(text string) (t turn, err error) {
	id, state, _ := strings.Cut(text, " ")
	if state != "on" && state != "off" {
		return t, fmt.Errorf("%q is neither on nor off", state)
	}
	t.off = state == "off"
	t.id, err = journal.ParseID(id)
	return t, err
}

// switches are by name. A map is never changed once it is published in state,
// which requests read; mu serializes its changes.
type switches struct {
	mu    sync.Mutex
	state atomic.Pointer[map[string]turn]

	wake   chan struct{} // a merge is due
	merged chan struct{} // closed after the first merge
	first  sync.Once
}

func newSwitches() switches {
	return switches{wake: make(chan struct{}, 1), merged: make(chan struct{})}
}

// off reports whether a namespace is switched off.
func (s *switches) off(namespace string) bool {
	state := s.state.Load()
	return state != nil && ((*state)[Everything].off || (*state)[namespace].off)
}

// list returns the names of what is switched off.
func (s *switches) list() []string {
	names := []string{}
	if state := s.state.Load(); state != nil {
		for name, t := range *state {
			if t.off {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// snapshot returns the state, which must not be changed.
func (s *switches) snapshot() map[string]turn {
	if state := s.state.Load(); state != nil {
		return *state
	}
	return nil
}

// apply applies an entry. One that arrives now is the newest whatever its ID says:
// the clock of a Redis that took over may be behind.
func (s *switches) apply(e *journal.Entry) {
	name := Everything
	if e.Selectors[0].Kind == journal.KindNamespace {
		name = e.Selectors[0].Value
	}
	t := turn{e.ID, e.Op == journal.OpDisable}
	s.mu.Lock()
	defer s.mu.Unlock()
	state := maps.Clone(s.snapshot())
	if state == nil {
		state = make(map[string]turn)
	}
	if !e.Replayed {
		for _, old := range state {
			t.id = after(t.id, old.id)
		}
	}
	join(state, name, t)
	s.state.Store(&state)
	s.again()
}

// after returns id, or the one that follows last if id does not.
func after(id, last journal.ID) journal.ID {
	if last.Before(id) {
		return id
	}
	return journal.ID{Ms: last.Ms, Seq: last.Seq + 1}
}

// join lets the newer turn of a switch win, and everything being enabled win over
// all that is older.
func join(state map[string]turn, name string, t turn) {
	if name == Everything && !t.off {
		join(state, reset, t)
	}
	if t.id.Before(state[reset].id) {
		return
	}
	if old, known := state[name]; known && !old.id.Before(t.id) {
		return
	}
	state[name] = t
	if name == reset {
		maps.DeleteFunc(state, func(_ string, old turn) bool { return old.id.Before(t.id) })
	}
}

// merge joins what another node knows, and returns the union.
func (s *switches) merge(others map[string]turn) map[string]turn {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.snapshot()
	state := make(map[string]turn, len(known)+len(others))
	for _, source := range []map[string]turn{known, others} {
		if t, ok := source[reset]; ok {
			join(state, reset, t)
		}
	}
	for _, source := range []map[string]turn{known, others} {
		for name, t := range source {
			join(state, name, t)
		}
	}
	s.state.Store(&state)
	return state
}

// again makes a merge due.
func (s *switches) again() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// keepSwitches merges the state with that in Redis until the node ends.
func (n *Node) keepSwitches() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-n.switches.wake:
		case <-timer.C:
		}
		timer.Reset(mergeEvery)
		switch err := n.mergeSwitches(); {
		case err == nil:
			n.switches.first.Do(func() { close(n.switches.merged) })
		case errors.Is(err, redis.TxFailedErr):
			n.switches.again() // another node has written at the same time
		case n.ctx.Err() == nil:
			n.Log().Debug("the state of the switches could not be merged", "error", err)
			timer.Reset(JournalTimeout)
		}
	}
}

func (n *Node) switchesKey() string { return n.Prefix + "::switches" }

// mergeSwitches merges the state with that in Redis. Nothing is written while
// nobody has ever used a switch.
func (n *Node) mergeSwitches() error {
	ctx, cancel := context.WithTimeout(n.ctx, JournalTimeout)
	defer cancel()
	key := n.switchesKey()
	return n.Slow.Watch(ctx, func(tx *redis.Tx) error {
		fields, err := tx.HGetAll(ctx, key).Result()
		if err != nil {
			return err
		}
		others := make(map[string]turn, len(fields))
		for name, text := range fields {
			if t, err := parseTurn(text); err == nil {
				others[name] = t
			}
		}
		state := n.switches.merge(others)
		if len(state) == 0 && len(fields) == 0 {
			return nil
		}
		_, err = tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			for name, t := range state {
				if fields[name] != t.String() {
					pipe.HSet(ctx, key, name, t.String())
				}
			}
			for name := range fields {
				if _, kept := state[name]; !kept {
					pipe.HDel(ctx, key, name)
				}
			}
			pipe.PExpire(ctx, key, switchesTTL)
			return nil
		})
		return err
	}, key)
}
