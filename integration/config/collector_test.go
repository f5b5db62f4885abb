package config

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

var gogc = regexp.MustCompile(`(?m)^go_gc_gogc_percent ([0-9.]+)$`)

// TestCollectorOff leaves the collector of the process alone, after a reload, too.
func TestCollectorOff(t *testing.T) {
	t.Parallel()
	l := harness.Layout{Site: "redis_cache {\nttl 1m\n}\nrespond `" + strings.Repeat("x", 200<<10) + "`"}
	off := l
	off.Cache = "collector off"
	node := harness.StartCaddy(t, off)
	percent := func() float64 {
		node.API(t, http.MethodGet, "/debug/pprof/heap?gc=1", "")
		match := gogc.FindStringSubmatch(node.API(t, http.MethodGet, "/metrics", "").Body)
		if match == nil {
			t.Fatal("no metric tells of GOGC")
		}
		value, err := strconv.ParseFloat(match[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	for i := range 150 {
		node.Want(t, "MISS", fmt.Sprintf("/%d", i))
	}
	if got := percent(); got != 100 {
		t.Errorf("%v with collector off", got)
	}
	on := l
	on.Cache = "collector on"
	for range 2 {
		node.Reload(t, on)
		harness.Eventually(t, "the collector is tuned", func() bool { return percent() < 90 })
		node.Reload(t, off)
		harness.Eventually(t, "the collector is as it was", func() bool { return percent() == 100 })
	}
	node.Reload(t, l) // on by default
	harness.Eventually(t, "the collector is tuned", func() bool { return percent() < 90 })
}
