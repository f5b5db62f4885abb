package safety

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// graphqlSite caches POST by its body, as GraphQL and searches need it.
const graphqlSite = `
	@member header Cookie *member*
	redis_cache /graphql* api {
		ttl 10m
		methods GET HEAD POST QUERY
		vary_body 2KiB
		bypass @member
		invalidate tag changed
	}
	redis_cache /plain/* api {
		ttl 10m
		ttl status 404 10m
	}
	redis_cache /override/* api {
		ttl 10m override
	}
	redis_cache /tagged/* api {
		ttl 10m
		tag changed
	}`

// startGraphQL starts a node in front of an origin that answers everything with the
// number of the request.
func startGraphQL(t *testing.T) *harness.Node {
	t.Helper()
	return harness.StartCaddy(t, harness.Layout{Redis: harness.StartRedis(t), Origin: harness.NewOrigin(t), Cache: "\tnamespace api", Site: graphqlSite})
}

// post sends content and holds the answer to an outcome and to the reason, if there is one.
func post(t *testing.T, n *harness.Node, outcome, reason, path, body string, fields ...string) harness.Reply {
	t.Helper()
	method := http.MethodPost
	if m, rest, ok := strings.Cut(path, " "); ok {
		method, path = m, rest
	}
	before := n.OriginRequests()
	r := n.Do(t, method, path, body, fields...)
	if r.Outcome() != outcome || reason != "" && r.CacheStatus(t)["detail"] != reason {
		t.Fatalf("%s %s %q %q is %s (%s), want %s (%s)",
			method, path, fields, body, r.Outcome(), r.Header.Get("Cache-Status"), outcome, reason)
	}
	if asked := n.OriginRequests() - before; asked != map[bool]int{true: 0, false: 1}[outcome == "HIT"] {
		t.Fatalf("%s %s %q says %s, but origin was asked %d times", method, path, body, outcome, asked)
	}
	return r
}

const (
	typeJSON    = "Content-Type: application/json"
	typeGraphQL = "Content-Type: application/graphql"
	typeForm    = "Content-Type: application/x-www-form-urlencoded"
	typeParts   = "Content-Type: multipart/form-data; boundary=b"

	// As sha256 of {a}.
	persisted = `{"persistedQuery":{"version":1,"sha256Hash":"9ef55172d5c3a1ab9bcb9e1bfd6eef57a2a43a3ba4ef9b40c1d0e3a5d6fd6e7c"}}`
)

func uploadOf(operations string) string {
	return "--b\r\nContent-Disposition: form-data; name=\"operations\"\r\n\r\n" + operations + "\r\n--b\r\n" +
		"Content-Disposition: form-data; name=\"0\"; filename=\"a\"\r\n\r\nfile\r\n--b--\r\n"
}

func gzipped(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, text)
	w.Close()
	return b.String()
}

