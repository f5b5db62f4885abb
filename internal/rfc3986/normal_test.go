package rfc3986

import (
	"net/url"
	"strings"
	"testing"
)

// same are lists of URLs that RFC 3986 calls equivalent, the normal form first.
var same = []string{
	"http://h.test/ http://h.test HTTP://H.TEST http://h.test:80 http://h.test:/ http://h.test:0080/. http://%68.test/a/..",
	"https://h.test/a https://h.test:443/a HTTPS://h.TEST/%61 https://h.test/./a https://h.test/x/../a https://h.test/../a https://h.test/x/y/../.././a",
	"http://h.test:443/ http://H.test:443 http://h.test:0443/",
	"http://h.test/caf%C3%A9 http://h.test/café http://h.test/caf%c3%a9",
	"http://h.test/~joe http://h.test/%7Ejoe http://h.test/%7ejoe",
	"http://h.test/a%20b http://h.test/a\u00a0b",
	"http://h.test/a%2Fb http://h.test/a%2fb",
	"http://h.test/a//b http://h.test/a//./b http://h.test/a//c/../b",
	"http://h.test/a/ http://h.test/a/. http://h.test/a/b/.. http://h.test/a/%2e http://h.test/a/b/%2E%2e",
	"http://h.test/?q=%C3%A9&r=~ http://h.test?q=é&r=%7e http://h.test/?%71=%c3%A9&r=~",
	"http://h.test/a?b/../c?d http://h.test/%61?b/../c?d",
	"http://h.test/?a%5B%5D=1 http://h.test/?a[]=1",
	"http://h.test/%7Ba%7D%5B%7C%22 http://h.test/{a}[|\"",
	"http://xn--mnchen-3ya.test/ http://MÜNCHEN.test/ http://m%C3%BCnchen.test http://XN--MNCHEN-3YA.test:80/ http://münchen。test/",
	"http://[::1]/ http://[0:0::1]:80/ http://[::0001]",
	"http://a_b.test/ http://A_b.test",
	"http://h.test/%25zz http://h.test/%zz",
}

func TestNormal(t *testing.T) {
	for _, list := range same {
		urls := strings.Split(strings.ReplaceAll(list, "\u00a0", "\x00"), " ")
		for _, u := range urls {
			if u = strings.ReplaceAll(u, "\x00", " "); Normal(u) != urls[0] {
				t.Errorf("%s becomes %s, want %s", u, Normal(u), urls[0])
			}
		}
		if n := testing.AllocsPerRun(10, func() { Normal(urls[0]) }); n != 0 && !strings.Contains(urls[0], "[:") {
			t.Errorf("%s: %v allocations", urls[0], n)
		}
	}
	for a, b := range map[string]string{
		"http://h.test/a":     "http://h.test/A",
		"http://h.test/a%2Fb": "http://h.test/a/b",
		"http://h.test/a/":    "http://h.test/a",
		"http://h.test/a?":    "http://h.test/a",
		"http://h.test/a+b":   "http://h.test/a%20b",
		"http://h.test/a%3Bb": "http://h.test/a;b",
		"http://h.test/":      "https://h.test/",
		"http://h.test:8080/": "http://h.test/",
		"http://h.test/..a":   "http://h.test/a",
		"http://h.test/?a=.":  "http://h.test/?a=..",
		"http://h.test./":     "http://h.test/",
	} {
		if Normal(a) == Normal(b) {
			t.Errorf("%s and %s both become %s", a, b, Normal(a))
		}
	}
}

func TestNormalPrefix(t *testing.T) {
	for _, tt := range []struct{ prefix, want string }{
		{"http://Sho", "http://sho"},
		{"http://shop.test", "http://shop.test"},
		{"http://shop.test:80", "http://shop.test"},
		{"http://shop.test?a=%7e", "http://shop.test/?a=~"},
		{"http://shop.test/caf%c3", "http://shop.test/caf%C3"},
		{"http://shop.test/a/./b/../", "http://shop.test/a/"},
		{"http://shop.test/a/..", "http://shop.test/"},
	} {
		if got := NormalPrefix(tt.prefix); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.prefix, got, tt.want)
		}
	}
}

// FuzzNormal: a normal form is its own, it is a URL, and spelling it otherwise changes
// nothing.
func FuzzNormal(f *testing.F) {
	for _, list := range same {
		f.Add(strings.Fields(list)[0], uint64(0x5a5a))
	}
	f.Add("http://h.test/%%34%31?%%34%31", uint64(1))
	f.Fuzz(func(t *testing.T, raw string, how uint64) {
		if _, err := url.Parse(raw); err != nil || !strings.HasPrefix(raw, "http://") || strings.ContainsAny(raw, "#@") {
			return
		}
		n := Normal(raw)
		if again := Normal(n); again != n {
			t.Fatalf("%q becomes %q, and then %q", raw, n, again)
		}
		other := respelled(n, how)
		if got := Normal(other); got != n {
			t.Fatalf("%q of %q becomes %q", other, n, got)
		}
		if _, _, path, _ := split(n); path == "" || strings.Contains(path+"/", "/../") || strings.Contains(path+"/", "/./") {
			t.Fatalf("%q becomes %q", raw, n)
		}
	})
}

// respelled writes a URL in normal form otherwise, bit by bit of how.
func respelled(n string, how uint64) string {
	scheme, authority, path, query := split(n)
	text := func(s string) string {
		var b []byte
		for i := 0; i < len(s); i++ {
			bit := how&(1<<(i%61)) != 0
			switch {
			case isEscape(s, i):
				hex := s[i : i+3]
				if bit {
					hex = strings.ToLower(hex)
				}
				b = append(b, hex...)
				i += 2
			case bit && isUnreserved(s[i]):
				b = appendEscape(b, s[i])
			default:
				b = append(b, s[i])
			}
		}
		return string(b)
	}
	if how&1 != 0 {
		scheme, authority = strings.ToUpper(scheme), strings.ToUpper(authority)
	}
	path = text(path)
	if how&2 != 0 {
		path = "/./x/.." + path
	}
	if query != "" {
		query = "?" + text(query[1:])
	}
	return scheme + "://" + authority + path + query
}
