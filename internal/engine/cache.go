package engine

import (
	"context"

	"github.com/gplus-recycling/caddy-redis-cache/internal/coalesce"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// Cache is what all requests of a process share: what is stored, what was purged, and
// who is fetching what. It has no goroutines of its own, and ends with Store, Journal and
// Leases, which whoever made them starts and closes.
//
// Everything in it may be used by any number of requests at the same time.
type Cache struct {
	Store   *store.Tiered
	Journal *journal.Journal
	Leases  *coalesce.Leases // nil where there is no Redis, and so no other node

	flights   coalesce.Group[share]
	misses    *coalesce.Misses
	failures  *coalesce.Failures
	doors     *coalesce.Failures // of what is stored, what nobody did not get anew
	refreshes refreshes
	variants  [64]variantLists
}

// NewCache returns a cache in this store, with the purges of this journal. leases are nil
// without Redis.
func NewCache(s *store.Tiered, j *journal.Journal, leases *coalesce.Leases) *Cache {
	return &Cache{
		Store: s, Journal: j, Leases: leases,
		misses: coalesce.NewMisses(), failures: coalesce.NewFailures(), doors: coalesce.NewFailures(),
	}
}

// Check says what purges say about a stored response.
func (c *Cache) Check(rec *store.Record) journal.Verdict {
	verdict, _ := Check(c.Journal, rec, journal.Checked{})
	return verdict
}

// Check says what the purges of a journal say about a stored response. upTo is what an
// earlier check of it has returned, so that only later purges are looked at.
func Check(j *journal.Journal, rec *store.Record, upTo journal.Checked) (journal.Verdict, journal.Checked) {
	subject := rec.Subject()
	return j.Check(&subject, upTo)
}

// Usable reports whether a request may be answered from the store: the node has seen
// every purge, or cannot ask and, unless strict, goes on without.
func (c *Cache) Usable(ctx context.Context, strict bool) bool {
	switch c.Journal.Trust(ctx) {
	case journal.Leased:
		return true
	case journal.CutOff:
		return !strict
	case journal.Unproven:
	}
	return false
}
