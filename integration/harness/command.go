package harness

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// RunCommand runs the binary to its end and returns what it printed on either
// output, and its exit status.
func RunCommand(t *testing.T, args ...string) (out, errOut string, status int) {
	t.Helper()
	cmd := exec.Command(Binary, args...)
	cmd.Env = Environ(t)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if _, ended := errors.AsType[*exec.ExitError](err); !ended {
			t.Fatalf("%v: %v", args, err)
		}
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// RedisCache runs a command against the node.
func (n *Node) RedisCache(t *testing.T, args ...string) (out, errOut string, ok bool) {
	t.Helper()
	out, errOut, status := RunCommand(t, append([]string{"redis-cache"}, append(args, "--address", n.Admin)...)...)
	if status != 0 && status != 1 {
		t.Fatalf("%v: status %d, %s", args, status, errOut)
	}
	return out, errOut, status == 0
}

// Command runs the binary to its end and returns what it printed on both outputs.
func Command(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(Binary, args...)
	cmd.Env = Environ(t)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Environ is this process's environment without what would configure the cache
// behind a test's back, and with a home of its own for Caddy's files.
func Environ(t *testing.T, extra ...string) []string {
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
