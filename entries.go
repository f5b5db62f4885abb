package rediscache

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gplus-recycling/caddy-redis-cache/internal/admin"
	"github.com/gplus-recycling/caddy-redis-cache/internal/cachekey"
	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

const (
	defaultListed = 100
	maxListed     = 1000
)

// listed is a stored response in GET /redis_cache/entries and /entry.
type listed struct {
	Key         string    `json:"key"`
	Namespace   string    `json:"namespace"`
	Identifier  string    `json:"identifier"`
	URL         string    `json:"url"`
	Status      int       `json:"status"`
	ContentType string    `json:"content_type"`
	Size        int64     `json:"size"` // in Redis, or in memory where there is no Redis
	StoredAt    time.Time `json:"stored_at"`
	Age         float64   `json:"age"`
	TTL         float64   `json:"ttl_remaining"`
	Soft        bool      `json:"soft_purged,omitempty"`
	Tags        []string  `json:"tags"`
	Tiers       []string  `json:"tiers"`
	Base        string    `json:"base,omitempty"` // the key of the URL, for a variant

	Header       map[string][]string `json:"header,omitempty"`
	Body         *string             `json:"body,omitempty"`
	BodyEncoding string              `json:"body_encoding,omitempty"` // text or base64
}

// list describes a record, or returns nil for one that no request is answered
// from.
func (n *node) list(rec *store.Record, size int64, now time.Time) *listed {
	if rec == nil || rec.IsBase() || !now.Before(rec.Expires) {
		return nil
	}
	verdict := n.Check(rec)
	if verdict >= journal.Covered {
		return nil
	}
	f := &rec.Freshness
	l := &listed{
		Key: rec.Key.Full, Namespace: rec.Namespace, Identifier: rec.Identifier, URL: rec.URL, Status: rec.Status, Size: size,
		StoredAt: f.ResponseTime.UTC(), Age: f.CurrentAge(now).Seconds(), TTL: f.Remaining(now).Seconds(),
		Soft: verdict == journal.SoftCovered, Tags: list(rec.Tags), Tiers: []string{},
	}
	if rec.BaseKey != rec.Key.Full {
		l.Base = rec.BaseKey
	}
	if values := rec.Header()["Content-Type"]; len(values) > 0 {
		l.ContentType = values[0]
	}
	return l
}

func handleEntries(app *App, w http.ResponseWriter, r *http.Request) error {
	limit, err := admin.ParseLimit(r, defaultListed, maxListed)
	if err != nil {
		return err
	}
	query := r.URL.Query()
	matches := func(*journal.Subject) bool { return true }
	if pattern := query.Get("pattern"); pattern != "" {
		selector := journal.Selector{Kind: journal.KindPattern, Value: pattern}
		if matches, err = app.node.Journal.Matcher(journal.Purge{Selectors: []journal.Selector{selector}}); err != nil {
			return admin.Error(http.StatusBadRequest, err)
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), walkTimeout)
	defer cancel()
	n, now := app.node, time.Now()
	entries := []*listed{}
	next, err := n.page(ctx, query.Get("cursor"), limit, func(rec *store.Record, size int64) bool {
		l := n.list(rec, size, now)
		if l == nil || (query.Get("namespace") != "" && l.Namespace != query.Get("namespace")) {
			return false
		}
		if subject := engine.SubjectOf(rec); !matches(&subject) {
			return false
		}
		n.setTiers(l)
		entries = append(entries, l)
		return true
	})
	switch {
	case errors.Is(err, store.ErrCursor):
		return admin.Error(http.StatusBadRequest, err)
	case err != nil:
		return admin.Error(http.StatusServiceUnavailable, err)
	}
	return admin.WriteJSON(w, http.StatusOK, map[string]any{"entries": entries, "cursor": next})
}

// page calls f with the records behind a cursor until f has taken limit of them,
// and returns the cursor behind the last one; "" at the end.
func (n *node) page(ctx context.Context, cursor string, limit int, f func(*store.Record, int64) bool) (string, error) {
	if n.redis != nil {
		return n.redis.Page(ctx, cursor, limit, f)
	}
	return n.memory.Page(cursor, limit, f)
}

// setTiers says where a response that was found in Redis, or in memory where
// there is no Redis, lies.
func (n *node) setTiers(l *listed) {
	if n.memory != nil && n.memory.Has(l.Key) {
		l.Tiers = append(l.Tiers, store.TierMemory.String())
	}
	if n.redis != nil {
		l.Tiers = append(l.Tiers, store.TierRedis.String())
	}
}

