package http

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

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

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

func (q sent) to(t *testing.T, n *harness.Node) (harness.Reply, error) {
	var fields []string
	for name, values := range q.header {
		for _, value := range values {
			fields = append(fields, name+": "+value)
		}
	}
	r, err := n.Try(t.Context(), q.method, q.path, q.body, fields...)
	return r, cmp.Or(err, r.Broken)
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
func (s *sequence) run(t *testing.T, rng *rand.Rand, base string, plain, cached *harness.Node) string {
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
		transcript = append(transcript, fmt.Sprintf("%s => %s %d %q %v", q, got.Outcome(), got.Status, got.Body, got.Header["Cache-Status"]))
		problem := s.compare(t, s.resources[i], q, got, plain)
		if problem != "" {
			return fmt.Sprintf("%s\nresource %+v, version %d\n%s\ngot %v",
				strings.Join(transcript, "\n"), s.resources[i].control, s.resources[i].version.Load(), problem, got.Header)
		}
		if got.Status == http.StatusOK {
			seen[i] = got.Header
		}
	}
	return ""
}

// compare holds the answer of the cache to that of the plain Caddy. The
// request that the latter gets is the one whose answer HTTP demands.
func (s *sequence) compare(t *testing.T, res *resource, q sent, got harness.Reply, plain *harness.Node) string {
	params := got.CacheStatus(t)
	version := res.version.Load()
	requests := []sent{q}
	switch outcome := got.Outcome(); {
	case got.Status == http.StatusGatewayTimeout && q.header.Get("Cache-Control") == "only-if-cached" && params["fwd-status"] == "":
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
	case params["fwd"] == "stale" && got.Status == res.status(version):
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
func difference(res *resource, q sent, want, got harness.Reply) string {
	stored := got.Outcome() != "MISS" && got.Outcome() != "BYPASS"
	if want.Status == http.StatusOK && got.Status == http.StatusNotModified && stored && sinceDate(q, want, got) {
		return ""
	}
	if want.Status != got.Status {
		return fmt.Sprintf("status %d, want %d", got.Status, want.Status)
	}
	skip := slices.Clone(ownFields)
	if !res.dated {
		skip = append(skip, "Date")
	}
	if !stored && got.Header.Get("Age") != want.Header.Get("Age") {
		return fmt.Sprintf("Age %q on its way through, want %q", got.Header.Get("Age"), want.Header.Get("Age"))
	}
	if stored && got.Header.Get("Age") == "" {
		return "no Age" // RFC 9111 §5.1
	}
	switch {
	case got.Status == http.StatusRequestedRangeNotSatisfiable && stored:
		// The rest is the text of an error page.
		return unequal("Content-Range", want, got)
	case got.Status == http.StatusNotModified && stored:
		// RFC 9110 §15.4.5; what else it has is not required to be there.
		for _, name := range []string{"Etag", "Cache-Control", "Expires", "Vary", "Content-Location"} {
			if problem := unequal(name, want, got); problem != "" {
				return problem
			}
		}
		return ""
	case got.Status == http.StatusPartialContent && strings.HasPrefix(want.Header.Get("Content-Type"), "multipart/"):
		if q.method == http.MethodGet && !slices.Equal(parts(want), parts(got)) {
			return fmt.Sprintf("parts %q, want %q", parts(got), parts(want))
		}
		skip = append(skip, "Content-Type", "Content-Length") // of the boundary
	case want.Body != got.Body:
		return fmt.Sprintf("body %q, want %q", got.Body, want.Body)
	}
	if stored {
		skip = append(skip, "X-Own") // RFC 9111 §5.2.2.7
		if length := got.Header.Get("Content-Length"); want.Header.Get("Content-Length") == "" && (q.method == http.MethodHead || length == strconv.Itoa(len(got.Body))) {
			skip = append(skip, "Content-Length") // RFC 9110 §8.6: known by now
		}
	}
	names := slices.Sorted(maps.Keys(want.Header))
	for name := range got.Header {
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

func unequal(name string, want, got harness.Reply) string {
	if slices.Equal(want.Header[name], got.Header[name]) {
		return ""
	}
	return fmt.Sprintf("%s %q, want %q", name, got.Header[name], want.Header[name])
}

// sinceDate is the one 304 in place of a 200: RFC 9111 §4.3.2 compares
// If-Modified-Since with Date where there is no Last-Modified.
func sinceDate(q sent, want, got harness.Reply) bool {
	since, err := http.ParseTime(q.header.Get("If-Modified-Since"))
	date, dateErr := http.ParseTime(got.Header.Get("Date"))
	return err == nil && dateErr == nil && !since.Before(date) &&
		q.header.Get("If-None-Match") == "" && want.Header.Get("Last-Modified") == ""
}

// parts are the ranges of a body in several parts, with what they hold.
func parts(r harness.Reply) (list []string) {
	_, params, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	reader := multipart.NewReader(strings.NewReader(r.Body), params["boundary"])
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
	web := harness.NewOrigin(t)
	web.Handle("/d/", func(w http.ResponseWriter, r *http.Request) {
		ids := strings.Split(r.URL.Path, "/")
		number, _ := strconv.Atoi(ids[2])
		index, _ := strconv.Atoi(ids[3])
		sequences[number].serve(w, r, index)
	})
	plain := harness.StartCaddy(t, harness.Layout{Origin: web, Plain: true})
	cached := harness.StartCaddy(t, harness.Layout{Origin: web, Site: "\tredis_cache {\n\tstale_if_error 0s\n\t}"})

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
