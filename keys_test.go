package rediscache

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// keyFor is the key of a GET request with a change applied to its parts.
func keyFor(t *testing.T, change func(*keyRequest)) requestKey {
	t.Helper()
	q := keyRequest{
		prefix: "cache", namespace: "general", scheme: "http", host: "example.com",
		path: "/a", header: http.Header{},
	}
	if change != nil {
		change(&q)
	}
	key, err := q.build()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestKeyFormat(t *testing.T) {
	key := keyFor(t, func(q *keyRequest) { q.host, q.path = "example.com:8080", "/a%2fb*c" })
	prefix, hash := key.Full[:len(key.Full)-33], key.Full[len(key.Full)-33:]
	if prefix != "cache:general:example.com%3A8080/a%252fb%2Ac" || hash[0] != ':' || strings.Trim(hash[1:], "0123456789abcdef") != "" {
		t.Errorf("the key is %s", key.Full)
	}
	if key.Name != key.Full || key.identifier != "example.com%3A8080/a%252fb%2Ac" {
		t.Errorf("name %s, identifier %s", key.Name, key.identifier)
	}
}

func TestKeyExact(t *testing.T) {
	exact := func(identifier string) requestKey {
		return keyFor(t, func(q *keyRequest) { q.templated, q.exact, q.identifier, q.namespace = true, true, identifier, "user" })
	}
	if key := exact("123:profile"); key.Full != "cache:user:123:profile" {
		t.Errorf("the key is %s", key.Full)
	}
	if key := exact(""); key.Full != "cache:user:" {
		t.Errorf("the key of an empty identifier is %s", key.Full)
	}
	long := strings.Repeat("x", maxNameIdentifier)
	a, b := exact(long+"a"), exact(long+"b")
	if a.Name == b.Name || len(a.Name) > maxNameIdentifier+100 || a.identifier != long+"a" {
		t.Errorf("long identifiers have the names %s and %s", a.Name, b.Name)
	}
}

func TestKeyTooLong(t *testing.T) {
	q := keyRequest{prefix: "cache", namespace: "general", path: "/" + strings.Repeat("x", maxIdentifier)}
	if _, err := q.build(); err == nil {
		t.Error("no error")
	}
}

// Every row is a request that must not share the key of any other row.
func TestKeysDiffer(t *testing.T) {
	rows := map[string]func(*keyRequest){
		"plain":              nil,
		"https":              func(q *keyRequest) { q.scheme = "https" },
		"host":               func(q *keyRequest) { q.host = "example.org" },
		"path":               func(q *keyRequest) { q.path = "/b" },
		"encoded path":       func(q *keyRequest) { q.path = "/%61" },
		"namespace":          func(q *keyRequest) { q.namespace = "other" },
		"prefix":             func(q *keyRequest) { q.prefix = "other" },
		"rewritten":          func(q *keyRequest) { q.rewrittenPath = "/m/a" },
		"query":              func(q *keyRequest) { q.query, q.rewrittenQuery = "a=1", "a=1" },
		"two parameters":     func(q *keyRequest) { q.query, q.rewrittenQuery = "a=1&b=2", "a=1&b=2" },
		"one with both":      func(q *keyRequest) { q.query, q.rewrittenQuery = "a=1%26b=2", "a=1%26b=2" },
		"repeated":           func(q *keyRequest) { q.query, q.rewrittenQuery = "a=1&a=2", "a=1&a=2" },
		"repeated otherwise": func(q *keyRequest) { q.query, q.rewrittenQuery = "a=2&a=1", "a=2&a=1" },
		"rewritten query":    func(q *keyRequest) { q.rewrittenQuery = "device=mobile" },
		"header absent":      func(q *keyRequest) { q.varyHeader = []string{"A", "B"} },
		"header empty":       func(q *keyRequest) { q.varyHeader, q.header = []string{"A", "B"}, http.Header{"A": {""}} },
		"header":             func(q *keyRequest) { q.varyHeader, q.header = []string{"A", "B"}, http.Header{"A": {"B"}} },
		"other header":       func(q *keyRequest) { q.varyHeader, q.header = []string{"A", "B"}, http.Header{"B": {"B"}} },
		"cookie absent":      func(q *keyRequest) { q.varyCookie = []string{"a", "b"} },
		"cookie":             func(q *keyRequest) { q.varyCookie, q.header = []string{"a", "b"}, http.Header{"Cookie": {"a=b"}} },
		"other cookie":       func(q *keyRequest) { q.varyCookie, q.header = []string{"a", "b"}, http.Header{"Cookie": {"b=b"}} },
		"two cookies":        func(q *keyRequest) { q.varyCookie, q.header = []string{"a", "b"}, http.Header{"Cookie": {"a=x; a=b"}} },
		"forwarded host":     func(q *keyRequest) { q.header = http.Header{"X-Forwarded-Host": {"evil.example"}} },
		"forwarded proto":    func(q *keyRequest) { q.header = http.Header{"X-Forwarded-Proto": {"https"}} },
		"proto of a trusted proxy": func(q *keyRequest) {
			q.header, q.trusted = http.Header{"X-Forwarded-Proto": {"https"}}, true
		},
		"forwarded port":   func(q *keyRequest) { q.header = http.Header{"X-Forwarded-Port": {"666"}} },
		"forwarded prefix": func(q *keyRequest) { q.header = http.Header{"X-Forwarded-Prefix": {"/evil"}} },
		"forwarded server": func(q *keyRequest) { q.header = http.Header{"X-Forwarded-Server": {"evil.example"}} },
		"forwarded TLS":    func(q *keyRequest) { q.header = http.Header{"X-Forwarded-Ssl": {"on"}} },
		"front end TLS":    func(q *keyRequest) { q.header = http.Header{"Front-End-Https": {"on"}} },
		"other host":       func(q *keyRequest) { q.header = http.Header{"X-Host": {"evil.example"}} },
		"Forwarded host":   func(q *keyRequest) { q.header = http.Header{"Forwarded": {`for=1.2.3.4; Host="evil.example"`}} },
		"Forwarded proto":  func(q *keyRequest) { q.header = http.Header{"Forwarded": {"for=1.2.3.4, for=5.6.7.8;proto=https"}} },
		"forwarded scheme": func(q *keyRequest) { q.header = http.Header{"X-Forwarded-Scheme": {"https"}} },
		"user":             func(q *keyRequest) { q.user = userHash([]byte("secret"), "1") },
		"other user":       func(q *keyRequest) { q.user = userHash([]byte("secret"), "2") },
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
	for name, change := range map[string]func(*keyRequest){
		"Forwarded agrees": func(q *keyRequest) {
			q.header = http.Header{"Forwarded": {`for=1.2.3.4;host="Example.com";proto=http`}}
		},
		"forwarded port agrees":  func(q *keyRequest) { q.header = http.Header{"X-Forwarded-Port": {"80"}} },
		"forwarded TLS agrees":   func(q *keyRequest) { q.header = http.Header{"X-Forwarded-Ssl": {"off"}} },
		"forwarded host agrees":  func(q *keyRequest) { q.header = http.Header{"X-Forwarded-Host": {"Example.com"}} },
		"forwarded proto agrees": func(q *keyRequest) { q.header = http.Header{"X-Forwarded-Proto": {"http"}} },
		"trusted proto agrees":   func(q *keyRequest) { q.header, q.trusted = http.Header{"X-Forwarded-Proto": {"http"}}, true },
		"other header":           func(q *keyRequest) { q.header = http.Header{"Accept": {"text/html"}, "Cookie": {"a=b"}} },
		"ignored query": func(q *keyRequest) {
			q.query, q.rewrittenQuery, q.varyQuery = "a=1", "a=1", &VaryQuery{Mode: queryNone}
		},
		"tracking": func(q *keyRequest) {
			q.query, q.varyQuery = "utm_source=x&%75tm_medium=y&gclid=1", &VaryQuery{Mode: queryExcept, Names: []string{queryTracking}}
			q.rewrittenQuery = q.query
		},
	} {
		if got, want := keyFor(t, change).Full, keyFor(t, nil).Full; got != want {
			t.Errorf("%s: the key is %s, want %s", name, got, want)
		}
	}
}

func TestQueryOrder(t *testing.T) {
	query := func(s string) func(*keyRequest) {
		return func(q *keyRequest) { q.query, q.rewrittenQuery = s, s }
	}
	if keyFor(t, query("b=2&a=1")).Full != keyFor(t, query("a=1&b=2")).Full {
		t.Error("the order of different parameters matters")
	}
}

func TestVaryQuery(t *testing.T) {
	for _, c := range []struct {
		rule *VaryQuery
		want string
	}{
		{nil, "a=1&b=2&utm_id=3"},
		{&VaryQuery{Mode: queryAll}, "a=1&b=2&utm_id=3"},
		{&VaryQuery{Mode: queryNone}, ""},
		{&VaryQuery{Mode: queryOnly, Names: []string{"b"}}, "b=2"},
		{&VaryQuery{Mode: queryOnly, Names: []string{"B"}}, "b=2"},
		{&VaryQuery{Mode: queryExcept, Names: []string{queryTracking, "a*"}}, "b=2"},
	} {
		if got := strings.Join(c.rule.kept("b=2&utm_id=3&a=1"), "&"); got != c.want {
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
		if got := normalHost(c.scheme, c.host); got != c.want {
			t.Errorf("normalHost(%s, %s) = %s, want %s", c.scheme, c.host, got, c.want)
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
		if path, query := splitURI(u, c.uri); path != c.path || query != c.query {
			t.Errorf("splitURI(%s) = %s, %s", c.uri, path, query)
		}
	}
}

func TestCookies(t *testing.T) {
	header := http.Header{"Cookie": {`a=1; b="2";c`, " d = 4 ;; =5"}}
	var got []string
	for name, value := range cookies(header) {
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
		q := keyRequest{prefix: "p", namespace: "n", scheme: "http", host: host, path: path, query: query, header: http.Header{}}
		key, err := q.build()
		if err != nil {
			return
		}
		if rest, ok := strings.CutPrefix(key.Full, "p:n:"); !ok || strings.Count(rest, ":") != 1 || strings.ContainsAny(rest, "*?[]{}\\\n \x00") {
			t.Errorf("the key is %q", key.Full)
		}
	})
}
