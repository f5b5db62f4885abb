package harness

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

// ID is the node's name in the registry.
func (n *Node) ID(t *testing.T) string {
	t.Helper()
	for _, line := range n.JSON(t, http.StatusOK, http.MethodGet, "/redis_cache/nodes", "")["nodes"].([]any) {
		if line := line.(map[string]any); line["self"] == true {
			return line["id"].(string)
		}
	}
	t.Fatal("the node does not list itself")
	return ""
}

// Layout is what differs between the Caddyfiles of the tests.
type Layout struct {
	Redis   *Redis   // nil: memory only
	Connect string   // what follows `redis`, in place of the server's URL and block
	Unnamed bool     // nothing says where Redis is
	Origin  *Origin  // behind the site, nil: the site says what is behind it
	Cache   string   // further lines of the global option redis_cache
	Global  string   // further global options
	Site    string   // the site block, but for the reverse_proxy to the origin
	Plain   bool     // leave the cache out altogether
	More    string   // further site blocks
	Environ []string // added to the process's environment
	Hasty   bool     // Redis is given up soon, and else has time enough for any machine
}

// caddyfile writes the layout down for the given ports.
func (l Layout) caddyfile(site, admin string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "{\n\tadmin %s\n\tpersist_config off\n%s\n", admin, l.Global)
	if !l.Plain {
		where := "off"
		switch {
		case l.Connect != "":
			where = l.Connect
		case l.Redis != nil:
			timeout := "5s"
			if l.Hasty {
				timeout = "500ms"
			}
			where = fmt.Sprintf("%s {\n\tdial_timeout %[2]s\n\tread_timeout %[2]s\n\twrite_timeout %[2]s\n\t}", l.Redis.URL(), timeout)
		}
		if where = "redis " + where; l.Unnamed {
			where = ""
		}
		fmt.Fprintf(&b, "\tredis_cache {\n\t%s\n%s\n\t}\n", where, l.Cache)
	}
	_, port, _ := strings.Cut(site, ":")
	fmt.Fprintf(&b, "}\nhttp://:%s {\n\tbind 127.0.0.1\n%s\n", port, l.Site)
	if l.Redis != nil && !l.Plain {
		// For attached, which has to see a response arrive in Redis.
		fmt.Fprint(&b, "\tredis_cache /attached/* {\n\tttl 1m\n\t}\n\trespond /attached/* attached\n")
	}
	if l.Origin != nil {
		fmt.Fprintf(&b, "\treverse_proxy %s\n", l.Origin.Addr)
	}
	fmt.Fprintf(&b, "}\n%s\n", l.More)
	return b.String()
}

// Node is one Caddy process.
type Node struct {
	Layout      Layout
	Site, Admin string // addresses
	Proc        *process
	Client      *http.Client
	reloaded    atomic.Bool // whether send has to bear with lost connections
}

// StartCaddy starts a node and, where its Redis runs, waits until it is attached.
func StartCaddy(t *testing.T, l Layout) *Node {
	t.Helper()
	n := &Node{
		Site:   fmt.Sprintf("127.0.0.1:%d", FreePort(t)),
		Admin:  fmt.Sprintf("127.0.0.1:%d", FreePort(t)),
		Layout: l,
		Client: NewClient(),
	}
	t.Cleanup(n.Client.CloseIdleConnections)
	n.Start(t)
	return n
}

// Start starts the process on the node's addresses, for the first time or again.
func (n *Node) Start(t *testing.T) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(file, []byte(n.Layout.caddyfile(n.Site, n.Admin)), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(Binary, "run", "--adapter", "caddyfile", "--config", file)
	n.Run(t, cmd)
	if n.Layout.Redis != nil && n.Layout.Redis.Proc != nil && n.Layout.Redis.Proc.Running() && !n.Layout.Plain {
		n.Attached(t)
	}
}

