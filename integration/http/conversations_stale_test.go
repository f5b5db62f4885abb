package http

// staleConversations are about answers from responses that are no longer fresh.
func staleConversations() []conversation {
	return append(neverStale(), []conversation{
		// When the origin fails.
		{rule: "§4.2.4 an origin that hangs up", script: `
			< ` + old + `
			> GET => MISS
			< gone
			> GET => STALE | = 1 | asked 1 | Age: 100..115 | X-Cache-TTL-Remaining: 0
			> GET => STALE | = 1`},
		{rule: "RFC 5861 §4 500 is a failure", script: `
			< ` + old + `
			> GET => MISS
			< 500
			> GET => STALE | = 1 | asked 1`},
		{rule: "RFC 5861 §4 502 is a failure", script: `
			< ` + old + `
			> GET => MISS
			< 502
			> GET => STALE | = 1 | asked 1`},
		{rule: "RFC 5861 §4 503 is a failure", script: `
			< ` + old + `
			> GET => MISS
			< 503
			> GET => STALE | = 1 | asked 1`},
		{rule: "RFC 5861 §4 504 is a failure, and the origin is left alone for a while", script: `
			< ` + old + `
			> GET => MISS
			< 504
			> GET => STALE | = 1 | asked 1 | cs fwd=stale | cs fwd-status=504 | cs !hit
			~ GET => STALE | = 1 | cs hit | cs !fwd | cs !fwd-status | cs detail=error`},
		{rule: "RFC 5861 §4 4xx is no failure", script: `
			< ` + old + `
			> GET => MISS
			< 403
			> GET => MISS 403 | = 2`},
		{rule: "RFC 5861 §4 a response that breaks off before its first byte", script: `
			< ` + old + `
			> GET => MISS
			< 200 | Content-Length: 10 | raw | =
			> GET => STALE | = 1 | asked 1`},
		{rule: "RFC 5861 §4 a response that breaks off later", script: `
			< ` + old + `
			> GET => MISS
			< 200 | Cache-Control: max-age=100 | Content-Length: 10 | raw | = 01234
			> GET => MISS | broken | = 01234
			< 304 | Etag: "a"
			> GET => REVALIDATED | = 1`},
		{rule: "RFC 5861 §4 the window of the response, without a validator", script: `
			< 200 | Cache-Control: max-age=100, stale-if-error=60 | Age: 120
			> GET => MISS | cs stored
			< 503
			> GET => STALE | = 1 | asked 1 | Age: 120..135`},
		{rule: "RFC 5861 §4 after the window", script: `
			< 200 | Cache-Control: max-age=100, stale-if-error=60 | Age: 160 | Etag: "a"
			> GET => MISS | cs stored
			< 503
			> GET => MISS 503 | = 2 | saw If-None-Match: "a"`},
		{rule: "RFC 5861 §4 a window of 0", script: `
			< 200 | Cache-Control: max-age=100, stale-if-error=0 | Age: 100 | Etag: "a"
			> GET => MISS
			< 503
			> GET => MISS 503`},
		{rule: "RFC 5861 §4 the configured window", route: "sie", script: `
			< 200 | Cache-Control: max-age=100 | Age: 130 | Etag: "a"
			> GET /in => MISS
			< 503
			> GET /in => STALE | = 1 | asked 1
			< 200 | Cache-Control: max-age=100 | Age: 160 | Etag: "a"
			> GET /after => MISS
			< 503
			> GET /after => MISS 503`},
		{rule: "RFC 5861 §4 a longer window of the response than the configured one", route: "sie", script: `
			< 200 | Cache-Control: max-age=100, stale-if-error=600 | Age: 300 | Etag: "a"
			> GET => MISS
			< 503
			> GET => STALE | = 1 | asked 1`},
		{rule: "RFC 5861 §4 an error while the response is fresh asks nobody", script: `
			< 200 | Cache-Control: max-age=100
			> GET => MISS
			< 503
			> GET => HIT | = 1`},

		// While it is fetched anew.
		{rule: "RFC 5861 §3 at once, and refreshed in the background", script: `
			< 200 | Cache-Control: max-age=100, stale-while-revalidate=100 | Age: 150
			> GET => MISS | cs stored
			< 200 | Cache-Control: max-age=100 | = new
			> GET | X-Trace: 7 => STALE | = 1 | Age: 150..165 | cs hit | cs !fwd | cs detail={tier}
			~ GET | X-Trace: 7 => HIT | = new | saw X-Trace: 7`},
		{rule: "RFC 5861 §3 the refresh validates", script: `
			< 200 | Cache-Control: max-age=100, stale-while-revalidate=100 | Age: 150 | Etag: "a"
			> GET => MISS
			< 304 | Etag: "a" | X-New: 1
			> GET | If-None-Match: "zzz" => STALE | = 1
			~ GET => HIT | = 1 | X-New: 1 | saw If-None-Match: "a"`},
		{rule: "RFC 5861 §3 the refresh is of the variant", script: `
			< 200 | Cache-Control: max-age=100, stale-while-revalidate=100 | Age: 150 | Vary: Foo
			> GET | Foo: 1 => MISS
			< 200 | Cache-Control: max-age=100 | Vary: Foo
			> GET | Foo: 2 => MISS | = 2
			< 200 | Cache-Control: max-age=100 | Vary: Foo | = new
			> GET | Foo: 1 => STALE | = 1
			~ GET | Foo: 1 => HIT | = new | saw Foo: 1
			> GET | Foo: 2 => HIT | = 2`},
		{rule: "RFC 5861 §3 a 200 replaces even if it says no-cache", script: `
			< 200 | Cache-Control: max-age=100, stale-while-revalidate=100 | Age: 150
			> GET => MISS
			< 200 | Cache-Control: no-cache | Etag: "b"
			< 304 | Etag: "b"
			> GET => STALE | = 1
			~ GET => REVALIDATED | = 2 | saw If-None-Match: "b"`},
		{rule: "RFC 5861 §3 a 200 that may not be stored ends the stale one", script: `
			< 200 | Cache-Control: max-age=100, stale-while-revalidate=100 | Age: 150
			> GET => MISS
			< 200 | Cache-Control: no-store
			> GET => STALE | = 1
			~ GET => MISS`},
		{rule: "RFC 5861 §3 a refresh that fails changes nothing", script: `
			< 200 | Cache-Control: max-age=100, stale-while-revalidate=100 | Age: 150
			> GET => MISS
			< 503
			> GET => STALE | = 1
			> GET => STALE | = 1`},
		{rule: "RFC 5861 §3 after the window", script: `
			< 200 | Cache-Control: max-age=100, stale-while-revalidate=10 | Age: 110 | Etag: "a"
			> GET => MISS
			< 200 | Cache-Control: max-age=100
			> GET => MISS | = 2 | saw If-None-Match: "a"`},
		{rule: "RFC 5861 §3 the configured window", route: "swr", script: `
			< 200 | Cache-Control: max-age=100 | Age: 130 | Etag: "a"
			> GET /in => MISS
			< 200 | Cache-Control: max-age=100 | = new
			> GET /in => STALE | = 1
			~ GET /in => HIT | = new
			< 200 | Cache-Control: max-age=100 | Age: 160 | Etag: "a"
			> GET /after => MISS
			< 200 | Cache-Control: max-age=100 | = new
			> GET /after => MISS | = new`},
		{rule: "RFC 5861 §3 conditions and ranges of a stale answer", script: `
			< 200 | Cache-Control: max-age=100, stale-while-revalidate=1000 | Age: 150 | Etag: "a" | = 0123456789
			> GET => MISS
			< gone
			> GET | If-None-Match: "a" => STALE 304 | =
			> GET | Range: bytes=0-2 => STALE 206 | = 012
			> HEAD => STALE | =`},
		{rule: "§5.2.2.10 s-maxage with windows of its own", script: `
			< 200 | Cache-Control: s-maxage=100, stale-while-revalidate=100 | Age: 150
			> GET /swr => MISS
			< 200 | Cache-Control: max-age=100 | = new
			> GET /swr => STALE | = 1
			~ GET /swr => HIT | = new
			< 200 | Cache-Control: s-maxage=100, stale-if-error=100 | Age: 150 | = old
			> GET /sie => MISS
			< 503
			> GET /sie => STALE | = old | asked 1`},
		{rule: "§4.4 an unsafe method ends a stale response, too", script: `
			< 200 | Cache-Control: max-age=100, stale-while-revalidate=100 | Age: 150
			> GET => MISS
			< 200
			> POST => BYPASS
			> GET => MISS | = 3`},
	}...)
}

