package purge

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// TestRemoved reads how many stored responses each purge removed, on every node of a fleet and
// without Redis. Nobody else's keys are touched.
func TestRemoved(t *testing.T) {
	t.Parallel()
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		rds := harness.StartRedis(t)
		foreign := []string{"tenant", "cachepickup:x", "other:pickup:x:1", "cache", "other::journal"}
		for _, key := range foreign {
			rds.Do(t, "SET", key, "x")
		}
		l := harness.Layout{Redis: rds, Origin: harness.NewOrigin(t), Cache: harness.GuideCache, Site: harness.GuideSite}
		nodes := []*harness.Node{harness.StartCaddy(t, l), harness.StartCaddy(t, l)}
		testRemoved(t, nodes...)
		for _, key := range foreign {
			if rds.Client.Get(t.Context(), key).Val() != "x" {
				t.Errorf("%s, which is not the cache's, is gone", key)
			}
		}
		if keys := rds.Keys(t, "cache:pickup:*"); len(keys) > 0 {
			t.Errorf("left in Redis: %q", keys)
		}
	})
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		testRemoved(t, harness.StartCaddy(t, harness.Layout{Origin: harness.NewOrigin(t), Cache: harness.GuideCache, Site: harness.GuideSite}))
	})
}

func testRemoved(t *testing.T, nodes ...*harness.Node) {
	fill(t, nodes[0])
	for _, body := range []string{
		`{"key":"pickup:shop.test/api/v1/pickups/2"}`,
		`{"key":"pickup:shop.test/api/v1/pickups/nothing"}`,
		`{"namespaces":["pickup","user"],"soft":true}`,
		`{"tag":"nothing"}`,
		`{"namespaces":["pickup","points"]}`, // covers what the first one did, too
	} {
		nodes[0].Purge(t, body)
	}
	for i, n := range nodes {
		// The sweep of the first one may be over before the last one is there.
		want := []string{"[4 0 -1 0 0]", "[3 0 -1 0 1]"}
		var got string
		if !harness.Within(harness.Patience, func() bool { got = fmt.Sprint(n.Removed(t, 5)); return slices.Contains(want, got) }) {
			t.Errorf("node %d: removed are %s, want one of %s", i, got, want)
		}
	}
	last := nodes[0].Purge(t, `{"namespace":"user"}`)["id"].(string)
	harness.Eventually(t, "the next purge is counted", func() bool { return nodes[0].Removed(t, 1)[0] == 2 })
	logged := func() (times int) {
		for _, n := range nodes {
			times += strings.Count(n.Proc.Log.String(), `"msg":"cache_invalidate_swept","id":"`+last+`","removed":2}`)
		}
		return times
	}
	harness.Eventually(t, "it is logged", func() bool { return logged() > 0 })
	if times := logged(); times != 1 {
		t.Errorf("it is logged %d times", times)
	}
}
