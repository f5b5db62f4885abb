package http

// controlConversations are about targeted fields, groups, what requests ask of
// the cache, and what the cache says of itself.
func controlConversations() []conversation {
	const groups = `Cache-Groups: "{id}", "{id}-more"`
	return []conversation{
		// Targeted fields.
		stored("RFC 9213 §2.2 max-age beats no-store", "200 | CDN-Cache-Control: max-age=100 | Cache-Control: no-store"),
		stored("RFC 9213 §2.2 max-age beats private", "200 | CDN-Cache-Control: max-age=100 | Cache-Control: private, max-age=0"),
		stored("RFC 9213 §2.2 Expires is ignored", "200 | CDN-Cache-Control: max-age=100 | Expires: 0"),
		unstored("RFC 9213 §2.2 Expires gives no lifetime", "200 | CDN-Cache-Control: public | Expires: {now+100}"),
		unstored("RFC 9213 §2.2 Cache-Control gives no lifetime", "200 | CDN-Cache-Control: public | Cache-Control: max-age=100"),
		unstored("RFC 9213 §2.2 no-store wins", "200 | CDN-Cache-Control: no-store | Cache-Control: max-age=100"),
		unstored("RFC 9213 §2.2 private wins", "200 | CDN-Cache-Control: private | Cache-Control: max-age=100"),
		unstored("RFC 9213 §2.2 no-cache wins", "200 | CDN-Cache-Control: no-cache | Cache-Control: max-age=100"),
		unstored("RFC 9213 §2.2 max-age=0 wins", "200 | CDN-Cache-Control: max-age=0 | Cache-Control: max-age=100"),
		stored("RFC 9213 §2.1 parameters and unknown directives", `200 | CDN-Cache-Control: max-age=100;x=1, foo="bar", baz=(1 2) | Cache-Control: no-store`),
		stored("RFC 9213 §2.1 empty is ignored, max-age", "200 | CDN-Cache-Control: | Cache-Control: max-age=100"),
		unstored("RFC 9213 §2.1 empty is ignored, no-store", "200 | CDN-Cache-Control: | Cache-Control: no-store"),
		stored("RFC 9213 §2.1 unparsable is ignored, max-age", "200 | CDN-Cache-Control: &&&&& | Cache-Control: max-age=100"),
		unstored("RFC 9213 §2.1 unparsable is ignored, no-store", "200 | CDN-Cache-Control: max-age=100, &&&&& | Cache-Control: no-store"),
		unstored("RFC 9213 §2.1 a key in upper case", "200 | CDN-Cache-Control: MAX-AGE=100 | Cache-Control: no-store"),
		unstored("RFC 9213 §2.1 a space before the sign", "200 | CDN-Cache-Control: max-age =100 | Cache-Control: no-store"),
		unstored("RFC 9213 §2.1 a space after the sign", "200 | CDN-Cache-Control: max-age= 100 | Cache-Control: no-store"),
		unstored("RFC 9213 §2.1 a string for a number", `200 | CDN-Cache-Control: max-age="10000" | Cache-Control: no-store`),
		stored("RFC 9213 §2.1 a string for a number, and max-age", `200 | CDN-Cache-Control: max-age="0" | Cache-Control: max-age=100`),
		unstored("RFC 9213 §2.1 decimals", "200 | CDN-Cache-Control: max-age=100.5 | Cache-Control: no-store"),
		unstored("RFC 9213 §2.1 several lines are one dictionary", "200 | CDN-Cache-Control: max-age=100 | CDN-Cache-Control: no-store | Cache-Control: max-age=100"),
		unstored("RFC 9213 §2.1 one bad line spoils all", "200 | CDN-Cache-Control: max-age=100 | CDN-Cache-Control: &&& | Cache-Control: no-store"),
		unstored("RFC 9213 §2.2 Age counts", "200 | CDN-Cache-Control: max-age=100 | Age: 100"),
		{rule: "RFC 9213 §2.2 the field is forwarded", script: `
			< 200 | CDN-Cache-Control: max-age=100 | Cache-Control: no-store
			> GET => MISS | CDN-Cache-Control: max-age=100 | Cache-Control: no-store
			> GET => HIT | CDN-Cache-Control: max-age=100 | Cache-Control: no-store | X-Cache-TTL-Remaining: 85..100`},
		stored("RFC 9213 §2.2 the first of the target list", "200 | CDN-Cache-Control: no-store | My-CDN-Control: max-age=100").on("targets"),
		stored("RFC 9213 §2.2 the second of the target list", "200 | My-CDN-Control: &&& | CDN-Cache-Control: max-age=100 | Cache-Control: no-store").on("targets"),
		unstored("RFC 9213 §2.2 a field that is not on the list", "200 | My-CDN-Control: max-age=100 | Cache-Control: no-store"),

		// Cache groups.
		{rule: "RFC 9875 §3 an unsafe method invalidates a group", script: `
			< 200 | Cache-Control: max-age=100 | ` + groups + `
			> GET /a => MISS | Cache-Groups: "{id}", "{id}-more"
			> GET /b => MISS
			> GET /a => HIT | Cache-Groups: "{id}", "{id}-more"
			< 200 | Cache-Control: max-age=100 | Cache-Groups: "{id}-other"
			> GET /c => MISS | = 3
			< 200 | Cache-Group-Invalidation: "{id}"
			> POST /x => BYPASS
			< 200
			> GET /a => MISS
			> GET /b => MISS
			> GET /c => HIT | = 3`},
		{rule: "RFC 9875 §3 not with an error", script: `
			< 200 | Cache-Control: max-age=100 | ` + groups + `
			> GET /a => MISS
			< 400 | Cache-Group-Invalidation: "{id}"
			> POST /x => BYPASS 400
			> GET /a => HIT`},
		{rule: "RFC 9875 §3 not with a safe method", script: `
			< 200 | Cache-Control: max-age=100 | ` + groups + `
			> GET /a => MISS
			< 200 | Cache-Group-Invalidation: "{id}"
			> GET /x => MISS
			> OPTIONS /x => BYPASS
			> GET /a => HIT`},
		{rule: "RFC 9875 §2 a group belongs to its origin", script: `
			< 200 | Cache-Control: max-age=100 | ` + groups + `
			> GET /a => MISS
			> GET /a | Host: other.test => MISS
			< 200 | Cache-Group-Invalidation: "{id}"
			> POST /x | Host: other.test => BYPASS
			> GET /a => HIT
			> GET /a | Host: other.test => MISS`},
		{rule: "RFC 9875 §2 groups are case-sensitive strings", script: `
			< 200 | Cache-Control: max-age=100 | Cache-Groups: "{id}"
			> GET /a => MISS
			< 200 | Cache-Group-Invalidation: "C{id}", "{id} "
			> POST /x => BYPASS
			< 200 | Cache-Group-Invalidation: {id}
			> POST /x => BYPASS
			> GET /a => HIT`},

		// Request directives.
		{rule: "§5.2.1 ignored by default", script: `
			< 200 | Cache-Control: max-age=100 | Age: 50
			> GET | Cache-Control: no-store => MISS | cs stored
			> GET | Cache-Control: no-cache => HIT
			> GET | Cache-Control: no-store => HIT
			> GET | Cache-Control: max-age=0 => HIT
			> GET | Cache-Control: min-fresh=1000 => HIT
			> GET | Pragma: no-cache => HIT | = 1
			< ` + old + `
			> GET /old => MISS
			< 304 | Etag: "a" | Age: 100
			> GET /old | Cache-Control: max-stale => REVALIDATED`},
		{rule: "§5.2.1.4 no-cache", route: "honor", script: `
			< 200 | Cache-Control: max-age=100 | Etag: "a"
			> GET => MISS
			< 304 | Etag: "a"
			> GET | Cache-Control: no-cache => REVALIDATED | = 1 | saw If-None-Match: "a" | cs fwd=request
			> GET => HIT`},
		{rule: "§5.2.1.5 no-store", route: "honor", script: `
			< 200 | Cache-Control: max-age=100
			> GET | Cache-Control: no-store => MISS | cs !stored
			> GET => MISS | = 2
			> GET => HIT | = 2`},
		{rule: "§5.2.1.1 max-age", route: "honor", script: `
			< 200 | Cache-Control: max-age=100 | Age: 50
			> GET => MISS
			> GET | Cache-Control: max-age=80 => HIT
			> GET | Cache-Control: max-age=20 => MISS | = 2 | cs fwd=request
			> GET | Cache-Control: max-age=0 => MISS | = 3
			> GET | Cache-Control: max-age=abc => MISS | = 4`},
		{rule: "§5.2.1.3 min-fresh", route: "honor", script: `
			< 200 | Cache-Control: max-age=100 | Age: 50
			> GET => MISS
			> GET | Cache-Control: min-fresh=20 => HIT
			> GET | Cache-Control: min-fresh=60 => MISS | = 2`},
		{rule: "§5.2.1.2 max-stale", route: "honor", script: `
			< 200 | Cache-Control: max-age=100 | Age: 150 | Etag: "a"
			> GET => MISS
			> GET | Cache-Control: max-stale=100 => STALE | = 1 | asked 0
			> GET | Cache-Control: max-stale => STALE | = 1 | asked 0
			> GET | Cache-Control: max-stale=20 => MISS | = 2`},
		{rule: "§5.2.1.2 max-stale does not beat must-revalidate", route: "honor", script: `
			< 200 | Cache-Control: max-age=100, must-revalidate | Age: 150 | Etag: "a"
			> GET => MISS
			> GET | Cache-Control: max-stale => MISS | = 2`},
		{rule: "§5.2.1.7 only-if-cached", script: `
			> GET | Cache-Control: only-if-cached => MISS 504 | asked 0 | cs !fwd | cs !hit | cs detail=only-if-cached
			< 200 | Cache-Control: max-age=100
			> GET => MISS
			> GET | Cache-Control: only-if-cached => HIT | = 1`},
		{rule: "§5.2.1.7 only-if-cached and a stale response", script: `
			< ` + old + `
			> GET => MISS
			> GET | Cache-Control: only-if-cached => MISS 504 | asked 0 | cs !fwd | cs !hit | cs detail=only-if-cached`},
		{rule: "§5.2.1.7 only-if-cached and another variant", script: `
			< 200 | Cache-Control: max-age=100 | Vary: Foo
			> GET | Foo: 1 => MISS
			> GET | Foo: 2 | Cache-Control: only-if-cached => MISS 504 | asked 0 | cs !fwd | cs !hit | cs detail=only-if-cached`},

		// Cache-Status.
		{rule: "RFC 9211 §2 uri-miss, stored, hit and ttl", script: `
			< 200 | Cache-Control: max-age=100 | Age: 20
			> GET => MISS | cs fwd=uri-miss | cs fwd-status=200 | cs stored | cs ttl=65..80 | cs !hit
			> GET => HIT | cs hit | cs ttl=65..80 | cs detail={tier} | cs !fwd | cs !stored | cs !fwd-status`},
		{rule: "RFC 9211 §2.5 not stored, and why", script: `
			< 404 | Cache-Control: no-store
			> GET => MISS 404 | cs fwd=uri-miss | cs fwd-status=404 | cs !stored | cs detail=no-store`},
		{rule: "RFC 9211 §2.2 stale", script: `
			< ` + old + `
			> GET => MISS | cs ttl=-20..0
			< 200 | Cache-Control: max-age=100
			> GET => MISS | cs fwd=stale | cs fwd-status=200 | cs stored | cs ttl=85..100`},
		{rule: "RFC 9211 §2.2 bypass", script: `
			< 200 | Cache-Control: max-age=100
			> GET | = content => BYPASS | cs fwd=bypass | cs fwd-status=200
			> GET | X-Http-Method-Override: DELETE => BYPASS | cs fwd=bypass`},
		{rule: "RFC 9211 §2.2 credentials", script: `
			< 200 | Cache-Control: max-age=100
			> GET => MISS
			> GET | Authorization: x => BYPASS | cs fwd=request | cs !stored`},
		{rule: "RFC 9211 §2 the member comes after those of the origin", script: `
			< 200 | Cache-Control: max-age=100 | Cache-Status: inner; hit | X-Cache: inner
			> GET => MISS | Cache-Status ~ inner; hit | cs fwd=uri-miss | X-Cache: MISS
			> GET => HIT | Cache-Status ~ inner; hit | cs hit | X-Cache: HIT`},
		{rule: "RFC 9211 §2 on a 304, a 206 and a 416", script: `
			< ` + whole + `
			> GET => MISS
			> GET | If-None-Match: "a" => HIT 304 | cs hit
			> GET | Range: bytes=0-1 => HIT 206 | cs hit
			> GET | Range: bytes=20- => HIT 416 | cs hit`},
	}
}
