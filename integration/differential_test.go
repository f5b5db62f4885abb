package integration

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
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

// sent is a request of a sequence.
type sent struct {
	method, path, body string
	header             http.Header
}

func (q sent) String() string { return fmt.Sprintf("%s %s %v", q.method, q.path, q.header) }

// without is the request without some fields.
func (q sent) without(names ...string) sent {
	q.header = q.header.Clone()
	for _, name := range names {
		q.header.Del(name)
	}
	return q
}

func (q sent) with(name, value string) sent {
	q.header = q.header.Clone()
	q.header.Set(name, value)
	return q
}

func (q sent) to(t *testing.T, n *node) (reply, error) {
	var fields []string
	for name, values := range q.header {
		for _, value := range values {
			fields = append(fields, name+": "+value)
		}
	}
	r, err := n.try(t.Context(), q.method, q.path, q.body, fields...)
	return r, cmp.Or(err, r.broken)
}

// randomRead is a GET or HEAD. seen is the last complete answer for the path.
func randomRead(rng *rand.Rand, path string, seen http.Header) sent {
	q := sent{method: pick(rng, "GET", "GET", "GET", "HEAD"), path: path + pick(rng, "", "", "", "?q=1"), header: make(http.Header)}
	set := func(percent int, name string, values ...string) {
		if value := pick(rng, values...); chance(rng, percent) && value != "" {
			q.header.Set(name, value)
		}
	}
	tag, modified := seen.Get("Etag"), seen.Get("Last-Modified")
	date, err := http.ParseTime(modified)
	if err != nil {
		date = modifiedBase
	}
	at := func(d time.Duration, layout string) string { return date.Add(d).Format(layout) }
	set(30, "Accept-Language", "en", "de", "EN", "en, de;q=0.5")
	set(30, "Accept-Encoding", "br", "br, zstd", "zstd,br", "zstd")
	set(30, "Foo", "1", "2", "1,2", "1, 2")
	set(25, "If-None-Match", tag, tag, "*", `"other"`, `"other", `+cmp.Or(tag, `W/"another"`), "W/"+cmp.Or(strings.TrimPrefix(tag, "W/"), `"other"`))
	set(25, "If-Modified-Since", at(0, http.TimeFormat), at(time.Hour, http.TimeFormat), at(-time.Hour, http.TimeFormat),
		at(0, "Monday, 02-Jan-06 15:04:05 GMT"), at(0, time.ANSIC), "never")
	set(20, "Range", "bytes=0-3", "bytes=2-", "bytes=-4", "bytes=0-1,4-6", "bytes=0-0,5000-", "bytes=5000-", "bytes=0-5000")
	if q.header.Get("Range") != "" {
		set(40, "If-Range", tag, `"other"`, modified, at(time.Hour, http.TimeFormat))
	}
	set(8, "If-Match", tag, "*", `"other"`)
	set(8, "If-Unmodified-Since", at(0, http.TimeFormat), at(-time.Hour, http.TimeFormat))
	set(15, "Cache-Control", "no-cache", "no-store", "max-age=0", "only-if-cached", "max-stale=1000")
	set(10, "Authorization", "Bearer a", "Bearer b")
	set(10, "Cookie", "sid=a", "_ga=b")
	return q
}

// run holds one random sequence and returns the first difference with what led
// to it.
func (s *sequence) run(t *testing.T, rng *rand.Rand, base string, plain, cached *node) string {
	var transcript []string
	seen := make([]http.Header, len(s.resources))
	for range sequenceLength {
		i := rng.IntN(len(s.resources))
		path := base + strconv.Itoa(i)
		q := randomRead(rng, path, seen[i])
		switch kind := rng.IntN(100); {
		case kind < 15:
			q = sent{method: pick(rng, "POST", "PUT", "PATCH", "DELETE", "BREW"), path: path, body: "content", header: make(http.Header)}
			if chance(rng, 30) {
				q.header.Set("X-Fail", "1")
			} else {
				s.change(i)
			}
		case kind < 35 && !s.resources[i].fresh:
			s.resources[i].version.Add(1)
			transcript = append(transcript, fmt.Sprintf("%s changes to version %d", path, s.resources[i].version.Load()))
		}
		got, err := q.to(t, cached)
		if err != nil {
			return fmt.Sprintf("%s: %v", q, err)
		}
		transcript = append(transcript, fmt.Sprintf("%s => %s %d %q %v", q, got.outcome(), got.status, got.body, got.header["Cache-Status"]))
		problem := s.compare(t, s.resources[i], q, got, plain)
		if problem != "" {
			return fmt.Sprintf("%s\nresource %+v, version %d\n%s\ngot %v",
				strings.Join(transcript, "\n"), s.resources[i].control, s.resources[i].version.Load(), problem, got.header)
		}
		if got.status == http.StatusOK {
			seen[i] = got.header
		}
	}
	return ""
}

