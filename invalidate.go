package rediscache

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/gplus-recycling/caddy-redis-cache/internal/glob"
	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// selector names stored responses.
type selector struct {
	Kind  selectorKind `json:"selector"`
	Value string       `json:"value,omitempty"`
}

type selectorKind string

// The selectors.
const (
	selectNamespace selectorKind = "namespace" // every response of a namespace
	selectKey       selectorKind = "key"       // namespace:identifier, or a whole key
	selectPattern   selectorKind = "pattern"   // a Redis glob over namespace:identifier and over whole keys
	selectURL       selectorKind = "url"       // a URL; without a query, whatever the query
	selectTag       selectorKind = "tag"       // responses that carry a tag
	selectAll       selectorKind = "all"       // everything under the prefix
)

// purge is a union of selectors.
type purge struct {
	ID        string     `json:"id"`
	Selectors []selector `json:"selectors"`
}

func newPurge(selectors []selector) purge {
	return purge{ID: rand.Text(), Selectors: selectors}
}

// normalize checks a selector and brings it into its canonical form.
func (s selector) normalize(prefix string) (selector, error) {
	if s.Value == "" && s.Kind != selectAll {
		return s, fmt.Errorf("%s is empty", s.Kind)
	}
	switch s.Kind {
	case selectKey, selectPattern:
		s.Value = strings.TrimPrefix(s.Value, prefix+":")
	case selectURL:
		u, err := parseURL(s.Value)
		if err != nil {
			return s, err
		}
		s.Value = u
	case selectNamespace, selectTag, selectAll:
	}
	return s, nil
}

// parseURL brings a URL into the form in which records hold theirs, with its
// query as it is.
func parseURL(raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return "", fmt.Errorf("url %q is not an absolute http or https URL", raw)
	}
	path, _, _ := strings.Cut(strings.TrimPrefix(raw[len(u.Scheme):], "://"), "#")
	path, query, hasQuery := strings.Cut(path, "?")
	if slash := strings.IndexByte(path, '/'); slash >= 0 {
		path = path[slash:]
	} else {
		path = "/"
	}
	normal := u.Scheme + "://" + normalHost(u.Scheme, u.Host) + path
	if hasQuery {
		normal += "?" + query
	}
	return normal, nil
}

// matcher returns a function that reports whether a record is covered.
// queryRules are the vary_query rules in use: a URL with a query stands for
// what any of them keeps of it.
func (p purge) matcher(prefix string, queryRules []*VaryQuery) func(*store.Record) bool {
	matchers := make([]func(*store.Record) bool, 0, len(p.Selectors))
	for _, s := range p.Selectors {
		matchers = append(matchers, s.matcher(prefix, queryRules))
	}
	return func(rec *store.Record) bool {
		return slices.ContainsFunc(matchers, func(match func(*store.Record) bool) bool { return match(rec) })
	}
}

func (s selector) matcher(prefix string, queryRules []*VaryQuery) func(*store.Record) bool {
	switch s.Kind {
	case selectNamespace:
		return func(rec *store.Record) bool { return rec.Namespace == s.Value }
	case selectKey:
		return func(rec *store.Record) bool { return matchesKey(rec, prefix, s.Value) }
	case selectPattern:
		return func(rec *store.Record) bool {
			return glob.Match(s.Value, rec.Namespace+":"+rec.Identifier) ||
				glob.Match(s.Value, strings.TrimPrefix(rec.Key.Full, prefix+":")) ||
				glob.Match(s.Value, rec.Key.Full)
		}
	case selectURL:
		return s.urlMatcher(queryRules)
	case selectTag:
		return func(rec *store.Record) bool { return slices.Contains(rec.Tags, s.Value) }
	case selectAll:
		return func(*store.Record) bool { return true }
	}
	return func(*store.Record) bool { return false }
}

// matchesKey compares a record with namespace:identifier, with its whole key,
// and with the whole key that its variants share.
func matchesKey(rec *store.Record, prefix, key string) bool {
	if rec.Namespace+":"+rec.Identifier == key {
		return true
	}
	rest, ok := strings.CutPrefix(strings.TrimPrefix(rec.Key.Full, prefix+":"), key)
	return ok && (rest == "" || (rest[0] == ':' && len(rest) == 1+2*hashSize && strings.IndexByte(rest[1:], ':') < 0))
}

