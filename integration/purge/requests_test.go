package purge

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// TestPurgesByRequestsAreLoggedAtDebug counts what strangers could write into a log.
func TestPurgesByRequestsAreLoggedAtDebug(t *testing.T) {
	t.Parallel()
	node := harness.StartCaddy(t, harness.Layout{Redis: harness.StartRedis(t), Origin: harness.NewOrigin(t), Site: floodSite})
	node.Attached(t)
	for i := range 20 {
		node.Do(t, http.MethodPost, fmt.Sprintf("/comments/%d", i), "x")
		node.Do(t, http.MethodDelete, fmt.Sprintf("/comments/%d", i), "")
	}
	node.Purge(t, `{"tag":"news"}`)
	harness.Eventually(t, "the purge is logged", func() bool { return strings.Contains(node.Proc.Log.String(), `"tag news"`) })
	if n := strings.Count(node.Proc.Log.String(), `"cache_invalidate"`); n != 1 {
		t.Errorf("%d purges are logged, want the operator's", n)
	}
}

// TestUnsafeInvalidates is about a route on which a POST does not purge its URL. What
// the route and the answer say is purged all the same.
func TestUnsafeInvalidates(t *testing.T) {
	t.Parallel()
	web := harness.NewOrigin(t)
	web.Answer("/grouped", http.StatusOK, "x", `Cache-Groups: "g"`)
	web.Answer("/off/group", http.StatusOK, "x", `Cache-Group-Invalidation: "g"`)
	web.Answer("/off/elsewhere", http.StatusOK, "x", "Location: /off/page", "Content-Location: /off/page")
	node := harness.StartCaddy(t, harness.Layout{Redis: harness.StartRedis(t), Origin: web, Site: `
	redis_cache /off/* {
		ttl 1h
		unsafe_invalidates off
		invalidate @ruled tag ruled
	}
	@ruled {
		method PUT
		path /off/ruled
	}
	redis_cache /on/* {
		ttl 1h
		unsafe_invalidates on
	}
	redis_cache /ruled {
		ttl 1h
		tag ruled
	}
	redis_cache /grouped {
		ttl 1h
	}`})
	fill := func() {
		for _, path := range []string{"/off/page", "/on/page", "/ruled", "/grouped"} {
			node.Get(t, path)
			node.Want(t, "HIT", path)
		}
	}
	fill()
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, "PURGEALL"} {
		node.Do(t, method, "/off/page", "x")
		node.Want(t, "HIT", "/off/page")
		node.Do(t, method, "/off/elsewhere", "x")
		node.Want(t, "HIT", "/off/page")
		node.Do(t, method, "/on/page", "x")
		node.Want(t, "MISS", "/on/page")
	}
	node.Do(t, http.MethodPut, "/off/ruled", "x")
	node.Want(t, "MISS", "/ruled")
	node.Do(t, http.MethodPost, "/off/group", "x")
	node.Want(t, "MISS", "/grouped")
}
