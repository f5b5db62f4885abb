package http

// honorConversations are about requests whose directives count.
func honorConversations() (list []conversation) {
	const swr = "200 | Cache-Control: max-age=100, stale-while-revalidate=1000 | Age: 150"
	const sie = "200 | Cache-Control: max-age=100, stale-if-error=1000 | Age: 150"
	for _, tt := range []struct {
		directives string
		stale      bool // whether the stale response, 50 seconds old, will do
	}{
		{"no-cache", false},
		{"No-Cache", false},
		{"max-age=0", false},
		{"max-age=120", false},
		{"max-age=abc", false},
		{"min-fresh=1", false},
		{"min-fresh=0", false},
		{"max-stale=10", false},
		{"max-stale=abc", false},
		{"no-cache, max-stale", false},
		{"max-age=200", true},
		{"max-stale=100", true},
		{"max-stale", true},
		{"max-age=200, max-stale=100", true},
		{"no-transform", true},
	} {
		while, fails, cached := "STALE | = 1", "STALE | = 1", "STALE | = 1"
		if !tt.stale {
			while, fails, cached = "MISS | = new | cs fwd=stale", "MISS 503 | cs fwd=stale", "MISS 504 | asked 0 | cs !fwd | cs !hit"
		}
		list = append(list, conversation{rule: "§5.2.1 " + tt.directives + " while it is fetched anew", route: "honor", script: `
			< ` + swr + `
			> GET => MISS
			< 200 | Cache-Control: max-age=100 | = new
			> GET | Cache-Control: ` + tt.directives + ` => ` + while}, conversation{
			rule: "§5.2.1 " + tt.directives + " when the origin fails", route: "honor", script: `
			< ` + sie + `
			> GET => MISS
			< 503
			> GET | Cache-Control: ` + tt.directives + ` => ` + fails,
		}, conversation{
			rule: "§5.2.1.7 only-if-cached and " + tt.directives, route: "honor", script: `
			< ` + swr + `
			> GET => MISS
			< gone
			> GET | Cache-Control: only-if-cached, ` + tt.directives + ` => ` + cached,
		}, conversation{
			rule: "§5.2.1 " + tt.directives + " is ignored unless it is honoured", script: `
			< ` + swr + `
			> GET => MISS
			< gone
			> GET | Cache-Control: ` + tt.directives + ` => STALE | = 1`,
		})
	}
	for _, tt := range []struct {
		rule, response, directives string
		stale                      bool
	}{
		{"beats no-cache", "max-age=100, stale-if-error=1000", "no-cache, stale-if-error=100", true},
		{"beats max-age", "max-age=100, stale-if-error=1000", "max-age=0, stale-if-error=100", true},
		{"beats max-stale", "max-age=100, stale-if-error=1000", "max-stale=1, stale-if-error=100", true},
		{"is a limit", "max-age=100, stale-if-error=1000", "stale-if-error=10", false},
		{"of no time", "max-age=100, stale-if-error=1000", "stale-if-error=0", false},
		{"that is not valid", "max-age=100, stale-if-error=1000", "stale-if-error=abc", false},
		{"where the configured window is over", "max-age=1000", "stale-if-error=5000", true},
		{"where that is not long enough either", "max-age=1000", "stale-if-error=3000", false},
		{"and must-revalidate", "max-age=100, must-revalidate", "stale-if-error=1000", false},
		{"and proxy-revalidate", "max-age=100, proxy-revalidate", "stale-if-error=1000", false},
		{"and a plain s-maxage", "s-maxage=100", "stale-if-error=1000", false},
		{"and no-cache of the response", "no-cache, max-age=100", "stale-if-error=1000", false},
	} {
		age := "150"
		if tt.response == "max-age=1000" {
			age = "5000"
		}
		outcome := "MISS 503"
		if tt.stale {
			outcome = "STALE | = 1 | asked 1 | cs fwd=stale | cs fwd-status=503"
		}
		list = append(list, conversation{rule: "RFC 5861 §4 stale-if-error of a request " + tt.rule, route: "honor", script: `
			< 200 | Cache-Control: ` + tt.response + ` | Age: ` + age + ` | Etag: "a"
			> GET => MISS | cs stored
			< 503
			> GET | Cache-Control: ` + tt.directives + ` => ` + outcome})
	}
	return append(list, []conversation{
		{rule: "RFC 5861 §4 stale-if-error of a request is ignored unless it is honoured", script: `
			< 200 | Cache-Control: max-age=1000 | Age: 5000 | Etag: "a"
			> GET => MISS
			< 503
			> GET | Cache-Control: stale-if-error=5000 => MISS 503`},
		{rule: "§5.2.1.4 no-cache of a request and a fresh response when the origin fails", route: "honor", script: `
			< 200 | Cache-Control: max-age=100, stale-if-error=1000
			> GET => MISS
			< 503
			> GET | Cache-Control: no-cache => MISS 503 | cs fwd=request
			> GET | Cache-Control: no-cache, stale-if-error=1 => STALE | = 1
			> GET => HIT | = 1`},
		{rule: "§5.2.1.7 only-if-cached and no-cache where it is fresh", route: "honor", script: `
			< 200 | Cache-Control: max-age=100
			> GET => MISS
			> GET | Cache-Control: only-if-cached, no-cache => MISS 504 | asked 0
			> GET | Cache-Control: only-if-cached => HIT | = 1`},
	}...)
}

