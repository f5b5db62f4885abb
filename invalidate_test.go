package rediscache

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/gplus-recycling/caddy-redis-cache/internal/admin"
	"github.com/gplus-recycling/caddy-redis-cache/internal/cachekey"
	"github.com/gplus-recycling/caddy-redis-cache/internal/config"
	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
)

// purge purges on the node of the site.
func (s *site) purge(p journal.Purge) {
	s.t.Helper()
	if _, err := s.handler.node.Journal.Append(s.t.Context(), p, time.Second); err != nil {
		s.t.Fatal(err)
	}
}

func hard(kind journal.Kind, value string) journal.Purge {
	return journal.Purge{Selectors: []journal.Selector{{Kind: kind, Value: value}}}
}

// Every row is a purge of a response that is stored under many names.
func TestPurgeSelectors(t *testing.T) {
	config := `{"vary_query":{"mode":"except","names":["tracking"]},"tags":["t"],"by_user":"{http.request.cookie.uid}",
		"key":{"template":"item:{http.request.uri.path}"},"ttl":{"duration":60000000000}}`
	for _, c := range []struct {
		kind  journal.Kind
		value string
		want  engine.Result
	}{
		{journal.KindNamespace, "general", engine.Miss},
		{journal.KindNamespace, "gener", engine.Hit},
		{journal.KindTag, "t", engine.Miss},
		{journal.KindTag, "T", engine.Hit},
		{journal.KindKey, "general:item:/a%3Ab", engine.Miss},
		{journal.KindKey, "general:item:/a:b", engine.Hit},
		{journal.KindPattern, "general:item:*", engine.Miss},
		{journal.KindPattern, "PREFIX:general:item:/a%3A?", engine.Miss},
		{journal.KindPattern, "general:item:/b*", engine.Hit},
		{journal.KindURL, "http://example.com/a:b", engine.Miss},
		{journal.KindURL, "http://EXAMPLE.com:80/a:b?y=2&utm_source=z&x=1", engine.Miss},
		{journal.KindURL, "http://example.com/a:b?x=1", engine.Hit},
		{journal.KindURL, "https://example.com/a:b", engine.Hit},
		{journal.KindPrefix, "http://example.com/a", engine.Miss},
		{journal.KindPrefix, "http://example.com/b", engine.Hit},
		{journal.KindHost, "example.com", engine.Miss},
		{journal.KindHost, "example.com:8080", engine.Hit},
		{journal.KindUser, "7", engine.Miss},
		{journal.KindUser, "8", engine.Hit},
		{journal.KindAll, "", engine.Miss},
	} {
		s := newSite(t, config, answer("x", "Vary", "Accept"))
		get := func() *httptest.ResponseRecorder { return s.get("/a:b?x=1&y=2&utm_source=q", "Cookie", "uid=7") }
		get()
		value := strings.Replace(c.value, "PREFIX", s.handler.app.Prefix, 1)
		if c.kind == journal.KindUser {
			value = cachekey.UserHash(s.handler.app.secret, value)
		}
		selector := journal.Selector{Kind: c.kind, Value: value}
		s.purge(journal.Purge{Selectors: []journal.Selector{selector}})
		if got := get().Header().Get("X-Cache"); got != c.want.String() {
			t.Errorf("after a purge of %s %s the outcome is %s, want %s", c.kind, c.value, got, c.want)
		}
		whole := get().Header().Get("X-Cache-Key")
		s.purge(hard(journal.KindKey, whole))
		expect(t, get(), engine.Miss, "")
		s.close()
	}
}

func TestInvalidateRules(t *testing.T) {
	rules := `{"key":{"template":"u:{http.request.uri.query.id}"},"vary_query":{"mode":"none"},"ttl":{"duration":60000000000},"invalidate":[
		{"selector":"key","values":["general:u:{http.request.uri.query.id}"]},
		{"selector":"pattern","values":["general:u:{http.response.header.X-Changed}*"],"match":[{"path":["/changed"],"method":["GET"]}]}]}`
	for _, c := range []struct {
		method, uri, changed string
		status               int
		want                 engine.Result
	}{
		{"POST", "/b?id=1", "", 200, engine.Miss},
		{"POST", "/b?id=2", "", 200, engine.Hit},
		{"POST", "/b?id=1", "", 404, engine.Hit},
		{"GET", "/b?id=1", "", 200, engine.Hit},
		{"GET", "/changed?id=9", "1", 200, engine.Miss},
		{"GET", "/changed?id=9", "*", 200, engine.Hit}, // a value never globs
		{"GET", "/changed?id=9", "1", 500, engine.Hit},
	} {
		s := newSite(t, rules, answer("x"))
		s.get("/a?id=1")
		origin := s.origin
		s.origin = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Changed", c.changed)
			w.WriteHeader(c.status)
		}
		s.do(c.method, c.uri, "Cache-Control", "x")
		s.origin = origin
		if got := s.get("/a?id=1").Header().Get("X-Cache"); got != c.want.String() {
			t.Errorf("%s %s %d %q: %s, want %s", c.method, c.uri, c.status, c.changed, got, c.want)
		}
		s.close()
	}
}

