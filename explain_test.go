package rediscache

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/internal/config"
	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
	"github.com/gplus-recycling/caddy-redis-cache/internal/explain"
	"github.com/gplus-recycling/caddy-redis-cache/internal/reason"
	"github.com/gplus-recycling/caddy-redis-cache/internal/subrequest"
)

// explained asks what would be done.
func (s *site) explained(method, uri string, fields ...string) *explain.Explanation {
	e := new(explain.Explanation)
	r := httptest.NewRequest(method, "http://example.com"+uri, http.NoBody)
	for i := 0; i < len(fields); i += 2 {
		r.Header.Add(fields[i], fields[i+1])
	}
	subrequest.Explain(context.Background(), s, r, e, func(any) {})
	return e
}

func TestExplain(t *testing.T) {
	s := newSite(t, `{"ttl":{"duration":"1h"},"jitter":0,"vary_query":{"mode":"only","names":["page"]}}`, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/cookie":
			w.Header().Set("Set-Cookie", "a=secret")
		case "/vary":
			w.Header().Set("Vary", "Accept-Language")
		case "/max-age":
			w.Header().Set("Cache-Control", "max-age=60")
		}
		_, _ = w.Write([]byte("x"))
	})
	if e := s.explained("GET", "/a?page=1&utm=2"); e.Outcome != "MISS" || e.Reason != "absent" || e.Tiers["memory"].State != "absent" ||
		!slices.Equal(e.KeyParts.Query, []string{"page=1"}) || !slices.Equal(e.KeyParts.DroppedQuery, []string{"utm"}) {
		t.Errorf("absent: %+v", e)
	}
	if s.fetches.Load() != 0 || s.handler.node.Memory.Len() != 0 {
		t.Error("the origin was asked, or something stored")
	}
	s.get("/a?page=1")
	if e := s.explained("GET", "/a?page=1"); e.Outcome != "HIT" || e.Tiers["memory"].State != "fresh" || e.Freshness.Source != "directive, ttl" ||
		e.Freshness.Lifetime != 3600 {
		t.Errorf("hit: %+v %+v", e, e.Freshness)
	}
	s.get("/max-age")
	if e := s.explained("GET", "/max-age"); e.Outcome != "HIT" || e.Freshness.Source != "max-age" {
		t.Errorf("max-age: %+v %+v", e, e.Freshness)
	}
	s.get("/vary", "Accept-Language", "de")
	if e := s.explained("GET", "/vary", "Accept-Language", "fr"); e.Outcome != "MISS" || e.Reason != "variant" || len(e.Variants) != 1 || e.Variants[0].Answers {
		t.Errorf("variant: %+v", e)
	}
	s.get("/cookie")
	if e := s.explained("GET", "/cookie"); e.Outcome != "MISS" || e.HitForMiss == nil || e.HitForMiss.Reason != "set-cookie" || e.Advice != reason.SetCookie.Advice() {
		t.Errorf("hit-for-miss: %+v", e)
	}
	for _, tt := range []struct {
		method, path, advice string
		fields               []string
		possible             []string
	}{
		{"HEAD", "/new", "Ask with GET: its response is stored, and answers HEAD, too.", []string{"Authorization", "Basic x"}, []string{"BYPASS"}},
		{"GET", "/new", reason.Range.Advice(), []string{"Range", "bytes=0-0"}, []string{"MISS"}},
		{"GET", "/new", reason.Absent.Advice(), []string{"Authorization", "Basic x"}, []string{"MISS", "BYPASS"}},
	} {
		if e := s.explained(tt.method, tt.path, tt.fields...); e.Outcome != tt.possible[0] || e.Advice != tt.advice || !slices.Equal(e.Possible, tt.possible) {
			t.Errorf("%s %s %q: %+v", tt.method, tt.path, tt.fields, e)
		}
	}
	before := s.handler.node.Journal.Position()
	if e := s.explained("DELETE", "/a?page=1"); e.Outcome != "BYPASS" || e.Reason != "method" {
		t.Errorf("unsafe: %+v", e)
	}
	if s.handler.node.Journal.Position() != before {
		t.Error("an explained request purged, or is still being explained")
	}
	if s.fetches.Load() != 4 {
		t.Errorf("%d fetches", s.fetches.Load())
	}
	if got := s.handler.node.Counters.Snapshot()[config.DefaultNamespace]; got.Of(uint8(engine.Hit)) != 0 || got.Of(uint8(engine.Bypass)) != 0 {
		t.Error("explained requests are counted")
	}
}
