package rediscache

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gplus-recycling/caddy-redis-cache/internal/admin"
	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
	"github.com/gplus-recycling/caddy-redis-cache/internal/doctor"
	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/lint"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

func init() {
	caddy.RegisterModule(adminAPI{})
}

// adminAPI serves the admin routes under /redis_cache/. Caddy makes one for
// every configuration, also for one that then fails to load, so that each
// request finds the configuration that runs.
type adminAPI struct{}

// CaddyModule returns the Caddy module information.
func (adminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.redis_cache", New: func() caddy.Module { return new(adminAPI) }}
}

// Provision registers the metrics, for the endpoint shows the registry of this
// configuration even if nothing else of it can be loaded.
func (adminAPI) Provision(ctx caddy.Context) error { return registerMetrics(ctx) }

// Routes returns the admin routes.
func (adminAPI) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: "/redis_cache/purge", Handler: route(methods{http.MethodPost: {handlePurge, nil}})},
		{Pattern: "/redis_cache/journal", Handler: route(methods{http.MethodGet: {handleJournal, []string{"limit"}}})},
		{Pattern: "/redis_cache/nodes", Handler: route(methods{http.MethodGet: {handleNodes, nil}})},
		{Pattern: "/redis_cache/events", Handler: route(methods{http.MethodPost: {handleEvent, nil}})},
		{Pattern: "/redis_cache/warm", Handler: route(methods{
			http.MethodPost: {handleWarm, nil},
			http.MethodGet:  {handleWarmProgress, []string{"id"}},
		})},
		{Pattern: "/redis_cache/stats", Handler: route(methods{http.MethodGet: {handleStats, []string{"window"}}})},
		{Pattern: "/redis_cache/tail", Handler: route(methods{http.MethodGet: {handleTail, []string{"namespace", "outcome"}}})},
		{Pattern: "/redis_cache/explain", Handler: route(methods{http.MethodGet: {handleExplain, []string{"url", "method", "header"}}})},
		{Pattern: "/redis_cache/entries", Handler: route(methods{
			http.MethodGet: {handleEntries, []string{"namespace", "pattern", "limit", "cursor"}},
		})},
		{Pattern: "/redis_cache/entry", Handler: route(methods{
			http.MethodGet:    {handleEntry, []string{"key", "body"}},
			http.MethodDelete: {handleDeleteEntry, []string{"key", "wait", "require"}},
		})},
		{Pattern: "/redis_cache/doctor", Handler: route(methods{http.MethodGet: {handleDoctor, nil}})},
		{Pattern: "/redis_cache/enable", Handler: route(methods{http.MethodPost: {handleEnable, nil}})},
		{Pattern: "/redis_cache/disable", Handler: route(methods{http.MethodPost: {handleDisable, nil}})},
	}
}

// methods are what a route does, by method.
type methods map[string]action

// action is what a request does. A parameter of the URL that is not known is an
// error, as are unknown fields of a body.
type action struct {
	handle     func(*App, http.ResponseWriter, *http.Request) error
	parameters []string
}

// checkParameters lets nobody mistype a parameter without a notice.
func (a *action) checkParameters(r *http.Request) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return fmt.Errorf("query: %w", err)
	}
	for name := range query {
		if !slices.Contains(a.parameters, name) {
			return fmt.Errorf("unknown parameter %q", name)
		}
	}
	return nil
}

const maxAdminBody = 1 << 20

// route dispatches on the method and finds the app that runs.
func route(m methods) caddy.AdminHandler {
	return caddy.AdminHandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		do, allowed := m[r.Method]
		if !allowed {
			return admin.Error(http.StatusMethodNotAllowed, errors.New("method not allowed"))
		}
		if err := do.checkParameters(r); err != nil {
			return admin.Error(http.StatusBadRequest, err)
		}
		app := started.active()
		if app == nil {
			return admin.Error(http.StatusServiceUnavailable, errors.New("no configuration with redis_cache runs"))
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxAdminBody)
		return do.handle(app, w, r)
	})
}

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
		return 0, admin.Error(http.StatusBadRequest, fmt.Errorf("wait: %q is not a duration of at most %s", wait, maxWait))
	}
	return d, nil
}

// promise is what whoever purges asks for.
type promise struct {
	wait     time.Duration // for the other nodes
	recorded bool          // or nothing is done
}

const requireRecorded = "recorded"

