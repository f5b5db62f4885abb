package harness

import (
	"net/http"
	"sync"
	"testing"
)

// Gate holds a scripted handler until the test, or its end, lets it go on.
type Gate struct {
	C    chan struct{}
	once sync.Once
}

func NewGate(t *testing.T) *Gate {
	g := &Gate{C: make(chan struct{})}
	t.Cleanup(g.Open)
	return g
}

func (g *Gate) Open() { g.once.Do(func() { close(g.C) }) }

func (g *Gate) Wait() { <-g.C }

// CutOff writes the raw start of a response and closes the connection.
func CutOff(raw string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		buf.WriteString(raw)
		buf.Flush()
		conn.Close()
	}
}
