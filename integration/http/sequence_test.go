package http

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// The differential test sends random sequences of valid requests through a
// Caddy without the cache and through one with it. The origin is a pure
// function of the request and of the version of the resource. A version only
// changes when HTTP does not let a cache reuse the old one: when an unsafe
// method succeeded, or when nothing may be reused without asking. So both must
// give the same answer, but for what allowed describes.
//
// DIFFERENTIAL_SEED and DIFFERENTIAL_SEQUENCES ("300", or "17:18" for one of
// them) choose other sequences.

const sequenceLength = 14

// modifiedBase is before all versions of all resources.
var modifiedBase = time.Date(2025, 1, 1, 10, 0, 0, 0, time.UTC)

// resource is what a URL path stands for.
type resource struct {
	control  []string // fields about freshness
	fresh    bool     // they let a cache reuse it unasked
	statuses []int    // of its versions, in turn
	etag     string   // "", "strong" or "weak"
	modified bool     // has Last-Modified
	dated    bool     // has a Date of its own
	vary     []string
	encoded  bool   // for clients that take br
	chunked  bool   // without Content-Length
	personal bool   // depends on credentials
	located  bool   // an unsafe method on it changes the next one, too, and says so in Location
	self     bool   // has a Content-Location with its own URL
	group    string // its cache group
	version  atomic.Int64
}

func pick[T any](rng *rand.Rand, list ...T) T { return list[rng.IntN(len(list))] }

func chance(rng *rand.Rand, percent int) bool { return rng.IntN(100) < percent }

var (
	freshControls = []string{
		"Cache-Control: max-age=1000", "Cache-Control: max-age=1000", "Cache-Control: public, max-age=1000",
		"Cache-Control: s-maxage=1000, max-age=0", "Expires: Thu, 18 Aug 2050 02:01:18 GMT", "Expires: Thursday, 18-Aug-50 02:01:18 GMT",
		"Cache-Control: no-store | CDN-Cache-Control: max-age=1000", "Cache-Control: max-age=1000, must-revalidate",
		"Cache-Control: must-understand, no-store, max-age=1000", "Cache-Control: max-age=1000 | Age: 500",
		`Cache-Control: max-age=1000, private="X-Own" | X-Own: 1`, "Cache-Control: public | Cache-Control: max-age=99999999999",
	}
	staleControls = []string{
		"", "Cache-Control: no-store", "Cache-Control: private, max-age=1000", "Cache-Control: no-cache", "Cache-Control: max-age=0",
		"Cache-Control: max-age=abc", "Cache-Control: max-age=10 | Age: 10", "Expires: 0", "Cache-Control: max-age=1000 | CDN-Cache-Control: no-store",
		"Cache-Control: max-age=1000 | Vary: *", "Cache-Control: max-age=0, stale-if-error=1000", "Cache-Control: max-age=0, must-revalidate",
		"Cache-Control: max-age=1000, no-cache", "Expires: Thu, 18 Aug 2050 02:01:18 AEST",
	}
	privateControls = []string{"Cache-Control: max-age=1000", "Expires: Thu, 18 Aug 2050 02:01:18 GMT"}
)

func newResource(rng *rand.Rand) *resource {
	res := &resource{
		fresh: chance(rng, 60), statuses: []int{200}, modified: chance(rng, 50), etag: pick(rng, "", "strong", "strong", "weak"),
		dated: chance(rng, 20), chunked: chance(rng, 20), encoded: chance(rng, 25), personal: chance(rng, 15),
		located: chance(rng, 20), self: chance(rng, 20), group: pick(rng, "", "", "g1", "g2"),
	}
	controls := staleControls
	switch {
	case res.fresh && res.personal:
		controls = privateControls
	case res.fresh:
		controls = freshControls
	}
	res.control = strings.Split(pick(rng, controls...), " | ")
	if chance(rng, 30) {
		res.statuses = []int{pick(rng, 200, 203, 204, 299, 301, 302, 307, 403, 404, 410, 500, 503)}
	}
	if !res.fresh && chance(rng, 30) {
		res.statuses = append(res.statuses, pick(rng, 200, 404, 500, 503))
	}
	for _, name := range []string{"Accept-Language", "Foo"} {
		if chance(rng, 25) {
			res.vary = append(res.vary, name)
		}
	}
	if res.encoded {
		res.vary = append(res.vary, "Accept-Encoding")
	}
	return res
}

func (res *resource) status(version int64) int { return res.statuses[int(version)%len(res.statuses)] }

// sequence is the resources that a random conversation is about.
type sequence struct {
	start     time.Time
	resources []*resource
}

