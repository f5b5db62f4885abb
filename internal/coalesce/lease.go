package coalesce

// A lease is the right of one node to fetch a key for the fleet. It is a key in
// Redis with an expiry and a token of its owner, who extends it while the fetch
// goes on. Whoever asks for a lease that another node has waits until it is
// released, runs out, or the limit is over.
//
//	<prefix>::lease:{<id>}  the token of the owner
//	<prefix>::wait:{<id>}   somebody waits, so that the release is to be told
//	<prefix>::miss:{<id>}   the responses cannot be shared: nobody needs a lease;
//	                        left where somebody waits, or each URL that a client
//	                        makes up would cost a key
//
// A release is told on the channel <prefix>::released. Messages may be lost: who
// waits asks again when the lease was to run out. None of this decides about what
// is served; it saves fetches.
//
// Leases.mu guards waiting and closed. A waiter is registered before it asks a
// second time, and that second time it leaves its mark for the owner: either the
// owner sees the mark, or the waiter sees that the lease is gone.

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
)

// LeaseOptions of a Leases. Zero values mean the default, but for Client and
// Prefix, which are required.
type LeaseOptions struct {
	Client  redis.UniversalClient
	Prefix  string
	Timeout time.Duration // of a call; 50 ms
	Limit   time.Duration // longest wait for another node's fetch; 2 s
	Expiry  time.Duration // of a lease that is not extended; 1 s
}

// Leases are the leases of one node.
type Leases struct {
	opts    LeaseOptions
	channel string

	mu      sync.Mutex
	waiting map[ID][]chan struct{}
	closed  bool // nothing is launched any more

	running sync.WaitGroup
	stop    context.CancelFunc
}

// NewLeases returns leases that do nothing by themselves before Start.
func NewLeases(opts LeaseOptions) *Leases {
	setDefault(&opts.Timeout, 50*time.Millisecond)
	setDefault(&opts.Limit, 2*time.Second)
	setDefault(&opts.Expiry, time.Second)
	return &Leases{
		opts: opts, channel: opts.Prefix + "::released", waiting: make(map[ID][]chan struct{}), stop: func() {},
	}
}

func setDefault(v *time.Duration, value time.Duration) {
	if *v <= 0 {
		*v = value
	}
}

// Start listens for releases. It is called once.
func (l *Leases) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	l.stop = cancel
	l.running.Go(func() { l.listen(ctx) })
}

// Close waits for what is under way. Leases that are held run out.
func (l *Leases) Close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.stop()
	l.running.Wait()
}

// launch runs f on a goroutine of its own.
func (l *Leases) launch(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.running.Go(f)
	}
}

// listen wakes those who wait. The client connects anew by itself.
func (l *Leases) listen(ctx context.Context) {
	sub := l.opts.Client.Subscribe(ctx, l.channel)
	defer sub.Close()
	messages := sub.Channel()
	for {
		select {
		case <-ctx.Done():
			return
		case m, ok := <-messages:
			if !ok {
				return
			}
			if id, err := hex.DecodeString(m.Payload); err == nil && len(id) == len(ID{}) {
				l.wake(ID(id))
			}
		}
	}
}

func (l *Leases) wake(id ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, waiter := range l.waiting[id] {
		close(waiter)
	}
	delete(l.waiting, id)
}

// await registers a waiter, whose channel is closed when the lease is released.
func (l *Leases) await(id ID) (released <-chan struct{}, forget func()) {
	waiter := make(chan struct{})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting[id] = append(l.waiting[id], waiter)
	return waiter, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		list := l.waiting[id]
		for i := range list {
			if list[i] == waiter {
				list[i] = list[len(list)-1]
				list = list[:len(list)-1]
				break
			}
		}
		if l.waiting[id] = list; len(list) == 0 {
			delete(l.waiting, id)
		}
	}
}

// Verdict says what became of a request for a lease.
type Verdict uint8

const (
	Granted    Verdict = iota // the caller has the lease, and must release it
	Found                     // the response is stored
	Followed                  // the response is stored: another node fetched it while the caller waited
	Unshared                  // the responses of the key cannot be shared
	Moved                     // the response will be stored under another key
	Busy                      // another node has it, and the caller would not wait or has waited long enough
	Unanswered                // Redis did not answer
)

// Query is a request for a lease.
type Query struct {
	ID ID
	// Patient callers wait for the node that has the lease.
	Patient bool
	// Stored looks whether the response is stored by now. It is called when the
	// lease was granted, or was released by another node.
	Stored func() bool
	// Moved reports whether Stored has found out that the response will be stored
	// under another key: this one's lease is of no use then. It may be nil.
	Moved func() bool
	// Holds reports whether a miss that was found still holds, and concerns the
	// caller.
	Holds func(Miss) bool
}

func (q *Query) moved() bool { return q.Moved != nil && q.Moved() }

// Acquire asks for a lease.
func (l *Leases) Acquire(ctx context.Context, q Query) (*Lease, Verdict) {
	ctx = context.WithoutCancel(ctx)
	deadline := time.Now().Add(l.opts.Limit)
	token := rand.Text()
	for first := true; ; first = false {
		var released <-chan struct{}
		forget := func() {}
		if !first {
			released, forget = l.await(q.ID)
		}
		a, err := l.ask(ctx, q.ID, token, !first)
		lease, verdict := l.judge(q, a, err, token)
		if verdict != Busy {
			forget()
			return lease, verdict
		}
		if first && q.Patient {
			continue
		}
		if !q.Patient || !wait(released, min(a.left, time.Until(deadline))) {
			forget()
			return nil, Busy
		}
		forget()
		if q.Stored() {
			return nil, Followed
		}
		if q.moved() {
			return nil, Moved
		}
		if !time.Now().Before(deadline) {
			return nil, Busy
		}
	}
}

