// Package watch remembers of the requests of a route what the operator is told unasked,
// or by the doctor: what keeps responses out of the cache, and who purges.
package watch

import (
	"log/slog"
	"net/http"

	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
	"github.com/gplus-recycling/caddy-redis-cache/internal/lint"
	"github.com/gplus-recycling/caddy-redis-cache/internal/reason"
)

// Route is what the requests of a route have shown. It lasts as long as the handler, and
// all of it may be used by many goroutines.
type Route struct {
	Namespace string
	Log       *slog.Logger

	credentialed credentialed
	strangers    strangers
	unstored     unstored
}

// maxShownName bounds what is kept of a name that a client has chosen.
const maxShownName = 64

// Count takes in how a request was answered, and says in the log, once, why most of what
// the route has seen is not stored.
func (w *Route) Count(out *engine.Outcome) {
	if !w.unstored.count(out) {
		return
	}
	f, found := w.unstored.most()
	if found && f.mostly() && !f.reason.Is(reason.Wanted) && w.unstored.told.CompareAndSwap(false, true) {
		text := "most responses are not stored"
		if f.revalidated {
			text = "most responses are stored without a lifetime, and the origin is asked each time"
		}
		w.Log.Info(text, "namespace", w.Namespace, "reason", f.reason.String(), "responses", f.count, "requests", f.of,
			"advice", f.advice(w.credential()))
	}
}

// CountCredential takes in the name of the credential of a request, or "".
func (w *Route) CountCredential(name string, out *engine.Outcome) { w.credentialed.count(name, out) }

func (w *Route) credential() string {
	_, _, name := w.credentialed.counts()
	return name
}

// Redirected takes in a redirect after which rules of the route purge.
func (w *Route) Redirected(r *http.Request, userID string, header http.Header) {
	w.strangers.note(r, userID, header)
}

// Tell says of a directive what its requests have shown.
func (w *Route) Tell(d *lint.Directive) {
	d.Redirected = w.strangers.latest()
	d.Requests, d.Kept, d.Credential = w.credentialed.counts()
	f, found := w.unstored.most()
	if !found {
		return
	}
	status := api.Warn
	if !f.mostly() || f.reason.Is(reason.Wanted) {
		status = api.OK
	}
	d.Unstored = &lint.Unstored{Status: status, Credentials: f.reason == reason.Credentials, Detail: f.detail(), Advice: f.advice(d.Credential)}
}
