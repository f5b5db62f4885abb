package engine

import (
	"hash/maphash"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/cachekey"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/reason"
	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// A URL whose responses vary has a base record under its key. It lists the request fields
// that select a variant, and the variants that are stored; each variant has a key of its
// own. The fields are the union of what Vary named in any response, so that a response
// that names fewer replaces nothing it should not: it is stored as one more variant.

const (
	maxVaryFields = 16 // that select a variant
	maxVariants   = 64 // of one URL
)

// proxyFields are set by proxies behind the cache, for each client or hop. A response that
// varies on one of them varies on what the cache cannot see.
var proxyFields = []string{"Forwarded", "Via", "X-Forwarded-For", "X-Real-Ip"}

// place is where a response is stored.
type place struct {
	key   store.Key
	names []string // the request fields that select it, when it is a variant
	hash  string   // of their values
}

// address finds the place of a response.
func (j *judge) address(vary []string, header http.Header, now time.Time) (place, reason.Reason) {
	if slices.ContainsFunc(vary, func(name string) bool { return slices.Contains(proxyFields, name) }) {
		return place{key: j.key}, reason.Refused(rfc9111.RefusalVaryAny)
	}
	names := j.selecting(vary, header)
	if len(names) == 0 {
		return place{key: j.q.Key.Key}, reason.None
	}
	key, hash := cachekey.Variant(j.q.Key.Key, names, j.came.Header)
	if len(names) > maxVaryFields || !roomFor(j.base, hash, names, now) {
		return place{key: key}, reason.VariantLimit
	}
	return place{key, names, hash}, reason.None
}

// selecting is the union of the fields that Vary names and those of the base record. An
// encoded response whose origin forgot to name Accept-Encoding varies on it all the same,
// and one for a certain Origin on that.
func (j *judge) selecting(vary []string, header http.Header) []string {
	names := slices.Clone(vary)
	if j.base != nil {
		names = append(names, j.base.Vary...)
	}
	if encoding := header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		names = append(names, "Accept-Encoding")
	}
	if says, all := isAboutOrigins(header, j.before); says && !all {
		names = append(names, originField)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// roomFor reports whether a base record can list one more variant.
func roomFor(base *store.Record, hash string, names []string, now time.Time) bool {
	if base == nil || !slices.Equal(base.Vary, names) {
		return true
	}
	live := 0
	for _, v := range base.Variants {
		if v.Hash == hash {
			return true
		}
		if v.Expires.After(now) {
			live++
		}
	}
	return live < maxVariants
}

// put stores a complete response, and with a variant the base record that lists it. found
// is the base record that its request has found. stored is called once it is in Redis.
func (c *Cache) put(q *Request, rec *store.Record, at place, found *store.Record, now time.Time, stored func()) {
	if at.hash == "" {
		c.Store.PutThen(stored, rec)
		return
	}
	lists := c.variantLists(q.Key.Full)
	lists.mu.Lock()
	defer lists.mu.Unlock()
	base := baseWith(c.latestBase(q, found, lists, now), q, at, rec, now)
	lists.recent[lists.next%len(lists.recent)] = base
	lists.next++
	c.Store.PutThen(stored, rec, base)
}

// latestBase is the base record that a new variant is added to: what this node has stored
// by now, or what the request itself has found, whichever has the higher position. Redis
// is not asked: whoever else stores a variant of the URL, or of one that shares its lock,
// would wait for the answer.
func (c *Cache) latestBase(q *Request, found *store.Record, lists *variantLists, now time.Time) (base *store.Record) {
	known := make([]*store.Record, 0, 2+len(lists.recent))
	known = append(known, c.Store.Local(q.Key.Key, now), found)
	for i := range lists.recent { // from the oldest to the newest
		known = append(known, lists.recent[(lists.next+i)%len(lists.recent)])
	}
	for _, rec := range known {
		if rec == nil || rec.Key.Full != q.Key.Full || !now.Before(rec.Expires) ||
			base != nil && (rec.Position.Epoch != base.Position.Epoch || rec.Position.ID.Before(base.Position.ID)) {
			continue
		}
		if c.Check(rec) < journal.Covered {
			base = rec
		}
	}
	return base
}

// baseWith is the base record of a new variant. One that selected by other fields is
// replaced: its variants cannot be found any more.
func baseWith(old *store.Record, q *Request, at place, rec *store.Record, now time.Time) *store.Record {
	base := &store.Record{
		Key: q.Key.Key, BaseKey: rec.BaseKey, Namespace: rec.Namespace, Identifier: rec.Identifier, URL: rec.URL,
		User: rec.User, Position: rec.Position, Vary: at.names, Expires: rec.Expires,
	}
	if old != nil && rec.Position.Before(old.Position) {
		base.Position = old.Position // the old list was found, so no purge covers it
	}
	if old != nil && slices.Equal(old.Vary, at.names) {
		for _, v := range old.Variants {
			if v.Hash != at.hash && v.Expires.After(now) {
				base.Variants = append(base.Variants, v)
				base.Expires = latest(base.Expires, v.Expires)
			}
		}
	}
	base.Variants = append(base.Variants, store.Variant{Hash: at.hash, Expires: rec.Expires})
	return base
}

// variantLists are the lists of some URLs, which are read, extended and stored again. mu
// serializes that and guards the base records that were stored last, which memory need not
// have kept.
type variantLists struct {
	mu     sync.Mutex
	recent [8]*store.Record
	next   int
}

// variantLists are those that a URL belongs to.
func (c *Cache) variantLists(key string) *variantLists {
	return &c.variants[maphash.String(variantSeed, key)%uint64(len(c.variants))]
}

var variantSeed = maphash.MakeSeed()
