package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// TestCommandHelp has every command explain itself with an example.
func TestCommandHelp(t *testing.T) {
	t.Parallel()
	want := []string{
		"disable", "doctor", "enable", "entries", "explain", "journal", "nodes", "purge", "stats", "tail", "top", "warm",
	}
	if got := completions(t, "redis-cache", ""); !slices.Equal(got, want) {
		t.Errorf("commands are %q, want %q", got, want)
	}
	for _, name := range want {
		out, errOut, status := harness.RunCommand(t, "redis-cache", name, "--help")
		if status != 0 || errOut != "" || !strings.Contains(out, "\nExamples:\n  caddy redis-cache "+name) || strings.HasPrefix(out, "\n") {
			t.Errorf("%s --help: status %d, %q\n%s", name, status, errOut, out)
		}
	}
	for _, args := range [][]string{{"redis-cache"}, {"help", "redis-cache"}} {
		out, errOut, status := harness.RunCommand(t, args...)
		if status != 0 || errOut != "" || !strings.Contains(out, "\nAvailable Commands:\n  disable ") {
			t.Errorf("%v: status %d, %q\n%s", args, status, errOut, out)
		}
	}
}

// completions are what the shell offers after these words.
func completions(t *testing.T, words ...string) []string {
	t.Helper()
	out, _, status := harness.RunCommand(t, append([]string{"__complete"}, words...)...)
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if last := len(lines) - 1; status != 0 || lines[last] != ":4" { // no names of files
		t.Fatalf("%q: status %d, %q", words, status, out)
	}
	offered := []string{}
	for _, line := range lines[:len(lines)-1] {
		word, _, _ := strings.Cut(line, "\t")
		offered = append(offered, word)
	}
	return offered
}

func TestCommandCompletion(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		line string // with the word to be completed last, - if there is nothing of it
		want []string
	}{
		{"redis-c", []string{"redis-cache"}},
		{"redis-cache st", []string{"stats"}},
		{"redis-cache nodes -", []string{}},
		{"redis-cache stats --window -", []string{"1h", "24h"}},
		{"redis-cache top --window -", []string{"1h", "24h"}},
		{"redis-cache explain --method -", []string{"GET", "HEAD", "POST", "QUERY"}},
		{"redis-cache tail --outcome -", []string{"HIT", "MISS", "STALE", "REVALIDATED", "BYPASS"}},
		{"redis-cache purge --namespace -", []string{}},
		{"redis-cache stats --address -", []string{}},
	} {
		words := strings.Fields(tt.line)
		if last := len(words) - 1; words[last] == "-" {
			words[last] = ""
		}
		if got := completions(t, words...); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.line, got, tt.want)
		}
	}
	out, errOut, status := harness.RunCommand(t, "completion", "bash")
	if status != 0 || errOut != "" || !strings.Contains(out, "__complete") {
		t.Errorf("completion: status %d, %q\n%s", status, errOut, harness.Tail(out, 5))
	}
}

// TestCommandAddress finds the admin API by address and by configuration.
func TestCommandAddress(t *testing.T) {
	t.Parallel()
	node := harness.StartCaddy(t, harness.Layout{Site: "respond ok"})
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	nobody := fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t))
	caddyfile := write("Caddyfile", "{\n\tadmin "+node.Admin+"\n}\n")
	other := write("site", "{\n\tadmin "+node.Admin+"\n}\n")
	config := write("caddy.json", `{"admin":{"listen":"`+node.Admin+`"}}`)
	dead := write("dead.json", `{"admin":{"listen":"`+nobody+`"}}`)
	broken := write("broken.json", `{"admin":`)
	wrong := write("wrong.Caddyfile", "{\n\tcolour red\n}\n")

	for _, tt := range []struct {
		args []string
		says string // empty: it succeeds
	}{
		{[]string{"--address", node.Admin}, ""},
		{[]string{"--config", config}, ""},
		{[]string{"-c", caddyfile}, ""},
		{[]string{"--config", other, "--adapter", "caddyfile"}, ""},
		{[]string{"--address", node.Admin, "--config", dead}, ""},

		{[]string{"--address", nobody}, "admin API at " + nobody + ": "},
		{[]string{"--config", dead}, "admin API at " + nobody + ": "},
		{[]string{"--address", "nonsense:port"}, "nonsense"},
		{[]string{"--config", filepath.Join(dir, "none")}, "no such file"},
		{[]string{"--config", broken}, "unexpected end of JSON"},
		{[]string{"--config", other, "--adapter", "toml"}, "toml"},
		{[]string{"--config", wrong, "--adapter", "caddyfile"}, "wrong.Caddyfile:2"},
	} {
		out, errOut, status := harness.RunCommand(t, append([]string{"redis-cache", "stats", "--json"}, tt.args...)...)
		if tt.says == "" {
			var stats map[string]any
			if err := json.Unmarshal([]byte(out), &stats); err != nil || status != 0 || stats["breaker"] != "off" {
				t.Errorf("%q: status %d, %v, %s\n%s", tt.args, status, err, out, errOut)
			}
			continue
		}
		if status != 1 || out != "" || !strings.Contains(errOut, "Error: ") || !strings.Contains(errOut, tt.says) {
			t.Errorf("%q: status %d, %q, want 1 and %q\n%s", tt.args, status, errOut, tt.says, out)
		}
	}
}

// TestCommandStatus looks at how commands fail.
func TestCommandStatus(t *testing.T) {
	t.Parallel()
	with := harness.StartCaddy(t, harness.Layout{Site: "respond ok"})
	without := harness.StartCaddy(t, harness.Layout{Plain: true, Site: "respond ok"})
	for _, tt := range []struct {
		node *harness.Node
		args string
		says string // all that is printed
	}{
		{with, "purge", "Error: nothing is selected: want any of --namespace, --tag, --key, --pattern, --url, --prefix, --host, --user or --all"},
		{with, "purge --colour red", "Error: unknown flag: --colour"},
		{with, "nonsense", `Error: unknown command "nonsense" for "caddy redis-cache"`},
		{with, "nodes more", `Error: unknown command "more" for "caddy redis-cache nodes"`},
		{with, "stats --window 2h", `Error: --window "2h" is neither 1h nor 24h`},
		{with, "explain", "Error: accepts 1 arg(s), received 0"},
		{with, "warm", "Error: requires at least 1 arg(s), only received 0"},
		{with, "top --interval soon", `Error: invalid argument "soon" for "--interval" flag: time: invalid duration "soon"`},
		{with, "entries --limit 0", "Error: asking the admin API at " + with.Admin + `: caddy responded with error: HTTP 400: limit: "0" is not between 1 and 1000`},
		{without, "stats", "Error: asking the admin API at " + without.Admin + ": caddy responded with error: HTTP 503: no configuration with redis_cache runs"},
	} {
		out, errOut, ok := tt.node.RedisCache(t, strings.Fields(tt.args)...)
		if ok || out != "" || errOut != tt.says+"\n" {
			t.Errorf("%s: success %t, printed %q and %q, want %q", tt.args, ok, out, errOut, tt.says)
		}
	}
}