// arrivalConversations are about responses that are stale when they arrive, because the
// clock of the origin is behind or another cache has had them for long.
func arrivalConversations() (list []conversation) {
	for _, fields := range []string{
		"Cache-Control: max-age=60 | Date: {now-1800}",
		"Cache-Control: s-maxage=60 | Date: {now-1800}",
		"Cache-Control: max-age=0 | Date: {now-1800}",
		"Cache-Control: no-cache, max-age=60 | Date: {now-1800}",
		"Cache-Control: max-age=3600 | Age: 100000",
		"Cache-Control: max-age=60 | Age: 5000 | Date: {now-90000}",
		"Expires: {now-1000} | Date: {now-1800}",
		"Cache-Control: max-age=60, stale-while-revalidate=60 | Date: {now-1800}",
	} {
		list = append(list, conversation{rule: "§4.3 stale on arrival, with an entity-tag: " + fields, script: `
			< 200 | Etag: "a" | ` + fields + `
			> GET => MISS | cs stored | X-Cache-TTL-Remaining: 0
			< 304 | Etag: "a" | ` + fields + `
			> GET => REVALIDATED | = 1 | saw If-None-Match: "a"
			> GET => REVALIDATED | = 1 | saw If-None-Match: "a"
			< 200 | Etag: "b" | ` + fields + ` | = new
			> GET => MISS | = new | saw If-None-Match: "a"
			< 304 | Etag: "b" | Cache-Control: max-age=100
			> GET => REVALIDATED | = new | saw If-None-Match: "b"`}, conversation{
			rule: "§4.3 stale on arrival, with a date: " + fields, script: `
			< 200 | Last-Modified: {now-90000} | ` + fields + `
			> GET => MISS | cs stored
			< 304
			> GET => REVALIDATED | = 1 | saw If-Modified-Since: {now-90000}`,
		}, conversation{
			rule: "§4.2 stale on arrival, without a validator: " + fields, script: `
			< 200 | ` + fields + `
			> GET => MISS | = 1 | cs !stored | cs !ttl
			> GET => MISS | = 2 | saw !If-None-Match`,
		})
	}
	return append(list, []conversation{
		{rule: "RFC 5861 §4 a window that is open on arrival, from a clock behind", script: `
			< 200 | Cache-Control: max-age=60, stale-if-error=3600 | Date: {now-1800}
			> GET => MISS | cs stored
			< 503
			> GET => STALE | = 1 | asked 1`},
		{rule: "RFC 5861 §3 a window that is open on arrival, from a clock behind", script: `
			< 200 | Cache-Control: max-age=60, stale-while-revalidate=3600 | Date: {now-1800}
			> GET => MISS | cs stored
			< 200 | Cache-Control: max-age=60 | = new
			> GET => STALE | = 1
			~ GET => HIT | = new`},
	}...)
}
