package harness

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
)

// Number follows names into a decoded JSON object.
func Number(t *testing.T, v any, path ...string) float64 {
	t.Helper()
	for _, name := range path {
		m, ok := v.(map[string]any)
		if !ok {
			t.Fatalf("%v: no object on the way to %v", v, path)
		}
		v = m[name]
	}
	n, ok := v.(float64)
	if !ok {
		t.Fatalf("%v is %v, want a number", path, v)
	}
	return n
}

// Doctor returns the checks by name; those that share one are joined. A busy Redis
// is asked again.
func (n *Node) Doctor(t *testing.T) (ok bool, checks map[string]string) {
	t.Helper()
	for range 5 {
		ok, checks = n.AskDoctor(t)
		if rights := checks["rights"]; rights != "" && !strings.HasPrefix(rights, "skip ") {
			break
		}
	}
	return ok, checks
}

func (n *Node) AskDoctor(t *testing.T) (ok bool, checks map[string]string) {
	t.Helper()
	answer := n.JSON(t, http.StatusOK, http.MethodGet, "/redis_cache/doctor", "")
	checks = make(map[string]string)
	for _, item := range answer["checks"].([]any) {
		c := item.(map[string]any)
		advice, _ := c["advice"].(string)
		checks[c["name"].(string)] += c["status"].(string) + " " + c["detail"].(string) + " " + advice + "\n"
	}
	return answer["ok"].(bool), checks
}

// Entries pages through what is listed, and returns the keys.
func (n *Node) Entries(t *testing.T, query string, limit int) map[string]bool {
	t.Helper()
	keys := make(map[string]bool)
	for cursor := ""; ; {
		page := n.JSON(t, http.StatusOK, http.MethodGet,
			fmt.Sprintf("/redis_cache/entries?limit=%d&cursor=%s&%s", limit, url.QueryEscape(cursor), query), "")
		list := page["entries"].([]any)
		inMemory := n.Layout.Redis == nil && n.Layout.Connect == ""
		if len(list) > limit && (inMemory || len(list) > limit+50) { // a step of SCAN may have a few more
			t.Fatalf("%d entries on a page of %d", len(list), limit)
		}
		for _, line := range list {
			key := line.(map[string]any)["key"].(string)
			if keys[key] && inMemory { // SCAN may return a key twice
				t.Errorf("%s twice", key)
			}
			keys[key] = true
		}
		if cursor = page["cursor"].(string); cursor == "" {
			return keys
		}
	}
}

// Metrics scrapes the admin endpoint: values by name and labels, of this module
// only.
func (n *Node) Metrics(t *testing.T) map[string]float64 {
	t.Helper()
	r := n.API(t, http.MethodGet, "/metrics", "")
	if r.Status != http.StatusOK {
		t.Fatalf("metrics: %d %s", r.Status, r.Body)
	}
	values := make(map[string]float64)
	for line := range strings.Lines(r.Body) {
		rest, ours := strings.CutPrefix(line, "caddy_redis_cache_")
		if !ours {
			continue
		}
		space := strings.LastIndexByte(rest, ' ')
		value, err := strconv.ParseFloat(strings.TrimSpace(rest[space:]), 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		values[rest[:space]] = value
	}
	return values
}

// Removed lists what the journal says purges removed, newest first; -1 where it is not known.
func (n *Node) Removed(t *testing.T, limit int) []float64 {
	t.Helper()
	list := n.JSON(t, http.StatusOK, http.MethodGet, fmt.Sprintf("/redis_cache/journal?limit=%d", limit), "")
	var counts []float64
	for _, line := range list["entries"].([]any) {
		line := line.(map[string]any)
		if count, known := line["removed"]; known {
			counts = append(counts, count.(float64))
		} else {
			counts = append(counts, -1)
		}
	}
	return counts
}
