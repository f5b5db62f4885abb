package journal

// The table holds, per selector, the newest ID at which it was purged, hard and
// soft. One goroutine at a time changes it (the holder of the cycle); any
// number check records against it.
//
// mu guards every field but those set by newTable. Only the goroutine that
// changes the table takes mu for writing, so that it may read without it. floor
// is raised before the marks below it are removed: a check that no longer finds
// a mark sees the floor that makes the record absent.

import (
	"crypto/rand"
	"encoding/binary"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"github.com/dchest/siphash"

	"github.com/gplus-recycling/caddy-redis-cache/internal/glob"
	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc3986"
)

// Subject is what purges are matched against: a record.
type Subject struct {
	// Position is what the node that fetched the response had applied before the
	// lookup that led to the fetch.
	Position   Position
	Namespace  string
	Identifier string // whole, where the key name has it cut
	Key        string // the full key, prefix included
	BaseKey    string // the full key that variants share; equal to Key without variants
	URL        string // scheme://host/path?kept-query; compared in normal form, RFC 3986 section 6.2.2
	Tags       []string
	User       string // hash of the identity, "" without one
}

// Verdict is what purges say about a record.
type Verdict uint8

const (
	Valid       Verdict = iota // no purge concerns the record
	SoftCovered                // stale from now on
	Covered                    // absent, also for stale-if-error and as base of a 304
	Absent                     // absent, as nobody can tell what happened since its position
)

// String returns the name of the verdict.
func (v Verdict) String() string {
	return [...]string{"valid", "soft_covered", "covered", "absent"}[v]
}

// markKind says what a mark is compared with.
type markKind uint8

const (
	markAll markKind = iota
	markNamespace
	markTag
	markKey
	markURL      // without its query
	markExactURL // as it is
	markOrigin   // scheme://host without a port
	markHost     // with its port if it has one
	markUser
	markPattern // patterns and prefixes are no marks, but the newest of each is known
	markPrefix
	numMarkKinds
)

const (
	// maxRanges bounds the patterns of a namespace, and the prefixes of a host.
	maxRanges = 256
	// maxMarks bounds a table: about 100 MiB when all are patterns of full length,
	// half of that when none is.
	maxMarks = 1_000_000
	// rangeUnit is how many bytes of a pattern count as one mark.
	rangeUnit = 64
)

const (
	hard = iota
	soft
)

// markHash stands for a selector. A collision could only purge too much, and
// random keys let nobody search for one.
type markHash struct{ hi, lo uint64 }

// secret is what the hashes of a table depend on. A table that was loaded has that
// of the node which wrote it.
type secret [16]byte

var ownSecret = func() (s secret) {
	rand.Read(s[:])
	return s
}()

// hashKey is a key of SipHash-2-4: who does not know it cannot search for values
// that collide.
type hashKey struct{ k0, k1 uint64 }

func (k hashKey) sum(text string) (hi, lo uint64) {
	// The conversion would allocate.
	return siphash.Hash128(k.k0, k.k1, unsafe.Slice(unsafe.StringData(text), len(text))) //nolint:gosec // it is only read
}

// hashes holds a key for each kind.
type hashes [numMarkKinds]hashKey

func newHashes(s secret) *hashes {
	h, key := new(hashes), hashKey{binary.LittleEndian.Uint64(s[:8]), binary.LittleEndian.Uint64(s[8:])}
	for kind := range h {
		h[kind].k0, h[kind].k1 = key.sum(string(rune(kind)))
	}
	return h
}

var ownHashes = newHashes(ownSecret)

// of stands for a value that is compared as a whole.
func (h *hashes) of(kind markKind, value string) markHash {
	hi, lo := h[kind].sum(digest(value))
	return markHash{hi, lo}
}

// rangeMark is a pattern or prefix.
type rangeMark struct {
	text     string
	id       ID
	severity int
}