// compare holds the answer of the cache to that of the plain Caddy. The
// request that the latter gets is the one whose answer HTTP demands.
func (s *sequence) compare(t *testing.T, res *resource, q sent, got reply, plain *node) string {
	params := got.cacheStatus(t)
	version := res.version.Load()
	requests := []sent{q}
	switch outcome := got.outcome(); {
	case got.status == http.StatusGatewayTimeout && q.header.Get("Cache-Control") == "only-if-cached" && params["fwd-status"] == "":
		return "" // RFC 9111 §5.2.1.7: nothing suitable is stored
	case outcome == "HIT" || outcome == "REVALIDATED" || outcome == "STALE":
		// RFC 9111 §4.3.2: these are for the origin alone.
		q = q.without("If-Match", "If-Unmodified-Since")
		if q.method == http.MethodHead {
			q = q.without("Range") // RFC 9110 §14.2: of GET only
		}
		requests = []sent{q}
		if outcome == "STALE" {
			// RFC 5861 §4: what is stored in place of a failure, itself a failure or not.
			if res.status(version) < 500 || !strings.Contains(strings.Join(res.control, ""), "stale-if-error") {
				return "a stale answer that nothing permits"
			}
			requests = nil
			for older := range version + 1 {
				requests = append(requests, q.with("X-Version", strconv.FormatInt(older, 10)))
			}
		}
	case params["fwd"] == "stale" && got.status == res.status(version):
		// RFC 9111 §4.3.1: the conditions that the origin saw were those of the
		// cache, without a range. A whole answer is always right.
		requests = append(requests, q.without("If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since", "If-Range", "Range"))
	}
	problem := "no request would have this answer"
	for _, request := range requests {
		want, err := request.to(t, plain)
		if err != nil {
			return fmt.Sprintf("without the cache: %v", err)
		}
		if problem = difference(res, request, want, got); problem == "" {
			return ""
		}
	}
	return problem
}

// ownFields are those of the cache itself.
var ownFields = []string{"X-Cache", "X-Cache-Key", "X-Cache-Ttl-Remaining", "X-Cache-Date", "Cache-Status", "Age"}

// difference says in what the answers differ, but for what the rules allow.
func difference(res *resource, q sent, want, got reply) string {
	stored := got.outcome() != "MISS" && got.outcome() != "BYPASS"
	if want.status == http.StatusOK && got.status == http.StatusNotModified && stored && sinceDate(q, want, got) {
		return ""
	}
	if want.status != got.status {
		return fmt.Sprintf("status %d, want %d", got.status, want.status)
	}
	skip := slices.Clone(ownFields)
	if !res.dated {
		skip = append(skip, "Date")
	}
	if !stored && got.header.Get("Age") != want.header.Get("Age") {
		return fmt.Sprintf("Age %q on its way through, want %q", got.header.Get("Age"), want.header.Get("Age"))
	}
	if stored && got.header.Get("Age") == "" {
		return "no Age" // RFC 9111 §5.1
	}
	switch {
	case got.status == http.StatusRequestedRangeNotSatisfiable && stored:
		// The rest is the text of an error page.
		return unequal("Content-Range", want, got)
	case got.status == http.StatusNotModified && stored:
		// RFC 9110 §15.4.5; what else it has is not required to be there.
		for _, name := range []string{"Etag", "Cache-Control", "Expires", "Vary", "Content-Location"} {
			if problem := unequal(name, want, got); problem != "" {
				return problem
			}
		}
		return ""
	case got.status == http.StatusPartialContent && strings.HasPrefix(want.header.Get("Content-Type"), "multipart/"):
		if q.method == http.MethodGet && !slices.Equal(parts(want), parts(got)) {
			return fmt.Sprintf("parts %q, want %q", parts(got), parts(want))
		}
		skip = append(skip, "Content-Type", "Content-Length") // of the boundary
	case want.body != got.body:
		return fmt.Sprintf("body %q, want %q", got.body, want.body)
	}
	if stored {
		skip = append(skip, "X-Own") // RFC 9111 §5.2.2.7
		if length := got.header.Get("Content-Length"); want.header.Get("Content-Length") == "" && (q.method == http.MethodHead || length == strconv.Itoa(len(got.body))) {
			skip = append(skip, "Content-Length") // RFC 9110 §8.6: known by now
		}
	}
	names := slices.Sorted(maps.Keys(want.header))
	for name := range got.header {
		names = append(names, name)
	}
	for _, name := range names {
		if slices.Contains(skip, name) {
			continue
		}
		if problem := unequal(name, want, got); problem != "" {
			return problem
		}
	}
	return ""
}

