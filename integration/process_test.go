package integration

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait of the suite. It is long because a busy machine
// must not fail a test; nothing waits that long when all is well.
const patience = time.Minute

// eventually polls until ok, which stands for every sleep a test might want.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	if !within(patience, ok) {
		t.Fatalf("waited %s in vain: %s", patience, what)
	}
}

// within polls until ok or until the time is over.
func within(d time.Duration, ok func() bool) bool {
	for deadline := time.Now().Add(d); ; time.Sleep(10 * time.Millisecond) {
		if ok() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

var ports = struct {
	sync.Mutex
	next int
}{next: 20000 + rand.IntN(8000)}

// freePort returns a port that nobody listens on. It lies below the range from
// which the kernel takes ports for outgoing connections, so that it stays free
// while a server on it is down.
func freePort(t testing.TB) int {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	for range 1000 {
		ports.next++
		if ports.next >= 32000 {
			ports.next = 20000
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", ports.next))
		if err != nil {
			continue
		}
		l.Close()
		return ports.next
	}
	t.Fatal("no free port")
	return 0
}

// output collects what a process prints.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// process is a child that ends with its test, however the test ends.
type process struct {
	name string
	cmd  *exec.Cmd
	log  *output
	done chan struct{} // closed when it has ended, err is set then
	err  error
}

func startProcess(t *testing.T, name string, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{name: name, cmd: cmd, log: new(output), done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.log, p.log
	// Cleanup does not run when the test binary is killed or times out.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", name, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.signal(syscall.SIGKILL)
		<-p.done
		if t.Failed() {
			t.Logf("%s printed:\n%s", name, tail(p.log.String(), 200))
		}
	})
	return p
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func (p *process) signal(sig os.Signal) {
	if p.running() {
		// It may end between the two lines; os.Process knows and does nothing.
		_ = p.cmd.Process.Signal(sig)
	}
}

// stop asks the process to end and waits until it has.
func (p *process) stop(t *testing.T) {
	t.Helper()
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
		t.Errorf("%s did not end within %s of SIGTERM", p.name, patience)
		p.signal(syscall.SIGKILL)
		<-p.done
		return
	}
	if _, failed := errors.AsType[*exec.ExitError](p.err); failed {
		t.Errorf("%s ended with %v", p.name, p.err)
	}
}

// kill ends the process as a crash would.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// tail returns the last lines of a text.
func tail(s string, lines int) string {
	all := strings.Split(strings.TrimRight(s, "\n"), "\n")
	if len(all) > lines {
		all = append([]string{"…"}, all[len(all)-lines:]...)
	}
	return strings.Join(all, "\n")
}
