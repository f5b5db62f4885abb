package graphql

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"unicode/utf16"
)

func sum(document string) string {
	hash := sha256.Sum256([]byte(document))
	return hex.EncodeToString(hash[:])
}

func wide(text string) string {
	var b bytes.Buffer
	for _, c := range utf16.Encode([]rune(text)) {
		b.WriteByte(byte(c))
		b.WriteByte(byte(c >> 8))
	}
	return b.String()
}

const parts = "--b\r\nContent-Disposition: form-data; name=\"operations\"\r\n\r\n%s\r\n--b\r\nContent-Disposition: form-data; name=\"map\"\r\n\r\n{}\r\n--b--\r\n"

func TestKindOf(t *testing.T) {
	const document, form, inParts = "application/graphql", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"
	hash := sum("{a}")
	for _, tt := range []struct {
		kind                   Kind
		contentType, url, body string
	}{
		// Documents.
		{Query, document, "", "{ a }"},
		{Query, "Application/GraphQL; charset=utf-8", "", "query { a }"},
		{Mutation, document, "", "\uFEFF #c\r mutation{a}"},
		{Subscription, document, "", ",,subscription S { a }"},
		{Unreadable, document, "", "shoes"},
		{Unreadable, document, "", "fragment F on T { mutation }"},
		{Query, document, "", `{"query":"{a}"}`},
		{Mutation, document, "", `{"query":"mutation{a}"}`},
		{Unreadable, document, "", ""},

		// JSON.
		{Query, "application/json", "", `{"query":"{a}"}`},
		{Query, "text/plain", "", `{"query":"query Q{a}","operationName":"Q","variables":{"mutation":"mutation{x}"}}`},
		{Query, "", "", " \n" + `{"query":"# mutation {a}\nquery Q { s(t: \"mutation M{b}\") }"}`},
		{Mutation, "", "", `{"query":"mutation M($a: I = {b: \"}\"}) @d(x: [1]) { c }"}`},
		{Mutation, "", "", `{"\u0071uery":"\u006dutation { a }"}`},
		{Mutation, "", "", `{"Query":"mutation{a}"}`},
		{Mutation, "", "", "\uFEFF" + `{"variables":null,"query":"mutation{a}"}`},
		{Mutation, "application/json; charset=;;", "", `{"query":"mutation{a}"}`},
		{Subscription, "", "", `{"query":"subscription{a}","extensions":{}}`},
		{Query, "", "", `{"query":"{mutation{subscription}}"}`},
		{Query, "", "", `{"query":"\"\"\"mutation{a} \\\"\"\" } \"\"\" query Q {a}"}`},
		{Query, "", "", `{"query":"fragment mutation on T { a } query subscription { ...mutation }"}`},
		{Unreadable, "", "", `{"query":"query Q{a"}`},
		{Unreadable, "", "", `{"query":"query optimisation"}`},
		{Mutation, "", "", `{"query":"mutation testing"}`},
		{Unreadable, "", "", `{"query":"{a} type T { a: Int }"}`},
		{Unreadable, "", "", `{"query":"{a} }"}`},
		{Unreadable, "", "", `{"query":"{a(b: \"c)}"}`},
		{None, "", "", `{"query":"queryable { a }"}`},
		{None, "", "", `{"query":"mutations{a}"}`},
		{None, "", "", `{"query":"\"red shoes\" size 40"}`},

		// Several operations.
		{Query, "", "", `{"query":"query A{a} mutation B{b}","operationName":"A"}`},
		{Mutation, "", "", `{"query":"query A{a} mutation B{b}","operationName":"B"}`},
		{Mutation, "", "", `{"query":"query A{a} mutation B{b}","operationName":"C"}`},
		{Mutation, "", "", `{"query":"query A{a} mutation B{b}"}`},
		{Mutation, "", "", `{"query":"query A{a} mutation A{b}","operationName":"A"}`},
		{Unreadable, "", "", `{"query":"query A{a} query B{b}","operationName":"C"}`},
		{Unreadable, "", "", `{"query":"query A{a} query B{b}","operationName":null}`},
		{Unreadable, "", "", `{"query":"query A{a}","operationName":"B"}`},
		{Query, "", "", `{"query":"query A{a}","operationName":""}`},
		{Query, "", "operationName=A", `{"query":"query A{a} mutation B{b}","operationName":"A"}`},
		{Mutation, "", "operationName=B", `{"query":"query A{a} mutation B{b}","operationName":"A"}`},

		// What can be read in two ways.
		{Mutation, "", "", `{"query":"{a}","query":"mutation{b}"}`},
		{Mutation, "", "", `{"query":"mutation{b}","QUERY":"{a}"}`},
		{Unreadable, "", "", `{"query":"{a}","query":"{b}"}`},
		{Query, "", "", `{"query":"{a}","query":"{a}"}`},
		{Unreadable, "", "", `{"query":"query A{a} query B{b}","operationName":"A","operationName":"B"}`},
		{Mutation, "", "query=mutation{b}", `{"query":"{a}"}`},
		{Unreadable, "", "query=%7Bb%7D", `{"query":"{a}"}`},
		{Query, "", "query=shoes&id=7", `{"query":"{a}"}`},
		{Unreadable, "", "", `{"query":"{a}","doc_id":"7"}`},
		{Unreadable, "", "", `{"query":"{a}"} {"query":"{a}"}`},
		{Mutation, "", "", `{"query":"{a}"}` + "\n" + `{"query":"mutation{a}"}`},
		{Unreadable, "", "", `{"query":"{a}" 7}`},
		{Unreadable, "", "", `{"query":"{a}"`},
		{Unreadable, "", "", `{"query":"{a}"}}`},
		{Mutation, "", "", `{"query":"mutation{a}","variables":{"x":`},
		{Unreadable, "", "", wide(`{"query":"mutation{a}"}`)},
		{Unreadable, "", "", "\xFF\xFE" + wide(`{"query":"mutation{a}"}`)},
		{Unreadable, "application/json; charset=utf-16", "", "+AHsA"},

		// Documents that are named.
		{Unreadable, "", "", `{"doc_id":"1234","variables":{}}`},
		{Unreadable, "", "", `{"doc_id":1234}`},
		{Unreadable, "", "", `{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"` + hash + `"}}}`},
		{Unreadable, "", "", `{"query":null,"extensions":{"persistedQuery":{"version":1,"sha256Hash":"` + hash + `"}}}`},
		{Unreadable, "", "", `{"query":"","extensions":{"PersistedQuery":"` + hash + `"}}`},
		{Query, "", "", `{"query":"{a}","extensions":{"persistedQuery":{"version":1,"sha256Hash":"` + hash + `"}}}`},
		{Unreadable, "", "", `{"query":"{b}","extensions":{"persistedQuery":{"version":1,"sha256Hash":"` + hash + `"}}}`},
		{Unreadable, "", "", `{"query":"{a}","extensions":{"persistedQuery":{"version":1}}}`},
		{Unreadable, "", "", `{"id":"` + hash + `"}`},
		{Unreadable, "", "", `{"id":"0123456789abcdef0123456789ABCDEF"}`},
		{Unreadable, "", "", `{"documentId":"sha256:7"}`},
		{Unreadable, "", "", `{"id":"47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"}`},
		{Unreadable, "", "", `{"id":"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}`},
		{None, "", "", `{"id":"550e8400-e29b-41d4-a716-446655440000"}`},
		{None, "", "", `{"id":7,"extensions":{"persistedQuery":null}}`},
		{None, "", "", `{"id":"urn:isbn:1"}`},

		// Batches.
		{Query, "", "", `[{"query":"{a}"},{"query":"query{b}"}]`},
		{Mutation, "", "", `[{"query":"{a}"},{"query":"mutation{b}"}]`},
		{Mutation, "", "", `[{"doc_id":"1"},{"query":"mutation{b}"}]`},
		{Unreadable, "", "", `[{"query":"{a}"},{"doc_id":"1"}]`},
		{Unreadable, "", "", `[{"query":"{a}"},7]`},
		{Unreadable, "", "", `[{"query":"{a}"},[{"query":"{a}"}]]`},
		{Unreadable, "", "", `[{"query":"{a}"}`},
		{Unreadable, "", "query={b}", `[{"query":"{a}"}]`},
		{None, "", "", `[]`},
		{None, "", "", `["{a}", {"query":7}]`},

		// Forms.
		{Query, form, "", "query=%7Ba%7D&variables="},
		{Mutation, form, "", "variables=&query=mutation+M+%7Ba%7D"},
		{Mutation, form, "", `{"query":"mutation{a}"}`},
		{Mutation, form, "query={b}", "query=mutation{a}"},
		{Unreadable, form, "", "extensions=" + url.QueryEscape(`{"persistedQuery":{"sha256Hash":"`+hash+`"}}`)},
		{None, form, "", "query=red+shoes&page=2"},
		{Mutation, "", "query=mutation{a}", ""},
		{Query, "", "query={a}", ""},
		{Query, inParts, "", fmt.Sprintf(parts, `{"query":"query($f: Upload){a}","variables":{"f":null}}`)},
		{Mutation, inParts, "", fmt.Sprintf(parts, `{"query":"mutation($f: Upload!){a}"}`)},
		{Mutation, inParts, "", fmt.Sprintf(parts, `[{"query":"{a}"},{"query":"mutation{a}"}]`)},
		{Unreadable, inParts, "", fmt.Sprintf(parts, `{"query":"{a}"}`)[:70]},
		{Mutation, inParts, "", strings.Replace(fmt.Sprintf(parts, `mutation{a}`), "operations", "query", 1)},
		{Unreadable, "multipart/form-data", "", fmt.Sprintf(parts, `{"query":"mutation{a}"}`)},
		{None, inParts, "", strings.Replace(fmt.Sprintf(parts, `red shoes`), "operations", "q", 1)},

		// Searches.
		{None, "application/json", "", `{"query":{"match":{"title":"mutation"}},"from":10}`},
		{None, "application/json", "", `{"query":"SELECT * FROM t WHERE a = '{b}'"}`},
		{None, "application/x-ndjson", "", `{"index":"a"}` + "\n" + `{"query":{"term":{"x":1}}}` + "\n"},
		{None, "application/json", "", `{"filters":["mutation"],"text":"mutation{a}"}`},
		{None, "application/json; charset=iso-8859-1", "", "{\"q\":\"caf\xe9\"}"},
		{None, "application/sparql-query", "", "SELECT ?a { ?a ?b ?c }"},
		{None, "text/plain", "", "mutation { a }"},
		{None, "application/grpc-web+proto", "", "\x00\x00\x00\x00\x05hello"},
		{None, "application/json", "", `7`},
		{None, "application/json", "", `{"query":7}`},
		{None, "application/json", "", ``},
	} {
		if got := KindOf(tt.contentType, tt.url, []byte(tt.body)); got != tt.kind {
			t.Errorf("%q ?%s %q is %q, want %q", tt.contentType, tt.url, tt.body, got, tt.kind)
		}
	}
}

