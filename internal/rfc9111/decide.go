package rfc9111

import (
	"net/http"
	"slices"
	"time"
)

// Policy is what the operator configured for this request and status. The zero
// value honours the origin and nothing else.
type Policy struct {
	// Lifetime when the origin states none; with Override always.
	TTL    time.Duration
	HasTTL bool

	// Override ignores what the origin says of lifetimes, no-cache, no-store
	// and in targeted fields; private only together with AllowPrivate.
	Override     bool
	AllowPrivate bool // responses are stored for one user each

	Targets []string // targeted fields to obey, in order (RFC 9213 §2.2)

	// Heuristic freshness (§4.2.2); off while one of them is 0.
	HeuristicPercent int
	HeuristicMax     time.Duration

	// Windows of RFC 5861 when the origin states none.
	StaleWhileRevalidate, StaleIfError time.Duration

	// Validators stores a response that may not be reused unasked, but can be
	// revalidated, or for which the origin states a window of RFC 5861.
	Validators bool
}

// Refusal says why a response may not be stored.
type Refusal uint8

// The refusals.
const (
	RefusalNone           Refusal = iota
	RefusalStatus                 // no final status, or one that is never stored
	RefusalPartial                // 206, a part of something
	RefusalMustUnderstand         // must-understand with a status that this cache does not know
	RefusalNoStore                // no-store
	RefusalPrivate                // private
	RefusalVaryAny                // Vary: *
	RefusalNoCache                // no-cache
	RefusalNoLifetime             // neither the origin nor the operator states a lifetime
	RefusalExpired                // stale on arrival
	numRefusals
)

var refusalNames = [numRefusals]string{
	"", "status", "partial", "must-understand", "no-store", "private", "vary-any", "no-cache", "no-lifetime", "expired",
}

func (r Refusal) String() string {
	if r >= numRefusals {
		return "unknown"
	}
	return refusalNames[r]
}

// Decision is what to do with a response.
type Decision struct {
	Store     bool
	Refusal   Refusal // RefusalNone when stored
	Freshness Freshness

	// Source is where the lifetime comes from: "s-maxage", "max-age",
	// "Expires", the name of a targeted field, "ttl", "heuristic", or "".
	Source string

	// Explicit is whether the origin itself says that everybody may have the
	// response, by public. A lifetime for shared caches lets one be shared that was
	// fetched without credentials, or with Authorization (§3.5); of cookies and the
	// like RFC 9111 does not speak, and origins that send s-maxage with a page behind
	// a cookie do not mean them.
	Explicit bool

	Vary  []string // request fields that select the response; canonical, sorted
	Strip []string // fields that must not be stored (§5.2.2.4, §5.2.2.7); canonical, sorted
}

// Decide says whether a response to a GET may be stored, and for how long it may
// be reused (§3, §4.2). What the request forbids is for the caller to check.
func Decide(resp Response, p Policy) Decision {
	var d Decision
	o := readOrigin(resp.Header, p.Targets)
	names, varyAny := ParseVary(resp.Header["Vary"])
	d.Vary, d.Strip = names, o.strip(&p)
	d.setLifetime(&resp, &o, &p)
	o.restrict(&d.Freshness, &p)
	o.share(&d.Freshness, &resp, &p)
	d.Explicit = d.Freshness.ForCredentials && o.Public

	d.Refusal = o.refusal(resp.Status, &p)
	if d.Refusal == RefusalNone && varyAny {
		d.Refusal = RefusalVaryAny
	}
	if d.Refusal == RefusalNone {
		d.Refusal = d.usable(&resp, &o, &p)
	}
	d.Store = d.Refusal == RefusalNone
	return d
}

