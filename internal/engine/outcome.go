package engine

import (
	"cmp"
	"slices"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/reason"
	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// Result is how a request was answered, in one word.
type Result uint8

// The results, as X-Cache shows them.
const (
	Bypass      Result = iota // the cache took no part
	Miss                      // answered by the upstream
	Hit                       // answered from a stored response
	Stale                     // answered from a stale stored response
	Revalidated               // answered from a stored response that the upstream confirmed
	NumResults
)

var resultNames = [NumResults]string{"BYPASS", "MISS", "HIT", "STALE", "REVALIDATED"}

func (r Result) String() string { return resultNames[r] }

// ResultNames are the results as X-Cache shows them.
func ResultNames() []string { return slices.Clone(resultNames[:]) }

// Outcome says how a request was answered. Header, Cache-Status, log, metrics, statistics
// and placeholders read it.
type Outcome struct {
	Result  Result
	Reason  reason.Reason // why it is no hit, or is not stored
	Detail  string        // what the reason is about, such as the name of a cookie
	Forward reason.Reason // why it went upstream

	Key        store.Key          // of what was found, or will be stored
	Identifier string             // in the key
	Tier       store.TierName     // of what was found
	Freshness  *rfc9111.Freshness // of what is answered from the store or being stored; or nil
	At         time.Time          // when that held

	Stored       bool // the response is stored
	Unstated     bool // it has no lifetime, for nobody states one
	Collapsed    bool // another request's fetch has answered this one
	Waited       bool // for its own fetch, another request's or another node's
	Status       int  // of the upstream; 0 if it was not asked
	Sent         int  // to the client, in place of that; 0 where it is the same
	StoredStatus int  // of the stored response that was answered

	Began  time.Time // when the request came
	Asked  time.Time // when it went upstream; zero if it did not
	Headed time.Time // when the header of the answer went out
}

// Text is the reason with what it is about; empty for a hit.
func (o *Outcome) Text() string {
	if o.Detail != "" {
		return o.Reason.String() + " " + o.Detail
	}
	return o.Reason.String()
}

// AnsweredBy is the tier that the answer came from; none if it came from upstream.
func (o *Outcome) AnsweredBy() store.TierName {
	if o.Result == Bypass || o.Result == Miss {
		return store.TierNone
	}
	return o.Tier
}

// SentStatus is the status that the client was sent; 0 if none was.
func (o *Outcome) SentStatus() int { return cmp.Or(o.Sent, o.Status) }

// Remaining is how long what is answered stays fresh; ok is false if there is no saying.
func (o *Outcome) Remaining() (d time.Duration, ok bool) {
	if o.Freshness == nil {
		return 0, false
	}
	return o.Freshness.Remaining(o.At), true
}

// Age is that of what is answered; ok is false if there is no saying.
func (o *Outcome) Age() (d time.Duration, ok bool) {
	if o.Freshness == nil {
		return 0, false
	}
	return o.Freshness.CurrentAge(o.At), true
}

// cacheStatus is this cache's member of Cache-Status, RFC 9211.
func (o *Outcome) cacheStatus() string {
	s := rfc9111.CacheStatus{Detail: o.Text()}
	if f := o.Freshness; f != nil {
		s.HasTTL, s.TTL = true, f.Lifetime-f.CurrentAge(o.At)
	}
	if !o.Asked.IsZero() || o.Collapsed {
		s.Fwd, s.FwdStatus, s.Stored, s.Collapsed = o.Forward.Fwd(), o.Status, o.Stored, o.Collapsed
	} else if s.Hit = o.Result == Hit || o.Result == Stale; s.Hit && o.Reason != reason.Error {
		s.Detail = o.Tier.String()
	}
	var stack [128]byte
	return string(s.Append(stack[:0]))
}
