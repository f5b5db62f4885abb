package node

import (
	"strings"
	"testing"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
)

// TestTailDoesNotLock tells the tails about a request while the list of them changes.
func TestTailDoesNotLock(t *testing.T) {
	var tails Tails
	one := tails.Join("", "")
	tails.mu.Lock()
	done := make(chan struct{})
	go func() {
		if tails.Listening() > 0 {
			tails.Publish(&api.TailLine{Path: "/a"})
		}
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Error("a request waits for the lock")
	}
	tails.mu.Unlock()
	<-done
	if line := <-one.Lines; !strings.Contains(string(line), `"path":"/a"`) {
		t.Errorf("the line is %s", line)
	}
	tails.Leave(one)
	if tails.Publish(new(api.TailLine)); len(one.Lines) > 0 || tails.Listening() != 0 {
		t.Error("a tail that left is told")
	}
}
