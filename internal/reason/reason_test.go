package reason

import (
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
)

// TestReasons has all that is known of a reason for each of them.
func TestReasons(t *testing.T) {
	advice := make(map[string]Reason)
	for r := range Reason(len(table)) {
		if other, twice := advice[r.Advice()]; twice {
			t.Errorf("%q and %q have the same advice", r, other)
		}
		advice[r.Advice()] = r
		if r.Advice() == "" || r != None && (r.String() == "" || r.Meaning() == "") {
			t.Errorf("%d, %q: no name, meaning or advice", r, r)
		}
		if r.Is(OfResponse) && !r.Is(NotShared) {
			t.Errorf("%s: what holds for every response is shared with nobody", r)
		}
	}
	for r := rfc9111.RefusalNone + 1; r.String() != "unknown"; r++ {
		if Refused(r) == None {
			t.Errorf("no reason for the refusal %q", r)
		}
	}
}
