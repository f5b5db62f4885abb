package harness

import (
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/internal/redistest"
)

// Repository is the repository's folder, seen from that of a package with tests.
const Repository = "../.."

// Binary is the Caddy under test, with the race detector, after Main has built it.
// Where nothing says where Redis is, it looks on DefaultPort.
var (
	Binary      string
	DefaultPort string
)

// Main is what TestMain of every package calls: it builds Caddy and runs the tests.
func Main(m *testing.M) {
	if err := prepare(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func prepare() error {
	if _, err := exec.LookPath(redistest.Program); err != nil {
		return fmt.Errorf("these tests need %s (7.0 or newer) in PATH; `make test` installs redis-server", redistest.Program)
	}
	root, err := filepath.Abs(Repository)
	if err != nil {
		return err
	}
	// The same in every package, so that one binary serves all of them, and another one
	// in another copy of the repository. It is below the ports of FreePort.
	hash := fnv.New32a()
	hash.Write([]byte(root))
	DefaultPort = strconv.Itoa(19000 + int(hash.Sum32()%1000))
	Binary = filepath.Join(root, "bin", "integration", "caddy")
	if err := buildOnce(); err != nil {
		return err
	}
	// Most of a test is waiting, for processes to start and for time to pass.
	flag.Parse()
	return flag.Set("test.parallel", "6")
}

// buildOnce builds Binary. Packages are tested beside each other: the first one builds, the
// others wait for it, and the go command sees that there is nothing left to do.
func buildOnce() error {
	if err := os.MkdirAll(filepath.Dir(Binary), 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(Binary+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer lock.Close() // which unlocks
	for {
		err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX)
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
	return Build(Binary, "-race", "-buildvcs=false",
		"-ldflags", "-X github.com/gplus-recycling/caddy-redis-cache/internal/redisconn.defaultPort="+DefaultPort)
}

// Build builds the Caddy of cmd/caddy into a file, with further flags of go build.
func Build(file string, flags ...string) error {
	build := exec.Command("go", append(append([]string{"build", "-o", file}, flags...), "./cmd/caddy")...)
	build.Dir = Repository
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building Caddy: %w\n%s", err, out)
	}
	return nil
}