func (r *rangeMark) units() int { return 1 + len(r.text)/rangeUnit }

// rangeGroup is what must be equal for a pattern or prefix to match at all: the
// namespace of a pattern, the scheme and host of a prefix; "" where it has none.
// Those of requests are groups of their own.
type rangeGroup struct {
	kind    markKind
	of      string
	request bool
}

type table struct {
	prefix   string // with the colon
	urlForms func(string) []string
	limit    int // units
	secret   secret
	hashes   *hashes // of secret

	mu       sync.RWMutex
	floor    ID
	marks    [2]map[markHash]ID         // by severity
	newest   [numMarkKinds]ID           // of each kind
	ranges   map[rangeGroup][]rangeMark // oldest first; checks go on reading a list behind the lock, so it is only appended to or replaced
	units    int                        // of marks and ranges, but for those of requests
	requests requestMarks
}

// newTable returns an empty table. urlForms may be nil.
func newTable(prefix string, urlForms func(string) []string, limit int) *table {
	return &table{
		prefix:   prefix + ":",
		urlForms: urlForms,
		limit:    limit,
		secret:   ownSecret,
		hashes:   ownHashes,
		marks:    [2]map[markHash]ID{{}, {}},
		ranges:   make(map[rangeGroup][]rangeMark),
	}
}

// mark says when, how and by whom something was purged.
type mark struct {
	id       ID
	severity int
	request  bool
}

// apply marks what a purge covers.
func (t *table) apply(selectors []Selector, isSoft bool, id ID) {
	m := mark{id: id}
	if isSoft {
		m.severity = soft
	}
	t.applyAll(selectors, m)
}

// applyRequest is apply for a hard purge by a request.
func (t *table) applyRequest(selectors []Selector, id ID) {
	_, ok := shorten(id)
	if ok {
		t.reserve(formsExpected * len(selectors))
	}
	t.applyAll(selectors, mark{id: id, request: ok})
}

// formsExpected is how many marks a selector comes to: forms of a URL are few.
const formsExpected = 4

func (t *table) applyAll(selectors []Selector, m mark) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range selectors {
		t.applyOne(s, m)
	}
}

func (t *table) applyOne(s Selector, m mark) {
	switch s.Kind {
	case KindPattern:
		t.addRange(rangeGroup{markPattern, t.patternGroup(s.Value), m.request}, rangeMark{s.Value, m.id, m.severity})
	case KindPrefix:
		prefix := rfc3986.NormalPrefix(s.Value)
		t.addRange(rangeGroup{markPrefix, prefixGroup(prefix), m.request}, rangeMark{prefix, m.id, m.severity})
	case KindURL:
		t.applyURL(s.Value, m)
	case KindHost:
		t.mark(markHost, s.Value, m)
		// Records hold no default port.
		switch host, port := rfc3986.SplitPort(s.Value); port {
		case rfc3986.DefaultPort("http"):
			t.mark(markOrigin, "http://"+host, m)
		case rfc3986.DefaultPort("https"):
			t.mark(markOrigin, "https://"+host, m)
		}
	case KindNamespace:
		t.mark(markNamespace, s.Value, m)
	case KindTag:
		t.mark(markTag, s.Value, m)
	case KindKey:
		t.mark(markKey, s.Value, m)
	case KindUser:
		t.mark(markUser, s.Value, m)
	case KindAll:
		t.mark(markAll, "", m)
	}
}

// applyURL marks a URL: without a query whatever the query, else each form in
// which records may hold it.
func (t *table) applyURL(u string, m mark) {
	if !strings.Contains(u, "?") {
		t.mark(markURL, rfc3986.Normal(u), m)
		return
	}
	t.mark(markExactURL, rfc3986.Normal(u), m)
	if t.urlForms == nil {
		return
	}
	for _, form := range t.urlForms(u) {
		t.mark(markExactURL, rfc3986.Normal(form), m)
	}
}