// entry finds the stored response of a full key.
func (n *node) entry(ctx context.Context, full string) (l *listed, rec *store.Record, err error) {
	now := time.Now()
	for _, key := range cachekey.NamesOf(n.prefix, full) {
		memory, inRedis, failed := n.Store.Inspect(ctx, key, now)
		if errors.Is(failed, store.ErrForeignKey) {
			return nil, nil, nil
		}
		var tiers []string
		for _, in := range []struct {
			tier store.TierName
			rec  *store.Record
		}{{store.TierMemory, memory}, {store.TierRedis, inRedis}} {
			if in.rec == nil {
				continue
			}
			one := n.list(in.rec, in.rec.Weight(), now)
			if one == nil {
				continue
			}
			if tiers == nil {
				l, rec = one, in.rec
			}
			tiers = append(tiers, in.tier.String())
			l.Tiers = tiers
		}
		if failed != nil || slices.Contains(tiers, store.TierRedis.String()) {
			return l, rec, failed
		}
	}
	return l, rec, nil
}

// entryKeys reads the parameter key. One that stands there as X-Cache-Key shows it,
// with colons that an encoder would have escaped, may have been pasted: then what
// looks like an escape in it may be part of the key, or may not.
func entryKeys(app *App, r *http.Request) (keys []string, err error) {
	add := func(key string) {
		if !strings.HasPrefix(key, app.Prefix+":") {
			key = app.Prefix + ":" + key
		}
		if !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	for pair := range strings.SplitSeq(r.URL.RawQuery, "&") {
		if raw, ok := strings.CutPrefix(pair, "key="); ok && strings.Contains(raw, ":") {
			add(raw)
			break
		}
	}
	if key := r.URL.Query().Get("key"); key != "" {
		add(key)
	}
	if len(keys) == 0 {
		return nil, admin.Error(http.StatusBadRequest, errors.New("key is missing"))
	}
	return keys, nil
}

func handleEntry(app *App, w http.ResponseWriter, r *http.Request) error {
	keys, err := entryKeys(app, r)
	if err != nil {
		return err
	}
	withBody, err := strconv.ParseBool(cmp.Or(r.URL.Query().Get("body"), "0"))
	if err != nil {
		return admin.Error(http.StatusBadRequest, fmt.Errorf("body: %q is neither 1 nor 0", r.URL.Query().Get("body")))
	}
	var (
		l   *listed
		rec *store.Record
	)
	for _, key := range keys {
		if l, rec, err = app.node.entry(r.Context(), key); l != nil {
			break
		}
	}
	switch {
	case l == nil && err != nil:
		return admin.Error(http.StatusServiceUnavailable, err)
	case l == nil:
		return admin.Error(http.StatusNotFound, errors.New("nothing is stored under this key"))
	}
	l.Header = rec.Header()
	if withBody {
		body, how := bodyText(rec.Body, l.ContentType)
		l.Body, l.BodyEncoding = &body, how
	}
	return admin.WriteJSON(w, http.StatusOK, l)
}

// bodyText is a body as JSON can hold it.
func bodyText(body []byte, contentType string) (text, encoding string) {
	kind, _, _ := mime.ParseMediaType(contentType)
	textual := strings.HasPrefix(kind, "text/") || slices.ContainsFunc([]string{"json", "xml", "javascript", "x-www-form-urlencoded"},
		func(end string) bool { return strings.HasSuffix(kind, end) })
	if textual && utf8.Valid(body) {
		return string(body), "text"
	}
	return base64.StdEncoding.EncodeToString(body), "base64"
}

func handleDeleteEntry(app *App, w http.ResponseWriter, r *http.Request) error {
	keys, err := entryKeys(app, r)
	if err != nil {
		return err
	}
	how, err := parsePromise(r.URL.Query().Get("wait"), r.URL.Query().Get("require"))
	if err != nil {
		return err
	}
	p := journal.Purge{By: "entry"}
	for _, key := range keys {
		selector, err := journal.Selector{Kind: journal.KindKey, Value: key}.Normalize(app.Prefix)
		if err != nil {
			return admin.Error(http.StatusBadRequest, err)
		}
		p.Selectors = append(p.Selectors, selector)
	}
	return app.appendPurges(w, r, []journal.Purge{p}, how)
}
