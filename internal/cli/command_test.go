package cli

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// runCommand runs a command against an admin API that gives one answer. It
// returns what was asked and what was printed.
func runCommand(t *testing.T, status int, answer string, args ...string) (asked, out string, err error) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = strings.TrimSpace(fmt.Sprintf("%s %s %s", r.Method, r.URL, body))
		w.WriteHeader(status)
		fmt.Fprint(w, answer)
	}))
	defer server.Close()
	parent := &cobra.Command{Use: "redis-cache", SilenceUsage: true, SilenceErrors: true}
	addCommands(parent)
	var printed bytes.Buffer
	parent.SetOut(&printed)
	parent.SetArgs(append(args, "--address", server.Listener.Addr().String()))
	err = parent.ExecuteContext(t.Context())
	return asked, printed.String(), err
}

func TestCommands(t *testing.T) {
	at := time.Now().Truncate(time.Second)
	for _, tt := range []struct {
		args, answer, asked, out string
	}{
		{
			"nodes", `{"nodes":[{"id":"a","self":true},{"id":"bcd","lag_seconds":0.01234},{"id":"e","lag_seconds":61}]}`, "GET /redis_cache/nodes",
			"ID   SELF   LAG\na    true\nbcd        12ms\ne          1m1s\n",
		},
		{"journal --limit 2", `{"entries":[]}`, "GET /redis_cache/journal?limit=2", "none\n"},
		{
			"journal", `{"entries":[{"time":"` + at.UTC().Format(time.RFC3339Nano) + `","op":"purge","removed":7},{"time":"?","op":"enable"}]}`,
			"GET /redis_cache/journal?limit=100", fmt.Sprintf("%-19s  %-6s  REMOVED\n%-19s  purge         7\n%-19s  enable\n", "TIME", "OP", at.Format(time.DateTime), "?"),
		},
		{
			"entries --namespace n", `{"entries":[{"key":"k","url":"u","ttl_remaining":-3,"size":3000,"age":7203.4}],"cursor":"c"}`,
			"GET /redis_cache/entries?limit=100&namespace=n", "  SIZE     AGE  TTL REMAINING  KEY\n3.0 kB  2h0m3s            -3s  k\ncursor: c\n",
		},
		{"disable --namespace n", `{"disabled":["n"]}`, `POST /redis_cache/disable {"namespace":"n"}`, "disabled: n\n"},
		{"enable", `{}`, `POST /redis_cache/enable {}`, ""},
		{
			"purge --tag a,b --tag c --soft --wait 2s", `{"id":"1-0"}`,
			`POST /redis_cache/purge {"dry_run":false,"soft":true,"tags":["a,b","c"],"wait":"2s"}`, "id: 1-0\n",
		},
		{
			"explain http://h/ --method HEAD", `{"advice":["do"],"z":1,"a":{"b":"x"}}`,
			"GET /redis_cache/explain?method=HEAD&url=http%3A%2F%2Fh%2F", "z: 1\na:\n  b: x\n\nAdvice: do\n",
		},
		{
			"tail -n 1 --outcome hit", `{"dropped":3}` + "\n" + `{"outcome":"HIT","tier":"memory","path":"/a","method":"GET","status":200,"time":"` + at.Format(time.RFC3339) + `"}`,
			"GET /redis_cache/tail?outcome=HIT", "… 3 requests came too fast to be shown\n" + at.Format("15:04:05.000") + " HIT         memory      0.00ms 200 GET /a\n",
		},
		{
			"top -n 1", `{"window":"24h","requests":{"total":2,"HIT":2},"hit_rate":{"1h":1,"24h":0.5},"namespaces":{"user":{"keys":12,"hit_rate":1}}}`,
			"GET /redis_cache/stats",
			"Requests/s: -   Hit Rate: 50.0%   Keys: 0   Size: 0 B\nRequests: total 2, HIT 2, STALE 0, REVALIDATED 0, MISS 0, BYPASS 0\n\n" +
				"NAMESPACE  REQUESTS  HIT RATE  KEYS\nuser              0    100.0%    12\n",
		},
		{"nodes --json", `{"nodes": [] }`, "GET /redis_cache/nodes", `{"nodes": [] }`},
		{"enable", `{"x":"\u001b[2J\u009b"}`, `POST /redis_cache/enable {}`, "x: \uFFFD[2J\uFFFD\n"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			asked, out, err := runCommand(t, http.StatusOK, tt.answer, strings.Fields(tt.args)...)
			if err != nil || asked != tt.asked || out != tt.out {
				t.Errorf("asked %q\nprinted %q\nerror %v\nwant %q\nand %q", asked, out, err, tt.asked, tt.out)
			}
		})
	}
}