// TestGraphQLMutations sends each mutation twice: it must run twice, and purge.
func TestGraphQLMutations(t *testing.T) {
	t.Parallel()
	n := startGraphQL(t)
	const query = `{"query":"{ a }"}`
	long := `{"variables":"` + strings.Repeat("x", 3000) + `","query":"mutation{a}"}`
	for name, tt := range map[string]struct {
		path, reason, body string
		fields             []string
	}{
		"a document":        {"/graphql", "graphql mutation", "mutation { a }", []string{typeGraphQL}},
		"JSON":              {"/graphql", "graphql mutation", `{"query":"mutation { a }"}`, []string{typeJSON}},
		"another type":      {"/graphql", "graphql mutation", `{"query":"mutation { a }"}`, []string{"Content-Type: text/plain"}},
		"no type":           {"/graphql", "graphql mutation", "\n" + `{"operationName":"A","query":"\n  mutation A { a }"}`, nil},
		"behind a comment":  {"/graphql", "graphql mutation", `{"query":"# query {\n,,mutation { a }"}`, []string{typeJSON}},
		"escapes":           {"/graphql", "graphql mutation", `{"\u0071uery":"\u006d\u0075tation { a }"}`, []string{typeJSON}},
		"behind a fragment": {"/graphql", "graphql mutation", `{"query":"fragment F on T { query } mutation { ...F }"}`, []string{typeJSON}},
		"default values":    {"/graphql", "graphql mutation", `{"query":"mutation($a: I = {b: \"} query {\"}) @live { a }"}`, []string{typeJSON}},
		"by its name":       {"/graphql", "graphql mutation", `{"query":"query A{a} mutation B{b}","operationName":"B"}`, []string{typeJSON}},
		"which one":         {"/graphql", "graphql mutation", `{"query":"query A{a} mutation B{b}"}`, []string{typeJSON}},
		"in a batch":        {"/graphql", "graphql mutation", `[{"query":"{a}"},{"query":"mutation{a}"}]`, []string{typeJSON}},
		"twice":             {"/graphql", "graphql mutation", `{"query":"{a}","query":"mutation{a}"}`, []string{typeJSON}},
		"with its hash":     {"/graphql", "graphql mutation", `{"query":"mutation{a}","extensions":` + persisted + `}`, []string{typeJSON}},
		"a form":            {"/graphql", "graphql mutation", "query=mutation+%7Ba%7D", []string{typeForm}},
		"a form in parts":   {"/graphql", "graphql mutation", uploadOf(`{"query":"mutation($f: Upload!) { a }"}`), []string{typeParts}},
		"in the URL":        {"/graphql?query=mutation%7Ba%7D", "graphql mutation", `{}`, []string{typeJSON}},
		"compressed":        {"/graphql", "graphql mutation", gzipped(`{"query":"mutation{a}"}`), []string{typeJSON, "Content-Encoding: gzip"}},
		"a subscription":    {"/graphql", "graphql subscription", `{"query":"subscription { a }"}`, []string{typeJSON}},
		"by QUERY":          {"QUERY /graphql", "graphql mutation", `{"query":"mutation { a }"}`, []string{typeJSON}},
		"a rule bypasses":   {"/graphql", "bypass-rule", `{"query":"mutation { a }"}`, []string{typeJSON, "Cookie: member=1"}},
		"a large body":      {"/graphql", "request-body", long, []string{typeJSON}},
	} {
		t.Run(name, func(t *testing.T) {
			n.Purge(t, `{"namespace":"api"}`)
			for range 2 {
				post(t, n, "MISS", "", "/graphql", query, typeJSON)
				n.Want(t, "MISS", "/tagged/x")
				n.Want(t, "MISS", "/graphql?query=%7Ba%7D")
				post(t, n, "HIT", "", "/graphql", query, typeJSON)
				n.Want(t, "HIT", "/tagged/x")
				post(t, n, "BYPASS", tt.reason, tt.path, tt.body, tt.fields...)
			}
			post(t, n, "MISS", "", "/graphql", query, typeJSON)
			n.Want(t, "MISS", "/tagged/x")
		})
	}
	for status, outcome := range map[int]string{303: "MISS", 204: "MISS", 400: "HIT", 500: "HIT"} {
		path := fmt.Sprint("/graphql-", status)
		post(t, n, "MISS", "", path, query, typeJSON)
		n.Layout.Origin.Answer(path, status, "")
		post(t, n, "BYPASS", "", path, `{"query":"mutation { a }"}`, typeJSON)
		n.Layout.Origin.Answer(path, http.StatusOK, "")
		post(t, n, outcome, "", path, query, typeJSON)
	}
}

// TestGraphQLMutationsTogether sends one mutation many times at once.
func TestGraphQLMutationsTogether(t *testing.T) {
	t.Parallel()
	n := startGraphQL(t)
	for _, body := range []string{`{"query":"mutation{a}"}`, `{"doc_id":"7"}`, `{"extensions":` + persisted + `}`} {
		before := n.OriginRequests()
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() { _, _ = n.Try(t.Context(), http.MethodPost, "/graphql", body, typeJSON) })
		}
		group.Wait()
		if asked := n.OriginRequests() - before; asked != 8 {
			t.Errorf("%s has run %d times", body, asked)
		}
	}
}

