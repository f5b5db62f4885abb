package integration

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// removed lists what the journal says purges removed, newest first; -1 where it is not known.
func (n *node) removed(t *testing.T, limit int) []float64 {
	t.Helper()
	list := n.json(t, http.StatusOK, http.MethodGet, fmt.Sprintf("/redis_cache/journal?limit=%d", limit), "")
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

// TestRemoved reads how many stored responses each purge removed, on every node of a fleet and
// without Redis. Nobody else's keys are touched.
func TestRemoved(t *testing.T) {
	t.Parallel()
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		rds := startRedis(t)
		foreign := []string{"tenant", "cachepickup:x", "other:pickup:x:1", "cache", "other::journal"}
		for _, key := range foreign {
			rds.do(t, "SET", key, "x")
		}
		l := layout{redis: rds, origin: newOrigin(t), cache: guide, site: guideSite}
		nodes := []*node{startCaddy(t, l), startCaddy(t, l)}
		testRemoved(t, nodes...)
		for _, key := range foreign {
			if rds.client.Get(t.Context(), key).Val() != "x" {
				t.Errorf("%s, which is not the cache's, is gone", key)
			}
		}
		if keys := rds.keys(t, "cache:pickup:*"); len(keys) > 0 {
			t.Errorf("left in Redis: %q", keys)
		}
	})
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		testRemoved(t, startCaddy(t, layout{origin: newOrigin(t), cache: guide, site: guideSite}))
	})
}

func testRemoved(t *testing.T, nodes ...*node) {
	fill(t, nodes[0])
	for _, body := range []string{
		`{"key":"pickup:shop.test/api/v1/pickups/2"}`,
		`{"key":"pickup:shop.test/api/v1/pickups/nothing"}`,
		`{"namespaces":["pickup","user"],"soft":true}`,
		`{"tag":"nothing"}`,
		`{"namespaces":["pickup","points"]}`, // covers what the first one did, too
	} {
		nodes[0].purge(t, body)
	}
	for i, n := range nodes {
		// The sweep of the first one may be over before the last one is there.
		want := []string{"[4 0 -1 0 0]", "[3 0 -1 0 1]"}
		var got string
		if !within(patience, func() bool { got = fmt.Sprint(n.removed(t, 5)); return slices.Contains(want, got) }) {
			t.Errorf("node %d: removed are %s, want one of %s", i, got, want)
		}
	}
	last := nodes[0].purge(t, `{"namespace":"user"}`)["id"].(string)
	eventually(t, "the next purge is counted", func() bool { return nodes[0].removed(t, 1)[0] == 2 })
	logged := func() (times int) {
		for _, n := range nodes {
			times += strings.Count(n.proc.log.String(), `"msg":"cache_invalidate_swept","id":"`+last+`","removed":2}`)
		}
		return times
	}
	eventually(t, "it is logged", func() bool { return logged() > 0 })
	if times := logged(); times != 1 {
		t.Errorf("it is logged %d times", times)
	}
}
