package integration

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// binary is the Caddy under test, built once with the race detector. Where nothing
// says where Redis is, it looks on defaultPort.
var (
	binary      string
	defaultPort string
)

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if _, err := exec.LookPath("redis-server"); err != nil {
		fmt.Fprintln(os.Stderr, "these tests need redis-server (7.0 or newer) in PATH; `make test` installs it")
		return 1
	}
	dir, err := os.MkdirTemp("", "redis-cache-integration-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "caddy")
	defaultPort = unusedPort()
	flags := "-X github.com/gplus-recycling/caddy-redis-cache.defaultPort=" + defaultPort
	build := exec.Command("go", "build", "-race", "-ldflags", flags, "-o", binary, "../cmd/caddy")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building Caddy: %v\n%s", err, out)
		return 1
	}
	// Most of a test is waiting, for processes to start and for time to pass.
	flag.Parse()
	if err := flag.Set("test.parallel", "6"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// unusedPort returns a port below those of freePort, and of the Redis that a machine
// may run.
func unusedPort() string {
	for port := 19000 + rand.IntN(900); ; port++ {
		if l, err := net.Listen("tcp", fmt.Sprintf("localhost:%d", port)); err == nil {
			l.Close()
			return strconv.Itoa(port)
		}
	}
}

// command runs the binary to its end and returns what it printed on both outputs.
func command(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env = environ(t)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// environ is this process's environment without what would configure the cache
// behind a test's back, and with a home of its own for Caddy's files.
func environ(t *testing.T, extra ...string) []string {
	home := t.TempDir()
	env := []string{
		"HOME=" + home,
		"XDG_DATA_HOME=" + home,
		"XDG_CONFIG_HOME=" + home,
		"GORACE=exitcode=66",
	}
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, "REDIS_") || strings.HasPrefix(name, "XDG_") ||
			strings.HasPrefix(name, "CADDY_") || name == "HOME" || name == "GORACE" {
			continue
		}
		env = append(env, v)
	}
	return append(env, extra...)
}
