package engine

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/reason"
	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// freshen judges the header of a 304, or of an answer to HEAD, that makes a stored response
// fresh, RFC 9111 section 3.2. The record of the verdict is the stored response with what
// the header changes, or nil when it may not be stored. What this one client or its answer
// brings may keep it from being stored; only what the origin forbids makes the old
// response wrong, too.
func (j *judge) freshen(old *store.Record, header http.Header, now time.Time, later afterthoughts) (v Verdict) {
	v.place.key = j.key
	update := make(http.Header)
	ops := make(map[string]store.FieldOp)
	for _, f := range j.fields(header, nil) {
		if f.Op != store.FieldDel {
			update[f.Name] = f.Values
			ops[f.Name] = f.Op
		}
	}
	delete(update, "Set-Cookie")
	fresh, decision := j.freshened(old, update, now)
	if !j.q.Credentials.storable(&decision) {
		// It says that what everybody gets is still good. What else it says is to somebody.
		maps.DeleteFunc(update, func(name string, _ []string) bool { return !j.q.Route.freshens(name) })
		fresh, decision = j.freshened(old, update, now)
	}
	if !decision.Store {
		v.Forbidden = true
		return v
	}
	bound(&decision.Freshness)
	tags, ok := j.tags(header)
	if !ok || !j.q.Credentials.Allow(&decision.Freshness) || j.unwanted(old.Status, fresh, later) != reason.None {
		return v
	}
	var why reason.Reason
	if v.place, why = j.address(decision.Vary, fresh, now); why != reason.None {
		return v
	}
	for _, name := range decision.Strip {
		delete(fresh, name)
		delete(update, name)
	}
	rec := *old
	rec.Tags = slices.Clone(old.Tags)
	for _, tag := range tags { // a union can only purge more
		if !slices.Contains(rec.Tags, tag) {
			rec.Tags = append(rec.Tags, tag)
		}
	}
	says, _ := isAboutOrigins(update, nil)
	rec.AnyOrigin = old.AnyOrigin && !says
	rec.Freshness, rec.FetchTime = decision.Freshness, now.Sub(j.began)
	rec.Expires = expires(&decision.Freshness, old.Status, fresh)
	rec.Fields = updatedFields(old.Fields, fresh, update, ops)
	v.Record, v.Unstated = &rec, isUnstated(&decision)
	return v
}

// updatedFields are the fields of a stored response with those that update it. fresh is the
// whole header.
func updatedFields(old []store.Field, fresh, update http.Header, ops map[string]store.FieldOp) []store.Field {
	fields := make([]store.Field, 0, len(fresh))
	for _, f := range old {
		if _, kept := fresh[f.Name]; f.Op == store.FieldDel || (kept && update[f.Name] == nil) {
			f.Values = fresh[f.Name]
			fields = append(fields, f)
		}
	}
	for name, values := range fresh {
		if !slices.ContainsFunc(fields, func(f store.Field) bool { return f.Name == name }) {
			fields = append(fields, store.Field{Op: ops[name], Name: name, Values: values})
		}
	}
	return fields
}

// freshened is the header of the stored response with what updates it, and what the rules
// say of that.
func (j *judge) freshened(old *store.Record, update http.Header, now time.Time) (http.Header, rfc9111.Decision) {
	fresh := rfc9111.Freshen(old.Header().Clone(), update)
	if len(fresh["Date"]) == 0 {
		fresh["Date"] = []string{now.UTC().Format(http.TimeFormat)}
	}
	rules, _ := j.rulesFor(old.Status, fresh)
	return fresh, rfc9111.Decide(rfc9111.Response{
		Status: old.Status, Header: fresh, RequestTime: j.began, ResponseTime: now,
	}, rules)
}

// freshens reports whether a response field is about nothing but how long and for which
// requests a response is good.
func (rt *Route) freshens(name string) bool {
	switch name {
	case "Age", "Cache-Control", "Date", "Etag", "Expires", "Last-Modified", "Vary":
		return true
	}
	return slices.ContainsFunc(rt.Targets, func(target string) bool { return strings.EqualFold(target, name) })
}
