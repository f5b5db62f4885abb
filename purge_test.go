package rediscache

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/gplus-recycling/caddy-redis-cache/internal/admin"
	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
)

// The tests of this file send what a client may send so that others get a wrong
// response, none, or one that is out of date.

// A key may be pasted as X-Cache-Key shows it.
func TestPastedKeys(t *testing.T) {
	s := newSite(t, `{}`, answer("x", "Cache-Control", forAMinute))
	send := func(method, query string) *httptest.ResponseRecorder {
		t.Helper()
		handle := (*admin.API).Entry
		if method == http.MethodDelete {
			handle = (*admin.API).DeleteEntry
		}
		w := httptest.NewRecorder()
		if err := handle(s.handler.app.admin(), w, httptest.NewRequest(method, "/redis_cache/entry?"+query, http.NoBody)); err != nil {
			w.WriteHeader(err.(caddy.APIError).HTTPStatus) //nolint:errorlint // routes return it as it is
		}
		return w
	}
	for _, path := range []string{"http://shop.test:8080/a", "http://shop.test:8080/a%3Ab", "http://shop.test/plain"} {
		key := s.get(path).Header().Get("X-Cache-Key")
		for _, query := range []string{"key=" + key, "key=" + url.QueryEscape(key)} {
			s.get(path)
			if w := send(http.MethodGet, query); w.Code != http.StatusOK {
				t.Errorf("GET %s: %d", query, w.Code)
			}
			if w := send(http.MethodDelete, query); w.Code != http.StatusOK {
				t.Errorf("DELETE %s: %d", query, w.Code)
			}
			expect(t, s.get(path), engine.Miss, "")
		}
	}
	for _, query := range []string{"", "key=", "key=a:b&body=maybe"} {
		if w := send(http.MethodGet, query); w.Code != http.StatusBadRequest {
			t.Errorf("GET %q: %d", query, w.Code)
		}
	}
}

// An empty name, such as that of a variable which is not set, is not everything.
func TestEmptyNamespace(t *testing.T) {
	s := newSite(t, `{}`, answer("x", "Cache-Control", forAMinute))
	for _, body := range []string{`{"namespace":""}`, `{"namespace":"a,b"}`, `{"namespace":"general","all":true}`, `{"all":false}`} {
		if w := callAdmin(t, s.handler.app, does((*admin.API).Disable), http.MethodPost, body); w.Code != http.StatusBadRequest {
			t.Errorf("disable %s: %d", body, w.Code)
		}
	}
	if w := callAdmin(t, s.handler.app, does((*admin.API).Purge), http.MethodPost, `{"namespace":"a,b"}`); w.Code != http.StatusBadRequest {
		t.Errorf("purge: %d", w.Code)
	}
	expect(t, s.get("/a"), engine.Miss, "stored")
}
