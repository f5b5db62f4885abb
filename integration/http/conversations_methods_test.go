package http

import (
	"fmt"
)

// methodConversations are about unsafe methods, POST and HEAD.
func methodConversations() []conversation {
	return append(unsafeConversations(), []conversation{
		{rule: "§4.4 all variants of the target", script: `
			< 200 | Cache-Control: max-age=100 | Vary: Foo
			> GET | Foo: 1 => MISS | = 1
			> GET | Foo: 2 => MISS | = 2
			> POST => BYPASS | = 3
			> GET | Foo: 1 => MISS | = 4
			> GET | Foo: 2 => MISS | = 5`},
		{rule: "§4.4 the target alone", script: `
			< 200 | Cache-Control: max-age=100
			> GET /a => MISS
			> GET /b => MISS
			> POST /a => BYPASS
			> GET /b => HIT | = 2
			> GET /a => MISS | = 4`},
		{rule: "§4.4 Location and Content-Location", script: `
			< 200 | Cache-Control: max-age=100
			> GET /a => MISS
			> GET /b => MISS
			> GET /c => MISS
			< 201 | Location: {path}/a | Content-Location: http://shop.test{path}/b
			> POST /x => BYPASS 201
			< 200 | Cache-Control: max-age=100
			> GET /a => MISS | = 5
			> GET /b => MISS | = 6
			> GET /c => HIT | = 3`},
		{rule: "§4.4 a relative Location", script: `
			< 200 | Cache-Control: max-age=100
			> GET /a => MISS
			< 303 | Location: a
			> POST /x => BYPASS 303
			< 200
			> GET /a => MISS`},
		{rule: "§4.4 not on another origin", script: `
			< 200 | Cache-Control: max-age=100
			> GET /a => MISS
			> GET /b => MISS
			> GET /c | Host: other.test => MISS
			< 200 | Location: http://other.test{path}/a | Content-Location: https://shop.test{path}/b
			> POST /x => BYPASS
			< 200 | Location: http://other.test{path}/c
			> POST /x => BYPASS
			> GET /a => HIT | = 1
			> GET /b => HIT | = 2
			> GET /c | Host: other.test => HIT | = 3`},
		{rule: "§4.4 Location of an error", script: `
			< 200 | Cache-Control: max-age=100
			> GET /a => MISS
			< 500 | Location: {path}/a
			> POST /x => BYPASS 500
			> GET /a => HIT | = 1`},
		{rule: "§4.4 Location of a safe method", script: `
			< 200 | Cache-Control: max-age=100
			> GET /a => MISS
			< 200 | Location: {path}/a | Content-Location: {path}/a
			> GET /x => MISS
			> OPTIONS /x => BYPASS
			> GET /a => HIT | = 1`},
		{rule: "RFC 9110 §9.3 answers to unsafe methods are not stored", script: `
			< 200 | Cache-Control: max-age=100
			> PUT => BYPASS | cs !stored
			> POST | = text => BYPASS | cs !stored
			> GET => MISS | = 3`},

		// POST. Where its purge takes the journal too long, the answer is not stored.
		{rule: "RFC 9110 §9.3.3 POST with its own Content-Location", alone: true, script: `
			< 200 | Cache-Control: max-age=100 | Content-Location: {path} | = posted
			~ POST | = text => BYPASS | = posted | cs stored
			> GET => HIT | = posted | Content-Location: {path}`},
		{rule: "RFC 9110 §9.3.3 an absolute Content-Location", alone: true, script: `
			< 200 | Cache-Control: max-age=100 | Content-Location: http://SHOP.test:80{path}?q=1 | = posted
			~ POST ?q=1 | = text => BYPASS | = posted | cs stored
			> GET ?q=1 => HIT | = posted
			> GET => MISS`},
		{rule: "RFC 9110 §9.3.3 it replaces what was stored", alone: true, script: `
			< 200 | Cache-Control: max-age=100 | Content-Location: {path}
			> GET => MISS
			< 200 | Cache-Control: max-age=100 | Content-Location: {path} | = posted
			~ POST => BYPASS | = posted | cs stored
			> GET => HIT | = posted`},
		{rule: "RFC 9110 §9.3.3 another Content-Location", alone: true, script: `
			< 200 | Cache-Control: max-age=100 | Content-Location: {path}/other
			> POST => BYPASS | cs !stored
			> GET => MISS
			< 200
			> GET /other => MISS`},
		{rule: "RFC 9110 §9.3.3 no explicit freshness", alone: true, script: `
			< 200 | Content-Location: {path}
			> POST => BYPASS | cs !stored
			> GET => MISS | = 2`},

		// HEAD.
		{rule: "RFC 9110 §9.3.2 HEAD from a stored GET", script: `
			< 200 | Cache-Control: max-age=100 | Etag: "a" | Content-Type: text/plain | X-A: 1 | = 0123456789
			> GET => MISS
			> HEAD => HIT | = | Content-Length: 10 | Content-Type: text/plain | Etag: "a" | X-A: 1 | Age: 0..15
			> HEAD | If-None-Match: "a" => HIT 304 | =
			> HEAD | Range: bytes=0-1 => HIT | = | Content-Length: 10`},
		{rule: "RFC 9110 §9.3.2 HEAD is not stored as content", script: `
			< 200 | Cache-Control: max-age=100
			> HEAD => MISS | = | cs !stored
			> GET => MISS | = 2
			> GET => HIT | = 2`},
		{rule: "§4.3.5 HEAD freshens the stored GET", script: `
			< ` + old + ` | = x
			> GET => MISS
			< 200 | Cache-Control: max-age=200 | Etag: "a" | Last-Modified: {now-1000} | X-New: 1 | = y
			> HEAD => MISS | = | cs fwd=stale
			~ GET => HIT | = x | X-New: 1 | Cache-Control: max-age=200 | Etag: "a"`},
		{rule: "§4.3.5 HEAD with another entity-tag", script: `
			< ` + old + ` | = x
			> GET => MISS
			< 200 | Cache-Control: max-age=100 | Etag: "b" | = y
			> HEAD => MISS | =
			< 200 | Cache-Control: max-age=100 | Etag: "b"
			> GET => MISS | = 3`},
		{rule: "§4.3.5 HEAD with another length", script: `
			< ` + old + ` | = x
			> GET => MISS
			< 200 | Cache-Control: max-age=100 | Etag: "a" | = longer
			> HEAD => MISS | =
			< 200 | Cache-Control: max-age=100 | Etag: "a"
			> GET => MISS | = 3`},
		{rule: "§4.3.5 HEAD with another Last-Modified", script: `
			< ` + old + ` | = x
			> GET => MISS
			< 200 | Cache-Control: max-age=100 | Last-Modified: {now-500} | = y
			> HEAD => MISS | =
			< 200 | Cache-Control: max-age=100
			> GET => MISS | = 3`},
		{rule: "§4.3.5 an error answer to HEAD", script: `
			< ` + old + `
			> GET => MISS
			< 404
			> HEAD => MISS 404 | =
			< 304 | Etag: "a"
			> GET => REVALIDATED | = 1`},
	}...)
}

