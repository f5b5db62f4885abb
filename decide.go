package rediscache

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gplus-recycling/caddy-redis-cache/internal/graphql"
	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc3986"
	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// decide starts the capture of a response that may be stored, or notes why it
// may not.
func (c *captureWriter) decide() {
	x := c.x
	header := c.Header()
	c.declared = contentLength(header)
	if reason := c.unstorable(header); reason != ReasonNone {
		x.refuse(reason)
		return
	}
	response := rfc9111.Response{Status: c.status, Header: header, RequestTime: c.began, ResponseTime: x.now}
	rules, withheld := c.rulesFor(c.status, header)
	decision := rfc9111.Decide(response, rules)
	bound(&decision.Freshness)
	if !decision.Store {
		x.refuse(refused(decision.Refusal))
		if withheld != ReasonNone {
			x.refuse(withheld)
		}
		if withheld == ReasonGraphQL {
			x.detail = x.operation.String()
		}
		return
	}
	if !x.credentials.storable(&decision) {
		x.detail = x.credentials.name
		x.refuse(ReasonCredentials)
		return
	}
	if reason := c.address(decision.Vary, header); reason != ReasonNone {
		x.refuse(reason)
		return
	}
	tags, ok := x.tags(header)
	if !ok {
		x.refuse(ReasonTagLimit)
		return
	}
	if len(header["Date"]) == 0 {
		header["Date"] = []string{response.ResponseTime.UTC().Format(http.TimeFormat)}
		c.ResponseWriter.Header()["Date"] = header["Date"]
	}
	c.rec = &store.Record{
		Namespace: x.h.Namespace, Identifier: x.key.identifier, Tags: tags,
		Freshness: decision.Freshness, Expires: expires(&decision.Freshness, c.status, header),
		Status: c.status, Fields: c.fields(header, decision.Strip),
	}
	if c.flight == nil && c.room(c.declared) {
		c.body.Reserve(c.declared)
	}
	says, _ := isAboutOrigins(header, c.before)
	c.rec.AnyOrigin = !says && x.q.isForeign(x.reqHead)
	c.maySpoil = !ownLifetime(response, &decision, rules)
	freshness := c.rec.Freshness // not of the record, which need not live as long as a slow client reads
	x.storing, x.freshness, x.now, x.unstated = true, &freshness, response.ResponseTime, isUnstated(&decision)
}

// isUnstated reports whether a response is stored to be revalidated each time, without
// anybody who wants it so.
func isUnstated(d *rfc9111.Decision) bool { return d.Source == "" && !d.Freshness.NoCache }

// unstorable finds what forbids to store the response before the HTTP rules are
// asked.
func (c *captureWriter) unstorable(header http.Header) Reason {
	x, p := c.x, &c.x.h.policy
	if reason := x.neverStored(c.revalidating); reason != ReasonNone {
		return reason
	}
	if x.asGet && (x.overtaken || !x.answersGet(c.status, header)) {
		return ReasonMethod
	}
	switch {
	case c.status == http.StatusPreconditionFailed:
		return ReasonPrecondition
	case isStream(header):
		return ReasonStreaming
	case len(header["Trailer"]) > 0:
		return ReasonTrailers
	case c.declared > p.maxBody():
		return ReasonTooLarge
	case p.setCookie() == setCookieRefuse && !slices.Equal(header["Set-Cookie"], c.before["Set-Cookie"]):
		return ReasonSetCookie
	}
	return c.unwanted(c.status, header)
}

// neverStored finds what about the request keeps its response from being stored,
// whatever the upstream answers.
func (x *exchange) neverStored(revalidating bool) Reason {
	switch {
	case x.asGet:
		return ReasonNone
	case x.method == http.MethodHead:
		return ReasonMethod
	case len(x.reqHead["Range"]) > 0 && !revalidating:
		return ReasonRange
	case !revalidating && x.conditional():
		// Whatever a handler behind makes its response of may have got the conditions, too.
		return ReasonPrecondition
	}
	return ReasonNone
}

// unwanted finds what forbids to store a header, be it a response's or one that
// freshens what is stored.
func (c *captureWriter) unwanted(status int, header http.Header) Reason {
	x := c.x
	switch {
	case x.noStore:
		return ReasonRequestDirective
	case headerSize(header) > maxHeader:
		return ReasonTooLarge
	case x.h.policy.noStore(status, header):
		return ReasonNoStoreRule
	}
	if x.userID == "" && userID(x.repl) != "" {
		x.warnIdentityBelow()
		return ReasonIdentityBelow
	}
	return ReasonNone
}

