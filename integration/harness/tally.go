package harness

import (
	"fmt"
	"testing"
)

// Tally is what clients got from a node, by namespace and outcome.
type Tally map[string]map[string]float64

func (c Tally) Add(other Tally) {
	for namespace, outcomes := range other {
		for outcome, n := range outcomes {
			if outcome != "total" {
				c.Count(namespace, outcome, n)
			}
		}
	}
}

func (c Tally) Count(namespace, outcome string, n float64) {
	if c[namespace] == nil {
		c[namespace] = make(map[string]float64)
	}
	c[namespace][outcome] += n
	c[namespace]["total"] += n
}

// Differs compares with what statistics say of the same namespaces.
func (c Tally) Differs(t *testing.T, stats map[string]any) (what string) {
	t.Helper()
	for namespace, outcomes := range c {
		if _, known := stats["namespaces"].(map[string]any)[namespace]; !known {
			return "nothing of " + namespace
		}
		for _, outcome := range []string{"total", "HIT", "MISS", "BYPASS", "STALE", "REVALIDATED"} {
			if got := Number(t, stats, "namespaces", namespace, "requests", outcome); got != outcomes[outcome] {
				return fmt.Sprintf("%s %s: %v, want %v", namespace, outcome, got, outcomes[outcome])
			}
		}
	}
	return ""
}
