package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

var updateGolden = flag.Bool("golden.update", false, "write what commands print to their golden files")

// runCommand runs the binary to its end and returns what it printed on either
// output, and its exit status.
func runCommand(t *testing.T, args ...string) (out, errOut string, status int) {
	t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env = environ(t)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if _, ended := errors.AsType[*exec.ExitError](err); !ended {
			t.Fatalf("%v: %v", args, err)
		}
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// redisCache runs a command against the node.
func (n *node) redisCache(t *testing.T, args ...string) (out, errOut string, ok bool) {
	t.Helper()
	out, errOut, status := runCommand(t, append([]string{"redis-cache"}, append(args, "--address", n.admin)...)...)
	if status != 0 && status != 1 {
		t.Fatalf("%v: status %d, %s", args, status, errOut)
	}
	return out, errOut, status == 0
}

// volatile is what differs from run to run; what is not named here is exact.
var volatile = []struct {
	pattern *regexp.Regexp
	name    string
}{
	{regexp.MustCompile(`\b\d{13}-\d+`), "ID"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`), "TIME"},
	{regexp.MustCompile(`\b\d\d:\d\d:\d\d\.\d{3}`), "TIME"},
	{regexp.MustCompile(`version +7\.[\d.]+`), "version  7"},
	{regexp.MustCompile(`[\d.]+[KM] used`), "SIZE used"},
	{regexp.MustCompile(`\d+ keys looked at`), "N keys looked at"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "SITE"},
	{regexp.MustCompile(`\b[0-9a-f]{32}\b`), "HASH"},
	{regexp.MustCompile(`(?m)(^|[" ])[A-Z2-7]{16}\b`), "${1}NODE"},
	{regexp.MustCompile(`duration_ms: \d+`), "duration_ms: N"},
	{regexp.MustCompile(`-?\b(\d+h)?(\d+m)?\d[\d.]*(µs|ms|s)\b`), "DURATION"},
	{regexp.MustCompile(`\b\d[\d.]* k?B\b`), "SIZE"},
	{regexp.MustCompile(`\b\d[\d.]* [KM]?i?B of\b`), "SIZE of"},
	{regexp.MustCompile(`"(mean|p50|p95|p99|origin_ms|bytes)": [\d.e-]+`), `"$1": N`},
	{regexp.MustCompile(`(\S) {2,}`), "$1  "}, // columns are as wide as what is in them
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
		{"doctor", "doctor", true},
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
	for _, name := range []string{"journal", "nodes", "entries"} {
		out, _, ok := node.redisCache(t, name, "--json")
		var got map[string]any
		err := json.Unmarshal([]byte(out), &got)
		want := node.json(t, http.StatusOK, http.MethodGet, "/redis_cache/"+name, "")
		if !ok || err != nil || len(got) != len(want) {
			t.Errorf("%s --json: %v, %v, want %v", name, got, err, want)
		}
	}
}

// TestStatisticsCommands prints the statistics of a known mix of requests.
func TestStatisticsCommands(t *testing.T) {
	t.Parallel()
	rds := startRedis(t)
	web := newOrigin(t)
	held := hold(t, web, "/api/v1/pickups/7")
	// The layout has no redis, so that nobody else sends requests to be attached.
	node := startCaddy(t, layout{
		connect: rds.url() + " {\n\tdial_timeout 5s\n\tread_timeout 5s\n\twrite_timeout 5s\n\t}",
		origin:  web, cache: guide, site: guideSite,
	})
	mix := make(tally)
	want := func(outcome, namespace, request string) {
		t.Helper()
		r := node.want(t, outcome, request)
		if mix.count(namespace, outcome, 1); outcome == "MISS" {
			rds.await(t, r.key())
		}
	}
	complete := func(keys, purges, listed float64) {
		t.Helper()
		eventually(t, "the statistics are those of the mix", func() bool {
			stats := node.json(t, http.StatusOK, http.MethodGet, "/redis_cache/stats", "")
			requests := 0.0
			for _, line := range stats["top_endpoints"].([]any) {
				requests += number(t, line, "requests")
			}
			return mix.differs(t, stats) == "" && number(t, stats, "keys") == keys && number(t, stats, "memory", "keys") == keys &&
				math.Round(60*number(t, stats, "invalidations_per_minute")) == purges && requests == listed
		})
	}
	eventually(t, "the node has joined", func() bool {
		return node.api(t, http.MethodGet, "/redis_cache/nodes", "").status == http.StatusOK &&
			node.json(t, http.StatusOK, http.MethodGet, "/redis_cache/stats", "")["breaker"] == "closed"
	})
	node.purge(t, `{"key":"user:nobody"}`)

	// The first pickup takes the origin longer than all users together.
	slow := make(chan string)
	go func() {
		r, err := node.try(t.Context(), http.MethodGet, "/api/v1/pickups/7", "")
		if err != nil {
			r.body = err.Error()
		}
		slow <- r.key()
	}()
	held.await(t)
	for id := range 5 {
		want("MISS", "user", fmt.Sprintf("/api/v1/users/%d", id))
	}
	complete(5, 1, 0)
	held.release()
	rds.await(t, <-slow)
	mix.count("pickup", "MISS", 1)
	for range 11 {
		want("HIT", "pickup", "/api/v1/pickups/7")
	}
	for id := range 6 {
		want("HIT", "user", fmt.Sprintf("/api/v1/users/%d", id%5))
	}
	want("BYPASS", "points", "POST /api/v1/points/1") // and purges it
	complete(6, 2, 23)

	for name, args := range map[string]string{"stats": "stats", "top": "top --count 1", "stats_json": "stats --json"} {
		out, errOut, ok := node.redisCache(t, strings.Fields(args)...)
		if !ok || errOut != "" {
			t.Errorf("%s: success %t, error output %q", args, ok, errOut)
		}
		if name == "stats_json" {
			var indented bytes.Buffer
			if err := json.Indent(&indented, []byte(out), "", "  "); err != nil {
				t.Fatal(err)
			}
			out = indented.String()
		}
		golden(t, name, out)
	}
}

// held is a path of the origin that answers when it is told to.
type held struct {
	arrived, released chan struct{} // a value for each request
}

func hold(t *testing.T, o *origin, path string) held {
	t.Helper()
	h := held{make(chan struct{}, 100), make(chan struct{}, 100)}
	o.handle(path, func(w http.ResponseWriter, r *http.Request) {
		h.arrived <- struct{}{}
		select {
		case <-h.released:
			fmt.Fprint(w, "released")
		case <-r.Context().Done():
		}
	})
	return h
}

// await waits for a request.
func (h held) await(t *testing.T) {
	t.Helper()
	select {
	case <-h.arrived:
	case <-time.After(patience):
		t.Fatal("the origin is not asked")
	}
}

// release answers the request that is there, or the next one.
func (h held) release() { h.released <- struct{}{} }

func TestTailCommand(t *testing.T) {
	t.Parallel()
	node := startCaddy(t, layout{origin: newOrigin(t), cache: guide, site: guideSite})
	node.want(t, "MISS", "/api/v1/pickups/active")
	cmd := exec.Command(binary, "redis-cache", "tail", "-n", "2", "--namespace", "pickup", "--address", node.admin)
	p := startProcess(t, "tail", cmd)
	eventually(t, "two requests are shown", func() bool {
		node.get(t, "/api/v1/pickups/active?secret=1")
		return !p.running()
	})
	golden(t, "tail", p.log.String())
}
