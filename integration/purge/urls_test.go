package purge

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// What purges take for the same URL.

// spellings are URLs that are purged by one spelling and stored under another.
var spellings = []struct{ selector, value, host, stored, stays string }{
	{"url", "http://shop.test/café", "", "/caf%C3%A9", "/cafe"},
	{"url", "http://shop.test/caf%c3%a9", "", "/caf%C3%A9", "/caf%C3%A8"},
	{"url", "http://shop.test/caf%C3%A9", "", "/caf%c3%a9", "/caf%c3%a8"},
	{"url", "http://shop.test/a b", "", "/a%20b", "/a+b"},
	{"url", "http://shop.test/~joe", "", "/%7Ejoe", "/%7Ejo"},
	{"url", "http://shop.test/%7ejoe?b=%7e&a=1", "", "/~joe?a=1&b=~", "/~joe?a=1"},
	{"url", "HTTP://SHOP.TEST:80/x/../y", "", "/y", "/x"},
	{"url", "http://shop.test/a%2fb", "", "/a%2Fb", "/a/b"},
	{"url", "http://shop.test/?q[]=é", "", "/?q%5B%5D=%C3%A9", "/?q=%C3%A9"},
	{"url", "http://münchen.test/a", "xn--mnchen-3ya.test", "/a", "/b"},
	{"prefix", "http://shop.test/café", "", "/caf%C3%A9/1", "/caf/1"},
	{"prefix", "http://shop.test/./%7E", "", "/~joe/1", "/joe/1"},
	{"prefix", "http://MÜNCHEN.test/b/", "xn--mnchen-3ya.test", "/b/1", "/c/1"},
	{"prefix", "http://shop.test/d b/", "", "/d%20b/1", "/d/1"},
}

func TestSpellingsOfPurges(t *testing.T) {
	t.Parallel()
	for name, rds := range map[string]*harness.Redis{"redis": harness.StartRedis(t), "memory": nil} {
		t.Run(name, func(t *testing.T) {
			n := harness.StartCaddy(t, harness.Layout{Redis: rds, Origin: harness.NewOrigin(t), Site: "redis_cache {\nttl 5m\n}"})
			purged := func(what string, host string, purge func(), stored, stays string) {
				t.Helper()
				var fields []string
				if host != "" {
					fields = []string{"Host: " + host}
				}
				n.Get(t, stored, fields...)
				n.Get(t, stays, fields...)
				n.Want(t, "HIT", stored, fields...)
				n.Want(t, "HIT", stays, fields...)
				purge()
				if r := n.Get(t, stored, fields...); r.Outcome() != "MISS" {
					t.Errorf("%s leaves %s, a %s", what, stored, r.Outcome())
				}
				if r := n.Get(t, stays, fields...); r.Outcome() != "HIT" {
					t.Errorf("%s takes %s, a %s", what, stays, r.Outcome())
				}
			}
			for _, tt := range spellings {
				body, _ := json.Marshal(map[string]string{tt.selector: tt.value})
				purged(string(body), tt.host, func() { n.Purge(t, string(body)) }, tt.stored, tt.stays)
			}
			n.Get(t, "/h", "Host: xn--bcher-kva.test")
			n.Get(t, "/h")
			n.Purge(t, `{"host":"BÜCHER.test"}`)
			n.Want(t, "MISS", "/h", "Host: xn--bcher-kva.test")
			n.Want(t, "HIT", "/h")
			unsafe := func(path string, fields ...string) func() {
				return func() {
					n.Layout.Origin.With("/unsafe", fields...)
					n.Do(t, http.MethodPost, path, "")
				}
			}
			purged("a POST", "", unsafe("/p%c3%a9?x=1"), "/p%C3%A9", "/p%C3%A8")
			purged("a POST to an ambiguous path", "", unsafe("/other/../dots"), "/dots", "/other")
			purged("Location", "", unsafe("/unsafe", "Location: /été/%7ejoe"), "/%C3%A9t%C3%A9/~joe", "/%C3%A9t%C3%A9/joe")
			purged("Content-Location", "", unsafe("/unsafe", "Content-Location: HTTP://SHOP.test:80/x/../cl?y"), "/cl", "/x")
			if rds == nil {
				return
			}
			n.Get(t, "/xadd/%c3%a9")
			n.Want(t, "HIT", "/xadd/%c3%a9")
			rds.Do(t, "XADD", harness.JournalKey, "*", "op", "purge", "url", "http://shop.test/xadd/é")
			harness.Eventually(t, "an entry by others is applied", func() bool { return n.Get(t, "/xadd/%c3%a9").Outcome() == "MISS" })
		})
	}
}

func TestPurgesOfWhatIsNoURL(t *testing.T) {
	t.Parallel()
	n := harness.StartCaddy(t, harness.Layout{Origin: harness.NewOrigin(t)})
	for _, body := range []string{
		`{"url":"shop.test/a"}`, `{"url":"http:///a"}`, `{"url":"http://shop.test/%zz"}`, `{"url":"http://sh op.test/"}`, `{"url":"http://shop.test:x/"}`,
		`{"url":"http://shop.test/\u0000"}`, `{"url":"http://\u200d.test/"}`, `{"urls":["http://shop.test/a","ftp://shop.test/"]}`, `{"url":"http://shop.test\\a"}`,
		`{"prefix":"shop.test/a"}`, `{"prefix":"http://shop.test/%c"}`, `{"host":"shop.test/a"}`, `{"host":"shop test"}`, `{"host":"http://shop.test"}`, `{"host":"shop.test:http"}`,
	} {
		if answer := n.JSON(t, http.StatusBadRequest, http.MethodPost, "/redis_cache/purge", body); answer["error"] == "" {
			t.Errorf("%s: %v", body, answer)
		}
	}
}
