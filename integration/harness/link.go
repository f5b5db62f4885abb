package harness

import (
	"net"
	"sync"
	"testing"
)

// Link passes connections on to a Redis until the network between the two fails.
type Link struct {
	Addr, target string

	mu      sync.Mutex
	changed *sync.Cond // of state; with mu
	state   LinkState
	conns   map[net.Conn]bool
}

type LinkState int

const (
	LinkPasses LinkState = iota
	LinkHangs            // connections stay, and nothing passes
	LinkCut              // connections end, and none begins
)

func NewLink(t *testing.T, target string) *Link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &Link{Addr: listener.Addr().String(), target: target, conns: make(map[net.Conn]bool)}
	l.changed = sync.NewCond(&l.mu)
	t.Cleanup(func() {
		listener.Close()
		l.Set(LinkCut)
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

// Set changes what the link does. What it held back is lost with its connections.
func (l *Link) Set(s LinkState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = s
	l.changed.Broadcast()
	if s == LinkCut {
		for conn := range l.conns {
			conn.Close()
		}
	}
}

// passes waits while the link hangs, and reports whether it passes things on then.
func (l *Link) passes() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.state == LinkHangs {
		l.changed.Wait()
	}
	return l.state == LinkPasses
}

func (l *Link) keep(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[conn] = true
}

func (l *Link) serve(conn net.Conn) {
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

func (l *Link) copy(to, from net.Conn, done chan<- struct{}) {
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
