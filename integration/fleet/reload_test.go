package fleet

import (
	"net/http"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// TestReloadKeepsPurgesThatWait changes the connection while Redis is away and a client has
// changed something.
func TestReloadKeepsPurgesThatWait(t *testing.T) {
	t.Parallel()
	rds, o := harness.StartRedis(t), harness.NewOrigin(t)
	lk := harness.NewLink(t, rds.Addr)
	with := func(dial string) harness.Layout {
		return harness.Layout{
			Redis: rds, Origin: o, Site: "\tredis_cache {\n\tttl 5m\n\t}",
			Connect: "redis://" + lk.Addr + " {\ndial_timeout " + dial + "\nread_timeout 1s\nwrite_timeout 1s\n}",
		}
	}
	one := harness.StartCaddy(t, with("2s"))
	one.Attached(t)
	stored := one.Want(t, "MISS", "/p")
	rds.Await(t, stored.Key())
	lk.Set(harness.LinkCut)
	one.Do(t, http.MethodPost, "/p", "")
	if r := one.Reload(t, with("3s")); r.Status != http.StatusOK {
		t.Fatal(r.Status, r.Body)
	}
	lk.Set(harness.LinkPasses)
	one.Attached(t)
	if r := one.Get(t, "/p"); r.Body == stored.Body {
		t.Errorf("%s of what its own client has changed", r.Outcome())
	}
}

// TestReloadOfRulesAppliesEarlierPurges purges a URL whose parameter one node leaves out of its
// keys. The other node learns of that rule only later, and then knows what the purge was about.
func TestReloadOfRulesAppliesEarlierPurges(t *testing.T) {
	t.Parallel()
	rds, o := harness.StartRedis(t), harness.NewOrigin(t)
	with := func(rule string) harness.Layout {
		return harness.Layout{Redis: rds, Origin: o, Site: "\tredis_cache {\n\tttl 5m\n\t" + rule + "\n\t}"}
	}
	two := harness.StartCaddy(t, with(""))
	two.Attached(t)
	one := harness.StartCaddy(t, with("vary_query except utm"))
	one.Attached(t)
	rds.Await(t, one.Want(t, "MISS", "/p?id=1&utm=x").Key())
	one.Purge(t, `{"url":"http://shop.test/p?id=1&utm=x"}`)
	if r := two.Reload(t, with("vary_query except utm")); r.Status != http.StatusOK {
		t.Fatal(r.Status, r.Body)
	}
	if got := two.Get(t, "/p?id=1&utm=x").Outcome(); got == "HIT" {
		t.Error("the reloaded node answers what was purged")
	}
}
