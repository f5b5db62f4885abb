package integration

import (
	"fmt"
	"net/http"
	"testing"
)

// disabled is what a node believes to be switched off.
func (n *node) disabled(t *testing.T) string {
	t.Helper()
	return fmt.Sprint(n.json(t, http.StatusOK, http.MethodGet, "/redis_cache/nodes", "")["disabled"])
}

// TestSwitch turns the cache off and on for three nodes. The state survives that a
// node starts later, that the journal is gone and that Redis is emptied.
func TestSwitch(t *testing.T) {
	t.Parallel()
	rds := startRedis(t)
	l := layout{redis: rds, origin: newOrigin(t), cache: guide, site: guideSite}
	nodes := []*node{startCaddy(t, l), startCaddy(t, l)}
	const pickup, user = "/api/v1/pickups/1", "/api/v1/users/1"
	for _, n := range nodes {
		n.attached(t)
	}
	nodes[0].want(t, "MISS", pickup)
	turn := func(op, body string) {
		t.Helper()
		// 202 while a node has just started.
		eventually(t, op+" "+body+" is confirmed", func() bool {
			return nodes[0].api(t, http.MethodPost, "/redis_cache/"+op, body).status == http.StatusOK
		})
	}
	turn("disable", `{"namespace":"pickup","by":"me","reason":"why","wait":"5s"}`)
	for _, n := range nodes {
		r := n.want(t, "BYPASS", pickup)
		if got := r.cacheStatus(t)["detail"]; got != "disabled" {
			t.Errorf("detail %q", got)
		}
		if got := n.disabled(t); got != "[pickup]" {
			t.Errorf("disabled %s", got)
		}
	}
	nodes[1].get(t, user)
	nodes[1].want(t, "HIT", user)

	// The journal is trimmed to something that says nothing of it.
	rds.await(t, "cache::switches")
	if d := rds.ttl(t, "cache::switches"); d <= 0 {
		t.Errorf("the state would stay for ever (PTTL %s)", d)
	}
	nodes[0].purge(t, `{"tag":"nothing","wait":"5s"}`)
	rds.do(t, "XTRIM", "cache::journal", "MAXLEN", "1")
	nodes = append(nodes, startCaddy(t, l))
	if got := nodes[2].disabled(t); got != "[pickup]" {
		t.Errorf("a node that starts later: disabled %s", got)
	}
	nodes[2].want(t, "BYPASS", pickup)

	rds.do(t, "FLUSHALL")
	rds.await(t, "cache::switches")
	nodes[2].restart(t)
	for _, n := range nodes {
		n.want(t, "BYPASS", pickup)
	}

	turn("disable", `{}`)
	for _, n := range nodes {
		n.want(t, "BYPASS", user)
	}
	turn("enable", `{"all":true}`)
	for _, n := range nodes {
		if got := n.disabled(t); got != "[]" {
			t.Errorf("disabled %s", got)
		}
		if got := n.get(t, pickup).outcome(); got == "BYPASS" {
			t.Errorf("%s although everything is on", got)
		}
	}
	for _, body := range []string{``, `{"all":false}`, `{"all":true,"namespace":"pickup"}`, `{"namespace":"No"}`, `{"unknown":1}`, `{"wait":"x"}`} {
		if r := nodes[0].api(t, http.MethodPost, "/redis_cache/disable", body); r.status != http.StatusBadRequest {
			t.Errorf("%s: %d", body, r.status)
		}
	}
}
