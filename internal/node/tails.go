package node

import (
	"encoding/json"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
)

// A tail is an admin request that is told about each request as it is answered.
// Requests never wait for one: a line that does not fit into its buffer is
// dropped and counted. The list is replaced, never changed, which mu serializes,
// so that requests take no lock, and without any tail load one pointer.

const (
	maxTails   = 16
	tailBuffer = 256 // lines
)

// Tails are those of a node.
type Tails struct {
	mu   sync.Mutex
	list atomic.Pointer[[]*Tail] // nil before the first
}

// Tail is one of them.
type Tail struct {
	Namespace, Outcome string // "" for any
	Lines              chan []byte
	Dropped            atomic.Uint64 // lines since that was last told
}

func (t *Tails) current() []*Tail {
	if list := t.list.Load(); list != nil {
		return *list
	}
	return nil
}

// Listening returns how many there are.
func (t *Tails) Listening() int { return len(t.current()) }

// Join begins one that is told of a namespace and an outcome only, unless these are empty. It
// returns nil where there are too many.
func (t *Tails) Join(namespace, outcome string) *Tail {
	one := &Tail{Namespace: namespace, Outcome: outcome, Lines: make(chan []byte, tailBuffer)}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.Listening() >= maxTails {
		return nil
	}
	list := append(slices.Clone(t.current()), one)
	t.list.Store(&list)
	return one
}

// Leave ends one.
func (t *Tails) Leave(one *Tail) {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(t.current()), func(other *Tail) bool { return other == one })
	t.list.Store(&list)
}

// Publish encodes a line once, and only if somebody wants it.
func (t *Tails) Publish(line *api.TailLine) {
	var text []byte
	for _, one := range t.current() {
		if (one.Namespace != "" && one.Namespace != line.Namespace) || (one.Outcome != "" && one.Outcome != line.Outcome) {
			continue
		}
		if text == nil {
			text, _ = json.Marshal(line) // it holds strings and numbers only
			text = append(text, '\n')
		}
		select {
		case one.Lines <- text:
		default:
			one.Dropped.Add(1)
		}
	}
}