func parsePromise(wait, require string) (p promise, err error) {
	if p.wait, err = parseWait(wait); err != nil {
		return p, err
	}
	if p.recorded = require == requireRecorded; !p.recorded && require != "" {
		return p, admin.Error(http.StatusBadRequest, fmt.Errorf("require: %q is not %q", require, requireRecorded))
	}
	return p, nil
}

func handlePurge(app *App, w http.ResponseWriter, r *http.Request) error {
	var request purgeRequest
	if err := admin.ReadJSON(r, &request); err != nil {
		return err
	}
	how, err := parsePromise(request.Wait, request.Require)
	if err != nil {
		return err
	}
	p := journal.Purge{Soft: request.Soft, By: request.By, Reason: request.Reason}
	for _, s := range request.Selectors() {
		if s.Kind == journal.KindNamespace && s.Value != "" {
			if err := isNamespace(s.Value); err != nil {
				return admin.Error(http.StatusBadRequest, err)
			}
		}
		normal, err := s.Normalize(app.Prefix)
		if err != nil {
			return admin.Error(http.StatusBadRequest, err)
		}
		p.Selectors = append(p.Selectors, hashUser(normal, app.secret))
	}
	if len(p.Selectors) == 0 {
		return admin.Error(http.StatusBadRequest, errors.New("nothing is selected: want any of namespace, namespaces,"+
			" tag, tags, key, keys, pattern, url, urls, prefix, host, user or all"))
	}
	if request.DryRun {
		return app.node.dryRun(w, r, p, how.wait)
	}
	return app.appendPurges(w, r, []journal.Purge{p}, how)
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
	matched
}

// appendPurges answers 200 when the purges are final, 202 when they are recorded
// and not everybody has confirmed them, or wait to be recorded, and 503 when that
// was refused. The answer names the last one: who has applied that has applied the
// others.
func (a *App) appendPurges(w http.ResponseWriter, r *http.Request, purges []journal.Purge, how promise) error {
	appends := a.node.Journal.Append
	if how.recorded {
		appends = a.node.Journal.Record
	}
	var (
		selectors []journal.Selector
		waits     error
	)
	for _, p := range purges {
		selectors = append(selectors, p.Selectors...)
	}
	found := a.node.matchedMemory(selectors)
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
			a.node.metrics.confirm.Observe(result.Duration.Seconds())
		}
		return a.answerPurge(w, &result, selectors, found, err)
	}
	return nil // there is a last one
}

func (a *App) answerPurge(w http.ResponseWriter, result *journal.Result, selectors []journal.Selector, found matched, err error) error {
	switch {
	case errors.Is(err, journal.ErrInvalid):
		return admin.Error(http.StatusBadRequest, err)
	case err != nil:
		return admin.Error(http.StatusServiceUnavailable, err)
	}
	answer := purgeResult{
		Selectors: selectors, Recorded: result.Waits == nil, Standalone: a.standalone(), Replicated: result.Replicated,
		Confirmed: list(result.Confirmed), Pending: list(result.Pending), Lapsed: list(result.Lapsed),
		DurationMS: result.Duration.Milliseconds(), matched: found,
	}
	if !result.ID.IsZero() {
		answer.ID = result.ID.String()
	}
	status := http.StatusOK
	if result.Waits != nil {
		answer.WaitsFor = result.Waits.Error()
		waiting, since := a.node.Journal.Waiting()
		a.node.logger().Warn("a purge waits to be recorded: it covers what this node has stored, and other nodes do not know of it",
			zap.Int("waiting", waiting), zap.Time("since", since), zap.Error(result.Waits))
	}
	if !result.Complete() && !answer.Standalone {
		status = http.StatusAccepted
	}
	return admin.WriteJSON(w, status, answer)
}

// standalone reports whether this node is all there is, as far as anybody can
// tell: without Redis, or with one that nobody has asked for and that has never
// answered.
func (a *App) standalone() bool {
	return a.node.client == nil || !a.Redis.named() && !a.node.Journal.Heard()
}

// list is never null in JSON.
func list(names []string) []string { return append([]string{}, names...) }

