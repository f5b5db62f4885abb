package engine

import (
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/graphql"
	"github.com/gplus-recycling/caddy-redis-cache/internal/reason"
	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc3986"
	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// Verdict is what becomes of a response, as its header tells. It is set by judge and never
// changed after.
type Verdict struct {
	// Why the response is not stored, and what that is about.
	Reason reason.Reason
	Detail string

	// Record is what is stored of it, without what only its end tells, or nil.
	Record *store.Record
	place  place // where it is stored

	Date     string // that the header lacks, where it is stored
	Unstated bool   // it is stored to be revalidated each time, without anybody who wants it so
	Spoils   bool   // only the configuration lets it be stored, so its body must not tell of errors

	// Forbidden tells of a header that freshens a stored response that the origin forbids
	// to keep it.
	Forbidden bool
}

// judge knows what responses to one request are judged by. It is set before the upstream
// is asked, and changes nothing.
type judge struct {
	q      *Request
	came   *http.Request // q.HTTP as it came in
	ttl    *TTL
	base   *store.Record // as it was found
	key    store.Key     // under which the request looked
	before http.Header   // as the outer handlers prepared it, so that only what the upstream makes of it is stored
	began  time.Time

	revalidates bool // the conditions are the cache's
}

func refuse(why reason.Reason) Verdict { return Verdict{Reason: why} }

// response judges a response by its header. later is what has become known of its request
// since the upstream was asked.
func (j *judge) response(status int, header http.Header, now time.Time, later afterthoughts) (v Verdict) {
	v.place.key = j.key
	if v.Reason = j.unstorable(status, header, later); v.Reason != reason.None {
		return v
	}
	response := rfc9111.Response{Status: status, Header: header, RequestTime: j.began, ResponseTime: now}
	rules, withheld := j.rulesFor(status, header)
	decision := rfc9111.Decide(response, rules)
	bound(&decision.Freshness)
	if !decision.Store {
		if v.Reason = reason.Refused(decision.Refusal); withheld != reason.None {
			v.Reason = withheld
		}
		if withheld == reason.GraphQL {
			v.Detail = j.q.Operation.String()
		}
		return v
	}
	if !j.q.Credentials.storable(&decision) {
		v.Reason, v.Detail = reason.Credentials, j.q.Credentials.Name
		return v
	}
	if v.place, v.Reason = j.address(decision.Vary, header, now); v.Reason != reason.None {
		return v
	}
	tags, ok := j.tags(header)
	if !ok {
		v.Reason = reason.TagLimit
		return v
	}
	fields := j.fields(header, decision.Strip)
	if len(header["Date"]) == 0 {
		v.Date = now.UTC().Format(http.TimeFormat)
		fields = append(fields, store.Field{Op: store.FieldSet, Name: "Date", Values: []string{v.Date}})
	}
	sortFields(fields)
	says, _ := isAboutOrigins(header, j.before)
	v.Record = &store.Record{
		Namespace: j.q.Key.Namespace, Identifier: j.q.Key.Identifier, Tags: tags,
		Freshness: decision.Freshness, Expires: expires(&decision.Freshness, status, header),
		Status: status, Fields: fields, AnyOrigin: !says && isForeign(j.q, j.came.Header),
	}
	v.Unstated = isUnstated(&decision)
	v.Spoils = !ownLifetime(response, &decision, rules)
	return v
}

// isUnstated reports whether a response is stored to be revalidated each time, without
// anybody who wants it so.
func isUnstated(d *rfc9111.Decision) bool { return d.Source == "" && !d.Freshness.NoCache }

// afterthoughts are what handlers behind the cache, and the answer, tell of a request.
type afterthoughts struct {
	identified bool // authentication behind the cache has given it an identity that it had not
	unstorable bool // something was read that nobody does not have
	overtaken  bool // its own purge covers its response, too
}

// unstorable finds what forbids to store a new response before the HTTP rules are asked.
// What must hold for a 304 that freshens what is stored, too, is for unwanted. Fields that
// handlers in front have set count, unless they are compared with before.
func (j *judge) unstorable(status int, header http.Header, later afterthoughts) reason.Reason {
	rt := j.q.Route
	if why := j.neverStored(); why != reason.None {
		return why
	}
	if j.q.AnswersGet && (later.overtaken || !j.q.answersGet(status, header)) {
		return reason.Method
	}
	switch {
	case status == http.StatusPreconditionFailed:
		return reason.Precondition
	case rt.IsIncremental(header) || isStream(header):
		return reason.Streaming
	case len(header["Trailer"]) > 0:
		return reason.Trailers
	case contentLength(header) > rt.MaxBody:
		return reason.TooLarge
	case rt.SetCookie == RefuseCookies && !slices.Equal(header["Set-Cookie"], j.before["Set-Cookie"]):
		return reason.SetCookie
	}
	return j.unwanted(status, header, later)
}

// neverStored finds what about the request keeps its response from being stored, whatever
// the upstream answers.
func (j *judge) neverStored() reason.Reason {
	return j.q.neverStored(j.came.Header, j.revalidates)
}

// neverStored finds what about a request that came with this header keeps its response
// from being stored, whatever the upstream answers.
func (q *Request) neverStored(came http.Header, revalidates bool) reason.Reason {
	switch {
	case q.AnswersGet:
		return reason.None
	case q.Method == http.MethodHead:
		return reason.Method
	case len(came["Range"]) > 0 && !revalidates:
		return reason.Range
	case !revalidates && isConditional(came):
		// Whatever a handler behind makes its response of may have got the conditions, too.
		return reason.Precondition
	}
	return reason.None
}

// unwanted finds what forbids to store a header, be it a response's or one that freshens
// what is stored.
func (j *judge) unwanted(status int, header http.Header, later afterthoughts) reason.Reason {
	switch {
	case j.q.NoStore || later.unstorable:
		return reason.RequestDirective
	case headerSize(header) > maxHeader:
		return reason.TooLarge
	case j.q.Route.Refuses != nil && j.q.Route.Refuses(status, header):
		return reason.NoStoreRule
	case later.identified:
		return reason.IdentityBelow
	}
	return reason.None
}

// answersGet reports whether the response to a POST may answer later GETs of the URL: it
// says that it is what the URL names, RFC 9110 section 9.3.3.
func (q *Request) answersGet(status int, header http.Header) bool {
	location, err := url.Parse(header.Get("Content-Location"))
	if status != http.StatusOK || err != nil || header.Get("Content-Location") == "" {
		return false
	}
	target, err := url.Parse(q.Target.Origin() + q.Target.Path)
	if err != nil {
		return false
	}
	target.RawQuery = q.Target.Query
	resolved := target.ResolveReference(location)
	resolved.User, resolved.Fragment, resolved.RawFragment = nil, "", ""
	return rfc3986.Normal(resolved.String()) == rfc3986.Normal(target.String())
}

// rulesFor is the policy for a response as the HTTP rules know it. It says why a configured
// lifetime was left out: because the response is of another type than its URL promises,
// for a private page at /account/x.css must not be stored only because style sheets are;
// or because nobody can tell whether the request reads.
func (j *judge) rulesFor(status int, header http.Header) (rules rfc9111.Policy, withheld reason.Reason) {
	rules = j.rules(status)
	switch {
	case !rules.HasTTL:
	case j.q.Operation == graphql.Unreadable:
		withheld = reason.GraphQL
	case contradictsExtension(j.q.Target.Path, header.Get("Content-Type")):
		withheld = reason.TypeMismatch
	}
	if withheld != reason.None {
		rules.HasTTL, rules.TTL, rules.Override = false, 0, false
	}
	return rules, withheld
}

func (j *judge) rules(status int) rfc9111.Policy {
	rt := j.q.Route
	rules := rfc9111.Policy{
		AllowPrivate: rt.ByUser, Targets: rt.Targets, Validators: true,
		StaleWhileRevalidate: rt.StaleWhileRevalidate, StaleIfError: rt.StaleIfError,
		HeuristicPercent: rt.HeuristicPercent, HeuristicMax: rt.HeuristicMax,
	}
	if j.q.AnswersGet || j.q.Operation == graphql.Unreadable {
		// Only what the response itself says.
		rules.Validators, rules.HeuristicPercent = false, 0
	}
	if j.q.AnswersGet {
		return rules
	}
	if ttl := rt.StatusLifetime(status, j.ttl); ttl != nil {
		rules.HasTTL, rules.TTL, rules.Override = true, rt.jittered(ttl.Duration), ttl.Override
	}
	return rules
}

// jittered takes a random share off a configured lifetime.
func (rt *Route) jittered(lifetime time.Duration) time.Duration {
	return lifetime - time.Duration(float64(lifetime)*rt.Jitter/100*rand.Float64()) //nolint:gosec // it spreads load
}

// fields are what the upstream made of the header, but for what follows from the body.
func (j *judge) fields(after http.Header, strip []string) []store.Field {
	skip := append(rfc9111.NotStored(after), strip...)
	skip = append(skip, "Content-Length")
	skip = append(skip, j.q.Route.RemovedTagFields...)
	if j.q.Route.SetCookie == StripCookies {
		skip = append(skip, "Set-Cookie")
	}
	fields := make([]store.Field, 0, len(after)+2)
	for name, values := range after {
		was, existed := j.before[name]
		switch {
		case slices.Contains(skip, name):
		case !existed && len(values) == 0:
			// An empty list keeps the server from adding the field.
			fields = append(fields, store.Field{Op: store.FieldSet, Name: name})
		case slices.Equal(was, values):
		case len(was) > 0 && len(was) < len(values) && slices.Equal(was, values[:len(was)]):
			fields = append(fields, store.Field{Op: store.FieldAdd, Name: name, Values: slices.Clone(values[len(was):])})
		default:
			fields = append(fields, store.Field{Op: store.FieldSet, Name: name, Values: slices.Clone(values)})
		}
	}
	for name := range j.before {
		if _, kept := after[name]; !kept {
			fields = append(fields, store.Field{Op: store.FieldDel, Name: name})
		}
	}
	return fields
}

func sortFields(fields []store.Field) {
	slices.SortFunc(fields, func(a, b store.Field) int { return strings.Compare(a.Name, b.Name) })
}

// maxHeader bounds what the fields of a stored response take, beside max_body.
const maxHeader = 128 << 10

func headerSize(header http.Header) int {
	size := 0
	for name, values := range header {
		for _, value := range values {
			size += len(name) + len(value)
		}
	}
	return size
}

// contentLength is the stated length of the body, or -1.
func contentLength(header http.Header) int64 {
	if values := header["Content-Length"]; len(values) == 1 {
		if n, err := strconv.ParseUint(values[0], 10, 63); err == nil {
			return int64(n)
		}
	}
	return -1
}

// isStream reports whether the type of a response has no end that it would be complete with.
func isStream(header http.Header) bool {
	return slices.Contains(streamTypes, mediaType(header.Get("Content-Type")))
}

const typeEvents = "text/event-stream"

var streamTypes = []string{typeEvents, "multipart/x-mixed-replace"}

// mediaType is a media type, or range of them, without its parameters.
func mediaType(value string) string {
	value, _, _ = strings.Cut(value, ";")
	return strings.ToLower(strings.TrimSpace(value))
}

// acceptsEvents reports whether the request is a subscription to events, or could be one.
func acceptsEvents(header http.Header) bool {
	for _, line := range header["Accept"] {
		for accepted := range strings.SplitSeq(line, ",") {
			if mediaType(accepted) == typeEvents {
				return true
			}
		}
	}
	return false
}

// conditionFields make the answer one to a part of the response, or to a change of it.
var conditionFields = []string{
	"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range", "Range",
}

// isConditional reports whether a request with this header asks for less than the whole
// response.
func isConditional(came http.Header) bool {
	return slices.ContainsFunc(conditionFields, func(name string) bool { return len(came[name]) > 0 })
}

// DropConditions takes out of a header what makes the answer one to a part of the response.
func DropConditions(header http.Header) {
	for _, name := range conditionFields {
		delete(header, name)
	}
}
