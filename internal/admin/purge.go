package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// purgeRequest is the body of POST /redis_cache/purge: a union of selectors.
type purgeRequest struct {
	journal.Body

	Soft   bool   `json:"soft"`    // make stale instead of absent
	DryRun bool   `json:"dry_run"` // only count what would be covered
	Wait   string `json:"wait"`    // for the other nodes; default 1s
	By     string `json:"by"`      // for the listing
	Reason string `json:"reason"`

	// `recorded` refuses a purge that cannot be recorded now, in place of letting it
	// wait.
	Require string `json:"require"`
}

const (
	defaultWait = time.Second
	maxWait     = time.Minute
)

func parseWait(wait string) (time.Duration, error) {
	if wait == "" {
		return defaultWait, nil
	}
	d, err := caddy.ParseDuration(wait)
	if err != nil || d < 0 || d > maxWait {
		return 0, Error(http.StatusBadRequest, fmt.Errorf("wait: %q is not a duration of at most %s", wait, maxWait))
	}
	return d, nil
}

// promise is what whoever purges asks for.
type promise struct {
	wait     time.Duration // for the other nodes
	recorded bool          // or nothing is done
}

func parsePromise(wait, require string) (p promise, err error) {
	if p.wait, err = parseWait(wait); err != nil {
		return p, err
	}
	if p.recorded = require == api.RequireRecorded; !p.recorded && require != "" {
		return p, Error(http.StatusBadRequest, fmt.Errorf("require: %q is not %q", require, api.RequireRecorded))
	}
	return p, nil
}

// Purge is POST /redis_cache/purge.
func (a *API) Purge(w http.ResponseWriter, r *http.Request) error {
	var request purgeRequest
	if err := ReadJSON(r, &request); err != nil {
		return err
	}
	how, err := parsePromise(request.Wait, request.Require)
	if err != nil {
		return err
	}
	p := journal.Purge{Soft: request.Soft, By: request.By, Reason: request.Reason}
	for _, s := range request.Selectors() {
		if s.Kind == journal.KindNamespace && s.Value != "" {
			if err := a.checkNamespace(s.Value); err != nil {
				return err
			}
		}
		normal, err := s.Normalize(a.Prefix)
		if err != nil {
			return Error(http.StatusBadRequest, err)
		}
		p.Selectors = append(p.Selectors, a.hashUser(normal))
	}
	if len(p.Selectors) == 0 {
		return Error(http.StatusBadRequest, errors.New("nothing is selected: want any of namespace, namespaces,"+
			" tag, tags, key, keys, pattern, url, urls, prefix, host, user or all"))
	}
	if request.DryRun {
		return a.dryRun(w, r, p, how.wait)
	}
	return a.appendPurges(w, r, []journal.Purge{p}, how)
}

// purgeResult is the answer to a purge.
type purgeResult struct {
	ID         string             `json:"id"` // "" while it waits
	Selectors  []journal.Selector `json:"selectors"`
	Recorded   bool               `json:"recorded"`             // in the journal
	WaitsFor   string             `json:"waits_for,omitempty"`  // why it is not recorded yet
	Standalone bool               `json:"standalone,omitempty"` // no other node is known that could need it
	Confirmed  []string           `json:"confirmed"`            // nodes that have applied it
	Pending    []string           `json:"pending"`              // nodes that had not by the end of the wait
	Lapsed     []string           `json:"lapsed"`               // nodes that may not answer before they have
	Replicated *bool              `json:"replicated,omitempty"`
	DurationMS int64              `json:"duration_ms"`
	api.Matched
}

// appendPurges answers 200 when the purges are final, 202 when they are recorded
// and not everybody has confirmed them, or wait to be recorded, and 503 when that
// was refused. The answer names the last one: who has applied that has applied the
// others.
func (a *API) appendPurges(w http.ResponseWriter, r *http.Request, purges []journal.Purge, how promise) error {
	appends := a.Journal.Append
	if how.recorded {
		appends = a.Journal.Record
	}
	var (
		selectors []journal.Selector
		waits     error
	)
	for _, p := range purges {
		selectors = append(selectors, p.Selectors...)
	}
	found := a.Node.MatchedMemory(selectors)
	last := len(purges) - 1
	for i, p := range purges {
		wait := how.wait
		if i < last {
			wait = 0
		}
		result, err := appends(r.Context(), p, wait)
		if waits = cmp.Or(waits, result.Waits); i < last && err == nil {
			continue
		}
		if result.Waits = waits; err == nil && result.Complete() {
			a.Confirmed(result.Duration)
		}
		return a.answerPurge(w, &result, selectors, found, err)
	}
	return nil // there is a last one
}