// dryRun counts what a purge would cover, and appends nothing.
func (n *node) dryRun(w http.ResponseWriter, r *http.Request, p journal.Purge, wait time.Duration) error {
	matches, err := n.Journal.Matcher(p)
	if err != nil {
		return admin.Error(http.StatusBadRequest, err)
	}
	answer := struct {
		Selectors []journal.Selector `json:"selectors"`
		Matched   int                `json:"matched"`
		Partial   bool               `json:"partial,omitempty"` // the wait was too short, or Redis was away
	}{Selectors: p.Selectors}
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	err = n.walk(ctx, func(_ string, rec *store.Record, _ int64) bool {
		if rec == nil || rec.IsBase() {
			return true
		}
		subject := engine.SubjectOf(rec)
		if verdict, _ := n.Journal.Check(&subject, journal.Checked{}); verdict < journal.Covered && matches(&subject) {
			answer.Matched++
		}
		return ctx.Err() == nil
	})
	answer.Partial = err != nil || ctx.Err() != nil || (n.redis != nil && !n.Store.Up())
	return admin.WriteJSON(w, http.StatusOK, answer)
}

// entry is one line of GET /redis_cache/journal.
type entry struct {
	ID        string             `json:"id"`
	Time      time.Time          `json:"time"`
	Op        journal.Op         `json:"op"`
	Selectors []journal.Selector `json:"selectors,omitempty"`
	Event     string             `json:"event,omitempty"`
	Data      json.RawMessage    `json:"data,omitempty"`
	By        string             `json:"by,omitempty"`
	Reason    string             `json:"reason,omitempty"`
	Removed   *int64             `json:"removed,omitempty"` // stored responses, once it is known
	Error     string             `json:"error,omitempty"`   // why it was skipped: it is malformed
}

func lineOf(e *journal.Entry) entry {
	line := entry{
		ID: e.ID.String(), Time: time.UnixMilli(int64(e.ID.Ms)).UTC(), Op: e.Op, Selectors: e.Selectors,
		Event: e.Event, Data: e.Data, By: e.By, Reason: e.Reason, Removed: e.Removed,
	}
	if e.Malformed != nil {
		line.Error = e.Malformed.Error()
	}
	return line
}

const (
	defaultEntries = 100
	maxEntries     = 10_000
)

func handleJournal(app *App, w http.ResponseWriter, r *http.Request) error {
	limit, err := admin.ParseLimit(r, defaultEntries, maxEntries)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), journalTimeout)
	defer cancel()
	entries, err := app.node.Journal.Entries(ctx, limit)
	if err != nil {
		return admin.Error(http.StatusServiceUnavailable, err)
	}
	lines := make([]entry, 0, len(entries))
	for _, e := range entries {
		lines = append(lines, lineOf(&e))
	}
	return admin.WriteJSON(w, http.StatusOK, map[string]any{"entries": lines})
}

func handleNodes(app *App, w http.ResponseWriter, r *http.Request) error {
	type line struct {
		ID       string  `json:"id"`
		Self     bool    `json:"self"`
		State    string  `json:"state"` // live, joining or lapsed
		Version  string  `json:"version"`
		Position string  `json:"position"` // the newest entry it has applied
		Lag      float64 `json:"lag_seconds"`
	}
	ctx, cancel := context.WithTimeout(r.Context(), journalTimeout)
	defer cancel()
	nodes, err := app.node.Journal.Nodes(ctx)
	if err != nil {
		return admin.Error(http.StatusServiceUnavailable, err)
	}
	lines := make([]line, 0, len(nodes))
	for _, n := range nodes {
		lines = append(lines, line{n.ID, n.Self, n.State, n.Version, n.Position.ID.String(), n.Lag.Seconds()})
	}
	answer := map[string]any{"nodes": lines, "disabled": app.node.switches.list()}
	if waiting := app.node.waiting(); waiting != nil {
		answer["waiting"] = waiting
	}
	return admin.WriteJSON(w, http.StatusOK, answer)
}

// waitingPurges are those of this node that are not recorded yet.
type waitingPurges struct {
	Purges int       `json:"purges"` // entries of the journal
	Since  time.Time `json:"since"`
}

// waiting returns nil if nothing waits.
func (n *node) waiting() *waitingPurges {
	count, since := n.Journal.Waiting()
	if count == 0 {
		return nil
	}
	return &waitingPurges{count, since.UTC()}
}