// Run starts the process and waits until admin API and site take connections.
func (n *Node) Run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.Env = Environ(t, n.Layout.Environ...)
	proc := StartProcess(t, "caddy", cmd)
	n.Proc = proc
	t.Cleanup(func() {
		if proc.Running() {
			proc.stop(t)
		}
		if strings.Contains(proc.Log.String(), "WARNING: DATA RACE") {
			t.Errorf("the race detector spoke up:\n%s", proc.Log)
		}
	})
	Eventually(t, "Caddy answers", func() bool {
		if !proc.Running() {
			t.Fatalf("caddy ended: %v\n%s", proc.Err, proc.Log)
		}
		resp, err := n.Client.Get("http://" + n.Admin + "/config/")
		if err != nil {
			return false
		}
		resp.Body.Close()
		conn, err := net.Dial("tcp", n.Site)
		if err != nil {
			return false
		}
		conn.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// Stop ends the process as an operator does.
func (n *Node) Stop(t *testing.T) {
	t.Helper()
	n.Client.CloseIdleConnections()
	n.Proc.stop(t)
}

// Restart ends the process and starts another: what it knew is gone.
func (n *Node) Restart(t *testing.T) {
	t.Helper()
	n.Stop(t)
	n.Start(t)
}

var Probes atomic.Int64

// Attached waits until responses reach Redis and are answered from. No request
// waits for a connection, so the first ones of a node pass without.
func (n *Node) Attached(t *testing.T) {
	t.Helper()
	Eventually(t, "the node stores in Redis", func() bool {
		path := fmt.Sprintf("/attached/%d", Probes.Add(1))
		n.Get(t, path)
		return Within(Patience/50, func() bool {
			return len(n.Layout.Redis.Keys(t, "*"+path+":*")) > 0 && n.Get(t, path).Outcome() == "HIT"
		})
	})
}

// Keep stores a path in memory and in Redis. A write that a busy machine takes too long for is
// dropped, and what memory alone has would never be written again.
func (n *Node) Keep(t *testing.T, path string) {
	t.Helper()
	Eventually(t, "Redis has "+path, func() bool {
		hit := n.Get(t, path)
		if hit.Outcome() != "HIT" {
			return false
		}
		kept := Within(Patience/6, func() bool { return n.Layout.Redis.Has(t, hit.Key()) })
		if !kept {
			n.API(t, http.MethodDelete, "/redis_cache/entry?key="+url.QueryEscape(hit.Key()), "")
		}
		return kept
	})
}

// Reload loads a layout into the running process and returns the admin API's answer.
// When that is 200, the new configuration alone answers.
func (n *Node) Reload(t *testing.T, l Layout) Reply {
	t.Helper()
	generation := fmt.Sprintf("/generation/%d", Probes.Add(1))
	l.Site += "\n\trespond " + generation + " new"
	r := n.Load(t, l)
	if r.Status != http.StatusOK {
		return r
	}
	n.Layout = l
	// Caddy answers before its old servers have stopped to accept, so that one
	// connection to the new one says little. Nothing caches a POST.
	n.Client.CloseIdleConnections()
	answers := 0
	Eventually(t, "the new configuration answers", func() bool {
		req, err := n.Request(t.Context(), http.MethodPost, generation, "")
		if err != nil {
			t.Fatal(err)
		}
		req.Close = true
		probe, err := Send(n.Client, req)
		if err != nil || probe.Body != "new" {
			answers = 0
			return false
		}
		answers++
		return answers == 10
	})
	return r
}

// Load is reload without the wait: for a while the old configuration may answer, too.
func (n *Node) Load(t *testing.T, l Layout) Reply {
	t.Helper()
	n.reloaded.Store(true)
	return n.API(t, http.MethodPost, "/load", l.caddyfile(n.Site, n.Admin),
		"Content-Type: text/caddyfile", "Cache-Control: must-revalidate")
}

// API calls the admin API.
func (n *Node) API(t *testing.T, method, path, body string, fields ...string) (r Reply) {
	t.Helper()
	// A reload changes the socket of the admin API, too, see try.
	repeatable := n.reloaded.Load() && (method == http.MethodGet || path == "/load" || path == "/redis_cache/purge")
	var err error
	Within(Patience, func() bool {
		r, err = n.callAPI(t, method, path, body, fields...)
		return !repeatable || !lost(err)
	})
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return r
}

func (n *Node) callAPI(t *testing.T, method, path, body string, fields ...string) (Reply, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+n.Admin+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		req.Header.Set(name, value)
	}
	// Every reload closes the admin server's connections, so none is kept.
	req.Close = true
	return Send(n.Client, req)
}

// JSON calls the admin API, expects the status, and decodes the answer.
func (n *Node) JSON(t *testing.T, status int, method, path, body string) map[string]any {
	t.Helper()
	r := n.API(t, method, path, body)
	if r.Status != status {
		t.Fatalf("%s %s %s: status %d, want %d: %s", method, path, body, r.Status, status, r.Body)
	}
	if ct := r.Header.Get("Content-Type"); !strings.HasPrefix(ct, "application/json") {
		t.Errorf("%s %s: Content-Type %q", method, path, ct)
	}
	var v map[string]any
	if err := json.Unmarshal([]byte(r.Body), &v); err != nil {
		t.Fatalf("%s %s: %v in %q", method, path, err, r.Body)
	}
	return v
}

// Purge purges and expects every live node to have confirmed.
func (n *Node) Purge(t *testing.T, body string) map[string]any {
	t.Helper()
	// A node that has just started may have to watch the registry for a whole
	// lease before it knows whom to wait for.
	body = strings.TrimSuffix(body, "}") + `,"wait":"10s"}`
	return n.JSON(t, http.StatusOK, http.MethodPost, "/redis_cache/purge", body)
}

// PurgeWaits purges where that cannot be recorded.
func (n *Node) PurgeWaits(t *testing.T, body string) map[string]any {
	t.Helper()
	answer := n.JSON(t, http.StatusAccepted, http.MethodPost, "/redis_cache/purge", body)
	if cause, _ := answer["waits_for"].(string); answer["recorded"] != false || answer["standalone"] != nil || cause == "" || answer["id"] != "" {
		t.Errorf("the purge %s is answered %v", body, answer)
	}
	return answer
}

var goroutineGroup = regexp.MustCompile(`(?m)^(\d+) @ `)

// Goroutines returns how many goroutines the process has, but for those of idle connections
// to an origin: how many of them are kept is up to the machine.
func (n *Node) Goroutines(t *testing.T) (total int) {
	t.Helper()
	r := n.API(t, http.MethodGet, "/debug/pprof/goroutine?debug=1", "")
	for group := range strings.SplitSeq(r.Body, "\n\n") {
		if m := goroutineGroup.FindStringSubmatch(group); m != nil && !strings.Contains(group, "net/http.(*persistConn)") {
			size, _ := strconv.Atoi(m[1])
			total += size
		}
	}
	if total == 0 {
		t.Fatalf("no goroutine count in %q", Tail(r.Body, 3))
	}
	return total
}

func (n *Node) URL(path string) string { return "http://" + n.Site + path }

// OriginRequests counts what the origin has seen, 0 without one.
func (n *Node) OriginRequests() int {
	if n.Layout.Origin == nil {
		return 0
	}
	return n.Layout.Origin.Requests()
}