// wait returns false if there is no time to wait.
func wait(released <-chan struct{}, d time.Duration) bool {
	if d <= 0 {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-released:
	case <-timer.C:
	}
	return true
}

// judge makes a verdict of an answer.
func (l *Leases) judge(q Query, a answer, err error, token string) (*Lease, Verdict) {
	switch {
	case err != nil:
		return nil, Unanswered
	case a.known && q.Holds(a.miss):
		if a.granted {
			l.release(q.ID, token, nil)
		}
		return nil, Unshared
	case !a.granted:
		return nil, Busy
	}
	lease := &Lease{leases: l, id: q.ID, token: token}
	if q.Stored() {
		lease.Release(nil)
		return nil, Found
	}
	if q.moved() {
		lease.Release(nil)
		return nil, Moved
	}
	lease.keep()
	return lease, Granted
}

// answer is what Redis says of a lease.
type answer struct {
	granted bool
	left    time.Duration // of the lease that another node has
	known   bool          // miss is known
	miss    Miss
}

func (l *Leases) key(kind string, id ID) string {
	return l.opts.Prefix + "::" + kind + ":{" + hex.EncodeToString(id[:]) + "}"
}

// ask asks Redis, in one round trip.
func (l *Leases) ask(ctx context.Context, id ID, token string, waits bool) (a answer, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.opts.Timeout)
	defer cancel()
	var granted *redis.BoolCmd
	var left *redis.DurationCmd
	var miss *redis.StringCmd
	_, err = l.opts.Client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		if waits {
			pipe.Set(ctx, l.key("wait", id), "1", l.opts.Limit+l.opts.Expiry)
		}
		lease := l.key("lease", id)
		granted = pipe.SetNX(ctx, lease, token, l.opts.Expiry) //nolint:staticcheck // SET with NX, as it is sent
		left = pipe.PTTL(ctx, lease)
		miss = pipe.Get(ctx, l.key("miss", id))
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return a, err
	}
	a.granted, a.left = granted.Val(), left.Val()+time.Millisecond
	a.miss, a.known = parseMiss(miss.Val())
	return a, nil
}

const (
	forEverybody   = "all "
	forCredentials = "credentialed " //nolint:gosec // a word
)

func (m Miss) String() string {
	if m.Credentialed {
		return forCredentials + m.Position.String()
	}
	return forEverybody + m.Position.String()
}

func parseMiss(s string) (m Miss, ok bool) {
	who, position, _ := strings.Cut(s, " ")
	who += " "
	if who != forEverybody && who != forCredentials {
		return m, false
	}
	at, err := journal.ParsePosition(position)
	return Miss{Credentialed: who == forCredentials, Position: at}, err == nil
}

// Lease is the right to fetch a key.
type Lease struct {
	leases *Leases
	id     ID
	token  string

	mu    sync.Mutex // guards timer
	timer *time.Timer
	until time.Time // no longer is it extended
}

// keep extends the lease until nobody waits any more.
func (l *Lease) keep() {
	every := l.leases.opts.Expiry * 2 / 5
	l.until = time.Now().Add(l.leases.opts.Limit)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer = time.AfterFunc(every, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.timer == nil || time.Now().After(l.until) {
			return
		}
		l.timer.Reset(every)
		l.leases.launch(l.extend)
	})
}

func (l *Lease) extend() {
	ctx, cancel := context.WithTimeout(context.Background(), l.leases.opts.Timeout)
	defer cancel()
	// The lease may be another node's by now. It is given back in time all the same.
	l.leases.opts.Client.PExpire(ctx, l.leases.key("lease", l.id), l.leases.opts.Expiry)
}

// Release gives the lease back and wakes those who wait for it, and leaves them a
// miss if there is one. It does not wait for Redis. A nil lease is nobody's.
func (l *Lease) Release(miss *Miss) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	} else if l.until != (time.Time{}) {
		return // released before
	}
	l.leases.release(l.id, l.token, miss)
}

// releaseScript removes a lease unless it is another node's by now, and tells
// those who left a mark.
var releaseScript = redis.NewScript(`
if redis.call('get', KEYS[1]) == ARGV[1] then redis.call('del', KEYS[1]) end
if redis.call('del', KEYS[2]) == 1 then
	if ARGV[4] ~= '' then redis.call('set', KEYS[3], ARGV[4], 'px', ARGV[5]) end
	redis.call('publish', ARGV[2], ARGV[3])
end
return 0`)

func (l *Leases) release(id ID, token string, miss *Miss) {
	text := ""
	if miss != nil {
		text = miss.String()
	}
	l.launch(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		keys := []string{l.key("lease", id), l.key("wait", id), l.key("miss", id)}
		releaseScript.Run(ctx, l.opts.Client, keys,
			token, l.channel, hex.EncodeToString(id[:]), text, sharedMissLifetime.Milliseconds())
	})
}
