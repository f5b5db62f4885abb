package rediscache

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

var update = flag.Bool("update", false, "write what the golden files and pages of docs should hold")

const goldenSeparator = "\n----------\n"

// TestAdapt compares what Caddyfiles adapt to with golden files: the Caddyfile,
// a separator, and the JSON or the error.
func TestAdapt(t *testing.T) {
	files, err := filepath.Glob("testdata/*.caddyfiletest")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			input, want, _ := strings.Cut(string(content), goldenSeparator)
			got := adapt(t, input)
			if *update {
				if err := os.WriteFile(file, []byte(input+goldenSeparator+got+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != strings.TrimSpace(want) {
				t.Errorf("adapted to\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// adapt returns the JSON, indented, or the error.
func adapt(t *testing.T, input string) string {
	t.Helper()
	result, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(input), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return "error: " + err.Error()
	}
	for _, warning := range warnings {
		if !strings.Contains(warning.Message, "not formatted") {
			t.Errorf("warning: %v", warning)
		}
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, result, "", "\t"); err != nil {
		t.Fatal(err)
	}
	return indented.String()
}

// TestAdaptErrors has one row for each way of getting an option wrong. Each
// error names file and line.
func TestAdaptErrors(t *testing.T) {
	global := func(option string) string { return "{\n\tredis_cache {\n\t\t" + option + "\n\t}\n}\n" }
	site := func(option string) string { return "http://x {\n\tredis_cache {\n\t\t" + option + "\n\t}\n}\n" }
	for _, c := range []struct{ input, want string }{
		{global("compress on"), "unrecognized option of redis_cache: compress"},
		{global("enabled perhaps"), "neither true nor false"},
		{global("enabled"), "wrong argument count"},
		{global("enabled true\n\t\tenabled false"), "enabled is set twice"},
		{global("prefix a:b"), "only letters, digits"},
		{global("memory lots"), `"lots" is not a size`},
		{global("memory 0"), `"0" is not a size`},
		{global("redis http://localhost"), `"http" is not a URL scheme of Redis`},
		{global("redis localhost"), "neither a URL nor host:port"},
		{global("redis redis://localhost/nine"), "malformed"},
		{global("redis redis://a:1 redis://b:1"), "several addresses need cluster or sentinel"},
		{global("redis off redis://b:1"), "several addresses need cluster or sentinel"},
		{global("redis off {\n\t\t\tdb 1\n\t\t}"), "redis off takes no block"},
		{global("redis redis://a:1 {\n\t\t\tsentinels main\n\t\t}"), "unrecognized option of redis: sentinels"},
		{global("redis redis://a:1 {\n\t\t\tsentinel\n\t\t}"), "sentinel needs the name of the master"},
		{global("redis redis://a:1 {\n\t\t\tsentinel main other\n\t\t}"), "sentinel needs the name of the master"},
		{global("redis redis://a:1 {\n\t\t\tsentinel main {\n\t\t\t\tdb 1\n\t\t\t}\n\t\t}"), "unrecognized option of sentinel: db"},
		{global("redis redis://a:1 {\n\t\t\tsentinel main\n\t\t\tcluster\n\t\t}"), "exclude each other"},
		{global("redis redis://a:1 {\n\t\t\tcluster yes\n\t\t}"), "wrong argument count"},
		{global("redis redis://a:1 {\n\t\t\tcluster\n\t\t\tdb 1\n\t\t}"), "a cluster has only database 0"},
		{global("redis redis://a:1/1 {\n\t\t\tcluster\n\t\t}"), "a cluster has only database 0"},
		{global("redis redis://u:hidden@a:1 redis://b:1 {\n\t\t\tcluster\n\t\t}"), "the addresses differ in more than host and port"},
		{global("redis a:1 rediss://b:1 {\n\t\t\tcluster\n\t\t}"), "the addresses differ in more than host and port"},
		{global("redis a:1 b {\n\t\t\tcluster\n\t\t}"), "neither a URL nor host:port"},
		{global("redis unix:///run/redis.sock {\n\t\t\tsentinel main\n\t\t}"), "a Unix socket leads to one server"},
		{global("redis a:1 {\n\t\t\ttls on\n\t\t}"), "wrong argument count"},
		{global("redis a:1 {\n\t\t\ttls {\n\t\t\t\tcert /c.pem\n\t\t\t}\n\t\t}"), "cert and key need each other"},
		{global("redis a:1 {\n\t\t\ttls {\n\t\t\t\tca\n\t\t\t}\n\t\t}"), "wrong argument count"},
		{global("redis a:1 {\n\t\t\ttls {\n\t\t\t\tca /a\n\t\t\t\tca /b\n\t\t\t}\n\t\t}"), "ca is set twice"},
		{global("redis a:1 {\n\t\t\ttls {\n\t\t\t\tpassphrase x\n\t\t\t}\n\t\t}"), "unrecognized option of tls: passphrase"},
		{global("redis redis://a:1 {\n\t\t\tread_timeout soon\n\t\t}"), `"soon" is not a duration`},
		{global("redis redis://a:1 {\n\t\t\tdb -1\n\t\t}"), `"-1" is not a number`},
		{global("consistency strong"), "unknown value"},
		{global("collector 100"), "collector: unknown value"},
		{global("collector"), "wrong argument count"},
		{global("on redis_cache.purged {\n\t\t\tpurge all\n\t\t}"), "cannot purge"},
		{global("on x {\n\t\t}"), "no action"},
		{global("on x {\n\t\t\twarm all\n\t\t}"), "unrecognized action"},
		{global("on x {\n\t\t\tpurge everything\n\t\t}"), "unknown selector"},
		{global("on x {\n\t\t\tpurge key\n\t\t}"), "key needs a value"},
		{global("on x {\n\t\t\tpurge all a\n\t\t}"), "all takes no value"},
		{global("on x {\n\t\t\tpurge key {event.id}\n\t\t}"), "write {event.data.id}"},
		{global("on x {\n\t\t\tpurge key {evnt.a}\n\t\t}"), "{evnt.a} has no value"},
		{global("secret \"\""), "empty"},
		{global("redis localhost:6379 {\n\t\t\tread_timeout 0\n\t\t}"), "above 0"},
		{global("redis localhost:6379 {\n\t\t\tpool_size 0\n\t\t}"), "above 0"},
		{global("redis localhost:abc"), `"abc" is not a port`},
		{global("redis redis://localhost:99999"), `"99999" is not a port`},
		{global("namespace a {\n\t\t\tvary_header \"a b\"\n\t\t}"), "not the name of a field"},
		{global("on {\n\t\t}"), "wrong argument count"},
		{site("invalidate"), "wrong argument count"},
		{site("invalidate * key a"), "leave the matcher out"},
		{site("invalidate @m key a"), "unrecognized matcher"},
		{site("invalidate path a"), "unknown selector"},
		{global("circuit_breaker 5"), "wrong argument count"},
		{global("circuit_breaker {\n\t\t\tfailures\n\t\t}"), "wrong argument count"},
		{global("circuit_breaker {\n\t\t\tfailures 0\n\t\t}"), "never be closed"},
		{global("circuit_breaker {\n\t\t\tfailures many\n\t\t}"), "not a number"},
		{global("circuit_breaker {\n\t\t\trecovery 0\n\t\t}"), "above 0"},
		{global("circuit_breaker {\n\t\t\trecovery soon\n\t\t}"), "not a duration"},
		{global("circuit_breaker {\n\t\t\ttimeout 1s\n\t\t}"), "unrecognized option of circuit_breaker"},
		{global("namespace Pickup {\n\t\t}"), "lower-case letters"},
		{global("namespace a {\n\t\t}\n\t\tnamespace a {\n\t\t}"), "declared twice"},
		{global("namespace a {\n\t\t\tttl @m 5m\n\t\t}"), "matchers are not visible in a namespace"},
		{global("namespace a {\n\t\t\tbypass /x\n\t\t}"), "matchers are not visible in a namespace"},
		{"{\n\tredis_cache\n" + "\tredis_cache\n}\n", "set twice"},
		{site("esi on"), "unrecognized option of redis_cache: esi"},
		{site("stale_while_revalidate"), "wrong argument count"},
		{site("ttl"), "wrong argument count"},
		{site("ttl soon"), `"soon" is not a duration`},
		{site("ttl -5m"), `"-5m" is not a duration`},
		{site("ttl 5m always"), "is not a duration"},
		{site("ttl 5m\n\t\tttl 6m"), "ttl is set twice"},
		{site("ttl @unknown 5m"), "unrecognized matcher name: @unknown"},
		{site("ttl status 5m"), "no status is named"},
		{site("ttl status 4x4 5m"), "is not a status code"},
		{site("ttl status 429 5m"), "must not be stored"},
		{site("ttl status 412 5m"), "must not be stored"},
		{site("ttl status 101 5m"), "101 is not a final status"},
		{site("ttl adaptive 1m 1h"), "wrong argument count"},
		{site(`by_user ""`), "by_user: an empty template"},
		{site(`coalesce ""`), "unknown value"},
		{site("vary_cookie"), "wrong argument count"},
		{site("ignore_cookies"), "wrong argument count"},
		{site("refresh_ahead always"), "unknown value"},
		{site("jitter 101"), "not between 0 and 100"},
		{site("key"), "wrong argument count"},
		{site(`key "a b"`), "holds a space"},
		{site("key a inexact"), "wrong argument count"},
		{site("vary_query"), "wrong argument count"},
		{site("vary_query all page"), "wrong number of names"},
		{site("vary_query except"), "wrong number of names"},
		{site("vary_header"), "wrong argument count"},
		{site("shared yes"), "wrong argument count"},
		{site("bypass"), "bypass takes one matcher"},
		{site("bypass header"), "bypass takes one matcher"},
		{site("no_store status"), "wrong argument count"},
		{site("no_store body x"), "want status or header"},
		{site("methods GET DELETE"), `"DELETE" cannot be cached`},
		{site("heuristic 10"), "wrong argument count"},
		{site("heuristic 0 1d"), "not between 1 and 100"},
		{site("heuristic 10 0s"), "want 1 to 100 percent and a duration"},
		{site("vary_body much"), "is not a size"},
		{site("encode"), "wrong argument count"},
		{site("encode zstd 1KiB 2KiB"), "wrong argument count"},
		{site("encode zstd little"), "is not a size"},
		{site("encode gzip"), `unknown value "gzip"`},
		{site("encode off 1KiB"), "takes no size"},
		{site("encode off\n\t\tencode zstd"), "encode is set twice"},
		{site("vary_body 1KiB 2KiB"), "wrong argument count"},
		{site("client_cache_control obey"), "unknown value"},
		{site("unsafe_invalidates never"), "unknown value"},
		{site("unsafe_invalidates"), "wrong argument count"},
		{site("stale_if_error long"), "is not a duration"},
		{site("targets"), "wrong argument count"},
		{site("tag"), "wrong argument count"},
		{site("tag_header keep"), "wrong argument count"},
		{site("methods HEAD"), "GET is missing"},
		{site("max_body huge"), `"huge" is not a size`},
		{site("diagnostics loud"), `unknown value "loud"`},
		{site("credential_headers"), "wrong argument count"},
		{site("credential_headers X-Key X=Key"), `"X=Key" is not the name of a field`},
		{site("credential_headers -"), `"-" is not the name of a field`},
		{site("credential_headers -Authorization"), "always is a credential"},
		{site("credential_headers cookie"), "always is a credential"},
		{site("set_cookie keep"), `unknown value "keep"`},
		{"http://x {\n\tredis_cache pickup\n}\n", `namespace "pickup" is not declared`},
		{"http://x {\n\tredis_cache general more\n}\n", "wrong argument count"},
	} {
		got := adapt(t, c.input)
		if !strings.HasPrefix(got, "error: ") || !strings.Contains(strings.ToLower(got), strings.ToLower(c.want)) {
			t.Errorf("%s\nadapted to %s\nwant an error with %q", c.input, got, c.want)
		}
		if !strings.Contains(got, "Caddyfile:") {
			t.Errorf("the error does not name the line: %s", got)
		}
	}
}