func TestHasErrors(t *testing.T) {
	for _, tt := range []struct {
		answer string
		lists  bool
		want   bool
	}{
		{`{"errors":[{"message":"PersistedQueryNotFound"}]}`, false, true},
		{"\uFEFF {\"data\":{\"errors\":[]} ,\n\"errors\" : [1] }", false, true},
		{`{"\u0065rrors":"x"}`, false, true},
		{`{"errors":{"name":["taken"]}}`, false, true},
		{`{"data":null,"errors":true}`, false, true},
		{`{"data":{"a":"}"},"errors":[1],"x`, false, true},
		{`{"data":{"a":"}"},"errors":[`, false, false},
		{`{"data":1,"errors":[ ]}`, false, false},
		{`{"errors":null}`, false, false},
		{`{"errors":{}, "data":[]}`, false, false},
		{`{"data":{"errors":[1]},"x":"\"errors\":[1]"}`, false, false},
		{`{"Errors":[1],"error":[1],"errors ":[1]}`, false, false},
		{`[{"data":1},{"errors":[1]}]`, true, true},
		{`[{"data":1},{"errors":[1]}]`, false, false},
		{`[{"data":{"errors":[1]}},7,[{"errors":[1]}]]`, true, false},
		{`errors`, true, false},
		{``, true, false},
	} {
		if got := HasErrors([]byte(tt.answer), tt.lists); got != tt.want {
			t.Errorf("%s: %t", tt.answer, got)
		}
	}
}

