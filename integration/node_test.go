package integration

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// layout is what differs between the Caddyfiles of the tests.
type layout struct {
	redis   *redisServer // nil: memory only
	connect string       // what follows `redis`, in place of the server's URL and block
	unnamed bool         // nothing says where Redis is
	origin  *origin      // behind the site, nil: the site says what is behind it
	cache   string       // further lines of the global option redis_cache
	global  string       // further global options
	site    string       // the site block, but for the reverse_proxy to the origin
	plain   bool         // leave the cache out altogether
	more    string       // further site blocks
	environ []string     // added to the process's environment
	hasty   bool         // Redis is given up soon, and else has time enough for any machine
}

// caddyfile writes the layout down for the given ports.
func (l layout) caddyfile(site, admin string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "{\n\tadmin %s\n\tpersist_config off\n%s\n", admin, l.global)
	if !l.plain {
		where := "off"
		switch {
		case l.connect != "":
			where = l.connect
		case l.redis != nil:
			timeout := "5s"
			if l.hasty {
				timeout = "500ms"
			}
			where = fmt.Sprintf("%s {\n\tdial_timeout %[2]s\n\tread_timeout %[2]s\n\twrite_timeout %[2]s\n\t}", l.redis.url(), timeout)
		}
		if where = "redis " + where; l.unnamed {
			where = ""
		}
		fmt.Fprintf(&b, "\tredis_cache {\n\t%s\n%s\n\t}\n", where, l.cache)
	}
	_, port, _ := strings.Cut(site, ":")
	fmt.Fprintf(&b, "}\nhttp://:%s {\n\tbind 127.0.0.1\n%s\n", port, l.site)
	if l.redis != nil && !l.plain {
		// For attached, which has to see a response arrive in Redis.
		fmt.Fprint(&b, "\tredis_cache /attached/* {\n\tttl 1m\n\t}\n\trespond /attached/* attached\n")
	}
	if l.origin != nil {
		fmt.Fprintf(&b, "\treverse_proxy %s\n", l.origin.addr)
	}
	fmt.Fprintf(&b, "}\n%s\n", l.more)
	return b.String()
}

// node is one Caddy process.
type node struct {
	layout      layout
	site, admin string // addresses
	proc        *process
	client      *http.Client
	reloaded    atomic.Bool // whether send has to bear with lost connections
}

// startCaddy starts a node and, where its Redis runs, waits until it is attached.
func startCaddy(t *testing.T, l layout) *node {
	t.Helper()
	n := &node{
		site:   fmt.Sprintf("127.0.0.1:%d", freePort(t)),
		admin:  fmt.Sprintf("127.0.0.1:%d", freePort(t)),
		layout: l,
		client: newClient(),
	}
	t.Cleanup(n.client.CloseIdleConnections)
	n.start(t)
	return n
}

// start starts the process on the node's addresses, for the first time or again.
func (n *node) start(t *testing.T) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(file, []byte(n.layout.caddyfile(n.site, n.admin)), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "run", "--adapter", "caddyfile", "--config", file)
	n.run(t, cmd)
	if n.layout.redis != nil && n.layout.redis.proc != nil && n.layout.redis.proc.running() && !n.layout.plain {
		n.attached(t)
	}
}