func (a *API) answerPurge(w http.ResponseWriter, result *journal.Result, selectors []journal.Selector, found api.Matched, err error) error {
	switch {
	case errors.Is(err, journal.ErrInvalid):
		return Error(http.StatusBadRequest, err)
	case err != nil:
		return Error(http.StatusServiceUnavailable, err)
	}
	answer := purgeResult{
		Selectors: selectors, Recorded: result.Waits == nil, Standalone: a.standalone(), Replicated: result.Replicated,
		Confirmed: names(result.Confirmed), Pending: names(result.Pending), Lapsed: names(result.Lapsed),
		DurationMS: result.Duration.Milliseconds(), Matched: found,
	}
	if !result.ID.IsZero() {
		answer.ID = result.ID.String()
	}
	status := http.StatusOK
	if result.Waits != nil {
		answer.WaitsFor = result.Waits.Error()
		a.Waits(result.Waits)
	}
	if !result.Complete() && !answer.Standalone {
		status = http.StatusAccepted
	}
	return WriteJSON(w, status, answer)
}

// standalone reports whether this node is all there is, as far as anybody can
// tell: without Redis, or with one that nobody has asked for and that has never
// answered.
func (a *API) standalone() bool {
	return a.Redis == nil || !a.Named && !a.Journal.Heard()
}

// names are never null in JSON.
func names(names []string) []string { return append([]string{}, names...) }

// checkNamespace refuses what cannot be the name of a namespace.
func (a *API) checkNamespace(name string) error {
	if !a.IsNamespace(name) {
		return Error(http.StatusBadRequest, fmt.Errorf("%q is no name of a namespace", name))
	}
	return nil
}

// hashUser replaces an identity by the hash under which records hold it.
func (a *API) hashUser(s journal.Selector) journal.Selector {
	if s.Kind == journal.KindUser {
		s.Value = a.HashUser(s.Value)
	}
	return s
}

// dryRun counts what a purge would cover, and appends nothing.
func (a *API) dryRun(w http.ResponseWriter, r *http.Request, p journal.Purge, wait time.Duration) error {
	matches, err := a.Journal.Matcher(p)
	if err != nil {
		return Error(http.StatusBadRequest, err)
	}
	answer := struct {
		Selectors []journal.Selector `json:"selectors"`
		Matched   int                `json:"matched"`
		Partial   bool               `json:"partial,omitempty"` // the wait was too short, or Redis was away
	}{Selectors: p.Selectors}
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	err = a.Node.Walk(ctx, func(_ string, rec *store.Record, _ int64) bool {
		if rec == nil || rec.IsBase() {
			return true
		}
		subject := rec.Subject()
		if verdict, _ := a.Journal.Check(&subject, journal.Checked{}); verdict < journal.Covered && matches(&subject) {
			answer.Matched++
		}
		return ctx.Err() == nil
	})
	answer.Partial = err != nil || ctx.Err() != nil || (a.Redis != nil && !a.Store.Up())
	return WriteJSON(w, http.StatusOK, answer)
}

// ErrNoRule says that no rule is for an event.
var ErrNoRule = errors.New("there is no rule for the event")

// Event is POST /redis_cache/events.
func (a *API) Event(w http.ResponseWriter, r *http.Request) error {
	var request struct {
		Event   string          `json:"event"`
		Data    json.RawMessage `json:"data"`
		Wait    string          `json:"wait"`
		Require string          `json:"require"`
	}
	if err := ReadJSON(r, &request); err != nil {
		return err
	}
	how, err := parsePromise(request.Wait, request.Require)
	if err != nil {
		return err
	}
	purges, missing, err := a.Expand(request.Event, request.Data)
	switch {
	case errors.Is(err, ErrNoRule):
		return Error(http.StatusNotFound, fmt.Errorf("there is no rule for the event %q", request.Event))
	case err != nil:
		return Error(http.StatusBadRequest, err)
	case len(missing) > 0:
		return Error(http.StatusBadRequest, fmt.Errorf("the rules read %q, which data lacks", missing))
	case len(purges) == 0:
		return Error(http.StatusBadRequest, errors.New("every selector of the rules is empty with this data"))
	}
	for i := range purges { // hard and soft ones are entries of their own
		purges[i].By = "event " + request.Event
	}
	return a.appendPurges(w, r, purges, how)
}
