package engine

import (
	"github.com/gplus-recycling/caddy-redis-cache/internal/reason"
	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// Act is what is done with a request.
type Act uint8

// What is done with a request.
const (
	ActBypass  Act = iota // pass it on without a look into the store
	ActHit                // answer from a fresh response
	ActAccept             // answer from a stale response, which the request accepts
	ActStale              // answer from a stale response, and refresh it
	ActNothing            // answer 504: the request forbids to go upstream
	ActFailed             // answer from a stale response in place of an upstream that has failed lately
	ActFetch              // ask the upstream
)

// Plan is what is done with a request, from which stored response, and why.
type Plan struct {
	Act    Act
	Record *store.Record // nil where nothing is answered from the store
	Result Result        // as it stands before a fetch
	Reason reason.Reason
}

// upstreamState is what others know of the upstream of what was found. The functions are
// asked only if it matters.
type upstreamState struct {
	refreshes func() bool // what is stored is, or can be, fetched anew in the background
	fails     func() bool // it has failed lately
}

// decide makes the plan. It changes nothing.
func decide(q *Request, f *Found, upstream upstreamState) Plan {
	switch stored := f.stored(); {
	case q.Bypass != reason.None:
		return Plan{Act: ActBypass, Result: Bypass, Reason: q.Bypass}
	case f.Answers && f.Why == reason.None:
		return Plan{Act: ActHit, Record: f.Record, Result: Hit}
	case f.Answers:
		return Plan{Act: ActAccept, Record: f.Record, Result: Stale, Reason: f.Why}
	case stored != nil && f.Why == reason.Expired && acceptsStale(q, f) && upstream.refreshes():
		return Plan{Act: ActStale, Record: stored, Result: Stale, Reason: reason.Expired}
	case q.OnlyIfCached:
		return Plan{Act: ActNothing, Result: Miss, Reason: reason.OnlyIfCached}
	case f.Why == reason.Expired && mayServeOnError(q, stored, f.At) && upstream.fails():
		return Plan{Act: ActFailed, Record: stored, Result: Stale, Reason: reason.Error}
	}
	return Plan{Act: ActFetch, Result: Miss, Reason: f.Why}
}

// acceptsStale reports whether the stored response and the request, where its directives
// count, allow a stale answer while it is fetched anew, RFC 5861 section 3.
func acceptsStale(q *Request, f *Found) bool {
	if q.Directives != nil {
		return rfc9111.RequestServesStale(*q.Directives, &f.Record.Freshness, f.At)
	}
	return f.Record.Freshness.ServeStale(f.At)
}