// TestGraphQLReads are requests over POST that are stored, and purge nothing.
func TestGraphQLReads(t *testing.T) {
	t.Parallel()
	n := startGraphQL(t)
	n.Want(t, "MISS", "/graphql")
	n.Want(t, "MISS", "/tagged/x")
	for i, tt := range []struct{ path, contentType, body string }{
		{"/graphql", typeGraphQL, "{ mutation }"},
		{"/graphql", typeJSON, `{"query":"query Q { s(text: \"mutation { a }\") } # mutation { a }"}`},
		{"/graphql", typeJSON, `{"query":"query A{a} mutation B{b}","operationName":"A"}`},
		{"/graphql", typeJSON, `{"query":"{a}","variables":{"query":"mutation{a}"}}`},
		{"/graphql", typeJSON, `[{"query":"{a}"},{"query":"{b}"}]`},
		{"/graphql", typeForm, "query=%7Ba%7D"},
		{"/graphql", typeParts, uploadOf(`{"query":"query($f: Upload) { a }"}`)},
		{"QUERY /graphql", typeJSON, `{"query":"{a}"}`},
		// Searches.
		{"/graphql", typeJSON, `{"query":{"match":{"title":"mutation"}},"size":10}`},
		{"/graphql", typeJSON, `{"query":"mutations of genes"}`},
		{"/graphql", typeJSON, `{"query":"SELECT 1","id":"550e8400-e29b-41d4-a716-446655440000"}`},
		{"/graphql", "Content-Type: application/x-ndjson", "{\"index\":\"a\"}\n{\"query\":{}}\n"},
		{"/graphql", typeForm, "query=red+shoes&page=2"},
		{"/graphql", "Content-Type: text/plain", "mutation { a }"},
	} {
		first := post(t, n, "MISS", "", tt.path, tt.body, tt.contentType)
		if hit := post(t, n, "HIT", "", tt.path, tt.body, tt.contentType); hit.Body != first.Body {
			t.Errorf("%d: %q, then %q", i, first.Body, hit.Body)
		}
	}
	coded := gzipped(`{"query":{"match":{"title":"mutation"}}}`)
	post(t, n, "MISS", "", "/graphql", coded, typeJSON, "Content-Encoding: gzip")
	post(t, n, "HIT", "", "/graphql", coded, typeJSON, "Content-Encoding: gzip")
	post(t, n, "BYPASS", "", "/graphql", `{"query":"{member}"}`, typeJSON, "Cookie: member=1")
	n.Want(t, "HIT", "/graphql")
	n.Want(t, "HIT", "/tagged/x")

	// What the answer may be made for counts, but for searches.
	const query = `{"query":"{ accept }"}`
	accepts := []string{"application/json", "application/graphql-response+json, application/json;q=0.9", "multipart/mixed", "text/html"}
	for _, outcome := range []string{"MISS", "HIT"} {
		for _, accept := range accepts {
			post(t, n, outcome, "", "/graphql", query, typeJSON, "Accept: "+accept)
		}
	}
	post(t, n, "HIT", "", "/graphql", query, typeJSON, "Accept: application/graphql-response+json,application/json;q=0.9")
	post(t, n, "MISS", "", "/graphql", `{"search":1}`, typeJSON, "Accept: application/json")
	post(t, n, "HIT", "", "/graphql", `{"search":1}`, typeJSON, "Accept: */*")
}

// TestGraphQLUnreadable sends what does not say what it asks: only an origin that says so makes its
// answers stored.
func TestGraphQLUnreadable(t *testing.T) {
	t.Parallel()
	n := startGraphQL(t)
	n.Layout.Origin.With("/graphql/etag", `Etag: "a"`)
	n.Layout.Origin.With("/graphql/fresh", "Cache-Control: max-age=60")
	n.Want(t, "MISS", "/graphql")
	for _, tt := range []struct{ contentType, body string }{
		{typeJSON, `{"extensions":` + persisted + `,"variables":{"a":1}}`},
		{typeJSON, `{"query":"{b}","extensions":` + persisted + `}`},
		{typeJSON, `{"doc_id":"1234"}`},
		{typeJSON, `{"id":"0123456789abcdef0123456789abcdef"}`},
		{typeJSON, `[{"query":"{a}"},{"id":"0123456789abcdef0123456789abcdef"}]`},
		{typeJSON, `{"query":"query A { a"}`},
		{typeJSON, `{"query":"query A{a} query B{b}","operationName":"C"}`},
		{typeJSON, `{"query":"{a}","query":"{b}"}`},
		{typeJSON, `{"query":"{a}",}`[:14]},
		{typeGraphQL, "shoes"},
		{"Content-Type: application/json; charset=utf-16", "\xFE\xFF\x00{\x00}"},
		{"Content-Encoding: br", "coded"},
	} {
		for _, path := range []string{"/graphql", "/graphql/etag"} {
			post(t, n, "MISS", "graphql unreadable", path, tt.body, tt.contentType)
			post(t, n, "MISS", "graphql unreadable", path, tt.body, tt.contentType)
		}
		post(t, n, "MISS", "", "/graphql/fresh", tt.body, tt.contentType)
		post(t, n, "HIT", "", "/graphql/fresh", tt.body, tt.contentType)
	}
	n.Want(t, "HIT", "/graphql")
}