// FuzzKindOf writes a mutation, and one operation beside it, in many ways.
func FuzzKindOf(f *testing.F) {
	f.Add("application/json", "a=b", []byte(`{"query":"mutation{a}"}`), "# c\n", "s")
	f.Add("multipart/form-data; boundary=b", "", fmt.Appendf(nil, parts, `{"query":"{a}"}`), ",", `a"""b\`)
	f.Add("application/graphql", "query={a}", []byte("\uFEFF{a(b: \"\"\"\\\"\"\")}"), "\uFEFF", "}{\n")
	f.Add("application/x-www-form-urlencoded", "", []byte(`query=mutation{a}`), "\r", "\\u0022")
	f.Fuzz(func(t *testing.T, contentType, query string, body []byte, comment, text string) {
		KindOf(contentType, query, body)
		HasErrors(body, true)
		for _, c := range comment {
			if !strings.ContainsRune(" \t\r\n,\uFEFF", c) {
				comment = "#" + strings.NewReplacer("\n", " ", "\r", " ").Replace(comment) + "\n"
				break
			}
		}
		value, _ := json.Marshal(strings.ToValidUTF8(text, ""))
		one := fmt.Sprintf("%s query A%[1]s(%[1]s$a: I = {b: %[2]s})%[1]s{ a(b: %[2]s) }", comment, value)
		two := fmt.Sprintf("%s mutation%[1]sB @d(a: [%[2]s]) { c { d(e: %[2]s) } }%[1]s", comment, value)
		for name, want := range map[string]Kind{"": Mutation, "A": Query, "B": Mutation} {
			request, err := json.Marshal(map[string]string{"operationName": name, "query": one + two, "x": text})
			if err != nil {
				t.Fatal(err)
			}
			if got := KindOf(contentType, "", request); got != want && !strings.Contains(contentType, "/") {
				t.Errorf("%s of %s is %q", name, request, got)
			}
		}
	})
}

func BenchmarkKindOf(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10} {
		body, _ := json.Marshal(map[string]string{"query": "query Q {\n" + strings.Repeat(" a(b: \"c\")\n", size/12) + "}"})
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				KindOf("application/json", "", body)
			}
		})
	}
}
