package engine

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
)

func TestTagFields(t *testing.T) {
	s := newSite(t, `{"tags":["path-{http.request.uri.path}","{http.response.header.X-Team}"]}`,
		answer("x", "Cache-Control", "max-age=60", "Surrogate-Key", "a b,c", "X-Team", "blue", "Cache-Groups", `"g"`))
	for _, outcome := range []Result{Miss, Hit} {
		if w := expect(t, s.get("/a"), outcome, ""); w.Header().Get("Surrogate-Key") != "" || w.Header().Get("Cache-Groups") == "" {
			t.Errorf("the %s has %v", outcome, w.Header())
		}
	}
	if w := expect(t, s.do("POST", "/a"), Bypass, ""); w.Header().Get("Surrogate-Key") == "" {
		t.Error("the tags are missing where the cache took no part")
	}
	s.get("/a")
	for tag, want := range map[string]Result{"a": Miss, "c": Miss, "path-/a": Miss, "blue": Miss, "http://example.com#g": Miss, "g": Hit} {
		s.purge(hard(journal.KindTag, tag))
		expect(t, s.get("/a"), want, "")
	}
}

func TestTagFieldsKept(t *testing.T) {
	s := newSite(t, `{"tag_header":{"names":["x-tags"],"keep":true}}`, answer("x", "Cache-Control", "max-age=60", "X-Tags", "a", "Surrogate-Key", "b"))
	for _, outcome := range []Result{Miss, Hit} {
		if w := expect(t, s.get("/a"), outcome, ""); w.Header().Get("X-Tags") != "a" || w.Header().Get("Surrogate-Key") != "b" {
			t.Errorf("the %s has %v", outcome, w.Header())
		}
	}
}

func TestManyTags(t *testing.T) {
	var tags []string
	for i := range 130 {
		tags = append(tags, fmt.Sprint("t", i))
	}
	s := newSite(t, `{"ttl":{"duration":60000000000}}`, answer("x", "Surrogate-Key", strings.Join(tags, " ")))
	s.get("/a")
	s.purge(hard(journal.KindTag, "t129"))
	if w := s.get("/a"); w.Header().Get("X-Cache") == "HIT" {
		t.Error("HIT after a purge of its tag")
	}
}

func TestTagsOfA304(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		group := "one"
		s := newSite(t, `{}`, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=10")
			w.Header().Set("Etag", `"1"`)
			w.Header().Set("Surrogate-Key", group)
			if r.Header.Get("If-None-Match") != "" {
				w.WriteHeader(304)
				return
			}
			io.WriteString(w, "x")
		})
		s.get("/a")
		time.Sleep(11 * time.Second)
		group = "two"
		s.get("/a")
		s.purge(hard(journal.KindTag, "two"))
		if w := s.get("/a"); w.Header().Get("X-Cache") == "HIT" {
			t.Error("HIT after a purge of the tag that the 304 gave")
		}
	})
}
