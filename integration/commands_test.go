package integration

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var updateGolden = flag.Bool("golden.update", false, "write what commands print to their golden files")

// redisCache runs a command of the binary and returns what it printed, and whether
// it succeeded.
func (n *node) redisCache(t *testing.T, args ...string) (out, errOut string, ok bool) {
	t.Helper()
	cmd := exec.Command(binary, append([]string{"redis-cache"}, append(args, "--address", n.admin)...)...)
	cmd.Env = environ(t)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit, failed := err.(*exec.ExitError); err != nil && (!failed || exit.ExitCode() != 1) { //nolint:errorlint // exec returns it as it is
		t.Fatalf("%v: %v\n%s", args, err, stderr.String())
	}
	return stdout.String(), stderr.String(), err == nil
}

// volatile is what differs from run to run.
var volatile = []struct {
	pattern *regexp.Regexp
	name    string
}{
	{regexp.MustCompile(`\d{13}-\d+`), "ID"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z`), "TIME"},
	{regexp.MustCompile(`\d\d:\d\d:\d\d\.\d+`), "TIME"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "SITE"},
	{regexp.MustCompile(`\b[0-9a-f]{32}\b`), "HASH"},
	{regexp.MustCompile(`\b[A-Z2-7]{16}\b`), "NODE"},
	{regexp.MustCompile(`\d+\.\d+`), "N"},
	{regexp.MustCompile(`(?m)(duration_ms:|position: |capacity:) \d+`), "$1 N"},
	{regexp.MustCompile(` +`), " "},
	{regexp.MustCompile(`(?m) +$`), ""},
	{regexp.MustCompile(`(application/json) \d+`), "$1 N"},
	{regexp.MustCompile(`(?m)ID \d+$`), "ID N"},
}

// golden compares what a command printed with its file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	for _, v := range volatile {
		got = v.pattern.ReplaceAllString(got, v.name)
	}
	path := filepath.Join("testdata", "commands", name+".golden")
	if *updateGolden {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s printed\n%s\nwant\n%s", name, got, want)
	}
}

// TestCommands runs every command against a node.
func TestCommands(t *testing.T) {
	t.Parallel()
	rds := startRedis(t)
	web := newOrigin(t)
	web.answer("/none", http.StatusInternalServerError, "")
	node := startCaddy(t, layout{redis: rds, origin: web, cache: guide, site: guideSite})
	node.attached(t)
	rds.await(t, node.want(t, "MISS", "/api/v1/pickups/active").key())
	node.want(t, "HIT", "/api/v1/pickups/active")
	page := node.url("/api/v1/pickups/active")

	for _, tt := range []struct {
		name string
		args string
		ok   bool
	}{
		{"explain_hit", "explain " + page + " --header Host:" + siteHost, true},
		{"entries", "entries --namespace pickup", true},
		{"purge", "purge --namespace pickup --by me --reason why --wait 10s", true},
		{"explain_miss", "explain " + page + " --header Host:" + siteHost, true},
		{"dry_run", "purge --namespace pickup --dry-run --wait 10s", true},
		{"disable", "disable --namespace pickup --wait 10s", true},
		{"explain_off", "explain " + page + " --header Host:" + siteHost, true},
		{"enable", "enable --wait 10s", true},
		{"nodes", "nodes", true},
		{"journal", "journal --limit 2", true},
		{"warm", "warm " + page + " --header Host:" + siteHost, true},
		{"warm_failed", "warm " + node.url("/none"), false},
	} {
		out, errOut, ok := node.redisCache(t, strings.Fields(tt.args)...)
		if ok != tt.ok || (errOut == "") != tt.ok {
			t.Errorf("%s: success %t, error output %q", tt.args, ok, errOut)
		}
		if strings.Contains(out, "\x1b") {
			t.Errorf("%s: colours in a pipe: %q", tt.args, out)
		}
		// What is below depends on how far the sweep has come.
		out, _, _ = strings.Cut(out, "\npolicy:")
		golden(t, tt.name, out)
	}
	if out, _, ok := node.redisCache(t, "stats"); !ok || !strings.Contains(out, "===== REDIS CACHE STATISTICS =====\nTotal Keys: ") ||
		!strings.Contains(out, "Hit Rate (Last 24h): ") || !strings.Contains(out, "- pickup: 1 keys") {
		t.Errorf("stats: %s", out)
	}
	if out, _, ok := node.redisCache(t, "top", "-n", "1"); !ok || !strings.HasPrefix(out, "Requests/s: - ") {
		t.Errorf("top: %s", out)
	}
	for _, name := range []string{"journal", "nodes", "entries"} {
		out, _, ok := node.redisCache(t, name, "--json")
		var got map[string]any
		err := json.Unmarshal([]byte(out), &got)
		want := node.json(t, http.StatusOK, http.MethodGet, "/redis_cache/"+name, "")
		if !ok || err != nil || len(got) != len(want) {
			t.Errorf("%s --json: %v, %v, want %v", name, got, err, want)
		}
	}
	for _, args := range []string{"purge", "purge --colour red", "stats --window 2h", "explain", "nonsense"} {
		if out, errOut, ok := node.redisCache(t, strings.Fields(args)...); ok || errOut == "" || out != "" {
			t.Errorf("%s: success %t, printed %q and %q", args, ok, out, errOut)
		}
	}
}

func TestTailCommand(t *testing.T) {
	t.Parallel()
	node := startCaddy(t, layout{origin: newOrigin(t), cache: guide, site: guideSite})
	cmd := exec.Command(binary, "redis-cache", "tail", "-n", "2", "--namespace", "pickup", "--address", node.admin)
	p := startProcess(t, "tail", cmd)
	eventually(t, "two requests are shown", func() bool {
		node.get(t, "/api/v1/pickups/active?secret=1")
		return !p.running()
	})
	lines := strings.Split(strings.TrimSpace(p.log.String()), "\n")
	if len(lines) != 2 || !strings.HasSuffix(lines[1], "GET /api/v1/pickups/active pickup") || !strings.Contains(lines[1], " HIT ") {
		t.Errorf("%q", lines)
	}
}
