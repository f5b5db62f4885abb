package engine

import (
	"net/http"
	"slices"
	"strings"

	"github.com/gplus-recycling/caddy-redis-cache/internal/cachekey"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// Many upstreams send Access-Control-* only to requests with Origin, and name Origin in
// Vary only there. What a request without Origin brought is therefore no answer to a
// page of another origin: its browser would refuse it. A request of such a page is sent
// on, and what comes back tells how the URL deals with Origin:
//
//   - Without Access-Control-* the URL is taken for indifferent to Origin. The stored
//     response is marked so, and good for every page.
//   - Access-Control-Allow-Origin: * is good for every page, too, and says so itself.
//   - With anything else Origin selects, as if Vary named it.

const originField, allowOriginField = "Origin", "Access-Control-Allow-Origin"

// isForeign reports whether a request with this header comes from a page of another
// origin than its own URL's, RFC 6454 section 7.
func isForeign(q *Request, header http.Header) bool {
	lines := header[originField]
	if len(lines) == 0 || slices.Contains(q.Route.Key.Headers, originField) {
		return false
	}
	scheme, host, _ := strings.Cut(lines[0], "://")
	return len(lines) > 1 || !strings.EqualFold(scheme, q.Target.Scheme) || cachekey.NormalHost(q.Target.Scheme, host) != q.Target.Host
}

// suits reports whether a response may be answered to the Origin of a request with this
// header. names are the request fields that have selected it.
func suits(q *Request, header http.Header, rec *store.Record, names []string) bool {
	if rec.AnyOrigin || !isForeign(q, header) || slices.Contains(names, originField) {
		return true
	}
	return slices.ContainsFunc(rec.Fields, func(f store.Field) bool {
		return f.Name == allowOriginField && f.Op == store.FieldSet && allowsAll(f.Values)
	})
}

func allowsAll(values []string) bool { return len(values) == 1 && values[0] == "*" }

// isAboutOrigins reports whether the upstream has added Access-Control-* to a header, and
// whether this allows every origin.
func isAboutOrigins(header, before http.Header) (says, all bool) {
	for name, values := range header {
		if strings.HasPrefix(name, "Access-Control-") && !slices.Equal(values, before[name]) {
			says = true
			all = all || name == allowOriginField && allowsAll(values)
		}
	}
	return says, all
}
