package safety

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// Odd bytes, and more of everything than may be kept: cases 13, 14 and 20.

const oddBytesSite = `
	redis_cache /odd/* s {
		vary_header X-Odd
	}
	redis_cache /tpl/* s {
		key t:{path}:{query.q}:{header.X-Odd}
	}`

// wellFormed is a key in which everything that came from a client is escaped.
var wellFormed = regexp.MustCompile(`^cache:s:(t:)?[!-9;->@-Z^-z|~]*(:[!-9;->@-Z^-z|~]*:[!-9;->@-Z^-z|~]*)?:[0-9a-f]{32}$`)

func oddBytes(t *testing.T, s *safety) {
	long := strings.Repeat("x", 10<<10)
	odd := []string{
		"/odd/*", "/odd/%2A", "/odd/a", "/odd/[a]", "/odd/{http.request.host}", "/odd/{env.HOME}", "/odd/:a:b",
		"/odd/%0A%0D{\"level\":\"error\"}", "/odd/%00", "/odd/%2A*", "/odd/%C3%A9", "/odd/?q=*", "/odd/?q=%0A&r={r}",
		"/odd/?" + long, "/tpl/*?q=%00%0A*{x}:[a]", "/tpl/a?q=:", "/tpl/a:?q=", "/tpl/?q=" + long[:5000],
	}
	fields := []string{"X-Odd: *?[a]{b}:\\ %0A\t\x80"}
	ask := func(target string) harness.Reply { return s.Raw(t, target, fields...) }
	keys := make(map[string]string)
	for _, target := range odd {
		name := target[:min(len(target), 60)]
		r := ask(target)
		if r.Status != http.StatusOK || r.Outcome() != "MISS" || r.TTL() < 0 {
			t.Errorf("%s: %d %s %q", name, r.Status, r.Outcome(), r.Header.Get("Cache-Status"))
			continue
		}
		if !wellFormed.MatchString(r.Key()) {
			t.Errorf("%s: key %q", name, r.Key())
		}
		if other, taken := keys[r.Key()]; taken {
			t.Errorf("%s and %s share the key %q", name, other, r.Key())
		}
		keys[r.Key()] = target
		s.settle(t, r)
	}
	if s.rds != nil {
		for _, key := range append(s.rds.Keys(t, "cache:s:*/odd/*"), s.rds.Keys(t, "cache:s:t:*")...) {
			if !wellFormed.MatchString(key) {
				t.Errorf("%q in Redis", key)
			}
		}
	}
	t.Run("purges", func(t *testing.T) {
		purge := func(what, body, target string) {
			t.Helper()
			s.Purge(t, body)
			for _, other := range odd {
				r := ask(other)
				s.settle(t, r)
				if want := map[bool]string{true: "MISS", false: "HIT"}[other == target]; r.Outcome() != want {
					t.Errorf("purge of %s %.80s: %.80s is a %s", what, body, other, r.Outcome())
				}
			}
		}
		quote := func(v string) string { b, _ := json.Marshal(v); return string(b) }
		for key, target := range keys {
			purge("the key", `{"key":`+quote(key)+`}`, target)
		}
		for _, target := range []string{"/odd/*", "/odd/[a]", "/odd/%00", "/odd/{env.HOME}", "/odd/?q=*"} {
			purge("the url", `{"url":`+quote("http://"+harness.SiteHost+target)+`}`, target)
		}
		purge("nothing", `{"pattern":"s:t:{path}*"}`, "")
		purge("nothing", `{"pattern":"s:shop.test/odd/\\*"}`, "")
		purge("nothing", `{"pattern":"s:*\n*"}`, "")
	})
	t.Run("long", func(t *testing.T) {
		s.script(t, "BYPASS /odd/"+long+"\nMISS /odd/h | X-Odd: "+long+"\nHIT /odd/h | X-Odd: "+long)
		if s.rds == nil {
			return
		}
		for _, key := range s.rds.Keys(t, "cache:s:*") {
			if len(key) > 300 {
				t.Errorf("key of %d bytes in Redis", len(key))
			}
		}
	})
	t.Run("log", func(t *testing.T) {
		for line := range strings.Lines(s.Proc.Log.String()) {
			if !json.Valid([]byte(line)) {
				t.Errorf("a line of the log is no entry: %q", line)
			}
		}
	})
}

