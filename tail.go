package rediscache

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/admin"
	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
)

// A tail is an admin request that is told about each request as it is answered.
// Requests never wait for one: a line that does not fit into its buffer is
// dropped and counted. The list is replaced, never changed, which mu serializes,
// so that requests take no lock, and without any tail load one pointer.

const (
	maxTails    = 16
	tailBuffer  = 256              // lines
	tailTimeout = 10 * time.Second // of a client that does not read
)

type tails struct {
	mu   sync.Mutex
	list atomic.Pointer[[]*tail] // nil before the first
}

type tail struct {
	namespace, outcome string // "" for any
	lines              chan []byte
	dropped            atomic.Uint64 // lines since that was last told
}

// tailLine is a request as GET /redis_cache/tail shows it.
type tailLine struct {
	Time       time.Time `json:"time"` // when it arrived
	Namespace  string    `json:"namespace"`
	Outcome    string    `json:"outcome"`
	Reason     string    `json:"reason,omitempty"`
	Tier       string    `json:"tier,omitempty"`
	Method     string    `json:"method"`
	Path       string    `json:"path"`             // without the query
	Status     int       `json:"status,omitempty"` // absent where an error route answers
	DurationMS float64   `json:"duration_ms"`
	Key        string    `json:"key,omitempty"` // see log.go
}

func (t *tails) current() []*tail {
	if list := t.list.Load(); list != nil {
		return *list
	}
	return nil
}

func (t *tails) listening() int { return len(t.current()) }

func (t *tails) join(one *tail) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.listening() >= maxTails {
		return false
	}
	list := append(slices.Clone(t.current()), one)
	t.list.Store(&list)
	return true
}

func (t *tails) leave(one *tail) {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(t.current()), func(other *tail) bool { return other == one })
	t.list.Store(&list)
}

// publish encodes a line once, and only if somebody wants it.
func (t *tails) publish(line *tailLine) {
	var text []byte
	for _, one := range t.current() {
		if (one.namespace != "" && one.namespace != line.Namespace) || (one.outcome != "" && one.outcome != line.Outcome) {
			continue
		}
		if text == nil {
			text, _ = json.Marshal(line) // it holds strings and numbers only
			text = append(text, '\n')
		}
		select {
		case one.lines <- text:
		default:
			one.dropped.Add(1)
		}
	}
}

// tail tells those who listen about the request.
func (c *call) tail(out *engine.Outcome) {
	t := &c.h.node.tails
	if t.listening() == 0 {
		return
	}
	t.publish(&tailLine{
		Time: out.Began, Namespace: c.h.Namespace, Outcome: out.Result.String(), Reason: out.Text(),
		Tier: out.AnsweredBy().String(), Method: c.answer.Request.Method, Path: c.answer.Request.Target.Path, Status: out.SentStatus(),
		DurationMS: float64(time.Since(out.Began).Microseconds()) / 1000, Key: c.shownKey(out),
	})
}

// handleTail streams lines until the client leaves or the configuration is
// unloaded.
func handleTail(app *App, w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	one := &tail{namespace: query.Get("namespace"), outcome: query.Get("outcome"), lines: make(chan []byte, tailBuffer)}
	if one.outcome != "" && !slices.Contains(engine.ResultNames(), one.outcome) {
		return admin.Error(http.StatusBadRequest, fmt.Errorf("outcome: %q is none of %q", one.outcome, engine.ResultNames()))
	}
	stream := http.NewResponseController(w)
	// The admin server's deadline for reading a request would end this one.
	if err := stream.SetReadDeadline(time.Time{}); err != nil {
		return admin.Error(http.StatusInternalServerError, err)
	}
	n := app.node
	if !n.tails.join(one) {
		return admin.Error(http.StatusServiceUnavailable, errors.New("too many tails are running"))
	}
	defer n.tails.leave(one)
	write := func(text []byte) error {
		_ = stream.SetWriteDeadline(time.Now().Add(tailTimeout))
		if _, err := w.Write(text); err != nil {
			return err
		}
		return stream.Flush()
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	for err := stream.Flush(); err == nil; {
		select {
		case <-r.Context().Done():
			return nil
		case <-app.ctx.Done():
			return nil
		case <-n.ctx.Done():
			return nil
		case text := <-one.lines:
			if dropped := one.dropped.Swap(0); dropped > 0 {
				text = fmt.Appendf(slices.Clone(text), "{\"dropped\":%d}\n", dropped)
			}
			err = write(text)
		}
	}
	return nil // the client has gone
}
