package harness

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Freeze stops the process where it is, and returns when it stands still.
func (p *process) Freeze(t *testing.T) {
	t.Helper()
	p.signal(syscall.SIGSTOP)
	Eventually(t, p.name+" stands still", func() bool {
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.Cmd.Process.Pid))
		return err == nil && !slices.ContainsFunc(threads, func(thread os.DirEntry) bool {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/stat", p.Cmd.Process.Pid, thread.Name()))
			return err == nil && !strings.Contains(string(stat), ") T ")
		})
	})
}

func (p *process) Thaw() { p.signal(syscall.SIGCONT) }

// Patience bounds every wait of the suite. It is long because a busy machine
// must not fail a test; nothing waits that long when all is well.
const Patience = time.Minute

// Eventually polls until ok, which stands for every sleep a test might want.
func Eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	if !Within(Patience, ok) {
		t.Fatalf("waited %s in vain: %s", Patience, what)
	}
}

// Within polls until ok or until the time is over.
func Within(d time.Duration, ok func() bool) bool {
	for deadline := time.Now().Add(d); ; time.Sleep(10 * time.Millisecond) {
		if ok() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

// ports are those that a test process may use: a block of its own, since packages are
// tested beside each other. All lie below the range from which the kernel takes ports for
// outgoing connections, so that one stays free while a server on it is down.
var ports struct {
	sync.Mutex
	block       net.Listener // on the first port of the block, which marks it as taken
	first, next int
}

const (
	lowestPort = 20000
	blocks     = 20
	blockSize  = 600
)

// FreePort returns a port that nobody listens on.
func FreePort(t testing.TB) int {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	for n := rand.IntN(blocks); ports.block == nil; n++ {
		first := lowestPort + n%blocks*blockSize
		if l, err := listen(first); err == nil {
			ports.block, ports.first, ports.next = l, first, first
		} else if n > 1000*blocks {
			t.Fatal("no free block of ports")
		}
	}
	for range blockSize {
		if ports.next++; ports.next >= ports.first+blockSize {
			ports.next = ports.first + 1
		}
		if l, err := listen(ports.next); err == nil {
			l.Close()
			return ports.next
		}
	}
	t.Fatal("no free port")
	return 0
}

func listen(port int) (net.Listener, error) {
	return net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
}

// Output collects what a process prints.
type Output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// process is a child that ends with its test, however the test ends.
type process struct {
	name string
	Cmd  *exec.Cmd
	Log  *Output
	done chan struct{} // closed when it has ended, err is set then
	Err  error
}

func StartProcess(t *testing.T, name string, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{name: name, Cmd: cmd, Log: new(Output), done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.Log, p.Log
	// Cleanup does not run when the test binary is killed or times out.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", name, err)
	}
	go func() {
		p.Err = cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.signal(syscall.SIGKILL)
		<-p.done
		if t.Failed() {
			t.Logf("%s printed:\n%s", name, Tail(p.Log.String(), 200))
		}
	})
	return p
}

func (p *process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func (p *process) signal(sig os.Signal) {
	if p.Running() {
		// It may end between the two lines; os.Process knows and does nothing.
		_ = p.Cmd.Process.Signal(sig)
	}
}

// stop asks the process to end and waits until it has.
func (p *process) stop(t *testing.T) {
	t.Helper()
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(Patience):
		t.Errorf("%s did not end within %s of SIGTERM", p.name, Patience)
		p.signal(syscall.SIGKILL)
		<-p.done
		return
	}
	if _, failed := errors.AsType[*exec.ExitError](p.Err); failed {
		t.Errorf("%s ended with %v", p.name, p.Err)
	}
}

// Kill ends the process as a crash would.
func (p *process) Kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// Tail returns the last lines of a text.
func Tail(s string, lines int) string {
	all := strings.Split(strings.TrimRight(s, "\n"), "\n")
	if len(all) > lines {
		all = append([]string{"…"}, all[len(all)-lines:]...)
	}
	return strings.Join(all, "\n")
}
