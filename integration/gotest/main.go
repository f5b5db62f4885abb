// Command gotest runs `go test` with the arguments it is given and fails where
// go test would not: when a test is skipped that nobody agreed to skip. A suite
// that skips itself because something is missing looks green otherwise.
//
// It prints one line per package and the whole output of what failed. The last
// lines name each failed test with what it complained of, which logs of processes
// may separate by pages, and the very last one counts passed and failed tests.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// allowedSkips names the tests that may be skipped, as "package.Test", each
// with a comment that says why. There are none.
var allowedSkips []string

// event is one line of `go test -json`; `go help test2json` describes it.
type event struct {
	Action     string
	Package    string
	ImportPath string // instead of Package, for the output of a build
	Test       string
	Output     string
}

// result is what a run added up to.
type result struct {
	passed, failed int
	skipped        []string            // skipped without leave
	complaints     []string            // of failed tests, in short
	output         map[string][]string // by test, until it is known to have passed
}

func main() {
	cmd := exec.Command("go", append([]string{"test", "-json"}, os.Args[1:]...)...) // #nosec G204 G702 -- the arguments come from the Makefile
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		fatal(err)
	}
	if err := cmd.Start(); err != nil {
		fatal(err)
	}
	res := read(stdout, os.Stdout)
	failed := cmd.Wait() != nil
	if failed && res.failed == 0 {
		res.failed = 1 // a build or vet failure has no test of its own
	}
	for _, line := range res.complaints {
		fmt.Println(line)
	}
	for _, name := range res.skipped {
		fmt.Printf("SKIPPED %s: a skipped test proves nothing\n", name)
	}
	fmt.Printf("%d passed, %d failed\n", res.passed, res.failed+len(res.skipped))
	if failed || res.failed > 0 || len(res.skipped) > 0 {
		os.Exit(1)
	}
}

// read follows a run and reports it to w as it goes.
func read(r io.Reader, w io.Writer) result {
	res := result{output: make(map[string][]string)}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Fprintln(w, lines.Text()) // not of test2json, so somebody should see it
			continue
		}
		res.take(e, w)
	}
	return res
}

func (res *result) take(e event, w io.Writer) {
	name := e.Package + "." + e.Test
	switch e.Action {
	case "build-output":
		fmt.Fprint(w, e.Output)
	case "output":
		if e.Test == "" && isVerdict(e.Output) {
			fmt.Fprint(w, e.Output)
			return
		}
		res.output[name] = append(res.output[name], e.Output)
	case "pass":
		if e.Test != "" {
			res.passed++
		}
		delete(res.output, name)
	case "fail":
		if e.Test != "" {
			res.failed++
			res.complaints = append(res.complaints, "FAILED "+name)
		}
		for _, line := range res.output[name] {
			if complaint.MatchString(line) {
				res.complaints = append(res.complaints, shorten(strings.TrimRight(line, "\n")))
			}
		}
		fmt.Fprint(w, strings.Join(res.output[name], ""))
		delete(res.output, name)
	case "skip":
		if e.Test != "" && !slices.Contains(allowedSkips, name) {
			res.skipped = append(res.skipped, name)
			fmt.Fprint(w, strings.Join(res.output[name], ""))
		}
		delete(res.output, name)
	}
}

// complaint is the first line of a failure: of t.Error, of a panic or of the race detector.
var complaint = regexp.MustCompile(`^\s+\w+_test\.go:\d+: |^panic: |^WARNING: DATA RACE`)

// shorten keeps the summary of a run readable.
func shorten(line string) string {
	const most = 400
	if len(line) > most {
		return line[:most] + "…"
	}
	return line
}

// isVerdict reports whether a line is the one that go test prints per package.
func isVerdict(line string) bool {
	for _, prefix := range []string{"ok  \t", "FAIL\t", "?   \t"} {
		if strings.HasPrefix(line, prefix) {
			return true
		}
	}
	return strings.HasPrefix(line, "-test.shuffle")
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
