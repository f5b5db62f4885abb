// Package redistest runs a real Redis server for one test.
package redistest

import (
	"cmp"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Program is the server that tests run: what the environment variable REDIS_SERVER names,
// redis-server by default.
var Program = cmp.Or(os.Getenv("REDIS_SERVER"), "redis-server")

// Server is a server that ends with its test.
type Server struct {
	Addr string

	t    testing.TB
	dir  string
	args []string
	cmd  *exec.Cmd
}

// Start starts a server on a free port, with further arguments, and waits until
// it answers.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	s := &Server{t: t, dir: t.TempDir(), Addr: freeAddr(t), args: args}
	s.Start()
	t.Cleanup(s.Kill)
	return s
}

func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Start starts the server again, after Kill.
func (s *Server) Start() {
	s.t.Helper()
	_, port, _ := net.SplitHostPort(s.Addr)
	args := append([]string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", s.dir}, s.args...)
	s.cmd = exec.Command(Program, args...)
	log, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	s.cmd.Stdout = log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	client := s.Client()
	for deadline := time.Now().Add(patience); client.Ping(s.t.Context()).Err() != nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatal(Program + " does not answer")
		}
	}
}

// Kill ends the server without saving anything.
func (s *Server) Kill() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

// Signal sends a signal to the server, such as one that stops or continues it.
func (s *Server) Signal(sig os.Signal) error { return s.cmd.Process.Signal(sig) }

// patience is how long a busy machine may take for what takes no time.
const patience = 10 * time.Second

// Client returns a client as a node would have one.
func (s *Server) Client() *redis.Client {
	client := redis.NewClient(&redis.Options{
		Addr: s.Addr, ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1, DialTimeout: patience,
		ReadTimeout: patience, WriteTimeout: patience, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	s.t.Cleanup(func() { client.Close() })
	return client
}
