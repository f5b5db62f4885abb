package config

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// TestBadCaddyfiles adapts what cannot be meant. Each error names file and line,
// and what is wrong there.
func TestBadCaddyfiles(t *testing.T) {
	t.Parallel()
	node := harness.StartCaddy(t, harness.Layout{Site: "respond ok"})
	for _, tt := range []struct {
		global, site string // lines of the option and of the directive; a ! ends the wrong one
		says         string
	}{
		{"colour red!", "", "colour"},
		{"enabled perhaps!", "", "perhaps"},
		{"enabled!", "", ""},
		{"prefix a:b!", "", "a:b"},
		{"memory lots!", "", "lots"},
		{"memory -1MiB!", "", "-1MiB"},
		{"redis http://127.0.0.1!", "", "http"},
		{"redis redis://127.0.0.1:port/0!", "", "URL"},
		{"redis redis://127.0.0.1/x!", "", ""},
		{"redis redis://127.0.0.1 {\ncolour red!\n}", "", "colour"},
		{"redis redis://127.0.0.1 {\ndial_timeout soon!\n}", "", "soon"},
		{"redis redis://127.0.0.1 {\npool_size many!\n}", "", "many"},
		{"redis off\nredis off!", "", "redis"},
		{"namespace Pick!", "", "Pick"},
		{"namespace!", "", ""},
		{"namespace a b!", "", ""},
		{"namespace a {\nttl 5m\n}\nnamespace a!", "", "a"},
		{"namespace a {\ncolour red!\n}", "", "colour"},
		{"namespace a {\nbypass @m!\n}", "", "@m"},
		{"namespace a {\nttl @m 5m!\n}", "", "@m"},
		{"", "ttl!", ""},
		{"", "ttl soon!", "soon"},
		{"", "ttl -5m!", "-5m"},
		{"", "ttl 5m overide!", "overide"},
		{"", "ttl 5m\nttl 6m!", "ttl"},
		{"", "ttl @nobody 5m!", "@nobody"},
		{"", "ttl status 5m!", ""},
		{"", "ttl status 99 5m!", "99"},
		{"", "ttl status 4x 5m!", "4x"},
		{"", "jitter 101!", "101"},
		{"", "jitter much!", "much"},
		{"", "key!", ""},
		{"", "key a exactly!", "exactly"},
		{"", "vary_query!", ""},
		{"", "vary_query all page!", "all"},
		{"", "vary_query except!", "except"},
		{"", "vary_header!", ""},
		{"", "vary_cookie!", ""},
		{"", "by_user!", ""},
		{"", "by_user a b!", ""},
		{"", "shared yes!", ""},
		{"", "ignore_cookies!", ""},
		{"", "bypass!", ""},
		{"", "bypass @nobody!", "@nobody"},
		{"", "no_store!", ""},
		{"", "no_store body x!", "body"},
		{"", "no_store status abc!", "abc"},
		{"", "methods!", ""},
		{"", "methods GET FETCH,POST!", "FETCH,POST"},
		{"", "max_body huge!", "huge"},
		{"", "diagnostics some!", "some"},
		{"", "set_cookie eat!", "eat"},
		// Options of later versions are unknown, not ignored.
		{"", "esi on!", "esi"},
		{"", "coalesce sometimes!", "sometimes"},
		{"consistency strong!", "", "consistency"},
		{"circuit_breaker {\nfailures none!\n}", "", "none"},
		{"on changed {\nwarm all!\n}", "", "unrecognized action"},
	} {
		t.Run(tt.global+tt.site, func(t *testing.T) {
			text := "{\nredis_cache {\n" + tt.global + "\n}\n}\nhttp://:80 {\nredis_cache {\n" + tt.site + "\n}\n}\n"
			refused(t, node, text, tt.says)
		})
	}
	for says, text := range map[string]string{
		"nowhere": "{\nredis_cache {\nnamespace a\n}\n}\nhttp://:80 {\nredis_cache /x nowhere!\n}\n",
		"points":  "http://:80 {\nredis_cache points!\n}\n",
		"a b":     "{\nredis_cache {\nnamespace a\nnamespace b\n}\n}\nhttp://:80 {\nredis_cache a b!\n}\n",
		"twice":   "{\nredis_cache {\nprefix a\n}\nredis_cache {!\nprefix b\n}\n}\nhttp://:80 {\n}\n",
	} {
		t.Run(says, func(t *testing.T) { refused(t, node, text, strings.Fields(says)[0]) })
	}
}

// refused adapts a Caddyfile whose wrong line ends in a ! and expects an error
// there that says something.
func refused(t *testing.T, n *harness.Node, text, says string) {
	t.Helper()
	wrong := 0
	for i, line := range strings.Split(text, "\n") {
		if strings.HasSuffix(line, "!") {
			wrong = i + 1
		}
	}
	r := n.API(t, http.MethodPost, "/adapt", strings.ReplaceAll(text, "!\n", "\n"), "Content-Type: text/caddyfile")
	var answer struct {
		Error string `json:"error"`
	}
	if err := json.Unmarshal([]byte(r.Body), &answer); err != nil || r.Status == http.StatusOK {
		t.Fatalf("status %d: %s", r.Status, r.Body)
	}
	if !strings.Contains(answer.Error, fmt.Sprintf("Caddyfile:%d", wrong)) || !strings.Contains(answer.Error, says) {
		t.Errorf("error %q, want line %d and %q", answer.Error, wrong, says)
	}
}

// TestValidate checks by the command, with nothing listening where Redis should
// be: it looks at the configuration and touches no network.
func TestValidate(t *testing.T) {
	t.Parallel()
	silent := harness.Answering(t, "")
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("s3cret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, global string
		says         string // empty: valid
	}{
		{"redis down", "redis " + harness.ReserveRedis(t).URL(), ""},
		{"redis silent", "redis " + silent.URL(), ""},
		{"redis off", "redis off", ""},
		{"nothing left", "redis off\nmemory off", "memory"},
		{"password from a file", "redis redis://127.0.0.1 {\npassword {file." + secret + "}\n}", ""},
		{"unknown option", "colour red", "colour"},
		{"wrong size", "memory lots", "lots"},
		{"namespace is the prefix", "prefix shop\nnamespace shop", "shop"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "Caddyfile")
			text := "{\nadmin off\nredis_cache {\n" + tt.global + "\n}\n}\nhttp://:80 {\nredis_cache\n}\n"
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := harness.Command(t, "validate", "--adapter", "caddyfile", "--config", file)
			if (err == nil) != (tt.says == "") || !strings.Contains(out, tt.says) {
				t.Errorf("%v, output\n%s", err, out)
			}
		})
	}
}

// TestVariablesOfOthers has variables in front that are called like the cache: it caches all
// the same, and a second cache behind still passes the request through.
func TestVariablesOfOthers(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"redis_cache", "http.handlers.redis_cache", `"http.handlers.redis_cache has taken the request"`, "http.vars.redis_cache"} {
		node := harness.StartCaddy(t, harness.Layout{Origin: harness.NewOrigin(t), Site: "route {\nvars " + name + " x\nredis_cache {\nttl 1m\n}\nredis_cache {\nttl 1m\n}\n}"})
		node.Want(t, "MISS", "/a")
		hit := node.Want(t, "HIT", "/a")
		if members := strings.Join(hit.Header.Values("Cache-Status"), ", "); strings.Count(members, "redis_cache") != 1 {
			t.Errorf("%s: %q", name, members)
		}
	}
}
