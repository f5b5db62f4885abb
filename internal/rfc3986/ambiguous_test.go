package rfc3986

import (
	"net/url"
	"path"
	"strings"
	"testing"
)

func TestKindOf(t *testing.T) {
	for _, tt := range []struct {
		want  PathKind
		paths string
	}{
		{PathPlain, `/ /a /a/b /a/ // /a//b /.well-known/x /a/..b /a/b.. /a/... /a/.b/ /a%2Fb /@scope%2fname /a%2eb /a/%2e%2eb
			/a%20b /caf%C3%A9 /100% /100%zz /%2 /a%252fb /a%25252Fb /a:b /a,b/c=d/e /%F0%9F%8D%BA`},
		{PathParams, `/a;b /a;jsessionid=1 /a/b;x=1;y=2 /a%3Bb /a%253bb /a/; /a%00 /a%00.css /a.css;x`},
		{PathAmbiguous, `/a/../b /a/.. /./a /a/. /.. /a/%2e%2e/b /a/.%2E /a%2f..%2fb /a%2f%2e%2e /a/..%2fb /a/%2e%2e%2fb
			/;/../a /a/..;/b /a/..;x /a/.;/b /a;x/b /a/;/b /a;/ /a%3bx/b /a;x%2fb /a/;x/ /a\b /a%5cb /a%5C..%5cb /a%255cb
			/a%252f..%252fb /a/%252e%252e/b /a/%25%32%65./b /a%25252f..%25252fb /a%2525252541 /a//..//b /a%2F%2F..%2f/b
			/a/..%20/b /a/%09../b /a/..%00/b /a/..%00x /a%00/b /a/.%0a./b /a/%7f.`},
	} {
		for p := range strings.FieldsSeq(tt.paths) {
			if got := KindOf(p); got != tt.want {
				t.Errorf("%s is %d, want %d", p, got, tt.want)
			}
		}
	}
}

func TestWithoutParams(t *testing.T) {
	for _, tt := range []struct{ path, want string }{
		{"/a;b", "/a"},
		{"/a/me;jsessionid=1;x", "/a/me"},
		{"/a%2Fme%3bx", "/a%2Fme"},
		{"/a/me%253Bx", "/a/me"},
		{"/a%252fme%25253bx", "/a%252fme"},
		{"/a/me%25%33bx", "/a/me"},
		{"/a%zzme;x", "/a%zzme"},
		{"/a/;x", "/a/"},
		{"/a/me%00.css", "/a/me"},
		{"/a/me", "/a/me"},
		{"/a;b/me", "/a;b/me"},
	} {
		if got := WithoutParams(tt.path); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.path, got, tt.want)
		}
	}
}

func TestKindOfAllocates(t *testing.T) {
	for _, p := range []string{"/a/b.html", "/caf%C3%A9/a%2Fb", "/a;b", "/a/" + strings.Repeat("%C3%A9", 80)} {
		if n := testing.AllocsPerRun(100, func() { KindOf(p) }); n != 0 {
			t.Errorf("%s: %v allocations", p, n)
		}
	}
}

// FuzzKindOf holds what is plain, or has parameters, against readers that clean
// paths after any number of decodings: they must see the same segments.
func FuzzKindOf(f *testing.F) {
	for _, p := range []string{"/a/..%2fb", "/a%252f..%252fb", "/a;x/b", `/a\b`, "/a%2Fb;c", "/a/%25%32e./b", "//a/.%00./b"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p string) {
		if !strings.HasPrefix(p, "/") {
			p = "/" + p
		}
		kind := KindOf(p)
		without := WithoutParams(p)
		if !strings.HasPrefix(p, without) {
			t.Fatalf("%q without parameters is %q", p, without)
		}
		if kind == PathAmbiguous {
			return
		}
		if kind == PathParams {
			if got := KindOf(without); got != PathPlain && without != "" {
				t.Fatalf("%q without parameters, %q, is %d", p, without, got)
			}
			p = without
		}
		for range maxDecodings + 2 {
			if strings.ContainsAny(p, "\\;\x00") {
				t.Fatalf("%q is plain", p)
			}
			merged := p
			for strings.Contains(merged, "//") {
				merged = strings.ReplaceAll(merged, "//", "/")
			}
			if clean := path.Clean(merged); clean != merged && clean+"/" != merged {
				t.Fatalf("%q is plain, and becomes %q", p, clean)
			}
			decoded, err := url.PathUnescape(p)
			if err != nil {
				return
			}
			p = decoded
		}
	})
}
