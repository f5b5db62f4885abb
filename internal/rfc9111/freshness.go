package rfc9111

import (
	"net/http"
	"time"
)

// Freshness is everything to remember of a response to decide later whether and
// how to reuse it.
type Freshness struct {
	ResponseTime time.Time     // when the response, or the 304 that freshened it, arrived
	InitialAge   time.Duration // corrected_initial_age (§4.2.3)
	Lifetime     time.Duration // 0: stale from the start

	// The windows of RFC 5861 after the lifetime; 0 = forbidden.
	StaleWhileRevalidate, StaleIfError time.Duration

	NoCache          bool // unqualified no-cache: revalidate before every use
	MustRevalidate   bool // must-revalidate, proxy-revalidate or plain s-maxage: never stale without an explicit window
	ForAuthorization bool // may be shared with requests that carry Authorization (§3.5)
	ForCredentials   bool // may answer requests that carry other credentials; Decision.Explicit is for storing
}

// CurrentAge is the age that a response reused now has (§4.2.3).
func (f *Freshness) CurrentAge(now time.Time) time.Duration {
	return addDelta(f.InitialAge, elapsed(f.ResponseTime, now))
}

// Remaining is what is left of the lifetime, never negative.
func (f *Freshness) Remaining(now time.Time) time.Duration {
	return max(f.Lifetime-f.CurrentAge(now), 0)
}

// Fresh reports whether the response may be reused without asking the origin
// (§4.2, §5.2.2.4).
func (f *Freshness) Fresh(now time.Time) bool {
	return !f.NoCache && f.Remaining(now) > 0
}

// ServeStale reports whether the response may be reused while it is being
// revalidated (RFC 5861 §3). The window is open from the start, so that a fresh
// response that something else made stale, such as a soft purge, has it, too.
func (f *Freshness) ServeStale(now time.Time) bool {
	return f.within(f.StaleWhileRevalidate, now)
}

// ServeOnError reports whether the response may be reused when the origin gives
// an error (RFC 5861 §4). The window is open from the start, as in ServeStale.
func (f *Freshness) ServeOnError(now time.Time) bool {
	return f.within(f.StaleIfError, now)
}

func (f *Freshness) within(window time.Duration, now time.Time) bool {
	return !f.NoCache && window > 0 && f.CurrentAge(now) < addDelta(f.Lifetime, window)
}

// DropAfter is the end of the lifetime and of the larger window: from then on
// the response can only be revalidated.
func (f *Freshness) DropAfter() time.Time {
	end := addDelta(f.Lifetime, max(f.StaleWhileRevalidate, f.StaleIfError))
	return f.ResponseTime.Add(end - f.InitialAge)
}

// Response is a final response as it came from upstream.
type Response struct {
	Status                    int
	Header                    http.Header
	RequestTime, ResponseTime time.Time
}

// date is when the origin made the response, or when it arrived if it does not
// say (RFC 9110 §6.6.1).
func (r *Response) date() time.Time {
	if lines := r.Header["Date"]; len(lines) > 0 {
		if t, ok := ParseDate(lines[0], r.ResponseTime); ok {
			return t
		}
	}
	return r.ResponseTime
}

// initialAge is corrected_initial_age (§4.2.3). An Age that is not valid is
// ignored (§5.1).
func (r *Response) initialAge() time.Duration {
	age, _ := ParseAge(r.Header["Age"])
	if !r.RequestTime.IsZero() {
		age = addDelta(age, elapsed(r.RequestTime, r.ResponseTime))
	}
	return max(age, elapsed(r.date(), r.ResponseTime))
}

// expires is the lifetime that Expires states: Expires − Date (§4.2.1). What
// cannot be read as a date has expired already (§5.3), and so has a field of
// several lines that disagree.
func (r *Response) expires() time.Duration {
	lines := r.Header["Expires"]
	for _, line := range lines[1:] {
		if line != lines[0] {
			return 0
		}
	}
	t, ok := ParseDate(lines[0], r.ResponseTime)
	if !ok {
		return 0
	}
	return elapsed(r.date(), t)
}

// heuristic is a share of the time since the response was last modified, 0 when
// it does not say (§4.2.2).
func (r *Response) heuristic(percent int, limit time.Duration) time.Duration {
	lines := r.Header["Last-Modified"]
	if len(lines) == 0 {
		return 0
	}
	modified, ok := ParseDate(lines[0], r.ResponseTime)
	if !ok {
		return 0
	}
	// Divided first, since the product may not fit.
	share := elapsed(modified, r.date()) / 100 * time.Duration(min(percent, 100))
	return min(share, clampDelta(limit))
}
