package cachekey

import (
	"net/http"
	"strings"
	"testing"
)

// TestKeyBytes pins the bytes of keys: nodes of other versions share them.
func TestKeyBytes(t *testing.T) {
	richSpec := Spec{
		Prefix: "shop", Namespace: "pages", Query: &Query{Mode: QueryExcept, Names: []string{QueryTracking}},
		Headers: []string{"Accept-Language", "X-Absent"}, Cookies: []string{"theme", "absent"},
	}
	rich := Request{
		Target: &Target{
			Scheme: "https", URLScheme: "https", Host: "example.com:8443", Trusted: true,
			Path: "/a%2fb*c", Query: "b=2&utm_id=3&a=1&%61=0&x;y=1", RewrittenPath: "/m/a", RewrittenQuery: "a=1&device=tablet&z=9",
		},
		Header: http.Header{
			"Accept": {"text/html", "*/*"}, "Accept-Language": {"de"}, "Cookie": {"lang=de; theme=dark", "theme=light"},
			"Content-Type": {"application/json"}, "X-Forwarded-Host": {"other.example"}, "X-Forwarded-Port": {"8443"},
			"Forwarded": {`for=192.0.2.1;host="third.example";proto=http, by=x;proto=https`},
		},
		Method: http.MethodPost, Body: []byte(`{"query":"{a}"}`), GraphQL: true, User: UserHash([]byte("secret"), "alice"),
	}
	plain := func(path string) Request {
		return Request{Target: &Target{Scheme: "http", URLScheme: "http", Host: "example.com", Path: path}}
	}
	general := Spec{Prefix: "cache", Namespace: "general"}
	product := rich
	product.Identifier = "product:7"
	long := rich
	long.Identifier = strings.Repeat("y", 300)
	templated, exact := richSpec, richSpec
	templated.Templated, exact.Templated, exact.Exact = true, true, true
	const variant = ":fd8d1fe82e82e33c69b7c46e37beb5cb"
	for _, c := range []struct {
		name string
		spec Spec
		q    Request
		want string // in Redis
	}{
		{"plain", general, plain("/a"), "cache:general:example.com/a:0fcd69d683325bbda351e98cc21b978c"},
		{"everything", richSpec, rich, "shop:pages:example.com%3A8443/a%252fb%2Ac:9e61bd819935ad2ff49de02ab9716f2d"},
		{"templated", templated, product, "shop:pages:product:7:5e3634ba695e3a598a2ac95b30c76aca"},
		{"exact", exact, product, "shop:pages:product:7"},
		{"long", general, plain("/" + strings.Repeat("x", 300)), "cache:general:example.com/" + strings.Repeat("x", 188) + ":a752feefbcdfff2ace240e850f9418b9"},
		{"long exact", exact, long, "shop:pages:" + strings.Repeat("y", 200) + ":8eb0e33e3322393873e4692c882958c9"},
	} {
		key, err := c.spec.Key(&c.q)
		if err != nil {
			t.Fatal(err)
		}
		if key.Name != c.want {
			t.Errorf("%s: the key is %s, want %s", c.name, key.Name, c.want)
		}
		if v, _ := Variant(key.Key, []string{"Accept", "X-Absent"}, rich.Header); v.Name != c.want+variant {
			t.Errorf("%s: the key of a variant is %s", c.name, v.Name)
		}
	}
}
