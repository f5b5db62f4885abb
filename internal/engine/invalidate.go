package engine

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

const (
	// ByRequest names a request as the one who purged.
	ByRequest = "request"
	// ByPrivateRequest is the same where selectors may hold what is not to be logged. The
	// journal tells it to other nodes, which log the purge, too.
	ByPrivateRequest = "request, selectors withheld"

	// journalTimeout bounds a call of the journal.
	journalTimeout = time.Second
	// invalidateWait bounds how long the answer to a POST that may answer GET waits for
	// the fleet.
	invalidateWait = 100 * time.Millisecond
)

// invalidate purges what a successful answer has made wrong: what the route says, and for
// an unsafe method the URL itself, Location and Content-Location on the same origin, RFC
// 9111 section 4.4, and the cache groups that it names, RFC 9875 section 3. It is done
// before the client sees the answer, so that the client reads its own write; other nodes
// are not waited for.
func (f *fetch) invalidate(status int, header http.Header) {
	q := f.q
	if status < 200 || status >= 400 {
		return
	}
	p := q.purgeOf(status, header)
	if len(p.Selectors) == 0 {
		return
	}
	if q.AnswersGet && q.answersGet(status, header) {
		if f.overtaken = true; f.invalidateBefore(p) { // unless the response can be placed behind its purge
			return
		}
	}
	if err := q.Route.Cache.Journal.AppendAsync(p); err != nil {
		q.Route.Log.Error("a request could not invalidate", "error", err)
	}
}

// purgeOf is what a successful answer to the request purges.
func (q *Request) purgeOf(status int, header http.Header) journal.Purge {
	unsafe, rules := q.isUnsafe(), q.invalidations
	switch redirect := status >= 300; {
	case redirect && !unsafe:
		rules = nil // it tells of no change
	case redirect && len(rules) > 0:
		q.Route.Redirected(q.HTTP, q.Upstream, header)
	}
	p := journal.Purge{By: ByRequest, Request: true}
	for _, i := range rules {
		if q.Route.Invalidations[i].Private {
			p.By = ByPrivateRequest
		}
		p.Selectors = append(p.Selectors, q.Upstream.Selectors(i)...)
	}
	if unsafe && q.Route.UnsafeInvalidates {
		p.Selectors = append(p.Selectors, q.targets(status, header)...)
	}
	if unsafe {
		p.Selectors = append(p.Selectors, q.groups(header)...)
	}
	p.Selectors = ValidSelectors(p.Selectors, q.Route.Key.Prefix)
	return p
}

// ValidSelectors drops what selects nothing, such as a URL that a client made up: it must
// not keep the rest from being purged.
func ValidSelectors(selectors []journal.Selector, prefix string) []journal.Selector {
	return slices.DeleteFunc(selectors, func(s journal.Selector) bool {
		_, err := s.Normalize(prefix)
		return err != nil
	})
}

// invalidateBefore purges what the response of a POST is about to replace, and places that
// response behind the purge, if nothing else was purged since the POST began. It reports
// whether nothing is left to be done for the purge.
func (f *fetch) invalidateBefore(p journal.Purge) bool {
	log := f.q.Route.Cache.Journal
	stats, before := log.Stats(), log.Position()
	var result journal.Result
	var err error
	if stats.Standing == journal.CutOff {
		err = log.AppendAsync(p) // it waits for Redis
	} else {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(f.r.Context()), journalTimeout)
		defer cancel()
		result, err = log.Append(ctx, p, invalidateWait)
	}
	if err != nil {
		return false
	}
	after, applied := log.Position(), log.Stats().Applied-stats.Applied
	recorded := after.ID == result.ID && applied == 1 && after.Local == before.Local
	waits := after.ID == before.ID && applied == 0 && after.Local == before.Local+1
	if before == f.found.Position && before.Epoch == after.Epoch && (recorded || waits) {
		f.found.Position, f.overtaken = after, false
	}
	return true
}

// origins are those under which nodes store the URL of the request: those that know nothing
// of trusted proxies take the scheme of the connection.
func (q *Request) origins() []string {
	origins := []string{q.Target.Origin()}
	if q.Target.URLScheme != q.Target.Scheme {
		origins = append(origins, q.Target.Scheme+"://"+q.Target.Host)
	}
	return origins
}

// targets are what HTTP itself says an unsafe request has changed.
func (q *Request) targets(status int, header http.Header) (selectors []journal.Selector) {
	for _, origin := range q.origins() {
		// As the client sent it, but for what would begin a fragment.
		own := origin + strings.ReplaceAll(q.Target.Path, "#", "%23")
		selectors = append(selectors, journal.Selector{Kind: journal.KindURL, Value: own})
		target, err := url.Parse(own)
		if err != nil {
			continue
		}
		for _, u := range rfc9111.InvalidationTargets(target, status, header)[1:] {
			u.RawQuery, u.ForceQuery = "", false // it may hold a secret, and selectors are logged
			selectors = append(selectors, journal.Selector{Kind: journal.KindURL, Value: u.String()})
		}
	}
	return selectors
}

// groups are the cache groups that the answer to an unsafe request names.
func (q *Request) groups(header http.Header) (selectors []journal.Selector) {
	for _, origin := range q.origins() {
		for _, group := range rfc9111.CacheGroups(header["Cache-Group-Invalidation"]) {
			selectors = append(selectors, journal.Selector{Kind: journal.KindTag, Value: groupTag(origin, group)})
		}
	}
	return selectors
}

// forget purges one stored response that has turned out to be wrong.
func (q *Request) forget(rec *store.Record) {
	if q.Credentials.Other {
		return // what somebody is answered says nothing of what everybody gets
	}
	by := ByRequest
	if q.Route.PrivateKeys {
		by = ByPrivateRequest
	}
	err := q.Route.Cache.Journal.AppendAsync(journal.Purge{
		Selectors: []journal.Selector{{Kind: journal.KindKey, Value: rec.Key.Full}}, By: by, Request: true,
	})
	if err != nil {
		q.Route.Log.Error("a stored response could not be invalidated", "error", err)
	}
}