// run starts the process and waits until admin API and site take connections.
func (n *node) run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.Env = environ(t, n.layout.environ...)
	proc := startProcess(t, "caddy", cmd)
	n.proc = proc
	t.Cleanup(func() {
		if proc.running() {
			proc.stop(t)
		}
		if strings.Contains(proc.log.String(), "WARNING: DATA RACE") {
			t.Errorf("the race detector spoke up:\n%s", proc.log)
		}
	})
	eventually(t, "Caddy answers", func() bool {
		if !proc.running() {
			t.Fatalf("caddy ended: %v\n%s", proc.err, proc.log)
		}
		resp, err := n.client.Get("http://" + n.admin + "/config/")
		if err != nil {
			return false
		}
		resp.Body.Close()
		conn, err := net.Dial("tcp", n.site)
		if err != nil {
			return false
		}
		conn.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// stop ends the process as an operator does.
func (n *node) stop(t *testing.T) {
	t.Helper()
	n.client.CloseIdleConnections()
	n.proc.stop(t)
}

// restart ends the process and starts another: what it knew is gone.
func (n *node) restart(t *testing.T) {
	t.Helper()
	n.stop(t)
	n.start(t)
}

var probes atomic.Int64

// attached waits until responses reach Redis and are answered from. No request
// waits for a connection, so the first ones of a node pass without.
func (n *node) attached(t *testing.T) {
	t.Helper()
	eventually(t, "the node stores in Redis", func() bool {
		path := fmt.Sprintf("/attached/%d", probes.Add(1))
		n.get(t, path)
		return within(patience/50, func() bool {
			return len(n.layout.redis.keys(t, "*"+path+":*")) > 0 && n.get(t, path).outcome() == "HIT"
		})
	})
}

// keep stores a path in memory and in Redis. A write that a busy machine takes too long for is
// dropped, and what memory alone has would never be written again.
func (n *node) keep(t *testing.T, path string) {
	t.Helper()
	eventually(t, "Redis has "+path, func() bool {
		hit := n.get(t, path)
		if hit.outcome() != "HIT" {
			return false
		}
		kept := within(patience/6, func() bool { return n.layout.redis.has(t, hit.key()) })
		if !kept {
			n.api(t, http.MethodDelete, "/redis_cache/entry?key="+url.QueryEscape(hit.key()), "")
		}
		return kept
	})
}

// reload loads a layout into the running process and returns the admin API's answer.
// When that is 200, the new configuration alone answers.
func (n *node) reload(t *testing.T, l layout) reply {
	t.Helper()
	generation := fmt.Sprintf("/generation/%d", probes.Add(1))
	l.site += "\n\trespond " + generation + " new"
	r := n.load(t, l)
	if r.status != http.StatusOK {
		return r
	}
	n.layout = l
	// Caddy answers before its old servers have stopped to accept, so that one
	// connection to the new one says little. Nothing caches a POST.
	n.client.CloseIdleConnections()
	answers := 0
	eventually(t, "the new configuration answers", func() bool {
		req, err := n.request(t.Context(), http.MethodPost, generation, "")
		if err != nil {
			t.Fatal(err)
		}
		req.Close = true
		probe, err := send(n.client, req)
		if err != nil || probe.body != "new" {
			answers = 0
			return false
		}
		answers++
		return answers == 10
	})
	return r
}

// load is reload without the wait: for a while the old configuration may answer, too.
func (n *node) load(t *testing.T, l layout) reply {
	t.Helper()
	n.reloaded.Store(true)
	return n.api(t, http.MethodPost, "/load", l.caddyfile(n.site, n.admin),
		"Content-Type: text/caddyfile", "Cache-Control: must-revalidate")
}

// api calls the admin API.
func (n *node) api(t *testing.T, method, path, body string, fields ...string) (r reply) {
	t.Helper()
	// A reload changes the socket of the admin API, too, see try.
	repeatable := n.reloaded.Load() && (method == http.MethodGet || path == "/load" || path == "/redis_cache/purge")
	var err error
	within(patience, func() bool {
		r, err = n.callAPI(t, method, path, body, fields...)
		return !repeatable || !lost(err)
	})
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return r
}

func (n *node) callAPI(t *testing.T, method, path, body string, fields ...string) (reply, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+n.admin+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		req.Header.Set(name, value)
	}
	// Every reload closes the admin server's connections, so none is kept.
	req.Close = true
	return send(n.client, req)
}

// json calls the admin API, expects the status, and decodes the answer.
func (n *node) json(t *testing.T, status int, method, path, body string) map[string]any {
	t.Helper()
	r := n.api(t, method, path, body)
	if r.status != status {
		t.Fatalf("%s %s %s: status %d, want %d: %s", method, path, body, r.status, status, r.body)
	}
	if ct := r.header.Get("Content-Type"); !strings.HasPrefix(ct, "application/json") {
		t.Errorf("%s %s: Content-Type %q", method, path, ct)
	}
	var v map[string]any
	if err := json.Unmarshal([]byte(r.body), &v); err != nil {
		t.Fatalf("%s %s: %v in %q", method, path, err, r.body)
	}
	return v
}

// purge purges and expects every live node to have confirmed.
func (n *node) purge(t *testing.T, body string) map[string]any {
	t.Helper()
	// A node that has just started may have to watch the registry for a whole
	// lease before it knows whom to wait for.
	body = strings.TrimSuffix(body, "}") + `,"wait":"10s"}`
	return n.json(t, http.StatusOK, http.MethodPost, "/redis_cache/purge", body)
}

// purgeWaits purges where that cannot be recorded.
func (n *node) purgeWaits(t *testing.T, body string) map[string]any {
	t.Helper()
	answer := n.json(t, http.StatusAccepted, http.MethodPost, "/redis_cache/purge", body)
	if cause, _ := answer["waits_for"].(string); answer["recorded"] != false || answer["standalone"] != nil || cause == "" || answer["id"] != "" {
		t.Errorf("the purge %s is answered %v", body, answer)
	}
	return answer
}

var goroutineTotal = regexp.MustCompile(`goroutine profile: total (\d+)`)

// goroutines returns how many goroutines the process has.
func (n *node) goroutines(t *testing.T) int {
	t.Helper()
	r := n.api(t, http.MethodGet, "/debug/pprof/goroutine?debug=1", "")
	m := goroutineTotal.FindStringSubmatch(r.body)
	if m == nil {
		t.Fatalf("no goroutine count in %q", tail(r.body, 3))
	}
	total, _ := strconv.Atoi(m[1])
	return total
}

func (n *node) url(path string) string { return "http://" + n.site + path }

// originRequests counts what the origin has seen, 0 without one.
func (n *node) originRequests() int {
	if n.layout.origin == nil {
		return 0
	}
	return n.layout.origin.requests()
}
