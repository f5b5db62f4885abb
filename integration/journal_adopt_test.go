package integration

import (
	"net/http"
	"testing"
)

// TestReloadKeepsPurgesThatWait changes the connection while Redis is away and a client has
// changed something.
func TestReloadKeepsPurgesThatWait(t *testing.T) {
	t.Parallel()
	rds, o := startRedis(t), newOrigin(t)
	lk := newLink(t, rds.addr)
	with := func(dial string) layout {
		return layout{
			redis: rds, origin: o, site: "\tredis_cache {\n\tttl 5m\n\t}",
			connect: "redis://" + lk.addr + " {\ndial_timeout " + dial + "\nread_timeout 1s\nwrite_timeout 1s\n}",
		}
	}
	one := startCaddy(t, with("2s"))
	one.attached(t)
	stored := one.want(t, "MISS", "/p")
	rds.await(t, stored.key())
	lk.set(linkCut)
	one.do(t, http.MethodPost, "/p", "")
	if r := one.reload(t, with("3s")); r.status != http.StatusOK {
		t.Fatal(r.status, r.body)
	}
	lk.set(linkPasses)
	one.attached(t)
	if r := one.get(t, "/p"); r.body == stored.body {
		t.Errorf("%s of what its own client has changed", r.outcome())
	}
}
