package cli

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/creack/pty"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// terminal is a command that runs on a terminal of its own.
type terminal struct {
	cmd    *exec.Cmd
	file   *os.File        // the other side of the terminal
	output *harness.Output // with \r\n at the ends of lines, as a terminal gets them
	done   chan struct{}
}

// onTerminal starts a command of the binary on a terminal of that size.
func onTerminal(t *testing.T, n *harness.Node, rows, columns uint16, environment []string, args ...string) *terminal {
	t.Helper()
	cmd := exec.Command(harness.Binary, append([]string{"redis-cache"}, append(args, "--address", n.Admin)...)...)
	cmd.Env = harness.Environ(t, append([]string{"TERM=xterm", "NO_COLOR="}, environment...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	file, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: rows, Cols: columns})
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{cmd: cmd, file: file, output: new(harness.Output), done: make(chan struct{})}
	go func() {
		defer close(term.done)
		_, _ = io.Copy(term.output, file) // an error is its end
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		select {
		case <-term.done:
		default:
			_ = cmd.Process.Kill()
			<-term.done
		}
		file.Close()
	})
	return term
}

// shows waits until something was printed.
func (term *terminal) shows(t *testing.T, what string) {
	t.Helper()
	if !harness.Within(harness.Patience, func() bool { return strings.Contains(term.output.String(), what) }) {
		t.Fatalf("%q is not printed, but %q", what, term.output)
	}
}

// end waits for the end and returns all that was printed, and the exit status.
func (term *terminal) end(t *testing.T) (out string, status int) {
	t.Helper()
	select {
	case <-term.done:
	case <-time.After(harness.Patience):
		t.Fatalf("it does not end; printed %q", term.output)
	}
	return term.output.String(), term.cmd.ProcessState.ExitCode()
}

// interrupt is Ctrl-C.
func (term *terminal) interrupt(t *testing.T) {
	t.Helper()
	if err := term.cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
}

// TestWarmOnTerminal draws a bar that grows with each request.
func TestWarmOnTerminal(t *testing.T) {
	t.Parallel()
	web := harness.NewOrigin(t)
	held := hold(t, web, "/api/v1/users/")
	web.Answer("/none", http.StatusInternalServerError, "")
	node := harness.StartCaddy(t, harness.Layout{Origin: web, Cache: harness.GuideCache, Site: harness.GuideSite})
	warm := func(columns uint16, args ...string) *terminal {
		t.Helper()
		return onTerminal(t, node, 24, columns, nil, append([]string{"warm", "--concurrency", "1"}, args...)...)
	}
	for _, tt := range []struct {
		columns uint16
		bars    []string
	}{
		{80, []string{
			"[..............................] 0/3", "[##########....................] 1/3",
			"[####################..........] 2/3", "[##############################] 3/3",
		}},
		{20, []string{"[.............] 0/3", "[####.........] 1/3", "[########.....] 2/3", "[#############] 3/3"}},
	} {
		users := make([]string, 0, 3)
		for id := range 3 {
			users = append(users, node.URL(fmt.Sprintf("/api/v1/users/%d-%d", tt.columns, id)))
		}
		term := warm(tt.columns, users...)
		for i, bar := range tt.bars {
			term.shows(t, "\r"+bar)
			if i < 3 {
				held.release()
			}
		}
		out, status := term.end(t)
		if want := "\r" + tt.bars[3] + "\r\n3 requests, 0 failed\r\n"; status != 0 || !strings.HasSuffix(out, want) || strings.Count(out, "\n") != 2 {
			t.Errorf("status %d, printed %q, want %q at its end", status, out, want)
		}
	}
	red := "\x1b[31mfailed: " + node.URL("/none") + " 500\x1b[0m\r\n"
	if out, status := warm(80, node.URL("/none")).end(t); status != 1 || !strings.Contains(out, red) {
		t.Errorf("status %d, printed %q, want %q", status, out, red)
	}
	if out, status := onTerminal(t, node, 24, 80, nil, "warm", node.URL("/x"), "--json").end(t); status != 0 || !strings.HasPrefix(out, "{") {
		t.Errorf("--json: status %d, printed %q", status, out)
	}

	// The error does not stand in the line of the bar.
	term := warm(80, node.URL("/api/v1/users/9"))
	term.shows(t, "0/1")
	term.interrupt(t)
	if out, status := term.end(t); status != 1 || !strings.HasSuffix(out, "] 0/1\r\nError: interrupted; the requests go on\r\n") {
		t.Errorf("interrupted: status %d, printed %q", status, out)
	}
}

