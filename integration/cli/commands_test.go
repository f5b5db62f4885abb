package cli

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

var updateGolden = flag.Bool("golden.update", false, "write what commands print to their golden files")

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
	path := filepath.Join("testdata", name+".golden")
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
	rds := harness.StartRedis(t)
	web := harness.NewOrigin(t)
	web.Answer("/none", http.StatusInternalServerError, "")
	node := harness.StartCaddy(t, harness.Layout{Redis: rds, Origin: web, Cache: harness.GuideCache, Site: harness.GuideSite})
	node.Attached(t)
	rds.Await(t, node.Want(t, "MISS", "/api/v1/pickups/active").Key())
	node.Want(t, "HIT", "/api/v1/pickups/active")
	page := node.URL("/api/v1/pickups/active")

	for _, tt := range []struct {
		name string
		args string
		ok   bool
	}{
		{"explain_hit", "explain " + page + " --header Host:" + harness.SiteHost, true},
		{"entries", "entries --namespace pickup", true},
		{"purge", "purge --namespace pickup --by me --reason why --wait 10s", true},
		{"explain_miss", "explain " + page + " --header Host:" + harness.SiteHost, true},
		{"dry_run", "purge --namespace pickup --dry-run --wait 10s", true},
		{"disable", "disable --namespace pickup --wait 10s", true},
		{"explain_off", "explain " + page + " --header Host:" + harness.SiteHost, true},
		{"enable", "enable --wait 10s", true},
		{"nodes", "nodes", true},
		{"journal", "journal --limit 2", true},
		{"warm", "warm " + page + " --header Host:" + harness.SiteHost, true},
		{"warm_failed", "warm " + node.URL("/none"), false},
		{"doctor", "doctor", true},
	} {
		out, errOut, ok := node.RedisCache(t, strings.Fields(tt.args)...)
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
		out, _, ok := node.RedisCache(t, name, "--json")
		var got map[string]any
		err := json.Unmarshal([]byte(out), &got)
		want := node.JSON(t, http.StatusOK, http.MethodGet, "/redis_cache/"+name, "")
		if !ok || err != nil || len(got) != len(want) {
			t.Errorf("%s --json: %v, %v, want %v", name, got, err, want)
		}
	}
}

// held is a path of the origin that answers when it is told to.
type held struct {
	arrived, released chan struct{} // a value for each request
}

func hold(t *testing.T, o *harness.Origin, path string) held {
	t.Helper()
	h := held{make(chan struct{}, 100), make(chan struct{}, 100)}
	o.Handle(path, func(w http.ResponseWriter, r *http.Request) {
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
	case <-time.After(harness.Patience):
		t.Fatal("the origin is not asked")
	}
}

// release answers the request that is there, or the next one.
func (h held) release() { h.released <- struct{}{} }

func TestTailCommand(t *testing.T) {
	t.Parallel()
	node := harness.StartCaddy(t, harness.Layout{Origin: harness.NewOrigin(t), Cache: harness.GuideCache, Site: harness.GuideSite})
	node.Want(t, "MISS", "/api/v1/pickups/active")
	cmd := exec.Command(harness.Binary, "redis-cache", "tail", "-n", "2", "--namespace", "pickup", "--address", node.Admin)
	p := harness.StartProcess(t, "tail", cmd)
	harness.Eventually(t, "two requests are shown", func() bool {
		node.Get(t, "/api/v1/pickups/active?secret=1")
		return !p.Running()
	})
	golden(t, "tail", p.Log.String())
}
