package http

import (
	"time"
)

// rfc850 is the shape with a two-digit year, some years from now.
func rfc850(years int) string {
	return time.Now().UTC().AddDate(years, 0, -1).Format("Monday, 02-Jan-06 15:04:05 GMT")
}

// freshnessConversations are about numbers, ages, dates and lifetimes.
func freshnessConversations() []conversation {
	return []conversation{
		// Numbers.
		stored("§1.2.2 leading zeros", "200 | Cache-Control: max-age=007200"),
		stored("§1.2.2 white space around directives", "200 | Cache-Control:  public ,  max-age=100 ,"),
		stored("§1.2.2 2^31 seconds", "200 | Cache-Control: max-age=2147483648"),
		stored("§1.2.2 above 2^31 seconds", "200 | Cache-Control: max-age=99999999999"),
		stored("§1.2.2 above int64 nanoseconds", "200 | Cache-Control: max-age=9223372037"),
		stored("§1.2.2 above int64", "200 | Cache-Control: max-age=92233720368547758080"),
		unstored("§1.2.2 max-age is no number", "200 | Cache-Control: max-age=abc"),
		unstored("§1.2.2 max-age is negative", "200 | Cache-Control: max-age=-7200"),
		unstored("§1.2.2 max-age has decimals", "200 | Cache-Control: max-age=7200.0"),
		unstored("§1.2.2 max-age without a number", "200 | Cache-Control: max-age="),
		unstored("§1.2.2 max-age without an argument", "200 | Cache-Control: max-age"),
		unstored("§4.2.1 an invalid max-age hides Expires", "200 | Cache-Control: max-age=abc | Expires: {now+100}"),
		unstored("§4.2.1 an invalid s-maxage hides max-age", "200 | Cache-Control: s-maxage=abc, max-age=100"),

		// Age.
		{rule: "§5.1 every hit has a fresh Age and a miss the origin's", script: `
			< 200 | Cache-Control: max-age=100 | Age: 50
			> GET => MISS | Age: 50
			> GET => HIT  | Age: 50..65 | X-Cache-TTL-Remaining: 35..50`},
		{rule: "§4.2.3 resident time", script: `
			< 200 | Cache-Control: max-age=100 | Age: 90
			> GET => MISS
			> GET => HIT | = 1
			~ GET => HIT | = 1 | Age: 91..99
			~ GET => MISS`},
		unstored("§4.2 as old as its lifetime", "200 | Cache-Control: max-age=100 | Age: 100"),
		unstored("§1.2.2 Age above int64", "200 | Cache-Control: max-age=100 | Age: 92233720368547758080"),
		unstored("§1.2.2 Age and max-age above 2^31", "200 | Cache-Control: max-age=99999999999 | Age: 99999999999"),
		{rule: "§5.1 an invalid Age is ignored", script: `
			< 200 | Cache-Control: max-age=3600 | Age: abc
			> GET /a => MISS
			> GET /a => HIT | Age: 0..15
			< 200 | Cache-Control: max-age=3600 | Age: -7200
			> GET /b => MISS
			> GET /b => HIT | Age: 0..15
			< 200 | Cache-Control: max-age=3600 | Age: 7200.0
			> GET /c => MISS
			> GET /c => HIT | Age: 0..15`},
		stored("§5.1 the first line of Age, old later", "200 | Cache-Control: max-age=3600 | Age: 10 | Age: 7200"),
		unstored("§5.1 the first line of Age, old first", "200 | Cache-Control: max-age=3600 | Age: 7200 | Age: 10"),
		stored("§5.1 the first member of Age, old later", "200 | Cache-Control: max-age=3600 | Age: 10, 7200"),
		unstored("§5.1 the first member of Age, old first", "200 | Cache-Control: max-age=3600 | Age: 7200, 10"),
		unstored("§4.2.3 apparent age", "200 | Cache-Control: max-age=100 | Date: {now-100}"),
		{rule: "§4.2.3 the larger of Age and apparent age", script: `
			< 200 | Cache-Control: max-age=100 | Age: 10 | Date: {now-50}
			> GET /date => MISS
			> GET /date => HIT | Age: 50..65
			< 200 | Cache-Control: max-age=100 | Age: 50 | Date: {now-10}
			> GET /age => MISS
			> GET /age => HIT | Age: 50..65`},
		{rule: "§4.2.3 a Date in the future is age 0", script: `
			< 200 | Cache-Control: max-age=100 | Date: {now+1000}
			> GET => MISS
			> GET => HIT | Age: 0..15 | X-Cache-TTL-Remaining: 80..100`},
		unstored("§4.2.3 the delay of the response", "200 | Cache-Control: max-age=100 | Age: 99 | slow 1100ms"),

		// Lifetime.
		stored("§4.2.1 s-maxage beats max-age, longer", "200 | Cache-Control: max-age=0, s-maxage=100"),
		unstored("§4.2.1 s-maxage beats max-age, shorter", "200 | Cache-Control: s-maxage=0, max-age=100"),
		stored("§5.3 max-age beats Expires in the past", "200 | Cache-Control: max-age=100 | Expires: {now-100}"),
		stored("§5.3 max-age beats an invalid Expires", "200 | Cache-Control: max-age=100 | Expires: 0"),
		unstored("§5.3 max-age=0 beats Expires in the future", "200 | Cache-Control: max-age=0 | Expires: {now+100}"),
		stored("§5.3 Expires in the future", "200 | Expires: {now+100}"),
		unstored("§5.3 Expires in the past", "200 | Expires: {now-100}"),
		unstored("§5.3 Expires is Date", "200 | Date: {now-0} | Expires: {now-0}"),
		unstored("§4.2.1 Expires before Date, but after now", "200 | Date: {now+1000} | Expires: {now+500}"),
		{rule: "§4.2.1 Expires counts from Date", script: `
			< 200 | Date: {now-100} | Age: 120 | Expires: {now+50}
			> GET => MISS
			> GET => HIT | X-Cache-TTL-Remaining: 15..30`},
		stored("§4.2.1 Expires without Date", "200 | !Date | Expires: {now+100}"),
		stored("§4.2.1 Expires with an invalid Date", "200 | Date: yesterday | Expires: {now+100}"),
		unstored("§4.2.1 the later of two max-age does not win", "200 | Cache-Control: max-age=0, max-age=100"),
		unstored("§4.2.1 the later line of max-age does not win", "200 | Cache-Control: max-age=0 | Cache-Control: max-age=100"),
		stored("§5.2 names in any case", "200 | Cache-Control: MaX-AgE=100"),
		unstored("§5.2 no-store in any case", "200 | Cache-Control: max-age=100, NO-Store"),
		stored("RFC 9110 §5.3 max-age on the second line", "200 | Cache-Control: public | Cache-Control: max-age=100"),
		unstored("RFC 9110 §5.3 no-store on the second line", "200 | Cache-Control: max-age=100 | Cache-Control: no-store"),
		unstored("RFC 9110 §5.6.4 a quoted max-age is none", `200 | Cache-Control: extension="max-age=3600"`),
		unstored("RFC 9110 §5.6.4 max-age between quoted commas is none", `200 | Cache-Control: extension="a, max-age=3600, b"`),
		stored("RFC 9110 §5.6.4 a quoted no-store is none", `200 | Cache-Control: extension="a, no-store, b", max-age=100`),
		stored("§5.2.3 unknown directives are ignored", "200 | Cache-Control: max-age=100, foo, bar=baz"),
		unstored("§4.2.1 no lifetime at all", "200"),

		// Dates.
		stored("RFC 9110 §5.6.7 IMF-fixdate", "200 | Expires: Thu, 18 Aug 2050 02:01:18 GMT"),
		stored("RFC 9110 §5.6.7 RFC 850", "200 | Expires: Thursday, 18-Aug-50 02:01:18 GMT"),
		stored("RFC 9110 §5.6.7 asctime", "200 | Expires: Thu Aug 18 02:01:18 2050"),
		stored("RFC 9110 §5.6.7 asctime with a day of one digit", "200 | Expires: Mon Aug  8 02:01:18 2050"),
		stored("RFC 9110 §5.6.7 RFC 850 within 50 years", "200 | Expires: "+rfc850(50)),
		unstored("RFC 9110 §5.6.7 RFC 850 more than 50 years ahead", "200 | Expires: "+rfc850(60)),
		stored("§4.2 day, month and GMT in any case", "200 | Expires: tHU, 18 aUG 2050 02:01:18 gMT"),
		stored("§4.2 RFC 850 in any case", "200 | Expires: tHURSDAY, 18-AUG-50 02:01:18 gmt"),
		stored("§1.2.2 a year beyond nanoseconds", "200 | Expires: Thu, 18 Aug 2286 02:01:18 GMT"),
		stored("§1.2.2 the last year", "200 | Expires: Fri, 31 Dec 9999 23:59:59 GMT"),
		unstored("§5.3 0", "200 | Expires: 0"),
		unstored("§5.3 -1", "200 | Expires: -1"),
		unstored("§5.3 empty", "200 | Expires:"),
		unstored("§5.3 another zone", "200 | Expires: Thu, 18 Aug 2050 02:01:18 AEST"),
		unstored("§5.3 another zone in RFC 850", "200 | Expires: Thursday, 18-Aug-50 02:01:18 AEST"),
		unstored("§5.3 a numeric zone", "200 | Expires: Thu, 18 Aug 2050 02:01:18 +0000"),
		unstored("§5.3 UTC", "200 | Expires: Thu, 18 Aug 2050 02:01:18 UTC"),
		unstored("§5.3 a year of two digits", "200 | Expires: Thu, 18 Aug 50 02:01:18 GMT"),
		unstored("§5.3 no comma", "200 | Expires: Thu 18 Aug 2050 02:01:18 GMT"),
		unstored("§5.3 two spaces before the day", "200 | Expires: Thu,  18 Aug 2050 02:01:18 GMT"),
		unstored("§5.3 two spaces before the time", "200 | Expires: Thu, 18 Aug 2050  02:01:18 GMT"),
		unstored("§5.3 two spaces in RFC 850", "200 | Expires: Thursday,  18-Aug-50 02:01:18 GMT"),
		unstored("§5.3 dashes", "200 | Expires: Thu, 18-Aug-2050 02:01:18 GMT"),
		unstored("§5.3 dots in the time", "200 | Expires: Thu, 18 Aug 2050 02.01.18 GMT"),
		unstored("§5.3 an hour of one digit", "200 | Expires: Thu, 18 Aug 2050 2:01:18 GMT"),
		unstored("§5.3 an hour of one digit in RFC 850", "200 | Expires: Thursday, 18-Aug-50 2:01:18 GMT"),
		unstored("§5.3 no zone", "200 | Expires: Thu, 18 Aug 2050 02:01:18"),
		unstored("§5.3 no time", "200 | Expires: Thu, 18 Aug 2050"),
		unstored("§5.3 ISO 8601", "200 | Expires: 2050-08-18T02:01:18Z"),
	}
}