func handleEvent(app *App, w http.ResponseWriter, r *http.Request) error {
	var request struct {
		Event   string          `json:"event"`
		Data    json.RawMessage `json:"data"`
		Wait    string          `json:"wait"`
		Require string          `json:"require"`
	}
	if err := admin.ReadJSON(r, &request); err != nil {
		return err
	}
	how, err := parsePromise(request.Wait, request.Require)
	if err != nil {
		return err
	}
	data, err := eventData(request.Data)
	if err != nil {
		return admin.Error(http.StatusBadRequest, err)
	}
	if len(app.On[request.Event]) == 0 {
		return admin.Error(http.StatusNotFound, fmt.Errorf("there is no rule for the event %q", request.Event))
	}
	purges, missing := app.eventPurges(request.Event, data)
	switch {
	case len(missing) > 0:
		return admin.Error(http.StatusBadRequest, fmt.Errorf("the rules read %q, which data lacks", missing))
	case len(purges) == 0:
		return admin.Error(http.StatusBadRequest, errors.New("every selector of the rules is empty with this data"))
	}
	for i := range purges { // hard and soft ones are entries of their own
		purges[i].By = "event " + request.Event
	}
	return app.appendPurges(w, r, purges, how)
}

func handleDoctor(app *App, w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), doctor.Timeout)
	defer cancel()
	n := app.node
	subject := doctor.Subject{
		Prefix: n.prefix, Client: n.log, Lookups: n.client, Replicated: n.replicated, Store: n.Store, Redis: n.redis, Journal: n.Journal,
		IsNamespace: namespaceFormat.MatchString,
	}
	checks := append(subject.Examine(ctx), doctor.Errors(n.errorCounts(), n.errors.all(), time.Now())...)
	checks = append(checks, app.lint()...)
	ok := !slices.ContainsFunc(checks, func(c api.Check) bool { return c.Status == api.Fail })
	return admin.WriteJSON(w, http.StatusOK, map[string]any{"ok": ok, "checks": checks})
}

// lint checks the configuration that runs.
func (a *App) lint() []api.Check {
	c := lint.Config{Disabled: !a.enabled, Directive: directiveOf}
	if running, err := a.ctx.AppIfConfigured("http"); err == nil {
		c.Servers = running.(*caddyhttp.App).Servers
	}
	a.mu.Lock()
	for _, name := range slices.Sorted(maps.Keys(a.Namespaces)) {
		if !a.used[name] {
			c.Unused = append(c.Unused, name)
		}
	}
	a.mu.Unlock()
	return c.Lint()
}

// directiveOf is what is known of a handler of the server, if it is ours.
func directiveOf(handler any, server *caddyhttp.Server) *lint.Directive {
	h, ours := handler.(*Handler)
	if !ours {
		return nil
	}
	p := &h.policy
	d := &lint.Directive{
		Namespace: h.Namespace, TTL: p.TTL != nil || len(p.TTLRules) > 0, Override: p.TTL != nil && p.TTL.Override,
		Shared: p.Shared, ByUser: p.ByUser, SetCookie: p.setCookie(), IgnoreCookies: p.IgnoreCookies,
		VaryCookie: p.VaryCookie, VaryHeader: p.VaryHeader, Targets: p.targets(),
		Redirected: h.strangers.latest(), Unstored: h.unstored.lint(h), Front: h.front.Load(),
		PublicSecret: string(h.app.secret) == h.app.publicSecret(),
	}
	if p.Key != nil {
		d.KeyTemplate = p.Key.Template
	}
	for _, rule := range p.Bypass {
		d.Bypass = append(d.Bypass, rule.matchers)
	}
	if d.Front == nil {
		d.Front = h.readFront(server)
	}
	d.Requests, d.Kept, d.Credential = h.credentialed.counts()
	return d
}

func handleWarm(app *App, w http.ResponseWriter, r *http.Request) error {
	return app.admin().Warm(w, r)
}

func handleWarmProgress(app *App, w http.ResponseWriter, r *http.Request) error {
	return app.admin().WarmProgress(w, r)
}

// warmJobs are those of this process.
var warmJobs admin.Jobs

// admin answers requests for this configuration.
func (a *App) admin() *admin.API {
	n := a.node
	return &admin.API{
		Context: a.ctx, Jobs: &warmJobs,
		Thrown: func(recovered any) { logPanic(n.logger(), "a handler that warms", recovered) },
		Warmed: func(end *api.WarmProgress) {
			n.logger().Info("cache_warmed", zap.String("id", end.ID), zap.Int("total", end.Total), zap.Int("failed", end.Failed))
			n.emit("warm_finished", map[string]any{"id": end.ID, "total": end.Total, "failed": end.Failed})
		},
	}
}