// TestJSONErrors answers with errors and a status of success.
func TestJSONErrors(t *testing.T) {
	t.Parallel()
	n := startGraphQL(t)
	const notFound = `{"errors":[{"message":"PersistedQueryNotFound"}]}`
	long := `{"data":"` + strings.Repeat("x", 100_000) + `","errors":["late"]}`
	for i, tt := range []struct {
		target, body, post string
		fields             []string
		second             string
	}{
		{"/plain", notFound, "", nil, "MISS"},
		{"/plain", `{"data":{"a":null},"errors":[{}]}`, "", []string{"Content-Type: application/graphql-response+json; charset=utf-8"}, "MISS"},
		{"/plain", long, "", nil, "MISS"},
		{"/plain", long, "", []string{"Content-Length: " + fmt.Sprint(len(long))}, "MISS"},
		{"/plain", gzipped(notFound), "", []string{"Content-Encoding: gzip"}, "MISS"},
		{"/plain", notFound, "", []string{`Etag: "a"`}, "MISS"},
		{"/override", notFound, "", nil, "MISS"},
		{"/override", notFound, "", []string{"Cache-Control: no-store"}, "MISS"},
		{"/graphql", notFound, "{a}", nil, "MISS"},
		{"/graphql", "[" + notFound + "]", "{b}", nil, "MISS"},
		{"/graphql", "--x\r\n" + notFound, "{c}", []string{"Content-Type: multipart/mixed; boundary=x"}, "MISS"},
		{"/graphql", "coded", "{d}", []string{"Content-Encoding: br"}, "MISS"},

		{"/plain", notFound, "", []string{"Cache-Control: max-age=60"}, "HIT"},
		{"/override", notFound, "", []string{"Cache-Control: max-age=60"}, "HIT"},
		{"/graphql", notFound, "{e}", []string{"Cache-Control: max-age=60"}, "HIT"},
		{"/plain", `{"data":{"errors":[1]},"errors":[]}`, "", nil, "HIT"},
		{"/plain", notFound, "", []string{"Content-Type: text/plain"}, "HIT"},
		{"/plain", "coded", "", []string{"Content-Encoding: br"}, "HIT"},
		{"/plain", "[" + notFound + "]", "", nil, "HIT"},
	} {
		path := fmt.Sprint(tt.target, "/errors-", i)
		n.Layout.Origin.Handle(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for _, f := range tt.fields {
				name, value, _ := strings.Cut(f, ": ")
				w.Header().Set(name, value)
			}
			io.WriteString(w, tt.body)
		})
		method, content := http.MethodGet, ""
		if tt.post != "" {
			method, content = http.MethodPost, tt.post
		}
		for _, outcome := range []string{"MISS", tt.second} {
			r := post(t, n, outcome, "", method+" "+path, content, typeGraphQL, "Accept-Encoding: gzip, br")
			if r.Body != tt.body {
				t.Errorf("%s: %d bytes, want %d", path, len(r.Body), len(tt.body))
			}
			status := r.CacheStatus(t)
			if late := len(tt.body) > 1000; tt.second == "MISS" && !late && (status["detail"] != "graphql errors" || status["stored"] != "") {
				t.Errorf("%s %q: %s", path, tt.fields, r.Header.Get("Cache-Status"))
			}
		}
	}
	n.Layout.Origin.Answer("/plain/404", http.StatusNotFound, notFound)
	n.Want(t, "MISS", "/plain/404")
	n.Want(t, "HIT", "/plain/404") // the status says that it is one, and the configuration names it

	// A persisted query becomes known.
	const byHash = "/graphql/hash?extensions=%7B%22persistedQuery%22%3A%7B%7D%7D"
	n.Layout.Origin.Answer("/graphql/hash", http.StatusOK, notFound)
	post(t, n, "MISS", "graphql errors", "GET "+byHash, "")
	n.Layout.Origin.Answer("/graphql/hash", http.StatusOK, `{"data":1}`)
	post(t, n, "MISS", "", "GET "+byHash, "")
	post(t, n, "HIT", "", "GET "+byHash, "")
}