// setLifetime sets the age and the lifetime, and where the latter comes from.
func (d *Decision) setLifetime(resp *Response, o *origin, p *Policy) {
	f := &d.Freshness
	f.ResponseTime, f.InitialAge = resp.ResponseTime, resp.initialAge()
	f.Lifetime, d.Source = o.lifetime(resp)
	switch {
	case p.HasTTL && (p.Override || d.Source == ""):
		// A configured lifetime counts from the time of storing. The age must
		// stay truthful, since other caches rely on it (§5.1), so the age that
		// the response came with is added to the lifetime instead.
		f.Lifetime, d.Source = addDelta(clampDelta(p.TTL), f.InitialAge), "ttl"
	case d.Source == "" && p.heuristic() && (o.Public || isHeuristic(resp.Status)):
		if f.Lifetime = resp.heuristic(p.HeuristicPercent, p.HeuristicMax); f.Lifetime > 0 {
			d.Source = "heuristic"
		}
	}
}

// usable refuses a response that could never be reused.
func (d *Decision) usable(resp *Response, o *origin, p *Policy) Refusal {
	f := &d.Freshness
	if f.Fresh(f.ResponseTime) {
		return RefusalNone
	}
	// A response without a lifetime may be stored only if its status says so
	// by default (§3).
	if p.Validators && (d.Source != "" || o.Public || isHeuristic(resp.Status)) &&
		(CanValidate(resp.Status, resp.Header) || o.opensWindow(f)) {
		return RefusalNone
	}
	switch {
	case f.NoCache:
		return RefusalNoCache
	case d.Source == "":
		return RefusalNoLifetime
	}
	return RefusalExpired
}

func (p *Policy) heuristic() bool { return p.HeuristicPercent > 0 && p.HeuristicMax > 0 }

// storesPrivate reports whether private responses are stored.
func (p *Policy) storesPrivate() bool { return p.Override && p.AllowPrivate }

// origin is what the origin says to this cache.
type origin struct {
	Directives        // of the targeted field, or else of Cache-Control
	target     string // name of the targeted field, "" for Cache-Control

	// Cache-Control where a targeted field replaces it.
	replaced Directives
}

// readOrigin reads the directives. A valid targeted field replaces Cache-Control
// and Expires, whether it is stricter or not (RFC 9213 §2.2).
func readOrigin(header http.Header, targets []string) (o origin) {
	o.Directives = ParseCacheControl(header["Cache-Control"])
	if d, name, ok := targeted(header, targets); ok {
		o.replaced, o.Directives, o.target = o.Directives, d, name
	}
	return o
}

// lifetime is the lifetime that the origin states, and where (§4.2.1). One that
// is not valid is 0: the response is stale, whatever comes after it in the order
// of precedence.
func (o *origin) lifetime(resp *Response) (lifetime time.Duration, source string) {
	switch {
	case o.SMaxAge.Present:
		lifetime, source = o.SMaxAge.Value, "s-maxage"
	case o.MaxAge.Present:
		lifetime, source = o.MaxAge.Value, "max-age"
	case o.target == "" && len(resp.Header["Expires"]) > 0:
		return resp.expires(), "Expires"
	default:
		return 0, ""
	}
	if o.target != "" {
		source = o.target
	}
	return lifetime, source
}

// restrict sets when the response must be revalidated, and the windows in which
// it need not be.
func (o *origin) restrict(f *Freshness, p *Policy) {
	if !p.Override {
		f.NoCache = o.NoCache
		f.MustRevalidate = o.MustRevalidate || o.ProxyRevalidate || o.SMaxAge.Present
		if o.NoCache || o.MustRevalidate || o.ProxyRevalidate {
			return // no window, not even one that the origin states (§4.2.4)
		}
	}
	f.StaleWhileRevalidate = window(o.StaleWhileRevalidate, f.MustRevalidate, p.StaleWhileRevalidate)
	f.StaleIfError = window(o.StaleIfError, f.MustRevalidate, p.StaleIfError)
}

// window is what the origin states, 0 if that is not valid, or else what is
// configured. s-maxage means proxy-revalidate (§5.2.2.10) unless the origin
// itself says what it meant.
func window(stated Delta, plain bool, configured time.Duration) time.Duration {
	switch {
	case stated.Present:
		return stated.Value
	case plain:
		return 0
	}
	return clampDelta(configured)
}

