package admin

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// disabled is what a node believes to be switched off.
func disabled(t *testing.T, n *harness.Node) string {
	t.Helper()
	return fmt.Sprint(n.JSON(t, http.StatusOK, http.MethodGet, "/redis_cache/nodes", "")["disabled"])
}

// TestSwitch turns the cache off and on for three nodes. The state survives that a
// node starts later, that the journal is gone and that Redis is emptied.
func TestSwitch(t *testing.T) {
	t.Parallel()
	rds := harness.StartRedis(t)
	l := harness.Layout{Redis: rds, Origin: harness.NewOrigin(t), Cache: harness.GuideCache, Site: harness.GuideSite}
	nodes := []*harness.Node{harness.StartCaddy(t, l), harness.StartCaddy(t, l)}
	const pickup, user = "/api/v1/pickups/1", "/api/v1/users/1"
	for _, n := range nodes {
		n.Attached(t)
	}
	nodes[0].Want(t, "MISS", pickup)
	turn := func(op, body string) {
		t.Helper()
		// 202 while a node has just started.
		harness.Eventually(t, op+" "+body+" is confirmed", func() bool {
			return nodes[0].API(t, http.MethodPost, "/redis_cache/"+op, body).Status == http.StatusOK
		})
	}
	turn("disable", `{"namespace":"pickup","by":"me","reason":"why","wait":"5s"}`)
	for _, n := range nodes {
		r := n.Want(t, "BYPASS", pickup)
		if got := r.CacheStatus(t)["detail"]; got != "disabled" {
			t.Errorf("detail %q", got)
		}
		if got := disabled(t, n); got != "[pickup]" {
			t.Errorf("disabled %s", got)
		}
	}
	nodes[1].Get(t, user)
	nodes[1].Want(t, "HIT", user)

	// The journal is trimmed to something that says nothing of it.
	rds.Await(t, "cache::switches")
	if d := rds.TTL(t, "cache::switches"); d <= 0 {
		t.Errorf("the state would stay for ever (PTTL %s)", d)
	}
	nodes[0].Purge(t, `{"tag":"nothing","wait":"5s"}`)
	rds.Do(t, "XTRIM", "cache::journal", "MAXLEN", "1")
	nodes = append(nodes, harness.StartCaddy(t, l))
	if got := disabled(t, nodes[2]); got != "[pickup]" {
		t.Errorf("a node that starts later: disabled %s", got)
	}
	nodes[2].Want(t, "BYPASS", pickup)

	rds.Do(t, "FLUSHALL")
	rds.Await(t, "cache::switches")
	nodes[2].Restart(t)
	for _, n := range nodes {
		n.Want(t, "BYPASS", pickup)
	}

	turn("disable", `{}`)
	for _, n := range nodes {
		n.Want(t, "BYPASS", user)
	}
	turn("enable", `{"all":true}`)
	for _, n := range nodes {
		if got := disabled(t, n); got != "[]" {
			t.Errorf("disabled %s", got)
		}
		if got := n.Get(t, pickup).Outcome(); got == "BYPASS" {
			t.Errorf("%s although everything is on", got)
		}
	}
	for _, body := range []string{``, `{"all":false}`, `{"all":true,"namespace":"pickup"}`, `{"namespace":"No"}`, `{"unknown":1}`, `{"wait":"x"}`} {
		if r := nodes[0].API(t, http.MethodPost, "/redis_cache/disable", body); r.Status != http.StatusBadRequest {
			t.Errorf("%s: %d", body, r.Status)
		}
	}
}
