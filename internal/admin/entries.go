package admin

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

	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
	"github.com/gplus-recycling/caddy-redis-cache/internal/cachekey"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

const (
	maxListed = 1000
	// pageTimeout bounds the search of Redis for a page of them.
	pageTimeout = 5 * time.Second
)

// describe describes a record, or returns nil for one that no request is answered
// from.
func (a *API) describe(rec *store.Record, size int64, now time.Time) *api.Entry {
	if rec == nil || rec.IsBase() || !now.Before(rec.Expires) {
		return nil
	}
	subject := rec.Subject()
	verdict, _ := a.Journal.Check(&subject, journal.Checked{})
	if verdict >= journal.Covered {
		return nil
	}
	f := &rec.Freshness
	l := &api.Entry{
		Key: rec.Key.Full, Namespace: rec.Namespace, Identifier: rec.Identifier, URL: rec.URL, Status: rec.Status, Size: size,
		StoredAt: f.ResponseTime.UTC(), Age: f.CurrentAge(now).Seconds(), TTL: f.Remaining(now).Seconds(),
		Soft: verdict == journal.SoftCovered, Tags: names(rec.Tags), Tiers: []string{},
	}
	if rec.BaseKey != rec.Key.Full {
		l.Base = rec.BaseKey
	}
	if values := rec.Header()["Content-Type"]; len(values) > 0 {
		l.ContentType = values[0]
	}
	return l
}

// Entries is GET /redis_cache/entries.
func (a *API) Entries(w http.ResponseWriter, r *http.Request) error {
	limit, err := ParseLimit(r, api.DefaultListed, maxListed)
	if err != nil {
		return err
	}
	query := r.URL.Query()
	matches := func(*journal.Subject) bool { return true }
	if pattern := query.Get("pattern"); pattern != "" {
		selector := journal.Selector{Kind: journal.KindPattern, Value: pattern}
		if matches, err = a.Journal.Matcher(journal.Purge{Selectors: []journal.Selector{selector}}); err != nil {
			return Error(http.StatusBadRequest, err)
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
	defer cancel()
	now := time.Now()
	entries := []*api.Entry{}
	next, err := a.page(ctx, query.Get("cursor"), limit, func(rec *store.Record, size int64) bool {
		l := a.describe(rec, size, now)
		if l == nil || (query.Get("namespace") != "" && l.Namespace != query.Get("namespace")) {
			return false
		}
		if subject := rec.Subject(); !matches(&subject) {
			return false
		}
		a.setTiers(l)
		entries = append(entries, l)
		return true
	})
	switch {
	case errors.Is(err, store.ErrCursor):
		return Error(http.StatusBadRequest, err)
	case err != nil:
		return Error(http.StatusServiceUnavailable, err)
	}
	return WriteJSON(w, http.StatusOK, map[string]any{"entries": entries, "cursor": next})
}

// page calls f with the records behind a cursor until f has taken limit of them,
// and returns the cursor behind the last one; "" at the end.
func (a *API) page(ctx context.Context, cursor string, limit int, f func(*store.Record, int64) bool) (string, error) {
	if a.Redis != nil {
		return a.Redis.Page(ctx, cursor, limit, f)
	}
	return a.Node.Memory.Page(cursor, limit, f)
}

// setTiers says where a response that was found in Redis, or in memory where
// there is no Redis, lies.
func (a *API) setTiers(l *api.Entry) {
	if a.Node.Memory != nil && a.Node.Memory.Has(l.Key) {
		l.Tiers = append(l.Tiers, store.TierMemory.String())
	}
	if a.Redis != nil {
		l.Tiers = append(l.Tiers, store.TierRedis.String())
	}
}

// find finds the stored response of a full key.
func (a *API) find(ctx context.Context, full string) (l *api.Entry, rec *store.Record, err error) {
	now := time.Now()
	for _, key := range cachekey.NamesOf(a.Prefix, full) {
		memory, inRedis, failed := a.Store.Inspect(ctx, key, now)
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
			one := a.describe(in.rec, in.rec.Weight(), now)
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
func (a *API) entryKeys(r *http.Request) (keys []string, err error) {
	add := func(key string) {
		if !strings.HasPrefix(key, a.Prefix+":") {
			key = a.Prefix + ":" + key
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
		return nil, Error(http.StatusBadRequest, errors.New("key is missing"))
	}
	return keys, nil
}

// Entry is GET /redis_cache/entry.
func (a *API) Entry(w http.ResponseWriter, r *http.Request) error {
	keys, err := a.entryKeys(r)
	if err != nil {
		return err
	}
	withBody, err := strconv.ParseBool(cmp.Or(r.URL.Query().Get("body"), "0"))
	if err != nil {
		return Error(http.StatusBadRequest, fmt.Errorf("body: %q is neither 1 nor 0", r.URL.Query().Get("body")))
	}
	var (
		l   *api.Entry
		rec *store.Record
	)
	for _, key := range keys {
		if l, rec, err = a.find(r.Context(), key); l != nil {
			break
		}
	}
	switch {
	case l == nil && err != nil:
		return Error(http.StatusServiceUnavailable, err)
	case l == nil:
		return Error(http.StatusNotFound, errors.New("nothing is stored under this key"))
	}
	l.Header = rec.Header()
	if withBody {
		body, how := bodyText(rec.Body, l.ContentType)
		l.Body, l.BodyEncoding = &body, how
	}
	return WriteJSON(w, http.StatusOK, l)
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

// DeleteEntry is DELETE /redis_cache/entry.
func (a *API) DeleteEntry(w http.ResponseWriter, r *http.Request) error {
	keys, err := a.entryKeys(r)
	if err != nil {
		return err
	}
	how, err := parsePromise(r.URL.Query().Get("wait"), r.URL.Query().Get("require"))
	if err != nil {
		return err
	}
	p := journal.Purge{By: "entry"}
	for _, key := range keys {
		selector, err := journal.Selector{Kind: journal.KindKey, Value: key}.Normalize(a.Prefix)
		if err != nil {
			return Error(http.StatusBadRequest, err)
		}
		p.Selectors = append(p.Selectors, selector)
	}
	return a.appendPurges(w, r, []journal.Purge{p}, how)
}
