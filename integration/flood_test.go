package integration

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

var floodPosts = flag.Int("flood.posts", 110_000, "how many POSTs TestFloodOfPosts makes; with more than 3,000,000 what is remembered of them overflows")

// Of so many POSTs the first ones are made over HTTP, the others are appended as
// nodes append them.
const (
	floodOverHTTP = 2_000
	floodPipeline = 2_000
	floodAhead    = 100_000 // of what nodes have applied: a POST waits for its own
	rememberable  = 3_000_000
)

const floodSite = `
	redis_cache {
		ttl 10d
		jitter 0
		tag {path.0}
	}`

// flood posts to distinct URLs of the site.
func flood(t *testing.T, posts int, nodes ...*node) {
	t.Helper()
	n := nodes[0]
	var clients sync.WaitGroup
	for c := range 4 {
		clients.Go(func() {
			for i := c; i < floodOverHTTP; i += 4 {
				if r := n.do(t, http.MethodPost, fmt.Sprintf("/comments/http-%d", i), "x"); r.status != http.StatusOK {
					t.Errorf("POST: %d %s", r.status, r.body)
				}
			}
		})
	}
	clients.Wait()
	last, err := n.layout.redis.client.XRevRangeN(t.Context(), "cache::journal", "+", "-", 1).Result()
	if err != nil || len(last) != 1 || last[0].Values["source"] != "request" {
		t.Fatalf("the last entry is %v, %v", last, err)
	}
	url, _ := last[0].Values["url"].(string)
	url, _, _ = strings.Cut(url, "/comments/")
	for first := floodOverHTTP; first < posts; first += floodPipeline {
		_, err := n.layout.redis.client.Pipelined(t.Context(), func(pipe redis.Pipeliner) error {
			for i := first; i < min(posts, first+floodPipeline); i++ {
				fields := make([]any, 0, 2*len(last[0].Values))
				for name, value := range last[0].Values {
					switch name {
					case "url":
						value = fmt.Sprintf("%s/comments/%d", url, i)
					case "token":
						value = fmt.Sprintf("flood/%d", i)
					}
					fields = append(fields, name, value)
				}
				pipe.XAdd(t.Context(), &redis.XAddArgs{Stream: "cache::journal", MaxLen: 1_000_000, Approx: true, Values: fields})
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if (first-floodOverHTTP)%floodAhead == 0 || first+floodPipeline >= posts {
			for _, n := range nodes {
				n.appliedAll(t)
			}
		}
	}
}

// appliedAll waits until a node has applied every entry of the journal.
func (n *node) appliedAll(t *testing.T) {
	t.Helper()
	last, err := n.layout.redis.client.XRevRangeN(t.Context(), "cache::journal", "+", "-", 1).Result()
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the node has applied all", func() bool {
		for _, other := range n.json(t, http.StatusOK, http.MethodGet, "/redis_cache/nodes", "")["nodes"].([]any) {
			node := other.(map[string]any)
			if node["self"] == true {
				return strings.HasSuffix(fmt.Sprint(node["position"]), last[0].ID)
			}
		}
		return false
	})
}

// residentMiB is the memory that a node takes.
func (n *node) residentMiB(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.proc.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	kib := 0
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	fmt.Sscan(rest, &kib)
	return kib >> 10
}

// TestFloodOfPosts lets strangers POST to URLs without end. What was stored before
// is still answered, on nodes that have seen it all and on those that have not, and
// what an operator has purged before stays gone.
func TestFloodOfPosts(t *testing.T) {
	t.Parallel()
	rds := startRedis(t)
	l := layout{redis: rds, origin: newOrigin(t), site: floodSite}
	one, two := startCaddy(t, l), startCaddy(t, l)
	for _, n := range []*node{one, two} {
		n.attached(t)
		n.keep(t, "/pages/1")
	}
	kept := one.want(t, "HIT", "/pages/1").body
	one.keep(t, "/news/1")
	gone := one.want(t, "HIT", "/news/1")
	dump, err := rds.client.Dump(t.Context(), gone.key()).Result()
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the purge is final", func() bool {
		return one.api(t, http.MethodPost, "/redis_cache/purge", `{"tag":"news"}`).status == http.StatusOK
	})
	before := []int{one.residentMiB(t), two.residentMiB(t)}

	start := time.Now()
	flood(t, *floodPosts, one, two)
	t.Logf("%d POSTs are appended, and applied by two nodes, after %v; the nodes grew from %d to %d and from %d to %d MiB",
		*floodPosts, time.Since(start).Round(time.Millisecond),
		before[0], one.residentMiB(t), before[1], two.residentMiB(t))
	var header struct{ ID string }
	eventually(t, "there is a checkpoint", func() bool {
		raw, err := rds.client.Get(t.Context(), "cache::checkpoint:{cache::journal}").Bytes()
		return err == nil && json.Unmarshal(raw, &header) == nil
	})
	if n := rds.client.XLen(t.Context(), "cache::journal").Val(); n < 1_000_000 && *floodPosts < 1_000_000 {
		// What a longer journal loses by itself.
		if n := rds.client.XTrimMinID(t.Context(), "cache::journal", header.ID).Val(); n < 100_000 {
			t.Fatalf("%d entries are trimmed", n)
		}
	}

	three := startCaddy(t, l) // one that joins
	two.restart(t)            // and one that has forgotten
	want := "HIT"
	if *floodPosts > rememberable {
		want = "MISS" // as all of them are of one host
	}
	for i, n := range []*node{one, three, two} {
		joining := time.Now()
		r := n.get(t, "/pages/1")
		eventually(t, "the node answers from its store", func() bool {
			if r.outcome() == "BYPASS" || r.unproven() {
				r = n.get(t, "/pages/1")
				return false
			}
			return true
		})
		if want == "HIT" && (r.outcome() != "HIT" || r.body != kept) || want == "MISS" && r.body == kept {
			t.Errorf("node %d: %s %q, want %s", i, r.outcome(), r.body, want)
		}
		t.Logf("node %d answers after %v and takes %d MiB", i, time.Since(joining).Round(time.Millisecond), n.residentMiB(t))
		rds.client.Del(t.Context(), gone.key()) // a node that was asked has stored it anew
		if err := rds.client.RestoreReplace(t.Context(), gone.key(), 0, dump).Err(); err != nil {
			t.Fatal(err)
		}
		if r := n.get(t, "/news/1"); r.outcome() == "HIT" && r.body == gone.body {
			t.Errorf("node %d answers what was purged before", i)
		}
	}
}

