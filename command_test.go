package rediscache

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
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
			"nodes", `{"nodes":[{"id":"a","self":true},{"id":"bcd","lag_seconds":1.5}]}`, "GET /redis_cache/nodes",
			"ID   SELF  LAG_SECONDS\na    true\nbcd        1.5\n",
		},
		{"journal --limit 2", `{"entries":[]}`, "GET /redis_cache/journal?limit=2", "none\n"},
		{"entries --namespace n", `{"entries":[{"key":"k"}],"cursor":"c"}`, "GET /redis_cache/entries?namespace=n", "KEY\nk\ncursor: c\n"},
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
			"top -n 1", `{"requests":{"total":2,"HIT":2},"hit_rate":{"1h":1}}`, "GET /redis_cache/stats",
			"Requests/s: -   Hit Rate: 100.0%   Keys: 0   Size: 0 B\nRequests: total 2, HIT 2\n\nNAMESPACE  REQUESTS  HIT RATE  KEYS\n",
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

func TestStatsCommand(t *testing.T) {
	_, out, err := runCommand(t, http.StatusOK, `{"keys":2387,"bytes":8700000,"hit_rate":{"1h":0.873,"24h":0.912},
		"namespaces":{"user":{"keys":673,"share":0.282},"pickup":{"keys":842,"share":0.353}},
		"top_endpoints":[{"endpoint":"/a","hit_rate":0.987}],"nodes":[{"id":"n"}]}`, "stats", "--window", "24h")
	want := `===== REDIS CACHE STATISTICS =====
Total Keys: 2,387
Total Cache Size: 8.7 MB

Hit Rate (Last Hour): 87.3%
Hit Rate (Last 24h): 91.2%
Requests: total 0

Namespace Distribution:
- pickup: 842 keys (35.3%)
- user: 673 keys (28.2%)

Top Endpoints by Hit Rate:
1. /a - 98.7%

Nodes:
ID
n
`
	if err != nil || out != want {
		t.Errorf("printed\n%s\nerror %v", out, err)
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
		{"purge --all", 503, `{"error":"away"}`, "away"},
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
			if err == nil || !strings.Contains(err.Error(), tt.says) {
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