// TestStatsCommand has the report of the guide first.
func TestStatsCommand(t *testing.T) {
	asked, out, err := runCommand(t, http.StatusOK, `{"window":"24h","keys":2387,"bytes":8700000,"hit_rate":{"1h":0.873,"24h":0.912},
		"requests":{"total":1600,"HIT":1200,"MISS":400},"coalesced":30,"errors":{"corrupt":0,"redis":3,"other_version":{"count":0},
			"dropped_write":{"count":1200,"last":"OOM\u001b","at":"2026-11-30T10:00:00Z"}},"invalidations_per_minute":0.05,
		"namespaces":{"user":{"keys":673,"share":0.282},"pickup":{"keys":842,"share":0.353}},
		"ttl_distribution":{"<1m":2387},"duration_ms":{"miss":{"mean":87,"p99":1234},"hit":{"mean":0.4,"p99":3}},
		"top_endpoints":[{"endpoint":"/a","hit_rate":0.987}],
		"bottom_endpoints":[{"endpoint":"/c","hit_rate":0.421,"requests":2000,"origin_ms":900.4},{"endpoint":"/b","hit_rate":0.612,"requests":10}],
		"costly_endpoints":[{"endpoint":"/b","hit_rate":0.612,"requests":10,"origin_ms":71000},{"endpoint":"/few","requests":9,"origin_ms":70000},
			{"endpoint":"/c","hit_rate":0.421,"requests":2000,"origin_ms":900.4}],"alone":true,
		"nodes":[{"id":"n","self":true,"live":true,"hit_rate":0.5,"breaker":"closed","memory":{"keys":12,"bytes":1048576,"max":268435456,"evictions":1}},{"id":"old"}]}`,
		"stats", "--window", "24h")
	want := `===== REDIS CACHE STATISTICS =====
Total Keys: 2,387
Total Cache Size: 8.7 MB

Hit Rate (Last Hour): 87.3%
Hit Rate (Last 24h): 91.2%

Namespace Distribution:
- pickup: 842 keys (35.3%)
- user: 673 keys (28.2%)

Top Endpoints by Hit Rate:
1. /a - 98.7%

Bottom Endpoints by Hit Rate:
1. /c - 42.1%
2. /b - 61.2%
Redis gives no answer: the figures may be of this node alone.

Requests (Last 24h): 1,600
- HIT: 1,200 (75.0%)
- STALE: 0 (0.0%)
- REVALIDATED: 0 (0.0%)
- MISS: 400 (25.0%)
- BYPASS: 0 (0.0%)
Answered by the fetch of another request: 30
Invalidations per Minute: 0.05
Errors (dropped_write): 1,200, the last at 2026-11-30T10:00:00Z: OOM�
Errors (redis): 3

Response Time:
ANSWER   MEAN  P50  P95   P99
hit     400µs   0s   0s   3ms
miss     87ms   0s   0s  1.2s

TTL Distribution:
- <1m: 2,387 keys (100.0%)
- <5m: 0 keys (0.0%)
- <1h: 0 keys (0.0%)
- <24h: 0 keys (0.0%)
- >=24h: 0 keys (0.0%)
- stale: 0 keys (0.0%)

Endpoints by Origin Time:
1. /b - 1m11s in 10 requests
2. /few - 1m10s in 9 requests
3. /c - 900ms in 2,000 requests

Nodes:
ID   STATE  REQUESTS  HIT RATE  BREAKER              MEMORY  KEYS  EVICTIONS
n    self          0     50.0%  closed   1.0 MiB of 256 MiB    12          1
old  gone          0      0.0%
`
	if err != nil || asked != "GET /redis_cache/stats?window=24h" || out != want {
		t.Errorf("asked %s, printed\n%s\nerror %v", asked, out, err)
	}
}