func unequal(name string, want, got reply) string {
	if slices.Equal(want.header[name], got.header[name]) {
		return ""
	}
	return fmt.Sprintf("%s %q, want %q", name, got.header[name], want.header[name])
}

// sinceDate is the one 304 in place of a 200: RFC 9111 §4.3.2 compares
// If-Modified-Since with Date where there is no Last-Modified.
func sinceDate(q sent, want, got reply) bool {
	since, err := http.ParseTime(q.header.Get("If-Modified-Since"))
	date, dateErr := http.ParseTime(got.header.Get("Date"))
	return err == nil && dateErr == nil && !since.Before(date) &&
		q.header.Get("If-None-Match") == "" && want.header.Get("Last-Modified") == ""
}

// parts are the ranges of a body in several parts, with what they hold.
func parts(r reply) (list []string) {
	_, params, _ := mime.ParseMediaType(r.header.Get("Content-Type"))
	reader := multipart.NewReader(strings.NewReader(r.body), params["boundary"])
	for {
		part, err := reader.NextRawPart()
		if err != nil {
			return append(list, err.Error())
		}
		b, _ := io.ReadAll(part)
		list = append(list, part.Header.Get("Content-Range")+part.Header.Get("Content-Type")+string(b))
	}
}

// TestDifferential looks for sequences that the cache answers otherwise than the
// origin.
func TestDifferential(t *testing.T) {
	t.Parallel()
	seed, err := strconv.ParseUint(cmp.Or(os.Getenv("DIFFERENTIAL_SEED"), "1"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	from, to, ok := strings.Cut(cmp.Or(os.Getenv("DIFFERENTIAL_SEQUENCES"), "300"), ":")
	if !ok {
		from, to = "0", from
	}
	first, err1 := strconv.Atoi(from)
	last, err2 := strconv.Atoi(to)
	if err := cmp.Or(err1, err2); err != nil {
		t.Fatal(err)
	}
	t.Logf("DIFFERENTIAL_SEED=%d DIFFERENTIAL_SEQUENCES=%d:%d", seed, first, last)

	sequences := make([]*sequence, last)
	web := newOrigin(t)
	web.handle("/d/", func(w http.ResponseWriter, r *http.Request) {
		ids := strings.Split(r.URL.Path, "/")
		number, _ := strconv.Atoi(ids[2])
		index, _ := strconv.Atoi(ids[3])
		sequences[number].serve(w, r, index)
	})
	plain := startCaddy(t, layout{origin: web, plain: true})
	cached := startCaddy(t, layout{origin: web, site: "\tredis_cache {\n\tstale_if_error 0s\n\t}"})

	var workers sync.WaitGroup
	numbers := make(chan int)
	var failures atomic.Int64
	for range 4 {
		workers.Go(func() {
			for number := range numbers {
				rng := rand.New(rand.NewPCG(seed, uint64(number)))
				s := sequences[number]
				for range 1 + rng.IntN(3) {
					s.resources = append(s.resources, newResource(rng))
				}
				// Groups belong to the whole origin.
				for i, res := range s.resources {
					if res.group != "" {
						s.resources[i].group = fmt.Sprintf("%s-%d", res.group, number)
					}
				}
				if problem := s.run(t, rng, fmt.Sprintf("/d/%d/", number), plain, cached); problem != "" && failures.Add(1) <= 10 {
					t.Errorf("sequence %d:\n%s\n", number, problem)
				}
			}
		})
	}
	for number := first; number < last; number++ {
		sequences[number] = &sequence{start: time.Now()}
		numbers <- number
	}
	close(numbers)
	workers.Wait()
	t.Logf("%d sequences differ", failures.Load())
}
