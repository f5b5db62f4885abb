package redis

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// TestErrorsCanBeFoundOut takes the right to store away: statistics of any node, doctor,
// command and log say what went wrong, how often and when last.
func TestErrorsCanBeFoundOut(t *testing.T) {
	t.Parallel()
	rds := harness.StartRedis(t, "--user", "cache", "on", ">s3cret", "~*", "&*", "+@all")
	l := harness.Layout{
		Redis: rds, Origin: harness.NewOrigin(t), Cache: harness.GuideCache, Site: harness.GuideSite,
		Connect: fmt.Sprintf("redis://cache:s3cret@%s", rds.Addr) + harness.BlockOf(),
	}
	nodes := []*harness.Node{harness.StartCaddy(t, l), harness.StartCaddy(t, l)}
	node := nodes[0]
	// What a node of an older version shares: the count alone.
	rds.Do(t, "HSET", fmt.Sprintf("cache::stats:v2:1m:%d", time.Now().Unix()/60), "older", `{"errors":{"redis":29,"corrupt":4}}`)
	began := time.Now().Truncate(time.Second)
	rds.Do(t, "ACL", "SETUSER", "cache", "-set")
	for i := range 50 {
		node.Want(t, "MISS", fmt.Sprintf("/api/v1/users/%d", i))
	}
	for _, n := range nodes {
		harness.Eventually(t, "statistics tell of it", func() bool {
			errors := n.JSON(t, http.StatusOK, http.MethodGet, "/redis_cache/stats", "")["errors"].(map[string]any)
			for _, kind := range []string{"redis", "dropped_write"} {
				e := errors[kind].(map[string]any)
				text, _ := e["last"].(string)
				at, _ := e["at"].(string)
				when, err := time.Parse(time.RFC3339, at)
				if e["count"].(float64) == 0 || !strings.Contains(text, "NOPERM") || err != nil || when.Before(began) || !strings.HasSuffix(at, "Z") {
					return false
				}
			}
			corrupt := errors["corrupt"].(map[string]any)
			return errors["redis"].(map[string]any)["count"].(float64) > 29 && corrupt["count"].(float64) == 4 && corrupt["last"] == nil
		})
	}
	_, checks := node.Doctor(t)
	for _, want := range []string{"warn redis: ", "dropped_write: 50 since the start, the last at 20", "NOPERM"} {
		if !strings.Contains(checks["errors"], want) {
			t.Errorf("doctor says %q, want %q", checks["errors"], want)
		}
	}
	out, err := harness.Command(t, "redis-cache", "stats", "--address", node.Admin)
	if err != nil || !strings.Contains(out, "Errors (dropped_write): 50, the last at 20") || !strings.Contains(out, "NOPERM") {
		t.Errorf("%v\n%s", err, out)
	}
	log := node.Proc.Log.String()
	if n := strings.Count(log, "errors of the kind dropped_write"); n != 1 {
		t.Errorf("the log tells %d times", n)
	}
	if strings.Contains(log+out+fmt.Sprint(checks), "s3cret") {
		t.Error("the password is shown")
	}
}

// TestErrorsKeepSecrets has a server that repeats what it is sent.
func TestErrorsKeepSecrets(t *testing.T) {
	t.Parallel()
	node := harness.StartCaddy(t, harness.Layout{Connect: "redis://cache:s3cret@" + parrot(t) + harness.BlockOf(), Origin: harness.NewOrigin(t), Cache: harness.GuideCache, Site: harness.GuideSite})
	node.Want(t, "MISS", "/api/v1/users/1")
	var stats string
	harness.Eventually(t, "statistics tell of an error", func() bool {
		node.Get(t, "/api/v1/users/2?"+fmt.Sprint(harness.Probes.Add(1)))
		stats = node.API(t, http.MethodGet, "/redis_cache/stats", "").Body
		return strings.Contains(stats, `"last":`)
	})
	_, checks := node.AskDoctor(t)
	if strings.Contains(stats+checks["errors"], "s3cret") {
		t.Errorf("the password is shown: %s\n%s", stats, checks["errors"])
	}
}

// parrot answers each command with an error that repeats it.
func parrot(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for r := bufio.NewReader(conn); ; {
					line, err := r.ReadString('\n')
					var args int
					if _, scanned := fmt.Sscanf(line, "*%d", &args); err != nil || scanned != nil {
						return
					}
					said := ""
					for range 2 * args {
						line, err = r.ReadString('\n')
						if err != nil {
							return
						}
						said += " " + strings.TrimSpace(line)
					}
					fmt.Fprintf(conn, "-ERR unknown command:%s\r\n", said)
				}
			}()
		}
	}()
	return listener.Addr().String()
}