func (s selector) urlMatcher(queryRules []*VaryQuery) func(*store.Record) bool {
	base, query, hasQuery := strings.Cut(s.Value, "?")
	if !hasQuery {
		return func(rec *store.Record) bool {
			path, _, _ := strings.Cut(rec.URL, "?")
			return path == base
		}
	}
	candidates := []string{urlWithQuery(base, nil, query)}
	for _, rule := range queryRules {
		candidates = append(candidates, urlWithQuery(base, rule, query))
	}
	return func(rec *store.Record) bool { return slices.Contains(candidates, rec.URL) }
}

// urlWithQuery is the URL as a record holds it under a vary_query rule.
func urlWithQuery(base string, rule *VaryQuery, query string) string {
	if kept := rule.kept(query); len(kept) > 0 {
		return base + "?" + strings.Join(kept, "&")
	}
	return base
}

// invalidateTimeout bounds how long the answer to an unsafe method waits for
// what it invalidates.
const invalidateTimeout = time.Second

// invalidateUnsafe purges what a successful answer to an unsafe method has made
// wrong: the URL itself, Location and Content-Location on the same origin, RFC
// 9111 section 4.4, and the cache groups that it names, RFC 9875 section 3. It
// is done before the client sees the answer, so that the client reads its own
// write.
func (x *exchange) invalidateUnsafe(status int, header http.Header) {
	if rfc9111.SafeMethod(x.method) || x.h.policy.cachesMethod(x.method) || status < 200 || status >= 400 {
		return
	}
	q := x.keyRequest()
	target, err := url.Parse(q.scheme + "://" + q.host + q.path)
	if err != nil {
		return
	}
	var selectors []selector
	for _, u := range rfc9111.InvalidationTargets(target, status, header) {
		if s, err := (selector{selectURL, u.String()}).normalize(q.prefix); err == nil {
			selectors = append(selectors, s)
		}
	}
	for _, group := range rfc9111.CacheGroups(header["Cache-Group-Invalidation"]) {
		selectors = append(selectors, selector{selectTag, x.groupTag(group)})
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.r.Context()), invalidateTimeout)
	defer cancel()
	if err := x.h.node.purge(ctx, newPurge(selectors)); err != nil {
		x.h.logger.Warn("an unsafe request's invalidation did not reach redis", zap.Error(err))
	}
}

// errNotRecorded is what a purge answers that may not have reached every node.
var errNotRecorded = errors.New("the purge could not be recorded in redis; nothing is promised")

// purge removes the responses that p names: from Redis and this node's memory,
// and by a message from the memory of the other nodes.
func (n *node) purge(ctx context.Context, p purge) error {
	if _, err := n.store.Delete(ctx, p.matcher(n.prefix, activeQueryRules())); err != nil {
		return fmt.Errorf("%w: %w", errNotRecorded, err)
	}
	if n.client != nil {
		message, err := json.Marshal(p)
		if err != nil {
			return err
		}
		if err := n.client.Publish(ctx, n.purgeChannel(), message).Err(); err != nil {
			return fmt.Errorf("%w: %w", errNotRecorded, err)
		}
	}
	n.logger.Load().Info("cache_invalidate", zap.String("id", p.ID), zap.Any("selectors", p.Selectors))
	return nil
}

func (n *node) purgeChannel() string { return n.prefix + "::purge" }

// listen applies the purges of other nodes. Whenever the subscription begins,
// purges may have been missed, so that nothing in memory can be vouched for.
func (n *node) listen() {
	sub := n.client.Subscribe(n.ctx, n.purgeChannel())
	defer sub.Close()
	attached := false
	messages := sub.ChannelWithSubscriptions()
	for {
		select {
		case <-n.ctx.Done():
			return
		case message, open := <-messages:
			if !open {
				return
			}
			switch m := message.(type) {
			case *redis.Subscription:
				if n.memory != nil {
					n.memory.Clear()
				}
				if !attached {
					attached = true
					close(n.attached)
				}
			case *redis.Message:
				n.applyPurge(m.Payload)
			}
		}
	}
}

func (n *node) applyPurge(message string) {
	var p purge
	if err := json.Unmarshal([]byte(message), &p); err != nil {
		n.logger.Load().Warn("malformed purge message skipped", zap.Error(err))
		return
	}
	if n.memory == nil {
		return
	}
	if _, err := n.memory.Delete(n.ctx, p.matcher(n.prefix, activeQueryRules())); err != nil {
		n.logger.Load().Warn("purge not applied", zap.String("id", p.ID), zap.Error(err))
	}
}

func activeQueryRules() []*VaryQuery {
	if app := started.active(); app != nil {
		return app.queryRules()
	}
	return nil
}
