package coalesce

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/redistest"
)

// fleetNode is the leases of one node, and what it finds in the store that all
// nodes share.
type fleetNode struct {
	*Leases
	stored *atomic.Bool
	looked atomic.Int32
}

func newFleetNode(t *testing.T, s *redistest.Server, stored *atomic.Bool) *fleetNode {
	t.Helper()
	n := &fleetNode{stored: stored, Leases: NewLeases(LeaseOptions{
		Client: s.Client(), Prefix: "cache", Timeout: 5 * time.Second, Limit: 20 * time.Second, Expiry: 10 * time.Second,
	})}
	n.Start()
	t.Cleanup(n.Close)
	return n
}

// newPair returns two nodes of a fleet, both of which hear of releases.
func newPair(t *testing.T) (s *redistest.Server, a, b *fleetNode) {
	t.Helper()
	s = redistest.Start(t)
	var stored atomic.Bool
	a, b = newFleetNode(t, s, &stored), newFleetNode(t, s, &stored)
	client := s.Client()
	for client.PubSubNumSub(t.Context(), a.channel).Val()[a.channel] < 2 {
		time.Sleep(time.Millisecond)
	}
	return s, a, b
}

func (n *fleetNode) query() Query {
	return Query{
		ID: someID, Patient: true,
		Stored: func() bool { n.looked.Add(1); return n.stored.Load() },
		Holds:  func(m Miss) bool { return !m.Credentialed },
	}
}

// acquire asks on a goroutine of its own, and returns once it waits.
func (n *fleetNode) acquire(t *testing.T, s *redistest.Server) (verdict func() Verdict) {
	t.Helper()
	done := make(chan Verdict, 1)
	go func() {
		lease, v := n.Acquire(t.Context(), n.query())
		lease.Release(nil)
		done <- v
	}()
	client := s.Client()
	for {
		select {
		case v := <-done:
			return func() Verdict { return v }
		default:
		}
		if n.isWaiting() && client.Exists(t.Context(), n.key("wait", someID)).Val() == 1 {
			return func() Verdict { return <-done }
		}
		time.Sleep(time.Millisecond)
	}
}

func (n *fleetNode) isWaiting() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.waiting) > 0
}

func (n *fleetNode) mustAcquire(t *testing.T) *Lease {
	t.Helper()
	lease, v := n.Acquire(t.Context(), n.query())
	if v != Granted {
		t.Fatalf("verdict %d, want it granted", v)
	}
	return lease
}

func TestLeaseIsFollowed(t *testing.T) {
	s, a, b := newPair(t)
	lease := a.mustAcquire(t)
	verdict := b.acquire(t, s)
	start := time.Now()
	a.stored.Store(true)
	lease.Release(nil)
	if v := verdict(); v != Followed {
		t.Errorf("verdict %d, want it followed", v)
	}
	if waited := time.Since(start); waited > 5*time.Second {
		t.Errorf("woken after %s: want it told, not found out", waited)
	}
	if _, v := a.Acquire(t.Context(), a.query()); v != Found {
		t.Errorf("verdict %d, want it found", v)
	}
	noKeysLeft(t, s)
}

// noKeysLeft waits until releases are through.
func noKeysLeft(t *testing.T, s *redistest.Server) {
	t.Helper()
	client := s.Client()
	deadline := time.Now().Add(5 * time.Second)
	for {
		keys := client.Keys(t.Context(), "cache::lease:*").Val()
		keys = append(keys, client.Keys(t.Context(), "cache::wait:*").Val()...)
		if len(keys) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("keys left: %v", keys)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestLeaseIsTakenOver(t *testing.T) {
	s, a, b := newPair(t)
	lease := a.mustAcquire(t)
	verdict := b.acquire(t, s)
	lease.Release(nil) // it failed
	if v := verdict(); v != Granted {
		t.Errorf("verdict %d, want it granted to who has waited", v)
	}
	noKeysLeft(t, s)
}

// A node that dies takes its lease along only until it runs out.
func TestLeaseOfTheDead(t *testing.T) {
	s, a, b := newPair(t)
	a.opts.Expiry = 200 * time.Millisecond
	b.opts.Expiry = a.opts.Expiry
	dead := a.mustAcquire(t)
	dead.mu.Lock()
	dead.timer.Stop()
	dead.mu.Unlock()
	if lease, v := b.Acquire(t.Context(), b.query()); v != Granted {
		t.Errorf("verdict %d, want it granted", v)
	} else {
		lease.Release(nil)
	}
	dead.Release(nil) // too late to do harm
	noKeysLeft(t, s)
}

// TestLeaseIsExtended is about time, so that Redis is played.
func TestLeaseIsExtended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := redis.NewClient(&redis.Options{
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		})
		defer client.Close()
		client.AddHook(new(playedRedis))
		var stored atomic.Bool
		node := func() *fleetNode {
			return &fleetNode{stored: &stored, Leases: NewLeases(LeaseOptions{Client: client, Prefix: "cache"})}
		}
		a, b := node(), node()
		defer a.Close()
		lease := a.mustAcquire(t)
		start := time.Now()
		if _, v := b.Acquire(t.Context(), b.query()); v != Busy || time.Since(start) != b.opts.Limit {
			t.Errorf("verdict %d after %s, want it busy for as long as it waits", v, time.Since(start))
		}
		if looked := b.looked.Load(); looked > 5 {
			t.Errorf("looked %d times while waiting", looked)
		}
		// Nobody can be waiting by now.
		time.Sleep(2 * a.opts.Expiry)
		if left, v := b.Acquire(t.Context(), b.query()); v != Granted {
			t.Errorf("verdict %d, want a lease to run out in the end", v)
		} else {
			left.Release(nil)
		}
		lease.Release(nil)
	})
}