// serve is the origin. X-Version asks for another version than the current one.
func (s *sequence) serve(w http.ResponseWriter, r *http.Request, index int) {
	res := s.resources[index]
	version := res.version.Load()
	if v, err := strconv.ParseInt(r.Header.Get("X-Version"), 10, 64); err == nil {
		version = v
	}
	h := w.Header()
	status := res.status(version)
	safe := r.Method == http.MethodGet || r.Method == http.MethodHead
	if res.dated {
		h.Set("Date", s.start.UTC().Format(http.TimeFormat))
	}
	if r.Header.Get("X-Fail") != "" {
		h.Set("Location", r.URL.Path)
		w.WriteHeader(http.StatusConflict)
		return
	}
	body := fmt.Sprintf("%s version %d ", r.URL.RequestURI(), version)
	for _, name := range res.vary {
		if name != "Accept-Encoding" { // its members have no order
			body += strings.ReplaceAll(strings.ToLower(r.Header.Get(name)), " ", "") + ";"
		}
	}
	if res.personal {
		body += r.Header.Get("Authorization")
		if cookie := r.Header.Get("Cookie"); !strings.HasPrefix(cookie, "_ga") { // an analytics script's, by whose value nobody answers
			body += cookie
		}
	}
	tag := fmt.Sprintf("v%d-%x", version, body)
	if res.encoded && strings.Contains(r.Header.Get("Accept-Encoding"), "br") {
		h.Set("Content-Encoding", "br")
		body, tag = strings.ToUpper(body), tag+"-br"
	}
	for _, name := range res.vary {
		h.Add("Vary", name)
	}
	for _, field := range res.control {
		if name, value := cutField(field); name != "" {
			h.Add(name, value)
		}
	}
	h.Set("Content-Type", "text/plain")
	if status == http.StatusOK {
		h.Set("Accept-Ranges", "bytes")
	}
	// What answers later GETs, too, has to be what a GET would have got.
	if res.self && (safe || status == http.StatusOK && !res.located && res.group == "") {
		h.Set("Content-Location", r.URL.RequestURI())
	}
	if res.group != "" {
		h.Set("Cache-Groups", strconv.Quote(res.group))
	}
	if res.etag != "" {
		h.Set("Etag", map[string]string{"weak": "W/"}[res.etag]+strconv.Quote(tag))
	}
	modified := time.Time{}
	if res.modified {
		modified = modifiedBase.Add(time.Duration(version) * time.Hour)
		h.Set("Last-Modified", modified.Format(http.TimeFormat))
	}
	if !safe {
		if res.located {
			h.Set("Location", strings.TrimSuffix(r.URL.Path, strconv.Itoa(index))+strconv.Itoa(s.next(index)))
		}
		if res.group != "" {
			h.Set("Cache-Group-Invalidation", strconv.Quote(res.group))
		}
		status = http.StatusOK
	}
	switch {
	case status == http.StatusOK && safe:
		if res.chunked {
			w = chunkedWriter{w}
		}
		http.ServeContent(w, r, "", modified, strings.NewReader(body))
	case status == http.StatusNoContent:
		w.WriteHeader(status)
	default:
		if status == http.StatusMovedPermanently || status == http.StatusFound || status == http.StatusTemporaryRedirect {
			h.Set("Location", "/elsewhere")
		}
		if !res.chunked {
			h.Set("Content-Length", strconv.Itoa(len(body)))
		}
		w.WriteHeader(status)
		if res.chunked {
			http.NewResponseController(w).Flush()
		}
		io.WriteString(w, body)
	}
}

// chunkedWriter sends a whole body without its length.
type chunkedWriter struct{ http.ResponseWriter }

func (w chunkedWriter) WriteHeader(status int) {
	if status == http.StatusOK {
		w.Header().Del("Content-Length")
		defer http.NewResponseController(w.ResponseWriter).Flush()
	}
	w.ResponseWriter.WriteHeader(status)
}

func (s *sequence) next(index int) int { return (index + 1) % len(s.resources) }

// change makes a new version of a resource, and of what depends on it, as a
// successful unsafe method does.
func (s *sequence) change(index int) {
	changed := []int{index}
	if s.resources[index].located {
		changed = append(changed, s.next(index))
	}
	for i, other := range s.resources {
		if group := s.resources[index].group; group != "" && other.group == group {
			changed = append(changed, i)
		}
	}
	slices.Sort(changed)
	for _, i := range slices.Compact(changed) {
		s.resources[i].version.Add(1)
	}
}