func (t *table) mark(kind markKind, value string, m mark) {
	h := t.hashes.of(kind, value)
	if m.request {
		at, _ := shorten(m.id)
		t.requests.put(t.hashes.request(kind, value, h), at)
		t.requests.newest[kind] = laterOf(t.requests.newest[kind], at.id())
		return
	}
	marks := t.marks[m.severity]
	old, present := marks[h]
	if !present {
		t.units++
	}
	marks[h] = laterOf(old, m.id)
	t.newest[kind] = laterOf(t.newest[kind], m.id)
}

// addRange appends a pattern or prefix to its group. When the group is full its
// oldest becomes a purge of the whole namespace or host, which covers more.
func (t *table) addRange(group rangeGroup, r rangeMark) {
	list := t.ranges[group]
	same := func(other rangeMark) bool { return other.severity == r.severity && other.text == r.text }
	if i := slices.IndexFunc(list, same); i >= 0 {
		*t.unitsOf(group) -= list[i].units()
		list = slices.Delete(slices.Clone(list), i, i+1)
	}
	list = append(list, r)
	*t.unitsOf(group) += r.units()
	for len(list) > maxRanges || group.request && len(list) > 0 && t.requests.ranges > maxRequestRanges {
		t.fold(group, list[0])
		list = list[1:]
	}
	t.setRanges(group, list)
	t.newest[group.kind] = laterOf(t.newest[group.kind], r.id)
}

// unitsOf returns what the ranges of a group count in.
func (t *table) unitsOf(group rangeGroup) *int {
	if group.request {
		return &t.requests.ranges
	}
	return &t.units
}

func (t *table) setRanges(group rangeGroup, list []rangeMark) {
	if t.ranges[group] = list; len(list) == 0 {
		delete(t.ranges, group)
	}
}

func (t *table) fold(group rangeGroup, r rangeMark) {
	*t.unitsOf(group) -= r.units()
	m := mark{r.id, r.severity, group.request}
	switch {
	case group.of == "":
		t.mark(markAll, "", m)
	case group.kind == markPattern:
		t.mark(markNamespace, group.of, m)
	default:
		_, host := cutURL(group.of)
		t.mark(markHost, host, m)
	}
}

