package doctor

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
	"github.com/gplus-recycling/caddy-redis-cache/internal/stats"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// recent is how long ago an error was that is worth a warning.
const recent = time.Hour

// advice is what to do about errors, by kind.
var advice = map[string]string{
	string(store.ErrorRedis):          "see the text: Redis, its limits or the network have to be mended; timeouts need a nearer Redis or a longer read_timeout",
	string(store.ErrorDroppedWrite):   "see the text: what Redis was away for, refused or was too slow for is stored when it is fetched again",
	string(store.ErrorCorrupt):        "look for what else writes below the prefix: such values are not answered from",
	string(store.ErrorOtherVersion):   "nothing during a rolling deploy; else bring all nodes to one version",
	string(store.ErrorDictionaryMiss): "give Redis more memory: it has evicted a dictionary, and what was compressed with it is fetched again",
	"malformed_entry":                 "look in the listing of the journal who appends what is no purge",
	"journal_gap":                     "have Redis keep its data, and the journal, over restarts: what was stored before a gap is dropped",
}

// Errors tells of the errors of a node since it started: how many there were of each
// kind, and the latest ones where they are known.
func Errors(counts map[string]uint64, latest map[string]stats.Error, now time.Time) []api.Check {
	var checks []api.Check
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		if counts[kind] == 0 {
			continue
		}
		c := api.Check{Name: "errors", Status: api.OK, Detail: fmt.Sprintf("%s: %d since the start", kind, counts[kind]), Advice: advice[kind]}
		if e, known := latest[kind]; known {
			c.Detail += fmt.Sprintf(", the last at %s: %s", e.At.Format(time.RFC3339), e.Text)
			if now.Sub(e.At) < recent {
				c.Status = api.Warn
			}
		}
		checks = append(checks, c)
	}
	if len(checks) == 0 {
		checks = append(checks, api.Check{Name: "errors", Status: api.OK, Detail: "none since the start"})
	}
	return checks
}