// TestPurgesByRequestsAreLoggedAtDebug counts what strangers could write into a log.
func TestPurgesByRequestsAreLoggedAtDebug(t *testing.T) {
	t.Parallel()
	node := startCaddy(t, layout{redis: startRedis(t), origin: newOrigin(t), site: floodSite})
	node.attached(t)
	for i := range 20 {
		node.do(t, http.MethodPost, fmt.Sprintf("/comments/%d", i), "x")
		node.do(t, http.MethodDelete, fmt.Sprintf("/comments/%d", i), "")
	}
	node.purge(t, `{"tag":"news"}`)
	eventually(t, "the purge is logged", func() bool { return strings.Contains(node.proc.log.String(), `"tag news"`) })
	if n := strings.Count(node.proc.log.String(), `"cache_invalidate"`); n != 1 {
		t.Errorf("%d purges are logged, want the operator's", n)
	}
}

// TestUnsafeInvalidates is about a route on which a POST does not purge its URL. What
// the route and the answer say is purged all the same.
func TestUnsafeInvalidates(t *testing.T) {
	t.Parallel()
	web := newOrigin(t)
	web.answer("/grouped", http.StatusOK, "x", `Cache-Groups: "g"`)
	web.answer("/off/group", http.StatusOK, "x", `Cache-Group-Invalidation: "g"`)
	web.answer("/off/elsewhere", http.StatusOK, "x", "Location: /off/page", "Content-Location: /off/page")
	node := startCaddy(t, layout{redis: startRedis(t), origin: web, site: `
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
			node.get(t, path)
			node.want(t, "HIT", path)
		}
	}
	fill()
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, "PURGEALL"} {
		node.do(t, method, "/off/page", "x")
		node.want(t, "HIT", "/off/page")
		node.do(t, method, "/off/elsewhere", "x")
		node.want(t, "HIT", "/off/page")
		node.do(t, method, "/on/page", "x")
		node.want(t, "MISS", "/on/page")
	}
	node.do(t, http.MethodPut, "/off/ruled", "x")
	node.want(t, "MISS", "/ruled")
	node.do(t, http.MethodPost, "/off/group", "x")
	node.want(t, "MISS", "/grouped")
}