// playedRedis answers the commands that concern one lease, in the time of a test.
type playedRedis struct {
	mu    sync.Mutex
	token string
	until time.Time
}

func (*playedRedis) DialHook(redis.DialHook) redis.DialHook {
	return func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("played") }
}

func (p *playedRedis) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error { return p.run(cmd) }
}

func (p *playedRedis) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(_ context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			if err := p.run(cmd); err != nil {
				return err
			}
		}
		return nil
	}
}

func (p *playedRedis) run(cmd redis.Cmder) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	left := time.Until(p.until)
	switch cmd := cmd.(type) {
	case *redis.BoolCmd: // SET with NX and PX, or PEXPIRE
		extends := cmd.Name() == "pexpire"
		if extends != (left > 0) {
			break
		}
		args := cmd.Args()
		expiry := args[2] // in milliseconds
		if !extends {
			p.token, expiry = args[2].(string), args[4]
			if args[3] == "ex" {
				expiry = 1000 * args[4].(int64)
			}
		}
		p.until = time.Now().Add(time.Duration(expiry.(int64) * 1e6))
		cmd.SetVal(true)
	case *redis.DurationCmd:
		cmd.SetVal(left)
	case *redis.Cmd: // the script of a release
		if cmd.Args()[6] == p.token {
			p.until = time.Time{}
		}
		cmd.SetVal(int64(0))
	}
	return nil
}

func TestImpatient(t *testing.T) {
	s, a, _ := newPair(t)
	lease := a.mustAcquire(t)
	q := a.query()
	q.Patient = false
	if _, v := a.Acquire(t.Context(), q); v != Busy || a.looked.Load() != 1 {
		t.Errorf("verdict %d, looked %d times: want it busy at once", v, a.looked.Load())
	}
	lease.Release(nil)
	lease.Release(nil) // a second time does nothing
	noKeysLeft(t, s)
}

func TestMissIsTold(t *testing.T) {
	s, a, b := newPair(t)
	at := journal.Position{Epoch: 1, ID: journal.ID{Ms: 2}}
	lease := a.mustAcquire(t)
	verdict := b.acquire(t, s)
	lease.Release(&Miss{Position: at})
	if v := verdict(); v != Unshared {
		t.Errorf("verdict %d, want it unshared", v)
	}
	if _, v := a.Acquire(t.Context(), a.query()); v != Unshared {
		t.Errorf("verdict %d, want it unshared for the next one, too", v)
	}
	q := a.query()
	q.Holds = func(m Miss) bool {
		if m.Position != at {
			t.Errorf("the miss is at %s, want %s", m.Position, at)
		}
		return false
	}
	lease, v := a.Acquire(t.Context(), q)
	if v != Granted {
		t.Errorf("verdict %d, want a miss that no longer holds to be ignored", v)
	}
	lease.Release(nil)
	if ttl := s.Client().PTTL(t.Context(), a.key("miss", someID)).Val(); ttl <= 0 || ttl > MissLifetime {
		t.Errorf("a miss lives for %s", ttl)
	}
	noKeysLeft(t, s)
}

func TestRedisAway(t *testing.T) {
	s, a, _ := newPair(t)
	lease := a.mustAcquire(t)
	s.Kill()
	if _, v := a.Acquire(t.Context(), a.query()); v != Unanswered {
		t.Errorf("verdict %d, want it unanswered", v)
	}
	lease.Release(nil)
}

// The keys of a lease lie in one slot, and all below the prefix.
func TestLeaseKeys(t *testing.T) {
	l := NewLeases(LeaseOptions{Prefix: "cache"})
	for _, kind := range []string{"lease", "wait", "miss"} {
		key := l.key(kind, someID)
		if !strings.HasPrefix(key, "cache::"+kind+":{") || !strings.HasSuffix(key, "}") || len(key) != len("cache::"+kind+":{}")+32 {
			t.Errorf("key %s", key)
		}
	}
	var none *Lease
	none.Release(nil)
}

// What nobody waits for costs no key.
func TestMissOfNobody(t *testing.T) {
	s, a, _ := newPair(t)
	a.mustAcquire(t).Release(&Miss{Position: journal.Position{Epoch: 1}})
	noKeysLeft(t, s)
	if keys := s.Client().Keys(t.Context(), "*").Val(); len(keys) > 0 {
		t.Errorf("%v left", keys)
	}
}