// patternGroup is the namespace that a pattern names, or "" if it may match in
// any. Whole keys begin with their namespace, too, but for the prefix.
func (t *table) patternGroup(pattern string) string {
	namespace, _, ok := strings.Cut(pattern, ":")
	if !ok || strings.ContainsAny(namespace, `*?[\`) || namespace+":" == t.prefix {
		return ""
	}
	return namespace
}

// prefixGroup is the scheme and host of a prefix that names them to their end.
func prefixGroup(prefix string) string {
	scheme, rest, _ := strings.Cut(prefix, "://")
	authority, _, ok := strings.Cut(rest, "/")
	if !ok {
		return ""
	}
	return scheme + "://" + authority
}

// check returns what the table says about a record for which everything up to
// the ID after is known not to concern it.
func (t *table) check(s *Subject, after ID) Verdict {
	verdict, _ := t.find(s, after)
	return verdict
}

// find is check with, for Covered, the ID of a purge that covers the record.
func (t *table) find(s *Subject, after ID) (Verdict, ID) {
	key := strings.TrimPrefix(s.Key, t.prefix)
	c := check{t: t, after: after, subject: s, url: rfc3986.Normal(s.URL), key: key, named: identified(key, s)}
	c.locked()
	c.matchRanges()
	return c.verdict, c.by
}

// check is one check of a record.
type check struct {
	t          *table
	after      ID
	subject    *Subject
	url        string // of the subject, in normal form
	key, named string // what keys and patterns are compared with
	verdict    Verdict
	by         ID                // the hard purge that was found
	patterns   [2][2][]rangeMark // those that may match
	prefixes   [2][2][]rangeMark
}

// locked looks for marks, and fetches the patterns and prefixes that may match:
// comparing those takes too long to be done under the lock.
func (c *check) locked() {
	c.t.mu.RLock()
	defer c.t.mu.RUnlock()
	if c.after.Before(c.t.floor) {
		c.verdict = Absent
		return
	}
	s := c.subject
	c.mark(markAll, "")
	c.mark(markNamespace, s.Namespace)
	if s.User != "" {
		c.mark(markUser, s.User)
	}
	for _, tag := range s.Tags {
		c.mark(markTag, tag)
	}
	c.mark(markKey, c.named)
	c.mark(markKey, c.key)
	if s.BaseKey != s.Key {
		c.mark(markKey, strings.TrimPrefix(s.BaseKey, c.t.prefix))
	}
	c.markURLs()
	if c.newer(markPattern) {
		c.patterns = c.t.rangesOf(markPattern, s.Namespace)
	}
}

// identified is namespace:identifier, with which the key usually begins.
func identified(key string, s *Subject) string {
	n := len(s.Namespace)
	end := n + 1 + len(s.Identifier)
	if len(key) >= end && key[:n] == s.Namespace && key[n] == ':' && key[n+1:end] == s.Identifier {
		return key[:end]
	}
	return s.Namespace + ":" + s.Identifier
}

func (c *check) markURLs() {
	u := c.url
	if c.subject.URL == "" {
		return
	}
	path, _, _ := strings.Cut(u, "?")
	c.mark(markURL, path)
	c.mark(markExactURL, u)
	scheme, authority := cutURL(u)
	origin := u[:len(scheme)+len("://")+len(authority)]
	c.mark(markOrigin, origin)
	c.mark(markHost, authority)
	if host, port := rfc3986.SplitPort(authority); port != "" {
		c.mark(markHost, host)
	}
	if c.newer(markPrefix) {
		c.prefixes = c.t.rangesOf(markPrefix, origin)
	}
}

// rangesOf returns the patterns or prefixes of a group, and those of none, each of
// operators and of requests.
func (t *table) rangesOf(kind markKind, group string) (lists [2][2][]rangeMark) {
	for i, of := range []string{group, ""} {
		lists[i] = [2][]rangeMark{t.ranges[rangeGroup{kind, of, false}], t.ranges[rangeGroup{kind, of, true}]}
	}
	return lists
}

// newer reports whether a mark of the kind may change the verdict.
func (c *check) newer(kind markKind) bool {
	return c.verdict < Covered && c.after.Before(c.t.newest[kind])
}

func (c *check) mark(kind markKind, value string) {
	requested := c.verdict < Covered && c.after.Before(c.t.requests.newest[kind])
	if !requested && !c.newer(kind) {
		return
	}
	h := c.t.hashes.of(kind, value)
	for severity := range c.t.marks {
		if id := c.t.marks[severity][h]; c.after.Before(id) {
			c.cover(severity, id)
		}
	}
	if !requested {
		return
	}
	id, floor := c.t.requests.find(c.t.hashes.request(kind, value, h))
	if c.after.Before(id) {
		c.cover(hard, id)
	}
	if c.after.Before(floor) {
		c.verdict = Absent
	}
}

// matchRanges tries what locked has fetched. Only a pattern without a namespace
// of its own can match the prefix of a whole key.
func (c *check) matchRanges() {
	named := func(pattern string) bool { return glob.Match(pattern, c.named) || glob.Match(pattern, c.key) }
	c.match(c.patterns[0], named)
	c.match(c.patterns[1], func(pattern string) bool { return named(pattern) || glob.Match(pattern, c.subject.Key) })
	for _, lists := range c.prefixes {
		c.match(lists, func(prefix string) bool { return strings.HasPrefix(c.url, prefix) })
	}
}

// match tries lists, each newest first.
func (c *check) match(lists [2][]rangeMark, matches func(string) bool) {
	for _, list := range lists {
		for i := len(list) - 1; i >= 0 && c.verdict < Covered && c.after.Before(list[i].id); i-- {
			if matches(list[i].text) {
				c.cover(list[i].severity, list[i].id)
			}
		}
	}
}

// cover lets hard win over soft.
func (c *check) cover(severity int, id ID) {
	if severity == hard {
		c.verdict, c.by = Covered, id
	} else if c.verdict == Valid {
		c.verdict = SoftCovered
	}
}

// bound makes room when the table is full.
func (t *table) bound() {
	for t.units > t.limit {
		t.drop(t.oldestQuarter())
	}
}

// sampleSize is how many marks are looked at to find the age of the oldest
// quarter.
const sampleSize = 4096

// oldestQuarter returns an ID that about a quarter of the marks do not exceed.
func (t *table) oldestQuarter() ID {
	sample := make([]ID, 0, sampleSize)
	t.ids(func(id ID) bool {
		sample = append(sample, id)
		return len(sample) < sampleSize
	})
	slices.SortFunc(sample, ID.Compare)
	return sample[len(sample)/4]
}

// expire forgets what is older than a time. Its newest mark becomes the floor, that
// of each room for those of requests.
func (t *table) expire(ms uint64) {
	if newest := t.newestBefore(ms); !newest.IsZero() {
		t.drop(newest)
	}
	t.foldRequests(ms)
	if at, ok := shorten(ID{Ms: ms}); ok {
		if cuts := t.requests.before(at); len(cuts) > 0 {
			t.forget(cuts)
		}
	}
}

// foldRequests makes marks of the patterns and prefixes of requests that are older
// than a time.
func (t *table) foldRequests(ms uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for group, list := range t.ranges {
		if !group.request {
			continue
		}
		for len(list) > 0 && list[0].id.Ms < ms {
			t.fold(group, list[0])
			list = list[1:]
		}
		t.setRanges(group, list)
	}
}

// newestBefore returns the newest ID in the table from before a time, or zero.
func (t *table) newestBefore(ms uint64) ID {
	var newest ID
	t.ids(func(id ID) bool {
		if id.Ms < ms {
			newest = laterOf(newest, id)
		}
		return true
	})
	return newest
}

// ids calls yield with every ID of the table, in no order, but for those of requests.
func (t *table) ids(yield func(ID) bool) {
	for group, list := range t.ranges {
		for i := range list {
			if group.request {
				break
			}
			if !yield(list[i].id) {
				return
			}
		}
	}
	for _, marks := range t.marks {
		for _, id := range marks {
			if !yield(id) {
				return
			}
		}
	}
}

// lockedMarks is how many marks are removed before checks get their turn.
const lockedMarks = 1024

// drop forgets purges up to an ID. Records positioned below it become absent.
func (t *table) drop(upTo ID) {
	t.raise(upTo)
	t.mu.Lock()
	defer t.mu.Unlock()
	for group, list := range t.ranges {
		if group.request {
			continue
		}
		kept := slices.Clone(list)
		kept = slices.DeleteFunc(kept, func(r rangeMark) bool {
			old := !upTo.Before(r.id)
			if old {
				t.units -= r.units()
			}
			return old
		})
		t.setRanges(group, kept)
	}
	seen := 0
	for _, marks := range t.marks {
		for h, id := range marks {
			if !upTo.Before(id) {
				delete(marks, h)
				t.units--
			}
			if seen++; seen%lockedMarks == 0 {
				t.mu.Unlock()
				t.mu.Lock()
			}
		}
	}
}

// raise makes records absent that are positioned below an ID.
func (t *table) raise(floor ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.floor = laterOf(t.floor, floor)
}

// lowest returns the floor.
func (t *table) lowest() ID {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.floor
}

// size returns the number of units in use, and of marks of requests.
func (t *table) size() (units, requests int) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.units, t.requests.used + t.requests.ranges
}
