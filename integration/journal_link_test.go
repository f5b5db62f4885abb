package integration

import (
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// link passes connections on to a Redis until the network between the two fails.
type link struct {
	addr, target string

	mu      sync.Mutex
	changed *sync.Cond // of state; with mu
	state   linkState
	conns   map[net.Conn]bool
}

type linkState int

const (
	linkPasses linkState = iota
	linkHangs            // connections stay, and nothing passes
	linkCut              // connections end, and none begins
)

func newLink(t *testing.T, target string) *link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{addr: listener.Addr().String(), target: target, conns: make(map[net.Conn]bool)}
	l.changed = sync.NewCond(&l.mu)
	t.Cleanup(func() {
		listener.Close()
		l.set(linkCut)
	})
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go l.serve(conn)
		}
	}()
	return l
}

// set changes what the link does. What it held back is lost with its connections.
func (l *link) set(s linkState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = s
	l.changed.Broadcast()
	if s == linkCut {
		for conn := range l.conns {
			conn.Close()
		}
	}
}

// passes waits while the link hangs, and reports whether it passes things on then.
func (l *link) passes() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.state == linkHangs {
		l.changed.Wait()
	}
	return l.state == linkPasses
}

func (l *link) keep(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[conn] = true
}

func (l *link) serve(conn net.Conn) {
	defer conn.Close()
	l.keep(conn)
	if !l.passes() {
		return
	}
	server, err := net.Dial("tcp", l.target)
	if err != nil {
		return
	}
	defer server.Close()
	l.keep(server)
	done := make(chan struct{}, 2)
	go l.copy(server, conn, done)
	go l.copy(conn, server, done)
	<-done
}

func (l *link) copy(to, from net.Conn, done chan<- struct{}) {
	defer func() { done <- struct{}{} }()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if !l.passes() || err != nil {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// joinOver starts a node that reaches Redis over a link of its own.
func (f *fleet) joinOver(t *testing.T, cache string) (*node, *link) {
	t.Helper()
	l := newLink(t, f.redis.addr)
	through := *f.redis
	through.addr = l.addr
	layout := f.layout()
	layout.redis, layout.hasty = &through, true
	layout.cache = cache + "\n" + layout.cache
	return f.join(t, layout), l
}

// TestCutOffFromRedis takes the network away from two nodes. A purge ends without them. The one
// that puts consistency first goes to the origin; the other answers within TTL until it has
// its Redis back.
func TestCutOffFromRedis(t *testing.T) {
	t.Parallel()
	for name, state := range map[string]linkState{"connections end": linkCut, "nothing passes": linkHangs} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, startRedis(t))
			near := f.join(t, f.layout())
			available, one := f.joinOver(t, "consistency available")
			strict, two := f.joinOver(t, "consistency strict")
			everybody := nodeIDs(t, f.nodes...)
			eventually(t, "all nodes confirm", func() bool { return len(f.fence(t, near)["confirmed"].([]any)) == 3 })
			paths := pickupSeries("cut", 6)
			f.fill(t, paths...)

			one.set(state)
			two.set(state)
			answer := f.purge(t, near, `{"namespace":"pickup"}`)
			wantNames(t, answer, "confirmed", everybody[0])
			wantNames(t, answer, "lapsed", everybody[1:]...)
			f.check(t, paths[0], near, strict)
			if r := available.want(t, "HIT", paths[1]); versionOf(r) == f.final.Load() {
				t.Errorf("the node that is cut off has a new response, %q", r.body)
			}
			for _, n := range []*node{available, strict} {
				n.purgeWaits(t, `{"namespace":"user"}`)
			}
			f.check(t, paths[2], strict)

			one.set(linkPasses)
			two.set(linkPasses)
			eventually(t, "all nodes confirm again", func() bool {
				answer := f.fence(t, near)
				return len(answer["confirmed"].([]any)) == 3
			})
			for _, p := range paths[3:] {
				f.check(t, p, f.nodes...)
			}
		})
	}
}

// TestPurgeWithoutRedis takes Redis away from the whole fleet: purges wait, and whoever requires
// that they are recorded hears soon that they are not. What was final stays so.
func TestPurgeWithoutRedis(t *testing.T) {
	t.Parallel()
	f := newFleet(t, startRedis(t))
	for range 2 {
		l := f.layout()
		l.hasty = true
		f.join(t, l)
	}
	paths := pickupSeries("without", 8)
	f.fill(t, paths...)
	f.purge(t, f.nodes[0], `{"namespace":"pickup"}`)
	for i, tt := range []struct {
		name       string
		away, back func()
	}{
		{"hanging", f.redis.pause, f.redis.resume},
		{"killed", f.redis.kill, func() { f.redis.start(t) }},
	} {
		tt.away()
		for _, n := range f.nodes {
			begun := time.Now()
			r := n.api(t, http.MethodPost, "/redis_cache/purge", `{"namespace":"pickup","wait":"1s","require":"recorded"}`)
			if r.status != http.StatusServiceUnavailable {
				t.Errorf("%s: a purge is answered %d %s", tt.name, r.status, r.body)
			}
			n.purgeWaits(t, `{"namespace":"user","wait":"1s"}`)
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("%s: that took %s", tt.name, took)
			}
			r = n.api(t, http.MethodGet, "/redis_cache/journal", "")
			if r.status != http.StatusServiceUnavailable {
				t.Errorf("%s: the journal is answered %d %s", tt.name, r.status, r.body)
			}
		}
		f.check(t, paths[4*i], f.nodes...)
		tt.back()
		f.check(t, paths[4*i+1], f.nodes...)
		eventually(t, "purges are answered 200", func() bool {
			r := f.nodes[0].api(t, http.MethodPost, "/redis_cache/purge", `{"key":"none:at-all","wait":"10s"}`)
			return r.status == http.StatusOK
		})
		f.check(t, paths[4*i+2], f.nodes...)
		f.fill(t, fmt.Sprint("/api/v1/pickups/after-", i))
	}
}
