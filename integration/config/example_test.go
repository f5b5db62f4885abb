package config

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

const exampleFile = harness.Repository + "/Caddyfile.example"

// TestExampleIsClean holds the example to what its readers will run on it.
func TestExampleIsClean(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"adapt", "--adapter", "caddyfile", "--config", exampleFile},
		{"validate", "--adapter", "caddyfile", "--config", exampleFile},
		{"fmt", "--diff", exampleFile},
	} {
		out, err := harness.Command(t, args...)
		if err != nil {
			t.Errorf("caddy %s: %v\n%s", args[0], err, out)
		}
		if args[0] == "adapt" && strings.Contains(out, `"level":"warn"`) {
			t.Errorf("adapting warns:\n%s", out)
		}
	}
}

var localPort = regexp.MustCompile(`localhost:(\d+)`)

// TestExample runs the example as it is, but for its ports.
func TestExample(t *testing.T) {
	t.Parallel()
	example, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	rds := harness.StartRedis(t)
	_, redisPort, _ := net.SplitHostPort(rds.Addr)
	moved := map[string]string{"6379": redisPort}
	text := localPort.ReplaceAllStringFunc(string(example), func(s string) string {
		port := localPort.FindStringSubmatch(s)[1]
		if moved[port] == "" {
			moved[port] = fmt.Sprint(harness.FreePort(t))
		}
		return "localhost:" + moved[port]
	})
	file := filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	node := &harness.Node{
		Site:   "localhost:" + moved["8080"],
		Admin:  fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t)),
		Client: harness.NewClient(),
		Layout: harness.Layout{Redis: rds, Environ: []string{"REDIS_URL=" + rds.URL()}},
	}
	node.Layout.Environ = append(node.Layout.Environ, "CADDY_ADMIN="+node.Admin)
	node.Run(t, exec.Command(harness.Binary, "run", "--adapter", "caddyfile", "--config", file))
	host := "Host: " + node.Site

	harness.Eventually(t, "the node finds its Redis", func() bool {
		node.Get(t, fmt.Sprintf("/api/v1/statistics/%d", harness.Probes.Add(1)), host)
		return len(rds.Keys(t, "cache:statistics:*")) > 0
	})
	for _, tt := range []struct {
		path, namespace string
		ttl             int
		fields          []string
	}{
		{"/api/v1/users/123/profile", "user", 3600, []string{"X-User-Id: 123"}},
		{"/api/v1/pickups", "pickup", 300, nil},
		{"/api/v1/pickups?historical=true", "pickup", 86400, nil},
		{"/api/v1/points/balance", "points", 300, []string{"X-User-Id: 123"}},
		{"/api/v1/companies", "company", 7200, nil},
		{"/api/v1/locations", "locations", 86400, nil},
		{"/api/v1/statistics/daily", "statistics", 1800, nil},
		{"/api/v1/notifications", "general", 1800, nil},
	} {
		t.Run(tt.path, func(t *testing.T) {
			fields := append([]string{host}, tt.fields...)
			miss := node.Want(t, "MISS", tt.path, fields...)
			hit := node.Want(t, "HIT", tt.path, fields...)
			if !strings.HasPrefix(hit.Key(), "cache:"+tt.namespace+":") {
				t.Errorf("key %q, want namespace %s", hit.Key(), tt.namespace)
			}
			harness.Between(t, "lifetime", miss.TTL(), tt.ttl*95/100-1, tt.ttl)
			if miss.Status != 200 || hit.Body != miss.Body {
				t.Errorf("%d %q, then %q", miss.Status, miss.Body, hit.Body)
			}
		})
	}
	t.Run("per user", func(t *testing.T) {
		node.Want(t, "MISS", "/api/v1/points/balance", host, "X-User-Id: 456")
		node.Want(t, "BYPASS", "/api/v1/points/balance", host)
	})
	t.Run("administrators", func(t *testing.T) {
		node.Want(t, "BYPASS", "/api/v1/companies", host, "X-Role: admin")
	})
	t.Run("purge", func(t *testing.T) {
		node.Want(t, "HIT", "/api/v1/companies", host)
		node.Purge(t, `{"namespace":"pickup"}`)
		node.Want(t, "MISS", "/api/v1/pickups", host)
		node.Want(t, "HIT", "/api/v1/companies", host)
	})
}

// TestDeployedCaddyfile checks what deploy/docker-compose.yml mounts.
func TestDeployedCaddyfile(t *testing.T) {
	t.Parallel()
	const file = harness.Repository + "/deploy/Caddyfile"
	for _, args := range [][]string{
		{"validate", "--adapter", "caddyfile", "--config", file},
		{"fmt", "--diff", file},
	} {
		if out, err := harness.Command(t, args...); err != nil {
			t.Errorf("caddy %s: %v\n%s", args[0], err, out)
		}
	}
}