// neverStale are the directives that forbid every stale answer, those of
// windows beside them included.
func neverStale() (list []conversation) {
	for _, tt := range []struct{ rule, directives, route string }{
		{"§5.2.2.2 must-revalidate and an error", "max-age=100, must-revalidate", ""},
		{"§5.2.2.2 must-revalidate and stale-if-error", "max-age=100, must-revalidate, stale-if-error=1000", ""},
		{"§5.2.2.2 must-revalidate and stale-while-revalidate", "max-age=100, must-revalidate, stale-while-revalidate=1000", ""},
		{"§5.2.2.2 must-revalidate and a configured window", "max-age=100, must-revalidate", "swr"},
		{"§5.2.2.8 proxy-revalidate and an error", "max-age=100, proxy-revalidate", ""},
		{"§5.2.2.8 proxy-revalidate and stale-while-revalidate", "max-age=100, proxy-revalidate, stale-while-revalidate=1000", ""},
		{"§5.2.2.4 no-cache and an error", "max-age=100, no-cache", ""},
		{"§5.2.2.4 no-cache and windows", "max-age=100, no-cache, stale-while-revalidate=1000, stale-if-error=1000", ""},
		{"§5.2.2.10 plain s-maxage and an error", "s-maxage=100", ""},
		{"§5.2.2.10 plain s-maxage and a configured window", "s-maxage=100", "swr"},
	} {
		list = append(list, conversation{rule: tt.rule, route: tt.route, script: `
			< 200 | Cache-Control: ` + tt.directives + ` | Age: 110 | Etag: "a"
			> GET => MISS | cs stored
			< 503
			> GET => MISS 503 | = 2
			< gone
			> GET => MISS 502
			< 200 | Cache-Control: ` + tt.directives + ` | Etag: "b"
			> GET => MISS | = 4 | saw If-None-Match: "a"`})
	}
	return list
}
