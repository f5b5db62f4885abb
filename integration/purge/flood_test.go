package purge

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

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
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
func flood(t *testing.T, posts int, nodes ...*harness.Node) {
	t.Helper()
	n := nodes[0]
	var clients sync.WaitGroup
	for c := range 4 {
		clients.Go(func() {
			for i := c; i < floodOverHTTP; i += 4 {
				if r := n.Do(t, http.MethodPost, fmt.Sprintf("/comments/http-%d", i), "x"); r.Status != http.StatusOK {
					t.Errorf("POST: %d %s", r.Status, r.Body)
				}
			}
		})
	}
	clients.Wait()
	last, err := n.Layout.Redis.Client.XRevRangeN(t.Context(), "cache::journal", "+", "-", 1).Result()
	if err != nil || len(last) != 1 || last[0].Values["source"] != "request" {
		t.Fatalf("the last entry is %v, %v", last, err)
	}
	url, _ := last[0].Values["url"].(string)
	url, _, _ = strings.Cut(url, "/comments/")
	for first := floodOverHTTP; first < posts; first += floodPipeline {
		_, err := n.Layout.Redis.Client.Pipelined(t.Context(), func(pipe redis.Pipeliner) error {
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
				appliedAll(t, n)
			}
		}
	}
}

// appliedAll waits until a node has applied every entry of the journal.
func appliedAll(t *testing.T, n *harness.Node) {
	t.Helper()
	last, err := n.Layout.Redis.Client.XRevRangeN(t.Context(), "cache::journal", "+", "-", 1).Result()
	if err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "the node has applied all", func() bool {
		for _, other := range n.JSON(t, http.StatusOK, http.MethodGet, "/redis_cache/nodes", "")["nodes"].([]any) {
			node := other.(map[string]any)
			if node["self"] == true {
				return strings.HasSuffix(fmt.Sprint(node["position"]), last[0].ID)
			}
		}
		return false
	})
}

// residentMiB is the memory that a node takes.
func residentMiB(t *testing.T, n *harness.Node) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.Proc.Cmd.Process.Pid))
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
	rds := harness.StartRedis(t)
	l := harness.Layout{Redis: rds, Origin: harness.NewOrigin(t), Site: floodSite}
	one, two := harness.StartCaddy(t, l), harness.StartCaddy(t, l)
	for _, n := range []*harness.Node{one, two} {
		n.Attached(t)
		n.Keep(t, "/pages/1")
	}
	kept := one.Want(t, "HIT", "/pages/1").Body
	one.Keep(t, "/news/1")
	gone := one.Want(t, "HIT", "/news/1")
	dump, err := rds.Client.Dump(t.Context(), gone.Key()).Result()
	if err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "the purge is final", func() bool {
		return one.API(t, http.MethodPost, "/redis_cache/purge", `{"tag":"news"}`).Status == http.StatusOK
	})
	before := []int{residentMiB(t, one), residentMiB(t, two)}

	start := time.Now()
	flood(t, *floodPosts, one, two)
	t.Logf("%d POSTs are appended, and applied by two nodes, after %v; the nodes grew from %d to %d and from %d to %d MiB",
		*floodPosts, time.Since(start).Round(time.Millisecond),
		before[0], residentMiB(t, one), before[1], residentMiB(t, two))
	var header struct{ ID string }
	harness.Eventually(t, "there is a checkpoint", func() bool {
		raw, err := rds.Client.Get(t.Context(), "cache::checkpoint:{cache::journal}").Bytes()
		return err == nil && json.Unmarshal(raw, &header) == nil
	})
	if n := rds.Client.XLen(t.Context(), "cache::journal").Val(); n < 1_000_000 && *floodPosts < 1_000_000 {
		// What a longer journal loses by itself.
		if n := rds.Client.XTrimMinID(t.Context(), "cache::journal", header.ID).Val(); n < 100_000 {
			t.Fatalf("%d entries are trimmed", n)
		}
	}

	three := harness.StartCaddy(t, l) // one that joins
	two.Restart(t)                    // and one that has forgotten
	want := "HIT"
	if *floodPosts > rememberable {
		want = "MISS" // as all of them are of one host
	}
	for i, n := range []*harness.Node{one, three, two} {
		joining := time.Now()
		r := n.Get(t, "/pages/1")
		harness.Eventually(t, "the node answers from its store", func() bool {
			if r.Outcome() == "BYPASS" || r.Unproven() {
				r = n.Get(t, "/pages/1")
				return false
			}
			return true
		})
		if want == "HIT" && (r.Outcome() != "HIT" || r.Body != kept) || want == "MISS" && r.Body == kept {
			t.Errorf("node %d: %s %q, want %s", i, r.Outcome(), r.Body, want)
		}
		t.Logf("node %d answers after %v and takes %d MiB", i, time.Since(joining).Round(time.Millisecond), residentMiB(t, n))
		rds.Client.Del(t.Context(), gone.Key()) // a node that was asked has stored it anew
		if err := rds.Client.RestoreReplace(t.Context(), gone.Key(), 0, dump).Err(); err != nil {
			t.Fatal(err)
		}
		if r := n.Get(t, "/news/1"); r.Outcome() == "HIT" && r.Body == gone.Body {
			t.Errorf("node %d answers what was purged before", i)
		}
	}
}
