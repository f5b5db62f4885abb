package node

import (
	"encoding/json"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
)

// Entry is one line of GET /redis_cache/journal.
type Entry struct {
	ID        string             `json:"id"`
	Time      time.Time          `json:"time"`
	Op        journal.Op         `json:"op"`
	Selectors []journal.Selector `json:"selectors,omitempty"`
	Event     string             `json:"event,omitempty"`
	Data      json.RawMessage    `json:"data,omitempty"`
	By        string             `json:"by,omitempty"`
	Reason    string             `json:"reason,omitempty"`
	Removed   *int64             `json:"removed,omitempty"` // stored responses, once it is known
	Error     string             `json:"error,omitempty"`   // why it was skipped: it is malformed
}

// EntryOf is the line of an entry.
func EntryOf(e *journal.Entry) Entry {
	line := Entry{
		ID: e.ID.String(), Time: time.UnixMilli(int64(e.ID.Ms)).UTC(), Op: e.Op, Selectors: e.Selectors,
		Event: e.Event, Data: e.Data, By: e.By, Reason: e.Reason, Removed: e.Removed,
	}
	if e.Malformed != nil {
		line.Error = e.Malformed.Error()
	}
	return line
}
