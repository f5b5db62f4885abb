package http

import (
	"fmt"
)

// statusConversations are about what the status of a stored response means for
// conditions, and of which statuses responses are stored.
func statusMeaningConversations() (list []conversation) {
	for _, status := range []int{301, 302, 400, 404, 405, 410, 451} {
		list = append(list, conversation{
			rule: fmt.Sprintf("RFC 9110 §13.2.1 a stored %d is fetched without conditions", status),
			script: fmt.Sprintf(`
			< %[1]d | Cache-Control: max-age=100, stale-if-error=1000 | Age: 150 | Etag: "a" | Last-Modified: {now-1000}
			> GET => MISS %[1]d | cs stored
			< 200 | Cache-Control: max-age=100 | Etag: "a"
			> GET => MISS | = 2 | cs fwd=stale | saw !If-None-Match | saw !If-Modified-Since
			> GET => HIT | = 2`, status),
		}, conversation{
			rule: fmt.Sprintf("RFC 9110 §15.4.5 a 304 does not revive a stored %d", status),
			script: fmt.Sprintf(`
			< %[1]d | Cache-Control: max-age=100 | Age: 99 | Etag: "a"
			> GET => MISS %[1]d
			< 304 | Etag: "a" | Cache-Control: max-age=100
			~ GET => STALE %[1]d | = 1 | X-Cache-TTL-Remaining: 0 | cs !stored
			< 200 | Cache-Control: max-age=100
			~ GET => MISS | cs stored
			> GET => HIT`, status),
		}, conversation{
			rule: fmt.Sprintf("RFC 9110 §13.2.1 a stored %d answers conditions and ranges whole", status),
			script: fmt.Sprintf(`
			< %[1]d | Cache-Control: max-age=100 | Etag: "a" | Last-Modified: {now-1000} | = 0123
			> GET => MISS %[1]d
			> GET | If-None-Match: "a" => HIT %[1]d | = 0123
			> GET | If-None-Match: * => HIT %[1]d | = 0123
			> GET | If-Modified-Since: {now-0} => HIT %[1]d | = 0123
			> GET | Range: bytes=0-1 => HIT %[1]d | = 0123
			> GET | Range: bytes=0-1 | If-Range: "a" => HIT %[1]d | = 0123
			> GET | Range: bytes=9- => HIT %[1]d | = 0123`, status),
		})
	}
	for _, status := range []int{200, 203, 299} {
		list = append(list, conversation{
			rule: fmt.Sprintf("RFC 9110 §13.2.1 a stored %d is validated", status),
			script: fmt.Sprintf(`
			< %[1]d | Cache-Control: max-age=100 | Age: 100 | Etag: "a"
			> GET => MISS %[1]d | cs stored
			< 304 | Etag: "a" | Cache-Control: max-age=100
			> GET => REVALIDATED %[1]d | = 1 | saw If-None-Match: "a"
			> GET => HIT %[1]d | = 1`, status),
		})
	}
	for _, field := range []string{"Status", "X-Status", "X-Status-Code", "X-HTTP-Status", "X-Http-Status-Code"} {
		list = append(list, conversation{rule: "§3.2 " + field + " of a 304 is its own", script: `
			< ` + old + ` | ` + field + `: 200 OK
			> GET => MISS | ` + field + `: 200 OK
			< 304 | Etag: "a" | Cache-Control: max-age=100 | ` + field + `: 304 Not Modified | X-New: 1
			> GET => REVALIDATED | = 1 | ` + field + `: 200 OK | X-New: 1
			> GET => HIT | = 1 | ` + field + `: 200 OK | X-New: 1
			> GET | If-None-Match: "a" => HIT 304 | !` + field + ` | X-New: 1
			> GET | Range: bytes=0-0 => HIT 206 | = 1 | !` + field + `
			> GET | Range: bytes=7- => HIT 416 | !` + field}, conversation{
			rule: "§3.2 " + field + " comes only with a 304", script: `
			< ` + old + `
			> GET => MISS
			< 304 | Etag: "a" | Cache-Control: max-age=100 | ` + field + `: 304
			> GET => REVALIDATED | !` + field + `
			> GET => HIT | !` + field,
		})
	}
	for _, status := range []int{404, 410, 414} {
		list = append(list, conversation{rule: fmt.Sprintf("a class of statuses has %d", status), route: "class", script: fmt.Sprintf(`
			< %[1]d
			> GET => MISS %[1]d | cs stored
			> GET => HIT %[1]d | = 1`, status)})
	}
	for _, status := range []int{400, 401, 402, 403, 405, 406, 407, 408, 409, 411, 413, 415, 416, 417, 418, 422, 423, 424, 425, 426, 451, 499} {
		list = append(list, conversation{rule: fmt.Sprintf("a class of statuses lacks %d", status), route: "class", script: fmt.Sprintf(`
			< %[1]d
			> GET => MISS %[1]d | = 1 | cs !stored
			> GET => MISS %[1]d | = 2`, status)})
	}
	for _, status := range []int{403, 405, 406, 415, 416} {
		list = append(list, conversation{rule: fmt.Sprintf("%d by its number", status), route: "named", script: fmt.Sprintf(`
			< %[1]d
			> GET => MISS %[1]d | cs stored
			> GET => HIT %[1]d | = 1`, status)})
	}
	for _, status := range []int{400, 403, 404, 405, 410, 451} {
		list = append(list, conversation{rule: fmt.Sprintf("no_store of a class has %d", status), route: "unwanted", script: fmt.Sprintf(`
			< %[1]d | Cache-Control: max-age=100
			> GET => MISS %[1]d | = 1 | cs detail=no-store-rule
			> GET => MISS %[1]d | = 2`, status)})
	}
	return append(list, []conversation{
		{rule: "RFC 9110 §13.2.1 conditions of a client where a 404 is stale", script: `
			< 404 | Cache-Control: max-age=100, stale-if-error=1000 | Age: 150 | Etag: "a"
			> GET => MISS 404
			< 200 | Cache-Control: max-age=100 | Etag: "b"
			> GET | If-None-Match: "x" => MISS | = 2 | saw If-None-Match: "x"
			> GET => MISS | = 3 | saw !If-None-Match
			> GET => HIT | = 3`},
		{rule: "RFC 5861 §3 the refresh of a 404 has no conditions", script: `
			< 404 | Cache-Control: max-age=100, stale-while-revalidate=1000 | Age: 150 | Etag: "a"
			> GET => MISS 404
			< 200 | Cache-Control: max-age=100 | = new
			> GET => STALE 404 | = 1
			~ GET => HIT | = new | saw !If-None-Match`},
		{rule: "§3 a 404 that is of no use without asking", script: `
			< 404 | Cache-Control: no-cache | Etag: "a"
			> GET => MISS 404 | cs !stored | cs detail=no-cache
			< 404 | Cache-Control: max-age=100 | Age: 100 | Etag: "a"
			> GET /old => MISS 404 | cs !stored | cs detail=expired`},

		// A 304 that nobody asked for.
		{rule: "RFC 9110 §15.4.5 a 304 to a request without conditions", script: `
			< 304 | Etag: "a" | Cache-Control: max-age=100
			> GET => MISS 502 | cs fwd=uri-miss | cs fwd-status=304 | cs !stored | cs detail=error
			> HEAD => MISS 502
			> GET | If-Match: "a" => MISS 502
			> GET | Range: bytes=0-0 => MISS 502
			> GET | Range: bytes=0-0 | If-Range: "a" => MISS 502
			> GET | If-None-Match: "a" => MISS 304
			> GET | If-Modified-Since: {now-0} => MISS 304
			< 200 | Cache-Control: max-age=100
			> GET => MISS | cs stored
			> GET => HIT`},
		{rule: "RFC 9110 §15.4.5 such a 304 is a failure that a stale response stands in for", script: `
			< 200 | Cache-Control: max-age=100, stale-if-error=1000 | Age: 150
			> GET => MISS
			< 304
			> GET => STALE | = 1 | asked 1 | cs fwd=stale | cs fwd-status=304`},
		{rule: "RFC 9110 §15.4.5 such a 304 and nothing that may stand in", script: `
			< 200 | Cache-Control: max-age=100, must-revalidate, no-cache | Age: 150 | Etag: "a"
			> GET => MISS
			< 304 | Etag: "b"
			> GET => MISS 502 | asked 2`},
		{rule: "RFC 9110 §15.4.5 a second 304 about another response", script: `
			< ` + old + `
			> GET => MISS
			< 304 | Etag: "b"
			> GET => STALE | = 1 | asked 2`},
	}...)
}
