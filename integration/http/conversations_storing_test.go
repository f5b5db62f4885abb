package http

import (
	"fmt"
)

// storingConversations are about what may be stored, and which of its fields.
func storingConversations() []conversation {
	return append(statusConversations(), []conversation{
		{rule: "§3 public with a validator and no lifetime", script: `
			< 299 | Cache-Control: public | Etag: "a"
			> GET => MISS 299 | cs stored
			< 304 | Etag: "a"
			> GET => REVALIDATED 299 | = 1 | saw If-None-Match: "a"`},
		{rule: "§3 a status that is not cacheable by default needs a lifetime", script: `
			< 302 | Etag: "a" | Location: /x
			> GET => MISS 302 | cs !stored
			> GET => MISS 302 | saw !If-None-Match`},
		unstored("§5.2.2.5 no-store", "200 | Cache-Control: no-store, max-age=100"),
		unstored("§5.2.2.7 private", "200 | Cache-Control: private, max-age=100"),
		unstored("§5.2.2.4 no-cache without a validator", "200 | Cache-Control: no-cache, max-age=100"),
		stored("§5.2.2.3 must-understand and a known status", "200 | Cache-Control: must-understand, no-store, max-age=100"),
		{rule: "§5.2.2.3 must-understand and an unknown status", script: `
			< 299 | Cache-Control: must-understand, max-age=100
			> GET /a => MISS 299
			> GET /a => MISS 299
			< 499 | Cache-Control: must-understand, no-store, max-age=100
			> GET /b => MISS 499
			> GET /b => MISS 499
			< 599 | Cache-Control: must-understand, max-age=100
			> GET /c => MISS 599
			> GET /c => MISS 599`},

		// Heuristic freshness.
		{rule: "§4.2.2 a tenth of the time since Last-Modified", route: "heuristic", script: `
			< 200 | Last-Modified: {now-1000}
			> GET => MISS
			> GET => HIT | = 1 | X-Cache-TTL-Remaining: 85..100`},
		{rule: "§4.2.2 counts from Date", route: "heuristic", script: `
			< 200 | Date: {now-500} | Last-Modified: {now-1500}
			> GET => MISS | = 1
			> GET => MISS | = 2`},
		{rule: "§4.2.2 the heuristic is capped", route: "heuristic", script: `
			< 200 | Last-Modified: {now-100000000}
			> GET => MISS
			> GET => HIT | X-Cache-TTL-Remaining: 86380..86400`},
		{rule: "§4.2.2 off by default", script: `
			< 200 | Last-Modified: {now-1000}
			> GET => MISS | = 1
			> GET => MISS | = 2`},
		unstored("§4.2.2 not without Last-Modified", "200").on("heuristic"),
		unstored("§4.2.2 not with a Last-Modified after Date", "200 | Last-Modified: {now+1000}").on("heuristic"),
		unstored("§4.2.2 not beside an Expires in the past", "200 | Expires: {now-1} | Last-Modified: {now-1000}").on("heuristic"),
		unstored("§4.2.2 not beside an invalid max-age", "200 | Cache-Control: max-age=abc | Last-Modified: {now-1000}").on("heuristic"),
		{rule: "§4.2.2 a stated lifetime beats the heuristic", route: "heuristic", script: `
			< 200 | Cache-Control: max-age=50 | Last-Modified: {now-100000}
			> GET => MISS
			> GET => HIT | X-Cache-TTL-Remaining: 35..50`},
		{rule: "§4.2.2 statuses that RFC 9110 §15.1 lists", route: "heuristic", script: heuristicStatuses("HIT", "",
			200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501)},
		{rule: "§4.2.2 no other status", route: "heuristic", script: heuristicStatuses("MISS", "",
			201, 202, 299, 302, 303, 307, 400, 403, 500, 502, 503)},
		{rule: "§4.2.2 any status with public", route: "heuristic", script: heuristicStatuses("HIT", " | Cache-Control: public",
			201, 299, 302, 403, 500, 503, 599)},

		// Authorization.
		{rule: "§3.5 Authorization and plain max-age", script: `
			< 200 | Cache-Control: max-age=100
			> GET | Authorization: Basic x => BYPASS | cs !stored
			> GET => MISS
			> GET => HIT
			> GET | Authorization: Basic x => BYPASS`},
		{rule: "§3.5 Authorization and public", script: `
			< 200 | Cache-Control: max-age=100, public
			> GET | Authorization: Basic x => MISS
			> GET | Authorization: Basic y => HIT | = 1
			> GET => HIT`},
		{rule: "§3.5 Authorization and s-maxage", script: `
			< 200 | Cache-Control: s-maxage=100
			> GET | Authorization: Basic x => MISS
			> GET | Authorization: Basic y => HIT | = 1`},
		{rule: "§3.5 Authorization and must-revalidate", script: `
			< 200 | Cache-Control: max-age=100, must-revalidate
			> GET | Authorization: Basic x => MISS
			> GET | Authorization: Basic y => HIT | = 1`},

		// Fields.
		{rule: "§3.1 Connection, what it names, hop-by-hop and proxy fields are not stored", route: "fields", script: `
			< 200 | Cache-Control: max-age=100
			> GET => MISS | X-Kept: yes
			> GET => HIT  | X-Kept: yes | !X-Named | !Keep-Alive | !Proxy-Connection | !Te | !Upgrade | !Transfer-Encoding
			> GET => HIT  | !Connection | !Proxy-Authenticate | !Proxy-Authorization | !Proxy-Authentication-Info`},
		{rule: "§3.1 Proxy-Authentication-Info is not stored", script: `
			< 200 | Cache-Control: max-age=100 | Proxy-Authentication-Info: x
			> GET => MISS | Proxy-Authentication-Info: x
			> GET => HIT  | !Proxy-Authentication-Info`},
		{rule: "§3.1 all other fields are stored, unknown ones included", script: `
			< 200 | Cache-Control: max-age=100 | X-A: 1 | X-A: 2 | X-B: , | Content-Language: de | Link: </s>; rel=preload
			> GET => MISS | X-A: 1, 2 | Link: </s>; rel=preload
			> GET => HIT  | X-A: 1, 2 | X-B: , | Content-Language: de | Link: </s>; rel=preload`},
		{rule: "§5.2.2.4 qualified no-cache", script: `
			< 200 | Cache-Control: max-age=100, no-cache="X-A, x-b" | X-A: 1 | X-B: 2 | X-C: 3
			> GET => MISS | X-A: 1
			> GET => HIT | = 1 | !X-A | !X-B | X-C: 3`},
		{rule: "§5.2.2.7 qualified private", script: `
			< 200 | Cache-Control: max-age=100, private="X-A, x-b" | X-A: 1 | X-B: 2 | X-C: 3
			> GET => MISS | X-A: 1 | X-B: 2
			> GET => HIT | = 1 | !X-A | !X-B | X-C: 3`},
		{rule: "RFC 9110 §6.5 trailers are never merged into headers", script: `
			< 200 | Cache-Control: max-age=100 | trailer X-T: 1
			> GET => MISS | !X-T
			~ GET => MISS | !X-T`},
		{rule: "RFC 9110 §6.5 announced trailers", script: `
			< 200 | Cache-Control: max-age=100 | Trailer: X-T | trailer X-T: 1
			> GET => MISS | !X-T
			~ GET => MISS | !X-T`},
	}...)
}

// heuristicStatuses asks twice for a response of each status.
func heuristicStatuses(second, field string, statuses ...int) (script string) {
	for _, status := range statuses {
		script += fmt.Sprintf("< %d%s | Last-Modified: {now-1000}\n> GET /%[1]d => MISS %[1]d\n> GET /%[1]d => %[3]s %[1]d\n", status, field, second)
	}
	return script
}

// statusConversations ask for every final status with a lifetime.
func statusConversations() (list []conversation) {
	for status := 200; status <= 599; status++ {
		second := "HIT"
		switch status {
		case 304:
			continue // it speaks of another response
		case 206, 412, 428, 429, 431, 511: // 412 is about one client; the last four are of RFC 6585
			second = "MISS"
		case 205, 299, 399, 499, 599:
		default:
			if status%100 > 17 && status != 422 && status != 451 {
				continue // there is nothing special about them
			}
		}
		list = append(list, conversation{rule: fmt.Sprintf("§3 status %d with a lifetime", status), script: fmt.Sprintf(`
			< %d | Cache-Control: max-age=100
			> GET => MISS %[1]d
			> GET => %[2]s %[1]d`, status, second)})
	}
	return list
}