func TestCommandErrors(t *testing.T) {
	for _, tt := range []struct {
		args   string
		status int
		answer string
		says   string
	}{
		{"purge", 200, `{}`, "nothing is selected"},
		{"purge --all", 202, `{"pending":["n1"]}`, "pending: n1"},
		{"purge --all", 202, `{"pending":[],"replicated":false}`, "no replica"},
		{"purge --all", 503, "{\"error\":\"away: \\\"x\\\"\"}\n", `HTTP 503: away: "x"`},
		{"nodes", 404, "404 page not found\n", "HTTP 404: 404 page not found"},
		{"stats --window 2h", 200, `{}`, "2h"},
		{"nodes x", 200, `{}`, "x"},
		{"nodes --colour", 200, `{}`, "colour"},
		{"nodes", 200, `[]`, "JSON object"},
		{"explain", 200, `{}`, "arg"},
		{"tail", 200, ``, "ended"},
		{"top --interval 0s", 200, `{}`, "positive"},
		{"warm http://h/ --header x", 200, `{}`, "Name: value"},
		{"warm http://h/", 202, `{"total":1,"done":1,"failed":1,"results":[{"url":"http://h/","status":500}]}`, "1 of 1"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			_, _, err := runCommand(t, tt.status, tt.answer, strings.Fields(tt.args)...)
			if err == nil || !strings.Contains(err.Error(), tt.says) || strings.ContainsRune(err.Error(), utf8.RuneError) {
				t.Errorf("error %v, want one with %q", err, tt.says)
			}
		})
	}
}

// TestUnconfirmedCommand has a node that does not confirm.
func TestUnconfirmedCommand(t *testing.T) {
	for _, args := range []string{"purge --namespace a", "disable --namespace a --wait 1s --by me", "enable"} {
		_, out, err := runCommand(t, http.StatusAccepted, `{"id":"1-0","pending":["n"]}`, strings.Fields(args)...)
		if err == nil || !strings.HasSuffix(err.Error(), "pending: n") || !strings.HasPrefix(out, "id: 1-0") {
			t.Errorf("%s: printed %q, error %v", args, out, err)
		}
	}
	if _, _, err := runCommand(t, http.StatusOK, "", "tail", "-n", "-1"); err == nil {
		t.Error("a negative count is accepted")
	}
}

// TestCommandFlags completes no flag with names of files but --config.
func TestCommandFlags(t *testing.T) {
	parent := &cobra.Command{Use: "redis-cache"}
	addCommands(parent)
	for _, cmd := range append(parent.Commands(), parent) {
		check := func(flag *pflag.Flag) {
			if _, known := cmd.GetFlagCompletionFunc(flag.Name); known == (flag.Name == "config") {
				t.Errorf("%s --%s: completed %t", cmd.Name(), flag.Name, known)
			}
		}
		cmd.Flags().VisitAll(check)
		cmd.PersistentFlags().VisitAll(check)
	}
}

func TestParseHeader(t *testing.T) {
	got, err := parseHeader([]string{"accept-language: de", "X-A:b:c", "Accept-Language:en ", "Cookie: a=1", "cookie: b=2"})
	if want := map[string]string{"Accept-Language": "de, en", "X-A": "b:c", "Cookie": "a=1; b=2"}; err != nil || !maps.Equal(got, want) {
		t.Errorf("%q %v, want %q", got, err, want)
	}
	for _, line := range []string{"", "x", ": y"} {
		if got, err := parseHeader([]string{line}); err == nil {
			t.Errorf("%q is taken for %q", line, got)
		}
	}
}

func TestDoctorCommand(t *testing.T) {
	const warning = `{"ok":true,"checks":[{"name":"redis","status":"ok","detail":"d"},{"name":"memory","status":"warn","detail":"e","advice":"do"}]}`
	const failing = `{"ok":false,"checks":[{"name":"redis","status":"fail","detail":"d"}]}`
	for _, tt := range []struct{ args, answer, out, says string }{
		{"doctor", warning, "ok    redis          d\nwarn  memory         e\n                     do\n", ""},
		{"doctor --strict --json", warning, warning, "warnings: 1"},
		{"doctor", failing, "fail  redis          d\n", "failed checks: 1"},
		{"doctor", `{}`, "", "no checks"},
	} {
		asked, out, err := runCommand(t, http.StatusOK, tt.answer, strings.Fields(tt.args)...)
		said := ""
		if err != nil {
			said = err.Error()
		}
		if asked != "GET /redis_cache/doctor" || out != tt.out || !strings.Contains(said, tt.says) || (said == "") != (tt.says == "") {
			t.Errorf("%s: asked %q\nprinted %q\nerror %v", tt.args, asked, out, err)
		}
	}
}
