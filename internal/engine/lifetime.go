package engine

import (
	"net/http"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
)

const (
	// MaxLifetime is the longest that a purge is remembered, and so the longest that a
	// response fetched before it is of use.
	MaxLifetime = 30 * 24 * time.Hour
	// maxRetention bounds how long a response that can be revalidated is kept beyond its
	// use without: as long again as it was fresh, a minute at least. This counts from its
	// arrival if it was stale by then.
	maxRetention = 24 * time.Hour
)

// expires is the end of every use of a stored response.
func expires(f *rfc9111.Freshness, status int, header http.Header) time.Time {
	end := f.DropAfter()
	if rfc9111.CanValidate(status, header) {
		retention := min(max(f.Lifetime, time.Minute), maxRetention)
		end = latest(end, f.ResponseTime.Add(f.Remaining(f.ResponseTime)+retention))
	}
	if limit := f.ResponseTime.Add(MaxLifetime); end.After(limit) {
		return limit
	}
	return end
}

// bound shortens a lifetime to the time for which purges are remembered.
func bound(f *rfc9111.Freshness) { f.Lifetime = min(f.Lifetime, f.InitialAge+MaxLifetime) }

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
