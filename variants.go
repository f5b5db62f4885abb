package rediscache

import (
	"hash/maphash"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// A URL whose responses vary has a base record under its key. It lists the
// request fields that select a variant, and the variants that are stored; each
// variant has a key of its own. The fields are the union of what Vary named in
// any response, so that a response that names fewer replaces nothing it should
// not: it is stored as one more variant.

const (
	maxVaryFields = 16 // that select a variant
	maxVariants   = 64 // of one URL
)

// proxyFields are set by proxies behind the cache, for each client or hop. A
// response that varies on one of them varies on what the cache cannot see.
var proxyFields = []string{"Forwarded", "Via", "X-Forwarded-For", "X-Real-Ip"}

// address finds the key under which the response will be stored.
func (c *captureWriter) address(vary []string, header http.Header) Reason {
	x := c.x
	if slices.ContainsFunc(vary, func(name string) bool { return slices.Contains(proxyFields, name) }) {
		return ReasonVaryAny
	}
	names := c.selecting(vary, header)
	if len(names) == 0 {
		x.answered = x.key.Key
		return ReasonNone
	}
	var hash string
	x.answered, hash = variantKey(x.key, names, x.reqHead)
	if len(names) > maxVaryFields || !roomFor(x.base, hash, names, x.now) {
		return ReasonVariantLimit
	}
	c.varyNames, c.variantHash = names, hash
	return ReasonNone
}

// selecting is the union of the fields that Vary names and those of the base
// record. An encoded response whose origin forgot to name Accept-Encoding
// varies on it all the same, and one for a certain Origin on that.
func (c *captureWriter) selecting(vary []string, header http.Header) []string {
	names := slices.Clone(vary)
	if c.x.base != nil {
		names = append(names, c.x.base.Vary...)
	}
	if encoding := header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		names = append(names, "Accept-Encoding")
	}
	if says, all := isAboutOrigins(header, c.before); says && !all {
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

// identify says what a record is of.
func (x *exchange) identify(rec *store.Record) {
	rec.Key, rec.BaseKey, rec.URL, rec.User, rec.Position = x.answered, x.key.Full, x.url, x.user, x.position
}

// put stores a complete response, and with a variant the base record that lists
// it. Other nodes that wait for it are told once it is in Redis.
func (n *node) put(c *captureWriter, rec *store.Record) {
	x := c.x
	lease := x.lease
	x.lease = nil
	stored := func() { lease.Release(nil) }
	x.identify(rec)
	rec.MinEncode, rec.Private = x.h.policy.minEncode(), x.mayBePrivate()
	if c.variantHash == "" {
		n.store.PutThen(stored, rec)
		return
	}
	lists := n.variantLists(x.key.Full)
	lists.mu.Lock()
	defer lists.mu.Unlock()
	base := baseWith(n.latestBase(x, lists), c, rec)
	lists.recent[lists.next%len(lists.recent)] = base
	lists.next++
	n.store.PutThen(stored, rec, base)
}

// latestBase is the base record that a new variant is added to: what this node has
// stored by now, or what the request itself has found, whichever has the higher
// position. Redis is not asked: whoever else stores a variant of the URL, or of one that
// shares its lock, would wait for the answer.
func (n *node) latestBase(x *exchange, lists *variantLists) (base *store.Record) {
	known := make([]*store.Record, 0, 2+len(lists.recent))
	known = append(known, n.store.Local(x.key.Key, x.now), x.base)
	for i := range lists.recent { // from the oldest to the newest
		known = append(known, lists.recent[(lists.next+i)%len(lists.recent)])
	}
	for _, rec := range known {
		if rec == nil || rec.Key.Full != x.key.Full || !x.now.Before(rec.Expires) ||
			base != nil && (rec.Position.Epoch != base.Position.Epoch || rec.Position.ID.Before(base.Position.ID)) {
			continue
		}
		if verdict, _ := n.check(rec, journal.Checked{}); verdict < journal.Covered {
			base = rec
		}
	}
	return base
}

// baseWith is the base record of a new variant. One that selected by other
// fields is replaced: its variants cannot be found any more.
func baseWith(old *store.Record, c *captureWriter, rec *store.Record) *store.Record {
	base := &store.Record{
		Key: c.x.key.Key, BaseKey: rec.BaseKey, Namespace: rec.Namespace, Identifier: rec.Identifier, URL: rec.URL,
		User: rec.User, Position: rec.Position, Vary: c.varyNames, Expires: rec.Expires,
	}
	if old != nil && rec.Position.Before(old.Position) {
		base.Position = old.Position // the old list was found, so no purge covers it
	}
	if old != nil && slices.Equal(old.Vary, c.varyNames) {
		for _, v := range old.Variants {
			if v.Hash != c.variantHash && v.Expires.After(c.x.now) {
				base.Variants = append(base.Variants, v)
				base.Expires = latest(base.Expires, v.Expires)
			}
		}
	}
	base.Variants = append(base.Variants, store.Variant{Hash: c.variantHash, Expires: rec.Expires})
	return base
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// variantLists are the lists of some URLs, which are read, extended and stored again.
// mu serializes that and guards the base records that were stored last, which memory need
// not have kept.
type variantLists struct {
	mu     sync.Mutex
	recent [8]*store.Record
	next   int
}

// variantLists are those that a URL belongs to.
func (n *node) variantLists(key string) *variantLists {
	return &n.variants[maphash.String(variantSeed, key)%uint64(len(n.variants))]
}

var variantSeed = maphash.MakeSeed()
