package integration

import (
	"net/http"
	"testing"
)

// TestReloadOfRulesAppliesEarlierPurges purges a URL whose parameter one node leaves out of its
// keys. The other node learns of that rule only later, and then knows what the purge was about.
func TestReloadOfRulesAppliesEarlierPurges(t *testing.T) {
	t.Parallel()
	rds, o := startRedis(t), newOrigin(t)
	with := func(rule string) layout {
		return layout{redis: rds, origin: o, site: "\tredis_cache {\n\tttl 5m\n\t" + rule + "\n\t}"}
	}
	two := startCaddy(t, with(""))
	two.attached(t)
	one := startCaddy(t, with("vary_query except utm"))
	one.attached(t)
	rds.await(t, one.want(t, "MISS", "/p?id=1&utm=x").key())
	one.purge(t, `{"url":"http://shop.test/p?id=1&utm=x"}`)
	if r := two.reload(t, with("vary_query except utm")); r.status != http.StatusOK {
		t.Fatal(r.status, r.body)
	}
	if got := two.get(t, "/p?id=1&utm=x").outcome(); got == "HIT" {
		t.Error("the reloaded node answers what was purged")
	}
}
