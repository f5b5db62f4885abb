package engine

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
)

func TestVariants(t *testing.T) {
	s := newSite(t, `{}`, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Vary", "Accept-Language")
		_, _ = io.WriteString(w, r.Header.Get("Accept-Language"))
	})
	for _, language := range []string{"de", "en", "fr"} {
		expect(t, s.get("/a", "Accept-Language", language), Miss, "stored")
	}
	for _, language := range []string{"de", "en", "fr"} {
		if hit := expect(t, s.get("/a", "Accept-Language", language), Hit, "hit"); hit.Body.String() != language {
			t.Errorf("%s gets %s", language, hit.Body)
		}
	}
	expect(t, s.get("/a"), Miss, "fwd=vary-miss")
}

func TestVariantsAreBounded(t *testing.T) {
	s := newSite(t, `{}`, answer("x", "Cache-Control", "max-age=60", "Vary", "X-Any"))
	for i := range maxVariants {
		expect(t, s.get("/a", "X-Any", strings.Repeat("x", i)), Miss, "stored")
	}
	expect(t, s.get("/a", "X-Any", "one more"), Miss, "detail=variant-limit")
	expect(t, s.get("/a", "X-Any", "x"), Hit, "hit")
}

// A response without Vary must not hide the variants that are stored, nor be
// answered for them.
func TestVaryComesAndGoes(t *testing.T) {
	s := newSite(t, `{}`, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		if r.Header.Get("Accept") != "" {
			w.Header().Set("Vary", "Accept")
		}
		_, _ = io.WriteString(w, "for "+r.Header.Get("Accept"))
	})
	s.get("/a", "Accept", "json")
	s.get("/a")
	if hit := expect(t, s.get("/a", "Accept", "json"), Hit, "hit"); hit.Body.String() != "for json" {
		t.Errorf("got %q", hit.Body)
	}
	if hit := expect(t, s.get("/a"), Hit, "hit"); hit.Body.String() != "for " {
		t.Errorf("got %q", hit.Body)
	}
}

func TestEncodedVariesOnAcceptEncoding(t *testing.T) {
	s := newSite(t, `{}`, answer("zzz", "Cache-Control", "max-age=60", "Content-Encoding", "gzip"))
	s.get("/a", "Accept-Encoding", "gzip")
	expect(t, s.get("/a", "Accept-Encoding", "gzip"), Hit, "hit")
	expect(t, s.get("/a"), Miss, "vary-miss")
}

// The field is set behind the cache, for each client.
func TestVaryOnWhatProxiesSet(t *testing.T) {
	for _, name := range []string{"X-Forwarded-For", "x-real-ip", "Forwarded", "Accept, Via"} {
		s := newSite(t, `{}`, answer("x", "Cache-Control", forAMinute, "Vary", name))
		for range 2 {
			expect(t, s.get("/a"), Miss, rfc9111.RefusalVaryAny.String())
		}
	}
}