// TestColors paints on terminals only, and not against the user's will.
func TestColors(t *testing.T) {
	t.Parallel()
	node := harness.StartCaddy(t, harness.Layout{Site: "respond ok"})
	for _, tt := range []struct {
		environment string
		colored     bool
	}{
		{"NO_COLOR=", true},
		{"NO_COLOR=1", false},
		{"NO_COLOR=0", false},
		{"TERM=dumb", false},
	} {
		out, status := onTerminal(t, node, 24, 80, []string{tt.environment}, "stats").end(t)
		colored := strings.HasPrefix(out, "\x1b[1m===== REDIS CACHE STATISTICS =====\x1b[0m\r\n")
		if status != 0 || colored != tt.colored || strings.Contains(out, "\x1b") != tt.colored {
			t.Errorf("%s: status %d, printed %q", tt.environment, status, out)
		}
	}
	if out, _, ok := node.RedisCache(t, "top", "--count", "1"); !ok || strings.Contains(out, "\x1b") {
		t.Errorf("in a pipe: %q", out)
	}
}

var paint = regexp.MustCompile(`\x1b\[\d+m`)

// longest returns the width of the longest line, and how many were cut.
func longest(out string) (width, cut int) {
	for line := range strings.Lines(paint.ReplaceAllString(out, "")) {
		line = strings.TrimRight(line, "\r\n")
		width = max(width, utf8.RuneCountInString(line))
		if strings.HasSuffix(line, "…") {
			cut++
		}
	}
	return width, cut
}

// TestNarrowTerminal cuts lines instead of breaking them.
func TestNarrowTerminal(t *testing.T) {
	t.Parallel()
	node := harness.StartCaddy(t, harness.Layout{Origin: harness.NewOrigin(t), Cache: harness.GuideCache, Site: harness.GuideSite})
	node.Want(t, "MISS", "/api/v1/users/1")
	for _, command := range []string{"stats", "entries"} {
		wide, status := onTerminal(t, node, 24, 300, nil, command).end(t)
		if width, cut := longest(wide); status != 0 || cut != 0 || width <= 40 {
			t.Errorf("%s: status %d, %d columns, %d lines cut: %q", command, status, width, cut, wide)
		}
		narrow, status := onTerminal(t, node, 24, 40, nil, command).end(t)
		if width, cut := longest(narrow); status != 0 || cut == 0 || width != 40 {
			t.Errorf("%s: status %d, %d columns, %d lines cut: %q", command, status, width, cut, narrow)
		}
	}
	tail := onTerminal(t, node, 24, 40, nil, "tail")
	harness.Eventually(t, "a request is shown", func() bool {
		node.Get(t, "/api/v1/users/1")
		return strings.Contains(tail.output.String(), "\n")
	})
	tail.interrupt(t)
	out, status := tail.end(t)
	if width, cut := longest(out); status != 0 || cut == 0 || width != 40 || !strings.HasPrefix(out, "\x1b[32m") {
		t.Errorf("tail: status %d, %d columns, %d lines cut: %q", status, width, cut, out)
	}
}

// TestTopOnTerminal replaces frames, each of which fits.
func TestTopOnTerminal(t *testing.T) {
	t.Parallel()
	node := harness.StartCaddy(t, harness.Layout{Origin: harness.NewOrigin(t), Cache: harness.GuideCache, Site: harness.GuideSite})
	for _, path := range []string{"users", "pickups", "points"} {
		node.Want(t, "MISS", "/api/v1/"+path+"/1")
	}
	const erase = "\x1b[H\x1b[2J"
	top := onTerminal(t, node, 6, 80, nil, "top", "--interval", "50ms")
	frames := func() []string {
		all := strings.Split(top.output.String(), erase)
		return all[1 : len(all)-1] // before the first there is nothing, and the last may be incomplete
	}
	harness.Eventually(t, "some frames are shown", func() bool { return len(strings.Split(top.output.String(), erase)) > 3 })
	for _, frame := range frames() {
		if width, _ := longest(frame); strings.Count(frame, "\n") != 5 || width <= 30 || !strings.HasPrefix(frame, "Requests/s: ") {
			t.Errorf("frame %q", frame)
		}
	}
	if err := pty.Setsize(top.file, &pty.Winsize{Rows: 24, Cols: 30}); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "frames fit the new size", func() bool {
		all := frames()
		width, cut := longest(all[len(all)-1])
		return width == 30 && cut > 0 && strings.Count(all[len(all)-1], "\n") > 5
	})
	top.interrupt(t)
	if out, status := top.end(t); status != 0 {
		t.Errorf("status %d, printed %q", status, out)
	}
}

// TestInterruptTwice ends a command whose admin API does not answer.
func TestInterruptTwice(t *testing.T) {
	t.Parallel()
	web := harness.NewOrigin(t)
	held := hold(t, web, "/redis_cache/stats")
	node := &harness.Node{Admin: web.Addr}
	top := onTerminal(t, node, 24, 80, nil, "top")
	held.await(t)
	harness.Eventually(t, "it ends", func() bool {
		top.interrupt(t)
		select {
		case <-top.done:
			return true
		default:
			return false
		}
	})
}
