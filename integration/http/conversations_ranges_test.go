package http

// whole is a response from which parts can be taken.
const whole = `200 | Cache-Control: max-age=100 | Etag: "a" | Last-Modified: {now-1000} | Content-Type: text/plain | X-A: 1 | = 0123456789`

// rangeConversations are about parts of responses, and responses that break off.
func rangeConversations() []conversation {
	return []conversation{
		{rule: "RFC 9110 §14.2 one range", script: `
			< ` + whole + `
			> GET => MISS
			> GET | Range: bytes=2-4 => HIT 206 | = 234 | Content-Range: bytes 2-4/10 | Content-Length: 3 | Etag: "a" | Content-Type: text/plain | X-A: 1 | Age: 0..15 | Cache-Control: max-age=100
			> GET | Range: bytes=0-0 => HIT 206 | = 0 | Content-Range: bytes 0-0/10
			> GET | Range: bytes=7- => HIT 206 | = 789 | Content-Range: bytes 7-9/10
			> GET | Range: bytes=0- => HIT 206 | = 0123456789 | Content-Range: bytes 0-9/10
			> GET | Range: bytes=5-100 => HIT 206 | = 56789 | Content-Range: bytes 5-9/10
			> GET | Range: bytes=5-99999999999999999999 => HIT 206 | = 56789
			> GET => HIT | = 0123456789 | !Content-Range`},
		{rule: "RFC 9110 §14.1.2 a suffix", script: `
			< ` + whole + `
			> GET => MISS
			> GET | Range: bytes=-3 => HIT 206 | = 789 | Content-Range: bytes 7-9/10
			> GET | Range: bytes=-10 => HIT 206 | = 0123456789 | Content-Range: bytes 0-9/10
			> GET | Range: bytes=-100 => HIT 206 | = 0123456789 | Content-Range: bytes 0-9/10`},
		{rule: "RFC 9110 §14.6 several ranges", script: `
			< ` + whole + `
			> GET => MISS
			> GET | Range: bytes=0-1, -2 => HIT 206 | Content-Type ~ multipart/byteranges; boundary= | !Content-Range | part 01 | part 89
			> GET | Range: bytes=0-1,20-30 => HIT 206 | = 01 | Content-Range: bytes 0-1/10`},
		{rule: "RFC 9110 §15.5.17 unsatisfiable ranges", script: `
			< ` + whole + `
			> GET => MISS
			> GET | Range: bytes=10- => HIT 416 | Content-Range: bytes */10
			> GET | Range: bytes=20-30,40- => HIT 416 | Content-Range: bytes */10
			> GET | Range: bytes=-0 => HIT 416 | Content-Range: bytes */10`},
		{rule: "RFC 9110 §14.2 a Range field that is ignored", script: `
			< ` + whole + `
			> GET => MISS
			> GET | Range: bytes=4-2 => HIT | = 0123456789 | !Content-Range
			> GET | Range: items=0-1 => HIT | = 0123456789
			> GET | Range: bytes=a-b => HIT | = 0123456789
			> GET | Range: bytes => HIT | = 0123456789`},
		{rule: "RFC 9110 §14.2 only a 200 has ranges", script: `
			< 404 | Cache-Control: max-age=100 | = 0123456789
			> GET => MISS 404
			> GET | Range: bytes=0-1 => HIT 404 | = 0123456789`},
		{rule: "RFC 9110 §13.1.5 If-Range with an entity-tag", script: `
			< ` + whole + `
			> GET => MISS
			> GET | Range: bytes=0-1 | If-Range: "a" => HIT 206 | = 01
			> GET | Range: bytes=0-1 | If-Range: "b" => HIT | = 0123456789
			> GET | Range: bytes=0-1 | If-Range: W/"a" => HIT | = 0123456789
			> GET | Range: bytes=20- | If-Range: "b" => HIT | = 0123456789
			> GET | If-Range: "b" => HIT | = 0123456789`},
		{rule: "RFC 9110 §13.1.5 If-Range with a weak stored entity-tag", script: `
			< 200 | Cache-Control: max-age=100 | Etag: W/"a" | = 0123456789
			> GET => MISS
			> GET | Range: bytes=0-1 | If-Range: W/"a" => HIT | = 0123456789
			> GET | Range: bytes=0-1 | If-Range: "a" => HIT | = 0123456789`},
		{rule: "RFC 9110 §13.1.5 If-Range with a date", script: `
			< ` + whole + `
			> GET => MISS
			> GET | Range: bytes=0-1 | If-Range: {now-1000} => HIT 206 | = 01
			> GET | Range: bytes=0-1 | If-Range: {now-999} => HIT | = 0123456789
			> GET | Range: bytes=0-1 | If-Range: {now-1001} => HIT | = 0123456789`},
		{rule: "RFC 9110 §8.8.2.2 If-Range with a date that is weak", script: `
			< 200 | Cache-Control: max-age=5000 | Date: {now-1000} | Last-Modified: {now-1000} | = 0123456789
			> GET => MISS
			> GET | Range: bytes=0-1 | If-Range: {now-1000} => HIT | = 0123456789`},
		{rule: "RFC 9110 §13.2.2 conditions come before ranges", script: `
			< ` + whole + `
			> GET => MISS
			> GET | Range: bytes=0-1 | If-None-Match: "a" => HIT 304 | =
			> GET | Range: bytes=0-1 | If-None-Match: "b" => HIT 206 | = 01`},
		{rule: "§3.3 a range of nothing stored passes as it is, 206", script: `
			< 206 | Cache-Control: max-age=100 | Etag: "a" | Content-Range: bytes 0-1/10 | = 01
			> GET | Range: bytes=0-1 | If-Range: "a" => MISS 206 | = 01 | saw Range: bytes=0-1 | saw If-Range: "a" | cs !stored
			< ` + whole + `
			> GET => MISS | = 0123456789
			> GET => HIT | = 0123456789`},
		{rule: "§3.3 a range of nothing stored passes as it is, 200", script: `
			< ` + whole + `
			> GET | Range: bytes=0-1 => MISS | = 0123456789 | saw Range: bytes=0-1 | cs !stored
			> GET => MISS | = 0123456789`},
		{rule: "§3.3 a 206 is never the whole", script: `
			< 206 | Cache-Control: max-age=100 | Content-Range: bytes 0-1/10 | = 01
			> GET => MISS 206 | cs !stored
			> GET => MISS 206`},
		{rule: "RFC 9110 §14.2 the 416 of one client is not for others", script: `
			< 416 | Cache-Control: max-age=100 | Content-Range: bytes */10
			> GET | Range: bytes=20- => MISS 416
			< ` + whole + `
			> GET => MISS | = 0123456789`},
		{rule: "§3.4 a range of a stale response", script: `
			< ` + old + ` | = 0123456789
			> GET => MISS
			< 304 | Etag: "a" | Cache-Control: max-age=100
			> GET | Range: bytes=2-4 => REVALIDATED 206 | = 234 | Content-Range: bytes 2-4/10 | saw !Range | saw If-None-Match: "a"
			> GET => HIT | = 0123456789`},
		{rule: "§3.3 a body shorter than its length is not stored", script: `
			< 200 | Cache-Control: max-age=100 | Content-Length: 100 | raw | = only this
			> GET => MISS | broken
			< 200 | Cache-Control: max-age=100
			> GET => MISS | = 2
			> GET => HIT | = 2`},
		{rule: "§3.3 a body without its last chunk is not stored", script: `
			< 200 | Cache-Control: max-age=100 | Transfer-Encoding: chunked | raw | = 4
			> GET => MISS | broken
			< 200 | Cache-Control: max-age=100
			> GET => MISS | = 2
			> GET => HIT | = 2`},

		// Interim responses.
		{rule: "RFC 8297 103 passes at once and is not stored", script: `
			< 200 | Cache-Control: max-age=100 | 103 Link: </a.css>; rel=preload
			> GET => MISS | = 1 | early Link: </a.css>; rel=preload | !Link
			> GET => HIT | = 1 | early none | !Link`},
		{rule: "RFC 9110 §15.2 102 passes at once and is not stored", script: `
			< 200 | Cache-Control: max-age=100 | 102 X-Step: 1
			> GET => MISS | = 1 | early X-Step: 1 | !X-Step
			> GET => HIT | = 1 | early none | !X-Step`},
	}
}