const oversizedSite = `
	redis_cache /big/* s {
		vary_header X-Big
	}`

func oversized(t *testing.T, s *safety) {
	t.Run("Vary", func(t *testing.T) {
		names := make([]string, 5000)
		for i := range names {
			names[i] = fmt.Sprintf("X-Field-%d", i)
		}
		s.web.With("/big/vary", "Vary: "+strings.Join(names[:17], ", "))
		s.web.With("/big/vary-huge", "Vary: "+strings.Join(names, ", "))
		s.script(t, strings.Repeat("MISS /big/vary\nMISS /big/vary-huge\n", 2))
	})
	t.Run("variants", func(t *testing.T) {
		s.web.Handle("/big/variants", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Vary", "X-Variant")
			fmt.Fprintf(w, "variant %s", r.Header.Get("X-Variant"))
		})
		hits := 0
		for pass := range 2 {
			for i := range 200 {
				r := s.Get(t, "/big/variants", fmt.Sprintf("X-Variant: %d", i))
				if r.Body != fmt.Sprintf("variant %d", i) {
					t.Fatalf("variant %d got %q", i, r.Body)
				}
				if pass == 1 && r.Outcome() == "HIT" {
					hits++
				}
			}
		}
		if hits == 0 || hits > 64 {
			t.Errorf("%d of 200 variants are stored", hits)
		}
		if got := len(s.stored(t, "/big/variants")); got > 65 {
			t.Errorf("%d keys in Redis, want at most 64 and one that lists them", got)
		}
	})
	t.Run("header", func(t *testing.T) {
		for path, size := range map[string]int{"/big/header": 1 << 20, "/big/header3": 3 << 20} {
			s.web.Answer(path, 200, "page", "X-Large: "+strings.Repeat("h", size))
			outcomes := make(map[string]bool)
			for range 3 {
				r := s.Get(t, path)
				outcomes[r.Outcome()] = true
				if r.Status != 200 || r.Body != "page" || len(r.Header.Get("X-Large")) != size {
					t.Errorf("%s: %d %q with a field of %d bytes", path, r.Status, r.Body, len(r.Header.Get("X-Large")))
				}
			}
			// Redis takes no record with more than 2 MiB of metadata.
			if size == 3<<20 && outcomes["HIT"] {
				t.Errorf("a header of %d bytes was stored", size)
			}
		}
		large := "X-Big: " + strings.Repeat("b", 900<<10)
		s.script(t, "MISS /big/request | "+large+"\nHIT /big/request | "+large+"\nMISS /big/request | "+large+"b")
	})
}

const largeSite = `
	redis_cache /large/* s {
		max_body 1MiB
	}
	handle /large/file {
		root $ROOT
		file_server
	}`

// largeFiles lets much more through than may be stored: memory stays flat.
func largeFiles(t *testing.T, s *safety) {
	const chunks = 300
	if s.tiers != "both" {
		return // it is the same writer for all
	}
	s.web.Handle("/large/stream", func(w http.ResponseWriter, _ *http.Request) {
		for range chunks {
			w.Write(make([]byte, 1<<20))
		}
	})
	s.write(t, "large/file", "")
	if err := os.Truncate(filepath.Join(s.root, "large/file"), chunks<<20); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/large/stream", "/large/file"} {
		// The peak of the cases before does not count.
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.Proc.Cmd.Process.Pid), []byte("5"), 0o600); err != nil {
			t.Fatal(err)
		}
		before := s.memory(t, "VmRSS")
		req, err := s.Request(t.Context(), http.MethodGet, path, "")
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.Client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err != nil || n != chunks<<20 {
			t.Errorf("%s: %d bytes, %v", path, n, err)
		}
		// The race detector needs several times what the program does.
		if grown := s.memory(t, "VmHWM") - before; grown > 100<<20 {
			t.Errorf("%s: memory grew by %d MiB", path, grown>>20)
		}
		if keys := s.stored(t, path); len(keys) > 0 {
			t.Errorf("%s: stored %q", path, keys)
		}
	}
	s.web.Answer("/large/stream", 200, "small")
	s.want(t, "MISS", "/large/stream")
	s.want(t, "HIT", "/large/stream")
}

// memory reads a line of the process's status.
func (s *safety) memory(t *testing.T, line string) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.Proc.Cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), line+":")
	n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}
