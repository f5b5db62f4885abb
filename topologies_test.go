package rediscache

import (
	"strings"
	"testing"
)

// TestDocumentedTopologies adapts what the documentation shows.
func TestDocumentedTopologies(t *testing.T) {
	shown := 0
	for _, block := range readPage(t, "docs/configuration.md").blocks["caddyfile global"] {
		if !strings.HasPrefix(block, "redis ") {
			continue
		}
		shown++
		got := adapt(t, "{\n\tredis_cache {\n"+block+"\t}\n}\nhttp://x {\n\tredis_cache\n}\n")
		if !strings.Contains(got, `"redis": {`) {
			t.Errorf("%s: %s", block, got)
		}
	}
	if shown != 5 {
		t.Errorf("%d topologies", shown)
	}
}
