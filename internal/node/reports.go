package node

import (
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/cachekey"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// This file is what the journal and the store tell a node, and what it tells of that.

// urlForms are the forms in which records hold a URL with a query: what each
// vary_query rule in use keeps of it.
func (n *Node) urlForms(rawURL string) []string {
	base, query, hasQuery := strings.Cut(rawURL, "?")
	if !hasQuery {
		return []string{rawURL}
	}
	forms := []string{(*cachekey.Query)(nil).URL(base, query)}
	for _, rule := range n.settings.Load().Queries() {
		if form := rule.URL(base, query); !slices.Contains(forms, form) {
			forms = append(forms, form)
		}
	}
	return forms
}

// expandEvent expands an event that the journal brings under the rules of this node.
func (n *Node) expandEvent(event string, data json.RawMessage) []journal.Purge {
	purges, _, err := n.settings.Load().Expand(event, data)
	if err != nil {
		return nil // reportEvent tells
	}
	return purges
}

// PurgesOf are the purges that an entry of the journal stands for on this node.
func (n *Node) PurgesOf(e *journal.Entry) []journal.Purge {
	switch e.Op {
	case journal.OpPurge, journal.OpSoftPurge:
		return []journal.Purge{{Selectors: e.Selectors}}
	case journal.OpEvent:
		return n.expandEvent(e.Event, e.Data)
	case journal.OpEnable, journal.OpDisable, journal.OpEpoch:
	}
	return nil
}

// onEntry reports a purge that has been applied, and turns switches. What is
// replayed has been reported before.
func (n *Node) onEntry(e journal.Entry) {
	n.sweeper.note(&e)
	turned := e.Op == journal.OpEnable || e.Op == journal.OpDisable
	if turned {
		n.switches.apply(&e)
	}
	if e.Replayed {
		return
	}
	n.Purges.Count(&e)
	switch {
	case turned:
		n.Log().Info("cache_"+string(e.Op), "id", e.ID.String(), "what", e.Selectors[0].String(), "by", e.By, "reason", e.Reason)
		return
	case e.Op == journal.OpEvent:
		n.Log().Info("cache_event", "id", e.ID.String(), "event", e.Event, "by", e.By)
		n.reportEvent(e)
		return
	case e.Op != journal.OpPurge && e.Op != journal.OpSoftPurge:
		return
	}
	n.countPurge(e.ID)
	n.reportPurge(&e)
}

// reportEvent reports what an event purges on this node.
func (n *Node) reportEvent(e journal.Entry) {
	purges, missing, err := n.settings.Load().Expand(e.Event, e.Data)
	if err != nil {
		n.Log().Warn("an event in the journal is skipped", "event", e.Event, "error", err)
		return
	}
	n.WarnLacking(e.Event, missing)
	if len(purges) > 0 {
		n.countPurge(e.ID)
	}
	e.By = "event " + e.Event
	for _, p := range purges {
		e.Op, e.Selectors = journal.OpPurge, p.Selectors
		if p.Soft {
			e.Op = journal.OpSoftPurge
		}
		n.reportPurge(&e)
	}
}

// WarnLacking tells that an event did not purge all that its rules say.
func (n *Node) WarnLacking(event string, missing []string) {
	if len(missing) > 0 {
		n.Log().Warn("an event lacks data that its rules read", "event", event, "missing", missing)
	}
}

// reportPurge tells log and events of a purge.
func (n *Node) reportPurge(e *journal.Entry) {
	selectors := n.settings.Load().Shown(e)
	level := slog.LevelInfo
	if e.Request {
		level = slog.LevelDebug // anybody may make any number of them
	}
	n.Log().Log(n.ctx, level, "cache_invalidate", "id", e.ID.String(), "selectors", selectors,
		"soft", e.Soft(), "by", e.By, "reason", e.Reason)
	n.Emit("purged", map[string]any{"id": e.ID.String(), "selectors": selectors, "soft": e.Soft(), "by": e.By})
}

func (n *Node) onReach(up bool, err error) {
	if up {
		n.Log().Info("the journal is followed")
		n.switches.again()
		n.Store.Probe()
	} else {
		n.Log().Warn("the journal cannot be followed for now: it is tried again", "error", err)
	}
}

func (n *Node) onNode(c journal.NodeChange) {
	switch c.State {
	case "live":
		n.Log().Info("another node is live", "node", c.ID, "version", c.Version)
	case "lapsed":
		n.Log().Warn("another node is silent: purges do not wait for it", "node", c.ID)
	case "left":
		n.Log().Info("another node has left", "node", c.ID)
	}
}

func (n *Node) onGap(g journal.Gap) {
	// Redis may have been emptied.
	n.switches.again()
	n.history.WriteAgain()
	n.errors.note(errorGap, g.Reason)
	n.Log().Warn("journal_gap: not every purge can have been seen; what was stored before is dropped",
		"reason", g.Reason, "floor", g.Floor.String())
	n.Emit("journal_gap", map[string]any{"reason": g.Reason})
}

func (n *Node) onMalformed(m journal.Malformed) {
	n.errors.note(errorMalformed, m.ID.String()+": "+m.Err.Error())
	n.Log().Warn("a malformed journal entry is skipped", "id", m.ID.String(), "error", m.Err, "suppressed", m.Suppressed)
}

// onRefused reports that responses cannot be stored in Redis.
func (n *Node) onRefused(err error) {
	n.errors.tell(string(store.ErrorRedis), time.Now())
	n.Log().Warn("redis refuses to store responses", "error", err)
}

// onHealth reports that the breaker has opened or closed. It begins open.
func (n *Node) onHealth(up bool, err error) {
	if up {
		n.Log().Info("redis answers")
		n.Emit("breaker_closed", nil)
		return
	}
	n.refuse.Do(func() { close(n.refused) })
	n.Log().Warn("redis is left out until it answers again", "error", err)
	n.Emit("breaker_opened", map[string]any{"error": err.Error()})
}

// emission is an event to be sent.
type emission struct {
	name string
	data map[string]any
}

// maxEmissions bounds the events that wait for slow subscribers.
const maxEmissions = 1024

// Emit sends an event without waiting for its subscribers. When they are too slow, events
// are dropped.
func (n *Node) Emit(name string, data map[string]any) {
	if !n.settings.Load().Emits(name) {
		return
	}
	select {
	case n.emissions <- emission{name, data}:
	default:
	}
}

func (n *Node) sendEvents() {
	for {
		select {
		case <-n.ctx.Done():
			return
		case e := <-n.emissions:
			n.settings.Load().Emit(e.name, e.data)
		}
	}
}