// answersGet reports whether the response to a POST may answer later GETs of
// the URL: it says that it is what the URL names, RFC 9110 section 9.3.3.
func (x *exchange) answersGet(status int, header http.Header) bool {
	location, err := url.Parse(header.Get("Content-Location"))
	if status != http.StatusOK || err != nil || header.Get("Content-Location") == "" {
		return false
	}
	q := &x.q
	target, err := url.Parse(q.origin() + q.path)
	if err != nil {
		return false
	}
	target.RawQuery = q.query
	resolved := target.ResolveReference(location)
	resolved.User, resolved.Fragment, resolved.RawFragment = nil, "", ""
	return rfc3986.Normal(resolved.String()) == rfc3986.Normal(target.String())
}

// warnIdentityBelow tells the operator, once, that authentication runs behind
// the cache: a hit would not ask for it.
func (x *exchange) warnIdentityBelow() {
	x.h.warnOnce.Do(func() {
		x.h.logger.Warn("an authentication handler runs behind redis_cache; its responses are not stored."+
			" Put it in front of redis_cache", zap.String("path", x.r.URL.Path))
	})
}

// rulesFor is the policy for a response as the HTTP rules know it. It says why a
// configured lifetime was left out: because the response is of another type than its
// URL promises, for a private page at /account/x.css must not be stored only because
// style sheets are; or because nobody can tell whether the request reads.
func (c *captureWriter) rulesFor(status int, header http.Header) (rules rfc9111.Policy, withheld Reason) {
	rules = c.rules(status)
	switch {
	case !rules.HasTTL:
	case c.x.operation == graphql.Unreadable:
		withheld = ReasonGraphQL
	case contradictsExtension(c.x.q.path, header.Get("Content-Type")):
		withheld = ReasonTypeMismatch
	}
	if withheld != ReasonNone {
		rules.HasTTL, rules.TTL, rules.Override = false, 0, false
	}
	return rules, withheld
}

func (c *captureWriter) rules(status int) rfc9111.Policy {
	p := &c.x.h.policy
	rules := rfc9111.Policy{
		AllowPrivate: p.ByUser != "", Targets: p.targets(), Validators: true,
		StaleWhileRevalidate: p.staleWhileRevalidate(), StaleIfError: p.staleIfError(),
	}
	if p.Heuristic != nil {
		rules.HeuristicPercent, rules.HeuristicMax = p.Heuristic.Percent, time.Duration(p.Heuristic.Max)
	}
	if c.x.asGet || c.x.operation == graphql.Unreadable {
		// Only what the response itself says.
		rules.Validators, rules.HeuristicPercent = false, 0
	}
	if c.x.asGet {
		return rules
	}
	if ttl := p.statusTTL(status, c.x.ttl); ttl != nil {
		rules.HasTTL, rules.TTL, rules.Override = true, p.jittered(time.Duration(ttl.Duration)), ttl.Override
	}
	return rules
}

// fields are what the upstream made of the header.
func (c *captureWriter) fields(after http.Header, strip []string) []store.Field {
	skip := append(rfc9111.NotStored(after), strip...)
	skip = append(skip, "Content-Length") // follows from the body
	skip = append(skip, c.x.h.policy.removedTagFields()...)
	if c.x.h.policy.setCookie() == setCookieStrip {
		skip = append(skip, "Set-Cookie")
	}
	fields := make([]store.Field, 0, len(after)+1)
	for name, values := range after {
		was, existed := c.before[name]
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
	for name := range c.before {
		if _, kept := after[name]; !kept {
			fields = append(fields, store.Field{Op: store.FieldDel, Name: name})
		}
	}
	slices.SortFunc(fields, func(a, b store.Field) int { return strings.Compare(a.Name, b.Name) })
	return fields
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

// isStream reports whether the response wants every piece to be passed on at
// once, and has no end that it would be complete with.
func isStream(header http.Header) bool {
	return caddyhttp.IsIncremental(header) || slices.Contains(streamTypes, mediaType(header.Get("Content-Type")))
}

const typeEvents = "text/event-stream"

var streamTypes = []string{typeEvents, "multipart/x-mixed-replace"}

// mediaType is a media type, or range of them, without its parameters.
func mediaType(value string) string {
	value, _, _ = strings.Cut(value, ";")
	return strings.ToLower(strings.TrimSpace(value))
}

// acceptsEvents reports whether the request is a subscription to events, or could
// be one.
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
