package admin

import (
	"bufio"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// TestTail follows a node over a reload, which ends the stream and does not wait
// for it.
func TestTail(t *testing.T) {
	t.Parallel()
	l := harness.Layout{Origin: harness.NewOrigin(t), Cache: metricsCache, Site: "\tredis_cache /w/* watched"}
	node := harness.StartCaddy(t, l)
	if r := node.API(t, http.MethodGet, "/redis_cache/tail?outcome=NEVER", ""); r.Status != http.StatusBadRequest {
		t.Errorf("an unknown outcome: %d", r.Status)
	}
	resp, err := http.Get("http://" + node.Admin + "/redis_cache/tail?namespace=watched")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	ended := time.AfterFunc(harness.Patience, func() { resp.Body.Close() }) // or a failure would be a hanging test
	defer ended.Stop()
	lines := bufio.NewScanner(resp.Body)
	for _, want := range []string{"MISS", "HIT"} {
		node.Want(t, want, "/w/1?token=1")
		if !lines.Scan() {
			t.Fatalf("the stream ended: %v", lines.Err())
		}
		var line struct {
			Outcome, Path, Namespace string
			Status                   int
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		if line.Outcome != want || line.Path != "/w/1" || line.Namespace != "watched" || line.Status != http.StatusOK {
			t.Errorf("%s, want %s", lines.Bytes(), want)
		}
	}
	if r := node.Reload(t, l); r.Status != http.StatusOK {
		t.Fatalf("reload: %d %s", r.Status, r.Body)
	}
	if lines.Scan() || lines.Err() != nil {
		t.Errorf("after the reload: %q, %v", lines.Text(), lines.Err())
	}
}
