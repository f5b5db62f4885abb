package http

// old is a response that is stored, because it can be revalidated, and stale.
const old = `200 | Cache-Control: max-age=100 | Age: 100 | Etag: "a" | Last-Modified: {now-1000}`

// validationConversations are about asking the origin, and answering clients
// that ask whether what they have is still good.
func validationConversations() []conversation {
	return []conversation{
		{rule: "§4.3.1 both validators are sent", script: `
			< ` + old + `
			> GET => MISS | cs stored
			< 304 | Etag: "a" | Cache-Control: max-age=100
			> GET => REVALIDATED | = 1 | saw If-None-Match: "a" | saw If-Modified-Since: {now-1000} | cs fwd=stale | cs fwd-status=304`},
		{rule: "§4.3.1 validators are sent verbatim", script: `
			< 200 | Cache-Control: max-age=100 | Age: 100 | Etag: W/"x, y" | Last-Modified: a while ago
			> GET /a => MISS
			< 304
			> GET /a => REVALIDATED | = 1 | saw If-None-Match: W/"x, y" | saw If-Modified-Since: a while ago
			< 200 | Cache-Control: max-age=100 | Age: 100 | Etag: no-quotes
			> GET /b => MISS
			< 304
			> GET /b => REVALIDATED | saw If-None-Match: no-quotes | saw !If-Modified-Since`},
		{rule: "§3.2 a 304 replaces the fields it has, but Content-Length", script: `
			< ` + old + ` | X-A: 1 | X-B: 1 | = 0123456789
			> GET => MISS | X-A: 1
			< 304 | Etag: "a" | Cache-Control: max-age=200 | X-A: 2 | X-A: 3 | Content-Length: 5 | Date: {now-50} | raw | =
			> GET => REVALIDATED | = 0123456789 | X-A: 2, 3 | X-B: 1 | Content-Length: 10
			> GET => HIT | = 0123456789 | X-A: 2, 3 | X-B: 1 | Content-Length: 10 | Date: {now-50} | Cache-Control: max-age=200`},
		{rule: "§3.1 a 304 adds nothing that is not stored", script: `
			< ` + old + `
			> GET => MISS
			< 304 | Etag: "a" | Cache-Control: max-age=100 | Proxy-Authentication-Info: x
			> GET => REVALIDATED
			> GET => HIT | = 1 | !Proxy-Authentication-Info`},
		{rule: "§5.2.2.7 qualified private on a 304", script: `
			< ` + old + `
			> GET => MISS
			< 304 | Etag: "a" | Cache-Control: max-age=100, private="X-P" | X-P: 1
			> GET => REVALIDATED
			> GET => HIT | = 1 | !X-P`},
		{rule: "§5.2.2.4 qualified no-cache on a 304", script: `
			< ` + old + `
			> GET => MISS
			< 304 | Etag: "a" | Cache-Control: max-age=100, no-cache="X-P" | X-P: 1
			> GET => REVALIDATED
			> GET => HIT | = 1 | !X-P`},
		{rule: "§4.3.4 freshness is computed anew", script: `
			< ` + old + `
			> GET => MISS
			< 304 | Etag: "a" | Cache-Control: max-age=500 | Age: 20
			> GET => REVALIDATED | = 1
			> GET => HIT | = 1 | Age: 20..35 | X-Cache-TTL-Remaining: 460..480`},
		{rule: "§4.3.4 a 304 without Cache-Control leaves the stored one", script: `
			< ` + old + `
			> GET => MISS
			< 304 | Etag: "a"
			> GET => REVALIDATED
			> GET => HIT | = 1 | Age: 0..15 | Cache-Control: max-age=100`},
		{rule: "§4.3.4 a strong validator that matches nothing stored", script: `
			< ` + old + `
			> GET => MISS
			< 304 | Etag: "b" | Cache-Control: max-age=100 | X-New: 1
			< 200 | Etag: "b" | Cache-Control: max-age=100
			> GET => MISS | = 3 | Etag: "b" | !X-New | asked 2
			> GET => HIT | = 3 | !X-New`},
		{rule: "§4.3.3 a 200 replaces the stored response", script: `
			< ` + old + ` | X-A: 1
			> GET => MISS
			< 200 | Cache-Control: max-age=100 | Etag: "b"
			> GET => MISS | = 2 | cs fwd=stale | cs stored
			> GET => HIT | = 2 | Etag: "b" | !X-A`},
		{rule: "§4.3.3 a 200 that may not be stored ends the stored response, too", script: `
			< ` + old + `
			> GET => MISS
			< 200 | Cache-Control: no-store
			> GET => MISS | = 2 | cs !stored
			< 503
			> GET => MISS 503 | = 3`},
		{rule: "§4.3.3 an error of the client is passed on", script: `
			< ` + old + `
			> GET => MISS
			< 404
			> GET => MISS 404 | = 2`},
		{rule: "§5.2.2.4 no-cache is revalidated each time", script: `
			< 200 | Cache-Control: max-age=100, no-cache | Etag: "a"
			> GET => MISS | cs stored
			< 304 | Etag: "a"
			> GET => REVALIDATED | = 1
			> GET => REVALIDATED | = 1`},
		{rule: "§5.2.2.5 a 304 with no-store ends the stored response", script: `
			< ` + old + `
			> GET => MISS
			< 304 | Etag: "a" | Cache-Control: no-store
			> GET => REVALIDATED | = 1
			< 200
			> GET => MISS | = 3 | saw !If-None-Match`},
		{rule: "§4.3.2 own condition during revalidation, which holds", script: `
			< ` + old + `
			> GET => MISS
			< 304 | Etag: "a" | Cache-Control: max-age=100
			> GET | If-None-Match: "x", "a" => REVALIDATED 304 | = | Etag: "a" | saw If-None-Match: "a"
			> GET => HIT | = 1`},
		{rule: "§4.3.2 own condition during revalidation, which does not", script: `
			< ` + old + `
			> GET => MISS
			< 304 | Etag: "a" | Cache-Control: max-age=100
			> GET | If-None-Match: "x" => REVALIDATED | = 1 | saw If-None-Match: "a"`},
		{rule: "§4.3.2 own date during revalidation", script: `
			< ` + old + `
			> GET => MISS
			< 304 | Etag: "a" | Cache-Control: max-age=100, no-cache
			> GET | If-Modified-Since: {now-1000} => REVALIDATED 304 | =
			> GET | If-Modified-Since: {now-1001} => REVALIDATED | = 1`},
		{rule: "§4.3.2 conditions pass where nothing is stored", script: `
			< 304 | Etag: "a" | Cache-Control: max-age=100
			> GET | If-None-Match: "a" => MISS 304 | saw If-None-Match: "a"
			< 200 | Etag: "a" | Cache-Control: max-age=100
			> GET => MISS | = 2 | saw !If-None-Match
			> GET => HIT | = 2`},

		// Conditions that the cache answers itself.
		{rule: "§4.3.2 If-None-Match", script: `
			< 200 | Cache-Control: max-age=100 | Etag: "a,1"
			> GET => MISS
			> GET | If-None-Match: "a,1" => HIT 304 | =
			> GET | If-None-Match: W/"a,1" => HIT 304 | =
			> GET | If-None-Match: * => HIT 304 | =
			> GET | If-None-Match: "x", W/"a,1", "y" => HIT 304 | =
			> GET | If-None-Match: "x" | If-None-Match: "a,1" => HIT 304 | =
			> GET | If-None-Match: "x" => HIT | = 1
			> GET | If-None-Match: "A,1" => HIT | = 1
			> GET | If-None-Match: "a", "1" => HIT | = 1`},
		{rule: "§4.3.2 If-None-Match and a weak stored entity-tag", script: `
			< 200 | Cache-Control: max-age=100 | Etag: W/"a"
			> GET => MISS
			> GET | If-None-Match: "a" => HIT 304 | Etag: W/"a"
			> GET | If-None-Match: W/"a" => HIT 304`},
		{rule: "§4.3.2 If-None-Match beats If-Modified-Since", script: `
			< 200 | Cache-Control: max-age=100 | Etag: "a" | Last-Modified: {now-1000}
			> GET => MISS
			> GET | If-None-Match: "x" | If-Modified-Since: {now-0} => HIT | = 1
			> GET | If-None-Match: "a" | If-Modified-Since: {now-5000} => HIT 304`},
		{rule: "§4.3.2 If-Modified-Since in every shape", script: `
			< 200 | Cache-Control: max-age=100 | Last-Modified: {now-1000}
			> GET => MISS
			> GET | If-Modified-Since: {now-1000} => HIT 304 | =
			> GET | If-Modified-Since: {850 now-1000} => HIT 304 | =
			> GET | If-Modified-Since: {asctime now-1000} => HIT 304 | =
			> GET | If-Modified-Since: {now-500} => HIT 304 | =
			> GET | If-Modified-Since: {now-1001} => HIT | = 1
			> GET | If-Modified-Since: {850 now-1001} => HIT | = 1
			> GET | If-Modified-Since: {asctime now-1001} => HIT | = 1
			> GET | If-Modified-Since: now => HIT | = 1`},
		{rule: "§4.3.2 If-Modified-Since against a Last-Modified in RFC 850", script: `
			< 200 | Cache-Control: max-age=100 | Last-Modified: {850 now-1000}
			> GET => MISS
			> GET | If-Modified-Since: {now-1000} => HIT 304
			> GET | If-Modified-Since: {now-1001} => HIT | = 1`},
		{rule: "§4.3.2 If-Modified-Since against Date", script: `
			< 200 | Cache-Control: max-age=5000 | Date: {now-1000}
			> GET => MISS
			> GET | If-Modified-Since: {now-1000} => HIT 304 | =
			> GET | If-Modified-Since: {now-1001} => HIT | = 1`},
		{rule: "RFC 9110 §15.4.5 the fields of a 304", script: `
			< 200 | Cache-Control: max-age=5000 | Etag: "a" | Date: {now-10} | Expires: {now+50} | Vary: Foo | Content-Location: /x | Content-Type: text/plain
			> GET => MISS
			> GET | If-None-Match: "a" => HIT 304 | = | Etag: "a" | Date: {now-10} | Cache-Control: max-age=5000 | Expires: {now+50} | Vary: Foo | Content-Location: /x | !Content-Length | !Content-Type | Age: 10..25`},
		{rule: "§4.3.2 If-Match is not for caches", script: `
			< 200 | Cache-Control: max-age=100 | Etag: "a"
			> GET => MISS
			> GET | If-Match: "x" => HIT | = 1
			> GET | If-Match: "x" | If-None-Match: "a" => HIT 304`},
		{rule: "§4.3.2 If-Unmodified-Since is not for caches", script: `
			< 200 | Cache-Control: max-age=100 | Last-Modified: {now-1000}
			> GET => MISS
			> GET | If-Unmodified-Since: {now-5000} => HIT | = 1`},
		{rule: "RFC 9110 §13.1.1 If-Match passes where nothing is stored", script: `
			< 412
			> GET | If-Match: "x" => MISS 412 | saw If-Match: "x"
			< 200 | Cache-Control: max-age=100
			> GET => MISS | = 2`},
		{rule: "RFC 9110 §15.5.13 the 412 of one client is not for others", script: `
			< 412 | Cache-Control: max-age=100
			> GET | If-Match: "x" => MISS 412
			< 200 | Cache-Control: max-age=100
			> GET => MISS | = 2`},
	}
}
