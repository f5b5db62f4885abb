package integration

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const exampleFile = "../Caddyfile.example"

// TestExampleIsClean holds the example to what its readers will run on it.
func TestExampleIsClean(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"adapt", "--adapter", "caddyfile", "--config", exampleFile},
		{"validate", "--adapter", "caddyfile", "--config", exampleFile},
		{"fmt", "--diff", exampleFile},
	} {
		out, err := command(t, args...)
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
	rds := startRedis(t)
	_, redisPort, _ := net.SplitHostPort(rds.addr)
	moved := map[string]string{"6379": redisPort}
	text := localPort.ReplaceAllStringFunc(string(example), func(s string) string {
		port := localPort.FindStringSubmatch(s)[1]
		if moved[port] == "" {
			moved[port] = fmt.Sprint(freePort(t))
		}
		return "localhost:" + moved[port]
	})
	file := filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	node := &node{
		site:   "localhost:" + moved["8080"],
		admin:  fmt.Sprintf("127.0.0.1:%d", freePort(t)),
		client: newClient(),
		layout: layout{redis: rds, environ: []string{"REDIS_URL=" + rds.url()}},
	}
	node.layout.environ = append(node.layout.environ, "CADDY_ADMIN="+node.admin)
	node.run(t, exec.Command(binary, "run", "--adapter", "caddyfile", "--config", file))
	host := "Host: " + node.site

	eventually(t, "the node finds its Redis", func() bool {
		node.get(t, fmt.Sprintf("/api/v1/statistics/%d", probes.Add(1)), host)
		return len(rds.keys(t, "cache:statistics:*")) > 0
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
			miss := node.want(t, "MISS", tt.path, fields...)
			hit := node.want(t, "HIT", tt.path, fields...)
			if !strings.HasPrefix(hit.key(), "cache:"+tt.namespace+":") {
				t.Errorf("key %q, want namespace %s", hit.key(), tt.namespace)
			}
			between(t, "lifetime", miss.ttl(), tt.ttl*95/100-1, tt.ttl)
			if miss.status != 200 || hit.body != miss.body {
				t.Errorf("%d %q, then %q", miss.status, miss.body, hit.body)
			}
		})
	}
	t.Run("per user", func(t *testing.T) {
		node.want(t, "MISS", "/api/v1/points/balance", host, "X-User-Id: 456")
		node.want(t, "BYPASS", "/api/v1/points/balance", host)
	})
	t.Run("administrators", func(t *testing.T) {
		node.want(t, "BYPASS", "/api/v1/companies", host, "X-Role: admin")
	})
	t.Run("purge", func(t *testing.T) {
		node.want(t, "HIT", "/api/v1/companies", host)
		node.purge(t, `{"namespace":"pickup"}`)
		node.want(t, "MISS", "/api/v1/pickups", host)
		node.want(t, "HIT", "/api/v1/companies", host)
	})
}
