package admin

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// TestPerformanceLog runs the access log that the documentation shows.
func TestPerformanceLog(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join(harness.Repository, "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "## An access log of its own")
	_, rest, _ = strings.Cut(rest, "```caddyfile site\n")
	snippet, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("the documentation shows no access log")
	}
	file := filepath.Join(t.TempDir(), "logs", "cache_performance.log")
	site := strings.Replace(snippet, "logs/cache_performance.log", file, 1)
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	node := harness.StartCaddy(t, harness.Layout{
		Origin: harness.NewOrigin(t), Cache: metricsCache,
		Site: site + "\tbasic_auth {\n\tsecret-user " + string(hash) + "\n\t}\n\tredis_cache /w/* watched {\n\tshared\n\t}",
	})
	login := "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("secret-user:secret"))
	for range 2 {
		node.Get(t, "/w/1?token=secret-query", login, "Cookie: _ga=secret-cookie", "X-Api-Key: secret-field")
	}
	type line struct {
		Request   struct{ Method, URI string }
		Status    int
		Outcome   string `json:"cache_status"`
		Reason    string `json:"cache_reason"`
		Namespace string `json:"cache_namespace"`
		Tier      string `json:"cache_tier"`
		TTL       string `json:"cache_ttl"`
	}
	var lines []line
	harness.Eventually(t, "the requests are logged", func() bool {
		content, _ := os.ReadFile(file)
		if strings.Contains(string(content), "secret") {
			t.Fatalf("a secret is logged:\n%s", content)
		}
		lines = nil
		for text := range strings.Lines(string(content)) {
			var l line
			if json.Unmarshal([]byte(text), &l) == nil && strings.HasPrefix(l.Request.URI, "/w/") {
				lines = append(lines, l)
			}
		}
		return len(lines) == 2
	})
	for i, l := range lines {
		ttl, err := strconv.Atoi(l.TTL)
		if err != nil || ttl < 3000 || l.Namespace != "watched" || l.Request.URI != "/w/1" || l.Status != http.StatusOK || l.Request.Method != http.MethodGet {
			t.Errorf("%+v", l)
		}
		want := [2][3]string{{"MISS", "absent", ""}, {"HIT", "", "memory"}}[i]
		if got := [3]string{l.Outcome, l.Reason, l.Tier}; got != want {
			t.Errorf("line %d: %q, want %q", i, got, want)
		}
	}
}

// TestLogsHoldNoSecrets looks at every line of the cache at debug.
func TestLogsHoldNoSecrets(t *testing.T) {
	t.Parallel()
	rds := harness.StartRedis(t)
	node := harness.StartCaddy(t, harness.Layout{
		Redis: rds, Origin: harness.NewOrigin(t), Global: "\tdebug", Cache: metricsCache,
		Site: "\tredis_cache /w/* watched {\n\tshared\n\tkey \"{query.token}:{cookie.sid}\"\n\tinvalidate key \"watched:{query.token}:*\"\n\tinvalidate tag \"{header.Authorization}\"\n\t}",
	})
	fields := []string{"Cookie: sid=secret-cookie", "Authorization: Bearer secret-auth"}
	node.Get(t, "/w/1?token=secret-query", fields...)
	key := node.Get(t, "/w/1?token=secret-query", fields...).Header.Get("X-Cache-Key")
	node.Purge(t, fmt.Sprintf(`{"key":%q,"by":"by key"}`, key))
	node.Purge(t, `{"pattern":"watched:secret-query:*","by":"by pattern"}`)
	node.Do(t, http.MethodPost, "/w/1?token=secret-query", "secret-body", fields...)
	rds.Do(t, "XADD", "cache::journal", "*", "op", "purge", "url", "ftp://shop.test/?token=secret-query")
	events := make(map[string]bool)
	harness.Eventually(t, "everything is logged", func() bool {
		for text := range strings.Lines(node.Proc.Log.String()) {
			var line struct{ Logger, Msg, By, Name string }
			if json.Unmarshal([]byte(text), &line) != nil {
				continue
			}
			ours := line.Logger == "http.handlers.redis_cache"
			event := line.Logger == "events" && strings.HasPrefix(line.Name, "redis_cache.")
			if !ours && !event {
				if strings.Contains(line.Logger, "redis_cache") {
					t.Errorf("logger %s: %s", line.Logger, text)
				}
				continue
			}
			if strings.Contains(text, "secret") {
				t.Fatalf("a secret is logged: %s", text)
			}
			events[line.Msg], events[line.By], events[line.Name] = true, true, true
		}
		for _, event := range []string{"cache_miss", "cache_hit", "cache_bypass", "cache_invalidate", "by key", "by pattern", "redis_cache.purged", "a malformed journal entry is skipped"} {
			if !events[event] {
				return false
			}
		}
		return true
	})
}