func TestEventRules(t *testing.T) {
	s := newSite(t, `{"key":{"template":"{http.request.uri.path.0}"},"ttl":{"duration":60000000000}}`, answer("x"))
	app := s.handler.app
	app.On = map[string][]*config.EventRule{
		"changed": {
			{Selectors: config.Selectors{Selector: "key", Values: []string{"general:{event.user}", "general:{event.data.id}"}}},
			{Selectors: config.Selectors{Selector: "pattern", Values: []string{"general:soft{event.user}*"}}, Soft: true},
		},
	}
	for _, c := range []struct {
		data string
		want map[string]engine.Result
	}{
		{`{"user":"one","id":2}`, map[string]engine.Result{"/one": engine.Miss, "/2": engine.Miss, "/other": engine.Hit, "/softone": engine.Miss}},
		{`{"user":"*","id":"-"}`, map[string]engine.Result{"/one": engine.Hit, "/2": engine.Hit, "/softone": engine.Hit}},
	} {
		for path := range c.want {
			s.get(path)
			expect(t, s.get(path), engine.Hit, "")
		}
		w := callAdmin(t, app, does((*admin.API).Event), http.MethodPost, `{"event":"changed","data":`+c.data+`}`)
		if w.Code != http.StatusOK {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		for path, want := range c.want {
			if got := s.get(path).Header().Get("X-Cache"); got != want.String() {
				t.Errorf("after %s %s is %s, want %s", c.data, path, got, want)
			}
		}
	}
	// Nothing is purged when the data lack something, so that nobody takes it for done.
	s.get("/one")
	w := callAdmin(t, app, does((*admin.API).Event), http.MethodPost, `{"event":"changed","data":{"user":"one"}}`)
	if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), `["id"]`) {
		t.Errorf("without id: %d %s", w.Code, w.Body)
	}
	expect(t, s.get("/one"), engine.Hit, "")
	if w := callAdmin(t, app, does((*admin.API).Event), http.MethodPost, `{"event":"unknown"}`); w.Code != http.StatusNotFound {
		t.Errorf("an event without rules: %d", w.Code)
	}
	if w := callAdmin(t, app, does((*admin.API).Event), http.MethodPost, `{"event":"changed","data":[1]}`); w.Code != http.StatusBadRequest {
		t.Errorf("data that is no object: %d", w.Code)
	}
	event, err := caddy.NewEvent(app.ctx, "changed", map[string]any{"user": "one"})
	if err != nil {
		t.Fatal(err)
	}
	s.get("/one")
	if err := (eventHandler{app}).Handle(t.Context(), event); err != nil {
		t.Fatal(err)
	}
	expect(t, s.get("/one"), engine.Miss, "")
}

// callAdmin calls an admin route and writes errors as Caddy does.
func callAdmin(t *testing.T, app *App, handle func(*App, http.ResponseWriter, *http.Request) error, method, body string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	if err := handle(app, w, httptest.NewRequest(method, "/", strings.NewReader(body))); err != nil {
		apiErr, ok := err.(caddy.APIError) //nolint:errorlint // routes return it as it is
		if !ok {
			t.Fatal(err)
		}
		w.WriteHeader(apiErr.HTTPStatus)
		_, _ = w.WriteString(apiErr.Err.Error())
	}
	return w
}

func TestPurgeRoute(t *testing.T) {
	s := newSite(t, `{"ttl":{"duration":60000000000}}`, answer("x"))
	for _, path := range []string{"/1", "/2", "/3"} {
		s.get(path)
	}
	w := callAdmin(t, s.handler.app, does((*admin.API).Purge), http.MethodPost, `{"namespace":"general","dry_run":true}`)
	var counted struct{ Matched int }
	if err := json.Unmarshal(w.Body.Bytes(), &counted); err != nil || counted.Matched != 3 {
		t.Errorf("a dry run answers %s", w.Body)
	}
	expect(t, s.get("/1"), engine.Hit, "")
	w = callAdmin(t, s.handler.app, does((*admin.API).Purge), http.MethodPost,
		`{"urls":["http://example.com/1","http://example.com/2"],"tag":"x","by":"me","reason":"why","wait":"2s"}`)
	var result struct {
		ID                 string
		Confirmed, Pending []string
	}
	if err := json.Unmarshal(w.Body.Bytes(), &result); err != nil || w.Code != http.StatusOK || result.ID == "" || len(result.Confirmed) != 1 || result.Pending == nil {
		t.Errorf("%d %s %v", w.Code, w.Body, err)
	}
	expect(t, s.get("/1"), engine.Miss, "")
	expect(t, s.get("/2"), engine.Miss, "")
	expect(t, s.get("/3"), engine.Hit, "")
	w = callAdmin(t, s.handler.app, does((*admin.API).Listing), http.MethodGet, "")
	if got := w.Body.String(); !strings.Contains(got, `"by":"me","reason":"why"`) || !strings.Contains(got, result.ID) {
		t.Errorf("the journal lists %s", got)
	}
	if w = callAdmin(t, s.handler.app, does((*admin.API).Nodes), http.MethodGet, ""); !strings.Contains(w.Body.String(), `"self":true`) {
		t.Errorf("the nodes are %s", w.Body)
	}
	for body, want := range map[string]string{
		`{}`:                         "nothing is selected",
		`{"namespace":""}`:           "empty",
		`{"url":"/a"}`:               "not an absolute",
		`{"wait":"soon","all":true}`: "not a duration",
		`{"wait":"2h","all":true}`:   "not a duration",
		`{"namespce":"x"}`:           "unknown field",
		`{"all":true}{"all":true}`:   "more than one",
		`{"prefix":"example.com/"}`:  "http://",
	} {
		if w := callAdmin(t, s.handler.app, does((*admin.API).Purge), http.MethodPost, body); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s, want %q", body, w.Code, w.Body, want)
		}
	}
}