// opensWindow reports whether the origin states a window that is open now. A
// configured one is no reason to store what the origin calls stale.
func (o *origin) opensWindow(f *Freshness) bool {
	return o.StaleWhileRevalidate.Present && f.ServeStale(f.ResponseTime) ||
		o.StaleIfError.Present && f.ServeOnError(f.ResponseTime)
}

// share sets whether requests with credentials may be answered with the response
// (§3.5). An override does not change what the origin says of that.
func (o *origin) share(f *Freshness, resp *Response, p *Policy) {
	if o.NoStore && !o.MustUnderstand || o.Private {
		return
	}
	lifetime, source := o.lifetime(resp)
	// What permits sharing because the origin is asked before each use permits
	// nothing when Override does away with the asking: the "max-age=0,
	// must-revalidate" of somebody's account must not become everybody's.
	if p.Override && (o.NoCache || source != "" && lifetime == 0) {
		f.ForAuthorization, f.ForCredentials = o.Public, o.Public
		return
	}
	f.ForCredentials = o.Public || o.SMaxAge.Valid || o.target != "" && lifetime > 0
	f.ForAuthorization = f.ForCredentials || o.MustRevalidate
}

// refusal is what forbids to store the response, lifetimes aside (§3).
func (o *origin) refusal(status int, p *Policy) Refusal {
	switch {
	case status == http.StatusPartialContent:
		return RefusalPartial
	case !isStorable(status):
		return RefusalStatus
	case o.MustUnderstand && !isUnderstood(status):
		return RefusalMustUnderstand
	case o.NoStore && !o.MustUnderstand && !p.Override: // §5.2.2.3
		return RefusalNoStore
	case o.isPrivate(p) && !p.storesPrivate():
		return RefusalPrivate
	}
	return RefusalNone
}

// isPrivate reports whether the response is for one user. An override ignores
// what a targeted field allows, so the private of Cache-Control stands; but it
// does not ignore what a targeted field forbids in this.
func (o *origin) isPrivate(p *Policy) bool {
	return o.Private || p.Override && o.replaced.Private
}

// strip are the fields that must not be stored. Those of a qualified no-cache
// would have to be validated before each use (§5.2.2.4). An override does not
// keep them: it is about the response, and they are often cookies.
func (o *origin) strip(p *Policy) (names []string) {
	names = append(names, o.NoCacheFields...)
	if !p.storesPrivate() {
		names = append(names, o.PrivateFields...)
		if p.Override {
			names = append(names, o.replaced.PrivateFields...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// isStorable reports whether a response with this status may be stored at all:
// any final one (§3), except a 304, which speaks of another response, and those
// that RFC 6585 forbids to store, because they speak of the client and not of
// the resource.
func isStorable(status int) bool {
	switch status {
	case http.StatusNotModified,
		http.StatusPreconditionRequired, http.StatusTooManyRequests,
		http.StatusRequestHeaderFieldsTooLarge, http.StatusNetworkAuthenticationRequired:
		return false
	}
	return status >= 200 && status <= 599
}

// isHeuristic reports whether a status is heuristically cacheable
// (RFC 9110 §15.1). 206 is, too, but never stored here.
func isHeuristic(status int) bool {
	switch status {
	case 200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501:
		return true
	}
	return false
}

// isUnderstood reports whether this cache knows the caching rules of a status,
// as must-understand asks (§5.2.2.3): those of the final codes of RFC 9110 §15
// that it stores.
func isUnderstood(status int) bool {
	switch {
	case status >= 200 && status <= 205,
		status >= 300 && status <= 303, status == 305, status == 307, status == 308,
		status >= 400 && status <= 417, status == 421, status == 422, status == 426,
		status >= 500 && status <= 505:
		return true
	}
	return false
}
