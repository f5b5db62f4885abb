package rfc9111

import "time"

// RequestAllows reports whether the client's own directives let the stored
// response answer at now (§5.2.1). A stale one needs max-stale, which never
// beats must-revalidate or no-cache of the response (§4.2.4). An invalid
// number cannot be shown to be kept, so it sends the request to the origin.
//
// It knows only the client's wishes: without max-stale it is false for every
// stale response, also inside the windows of RFC 5861, about which RequestServesStale
// and RequestServesOnError are. no-store does not forbid an answer from the store
// (§5.2.1.5).
func RequestAllows(d Directives, f *Freshness, now time.Time) bool {
	if d.NoCache || f.NoCache {
		return false
	}
	age := f.CurrentAge(now)
	remaining := f.Lifetime - age
	if !youngEnough(d.MaxAge, age) || !freshEnough(d.MinFresh, remaining) {
		return false
	}
	return f.Fresh(now) || !f.MustRevalidate && staleAllowed(d, -remaining)
}

// RequestServesStale is Freshness.ServeStale for a request whose directives count:
// the window of the response is open, and the client has not asked for something
// fresher (§5.2.1.1 to §5.2.1.4).
func RequestServesStale(d Directives, f *Freshness, now time.Time) bool {
	return f.ServeStale(now) && acceptsStale(d, f, now)
}

// RequestServesOnError is Freshness.ServeOnError for a request whose directives
// count. Its own stale-if-error says how stale the response may be, whatever other
// directives say of freshness (RFC 5861 §4), but does not overrule a response that
// must never be stale (§4.2.4).
func RequestServesOnError(d Directives, f *Freshness, now time.Time) bool {
	if d.StaleIfError.Present {
		forbidden := f.NoCache || f.MustRevalidate && f.StaleIfError == 0
		return !forbidden && d.StaleIfError.Valid && f.within(d.StaleIfError.Value, now)
	}
	return f.ServeOnError(now) && acceptsStale(d, f, now)
}

// acceptsStale reports whether the client accepts the response as stale as it is.
func acceptsStale(d Directives, f *Freshness, now time.Time) bool {
	age := f.CurrentAge(now)
	remaining := f.Lifetime - age
	return !d.NoCache && youngEnough(d.MaxAge, age) && freshEnough(d.MinFresh, remaining) &&
		(!d.MaxStale.Present || staleAllowed(d, -remaining))
}

// youngEnough is max-age (§5.2.1.1). max-age=0 is how clients ask for a
// validation, so not even a response of age 0 satisfies it.
func youngEnough(maxAge Delta, age time.Duration) bool {
	return !maxAge.Present || maxAge.Valid && maxAge.Value > 0 && age <= maxAge.Value
}

// freshEnough is min-fresh (§5.2.1.3).
func freshEnough(minFresh Delta, remaining time.Duration) bool {
	return !minFresh.Present || minFresh.Valid && remaining >= minFresh.Value
}

// staleAllowed is max-stale, which without a number accepts any staleness
// (§5.2.1.2).
func staleAllowed(d Directives, staleness time.Duration) bool {
	return d.MaxStaleAny || d.MaxStale.Valid && staleness <= d.MaxStale.Value
}