// unsafeConversations hold each kind of method to what its answer does to a
// stored response.
func unsafeConversations() (list []conversation) {
	for _, tt := range []struct {
		method string
		status int
		second string
	}{
		{"POST", 200, "MISS"},
		{"POST", 201, "MISS"},
		{"POST", 303, "MISS"},
		{"PUT", 204, "MISS"},
		{"PATCH", 200, "MISS"},
		{"DELETE", 204, "MISS"},
		{"LINK", 200, "MISS"},
		{"BREW", 299, "MISS"}, // nobody knows it
		{"get", 200, "MISS"},  // methods are case-sensitive
		{"POST", 400, "HIT"},
		{"PUT", 409, "HIT"},
		{"DELETE", 404, "HIT"},
		{"PATCH", 500, "HIT"},
		{"BREW", 418, "HIT"},
		{"OPTIONS", 200, "HIT"},
		{"TRACE", 200, "HIT"},
		{"PROPFIND", 207, "HIT"},
		{"REPORT", 200, "HIT"},
		{"SEARCH", 200, "HIT"},
		{"QUERY", 200, "HIT"},
	} {
		list = append(list, conversation{rule: fmt.Sprintf("§4.4 %s answered with %d", tt.method, tt.status), script: fmt.Sprintf(`
			< 200 | Cache-Control: max-age=100
			> GET => MISS
			< %d
			> %s => BYPASS %[1]d | cs fwd=method | cs fwd-status=%[1]d
			< 200 | = later
			> GET => %[3]s`, tt.status, tt.method, map[string]string{"HIT": "HIT | = 1", "MISS": "MISS | = later"}[tt.second])})
	}
	return list
}
