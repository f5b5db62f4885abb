package cachekey

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// parts are what a key is made of.
type parts struct {
	spec Spec
	Request
}

// keyFor is the key of a GET request with a change applied to its parts.
func keyFor(t *testing.T, change func(*parts)) Key {
	t.Helper()
	q := parts{Spec{Prefix: "cache", Namespace: "general"}, Request{
		Target: &Target{Scheme: "http", Host: "example.com", Path: "/a"}, Header: http.Header{},
	}}
	if change != nil {
		change(&q)
	}
	key, err := q.spec.Key(&q.Request)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestKeyFormat(t *testing.T) {
	key := keyFor(t, func(q *parts) { q.Host, q.Path = "example.com:8080", "/a%2fb*c" })
	prefix, hash := key.Full[:len(key.Full)-33], key.Full[len(key.Full)-33:]
	if prefix != "cache:general:example.com%3A8080/a%252fb%2Ac" || hash[0] != ':' || strings.Trim(hash[1:], "0123456789abcdef") != "" {
		t.Errorf("the key is %s", key.Full)
	}
	if key.Name != key.Full || key.Identifier != "example.com%3A8080/a%252fb%2Ac" {
		t.Errorf("name %s, identifier %s", key.Name, key.Identifier)
	}
}

func TestKeyExact(t *testing.T) {
	exact := func(identifier string) Key {
		return keyFor(t, func(q *parts) {
			q.spec.Templated, q.spec.Exact, q.Identifier, q.spec.Namespace = true, true, identifier, "user"
		})
	}
	if key := exact("123:profile"); key.Full != "cache:user:123:profile" {
		t.Errorf("the key is %s", key.Full)
	}
	if key := exact(""); key.Full != "cache:user:" {
		t.Errorf("the key of an empty identifier is %s", key.Full)
	}
	long := strings.Repeat("x", maxNameIdentifier)
	a, b := exact(long+"a"), exact(long+"b")
	if a.Name == b.Name || len(a.Name) > maxNameIdentifier+100 || a.Identifier != long+"a" {
		t.Errorf("long identifiers have the names %s and %s", a.Name, b.Name)
	}
}

func TestKeyTooLong(t *testing.T) {
	spec := Spec{Prefix: "cache", Namespace: "general"}
	if _, err := spec.Key(&Request{Target: &Target{Path: "/" + strings.Repeat("x", MaxIdentifier)}}); err == nil {
		t.Error("no error")
	}
}

// Every row is a request that must not share the key of any other row.
func TestKeysDiffer(t *testing.T) {
	rows := map[string]func(*parts){
		"plain":              nil,
		"https":              func(q *parts) { q.Scheme = "https" },
		"host":               func(q *parts) { q.Host = "example.org" },
		"path":               func(q *parts) { q.Path = "/b" },
		"encoded path":       func(q *parts) { q.Path = "/%61" },
		"namespace":          func(q *parts) { q.spec.Namespace = "other" },
		"prefix":             func(q *parts) { q.spec.Prefix = "other" },
		"rewritten":          func(q *parts) { q.RewrittenPath = "/m/a" },
		"query":              func(q *parts) { q.Query, q.RewrittenQuery = "a=1", "a=1" },
		"two parameters":     func(q *parts) { q.Query, q.RewrittenQuery = "a=1&b=2", "a=1&b=2" },
		"one with both":      func(q *parts) { q.Query, q.RewrittenQuery = "a=1%26b=2", "a=1%26b=2" },
		"repeated":           func(q *parts) { q.Query, q.RewrittenQuery = "a=1&a=2", "a=1&a=2" },
		"repeated otherwise": func(q *parts) { q.Query, q.RewrittenQuery = "a=2&a=1", "a=2&a=1" },
		"rewritten query":    func(q *parts) { q.RewrittenQuery = "device=mobile" },
		"header absent":      func(q *parts) { q.spec.Headers = []string{"A", "B"} },
		"header empty":       func(q *parts) { q.spec.Headers, q.Header = []string{"A", "B"}, http.Header{"A": {""}} },
		"header":             func(q *parts) { q.spec.Headers, q.Header = []string{"A", "B"}, http.Header{"A": {"B"}} },
		"other header":       func(q *parts) { q.spec.Headers, q.Header = []string{"A", "B"}, http.Header{"B": {"B"}} },
		"cookie absent":      func(q *parts) { q.spec.Cookies = []string{"a", "b"} },
		"cookie":             func(q *parts) { q.spec.Cookies, q.Header = []string{"a", "b"}, http.Header{"Cookie": {"a=b"}} },
		"other cookie":       func(q *parts) { q.spec.Cookies, q.Header = []string{"a", "b"}, http.Header{"Cookie": {"b=b"}} },
		"two cookies":        func(q *parts) { q.spec.Cookies, q.Header = []string{"a", "b"}, http.Header{"Cookie": {"a=x; a=b"}} },
		"forwarded host":     func(q *parts) { q.Header = http.Header{"X-Forwarded-Host": {"evil.example"}} },
		"forwarded proto":    func(q *parts) { q.Header = http.Header{"X-Forwarded-Proto": {"https"}} },
		"proto of a trusted proxy": func(q *parts) {
			q.Header, q.Trusted = http.Header{"X-Forwarded-Proto": {"https"}}, true
		},
		"forwarded port":   func(q *parts) { q.Header = http.Header{"X-Forwarded-Port": {"666"}} },
		"forwarded prefix": func(q *parts) { q.Header = http.Header{"X-Forwarded-Prefix": {"/evil"}} },
		"forwarded server": func(q *parts) { q.Header = http.Header{"X-Forwarded-Server": {"evil.example"}} },
		"forwarded TLS":    func(q *parts) { q.Header = http.Header{"X-Forwarded-Ssl": {"on"}} },
		"front end TLS":    func(q *parts) { q.Header = http.Header{"Front-End-Https": {"on"}} },
		"other host":       func(q *parts) { q.Header = http.Header{"X-Host": {"evil.example"}} },
		"Forwarded host":   func(q *parts) { q.Header = http.Header{"Forwarded": {`for=1.2.3.4; Host="evil.example"`}} },
		"Forwarded proto":  func(q *parts) { q.Header = http.Header{"Forwarded": {"for=1.2.3.4, for=5.6.7.8;proto=https"}} },
		"forwarded scheme": func(q *parts) { q.Header = http.Header{"X-Forwarded-Scheme": {"https"}} },
		"user":             func(q *parts) { q.User = UserHash([]byte("secret"), "1") },
		"other user":       func(q *parts) { q.User = UserHash([]byte("secret"), "2") },
	}
	seen := make(map[string]string)
	for name, change := range rows {
		key := keyFor(t, change).Full
		if other, ok := seen[key]; ok {
			t.Errorf("%q and %q share the key %s", name, other, key)
		}
		seen[key] = name
	}
}

// Every row is a request that has the key of the plain one.
func TestKeysAgree(t *testing.T) {
	for name, change := range map[string]func(*parts){
		"Forwarded agrees": func(q *parts) {
			q.Header = http.Header{"Forwarded": {`for=1.2.3.4;host="Example.com";proto=http`}}
		},
		"forwarded port agrees":  func(q *parts) { q.Header = http.Header{"X-Forwarded-Port": {"80"}} },
		"forwarded TLS agrees":   func(q *parts) { q.Header = http.Header{"X-Forwarded-Ssl": {"off"}} },
		"forwarded host agrees":  func(q *parts) { q.Header = http.Header{"X-Forwarded-Host": {"Example.com"}} },
		"forwarded proto agrees": func(q *parts) { q.Header = http.Header{"X-Forwarded-Proto": {"http"}} },
		"trusted proto agrees":   func(q *parts) { q.Header, q.Trusted = http.Header{"X-Forwarded-Proto": {"http"}}, true },
		"other header":           func(q *parts) { q.Header = http.Header{"Accept": {"text/html"}, "Cookie": {"a=b"}} },
		"ignored query": func(q *parts) {
			q.Query, q.RewrittenQuery, q.spec.Query = "a=1", "a=1", &Query{Mode: QueryNone}
		},
		"tracking": func(q *parts) {
			q.Query, q.spec.Query = "utm_source=x&%75tm_medium=y&gclid=1", &Query{Mode: QueryExcept, Names: []string{QueryTracking}}
			q.RewrittenQuery = q.Query
		},
	} {
		if got, want := keyFor(t, change).Full, keyFor(t, nil).Full; got != want {
			t.Errorf("%s: the key is %s, want %s", name, got, want)
		}
	}
}

func TestQueryOrder(t *testing.T) {
	query := func(s string) func(*parts) {
		return func(q *parts) { q.Query, q.RewrittenQuery = s, s }
	}
	if keyFor(t, query("b=2&a=1")).Full != keyFor(t, query("a=1&b=2")).Full {
		t.Error("the order of different parameters matters")
	}
}

func TestVaryQuery(t *testing.T) {
	for _, c := range []struct {
		rule *Query
		want string
	}{
		{nil, "a=1&b=2&utm_id=3"},
		{&Query{Mode: QueryAll}, "a=1&b=2&utm_id=3"},
		{&Query{Mode: QueryNone}, ""},
		{&Query{Mode: QueryOnly, Names: []string{"b"}}, "b=2"},
		{&Query{Mode: QueryOnly, Names: []string{"B"}}, "b=2"},
		{&Query{Mode: QueryExcept, Names: []string{QueryTracking, "a*"}}, "b=2"},
	} {
		if got := strings.Join(c.rule.Kept("b=2&utm_id=3&a=1"), "&"); got != c.want {
			t.Errorf("%+v keeps %s, want %s", c.rule, got, c.want)
		}
	}
}

func TestNormalHost(t *testing.T) {
	for _, c := range []struct{ scheme, host, want string }{
		{"http", "Example.COM", "example.com"},
		{"http", "example.com:80", "example.com"},
		{"https", "example.com:80", "example.com:80"},
		{"https", "example.com:443", "example.com"},
		{"http", "[::1]:80", "[::1]"},
		{"http", "[::1]:8080", "[::1]:8080"},
	} {
		if got := NormalHost(c.scheme, c.host); got != c.want {
			t.Errorf("NormalHost(%s, %s) = %s, want %s", c.scheme, c.host, got, c.want)
		}
	}
}

func TestSplitURI(t *testing.T) {
	for _, c := range []struct{ uri, path, query string }{
		{"/a%2fb?x=1", "/a%2fb", "x=1"},
		{"/a", "/a", ""},
		{"//evil.example/a", "//evil.example/a", ""},
		{"http://example.com/a?x", "/a", "x"},
		{"http://example.com", "/", ""},
	} {
		u, err := url.ParseRequestURI(c.uri)
		if err != nil {
			t.Fatal(err)
		}
		if path, query := SplitURI(u, c.uri); path != c.path || query != c.query {
			t.Errorf("SplitURI(%s) = %s, %s", c.uri, path, query)
		}
	}
}

func TestCookies(t *testing.T) {
	header := http.Header{"Cookie": {`a=1; b="2";c`, " d = 4 ;; =5"}}
	var got []string
	for name, value := range Cookies(header) {
		got = append(got, name+"="+value)
	}
	want := []string{"a=1", `b="2"`, "c=", "d= 4", "=5"}
	if !slices.Equal(got, want) {
		t.Errorf("cookies are %q, want %q", got, want)
	}
}

func FuzzKey(f *testing.F) {
	f.Add("example.com", "/a*?[b]{c}\n:", "x=1&y")
	f.Fuzz(func(t *testing.T, host, path, query string) {
		spec := Spec{Prefix: "p", Namespace: "n"}
		key, err := spec.Key(&Request{Target: &Target{Scheme: "http", Host: host, Path: path, Query: query}, Header: http.Header{}})
		if err != nil {
			return
		}
		if rest, ok := strings.CutPrefix(key.Full, "p:n:"); !ok || strings.Count(rest, ":") != 1 || strings.ContainsAny(rest, "*?[]{}\\\n \x00") {
			t.Errorf("the key is %q", key.Full)
		}
	})
}
