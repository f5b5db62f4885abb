package http

// varyConversations are about responses selected by request fields.
func varyConversations() []conversation {
	return []conversation{
		{rule: "§4.1 several variants live side by side", script: `
			< 200 | Cache-Control: max-age=100 | Vary: Foo
			> GET | Foo: 1 => MISS | = 1 | cs fwd=uri-miss
			> GET | Foo: 2 => MISS | = 2 | cs fwd=vary-miss
			> GET | Foo: 3 => MISS | = 3 | cs fwd=vary-miss
			> GET | Foo: 1 => HIT | = 1
			> GET | Foo: 2 => HIT | = 2
			> GET | Foo: 3 => HIT | = 3`},
		{rule: "§4.1 absent matches only absent", script: `
			< 200 | Cache-Control: max-age=100 | Vary: Foo
			> GET => MISS | = 1
			> GET => HIT | = 1
			> GET | Foo: 1 => MISS | = 2
			> GET | Foo: => MISS | = 3
			> GET | Foo: => HIT | = 3
			> GET => HIT | = 1`},
		{rule: "§4.1 unlisted fields play no role", script: `
			< 200 | Cache-Control: max-age=100 | Vary: Foo
			> GET | Foo: 1 | Bar: 1 => MISS
			> GET | Foo: 1 | Bar: 2 => HIT | = 1
			> GET | Foo: 1 => HIT | = 1`},
		{rule: "§4.1 two fields must both match", script: `
			< 200 | Cache-Control: max-age=100 | Vary: Foo, Bar
			> GET | Foo: 1 | Bar: 1 => MISS | = 1
			> GET | Foo: 1 | Bar: 2 => MISS | = 2
			> GET | Foo: 1 => MISS | = 3
			> GET | Bar: 1 | Foo: 1 => HIT | = 1`},
		{rule: "§4.1 Vary on several lines", script: `
			< 200 | Cache-Control: max-age=100 | Vary: Foo | Vary: Bar
			> GET | Foo: 1 | Bar: 1 => MISS | = 1
			> GET | Foo: 1 | Bar: 2 => MISS | = 2
			> GET | Foo: 2 | Bar: 1 => MISS | = 3`},
		{rule: "§4.1 field names in any case", script: `
			< 200 | Cache-Control: max-age=100 | Vary: fOO
			> GET | Foo: 1 => MISS | = 1
			> GET | foo: 2 => MISS | = 2
			> GET | FOO: 1 => HIT | = 1`},
		{rule: "§4.1 empty members are ignored", script: `
			< 200 | Cache-Control: max-age=100 | Vary: , Foo,, | Vary:
			> GET | Foo: 1 => MISS | = 1
			> GET | Foo: 1 => HIT | = 1
			> GET | Foo: 2 => MISS | = 2`},
		stored("§4.1 an empty Vary selects nothing", "200 | Cache-Control: max-age=100 | Vary:"),
		unstored("§4.1 *", "200 | Cache-Control: max-age=100 | Vary: *"),
		unstored("§4.1 * as a member", "200 | Cache-Control: max-age=100 | Vary: Foo, *"),
		unstored("§4.1 * on another line", "200 | Cache-Control: max-age=100 | Vary: Foo | Vary: *"),
		{rule: "§4.1 lines and white space around commas make no difference", script: `
			< 200 | Cache-Control: max-age=100 | Vary: Foo
			> GET | Foo: 1,2 => MISS
			> GET | Foo: 1, 2 => HIT | = 1
			> GET | Foo: 1 , 2 => HIT | = 1
			> GET | Foo: 1 | Foo: 2 => HIT | = 1
			> GET | Foo: 2,1 => MISS`},
		{rule: "§4.1 white space in quotes does", script: `
			< 200 | Cache-Control: max-age=100 | Vary: Foo
			> GET | Foo: "a, b" => MISS
			> GET | Foo: "a,b" => MISS
			> GET | Foo: "a, b" => HIT | = 1`},
		{rule: "§4.1 the case of other values does", script: `
			< 200 | Cache-Control: max-age=100 | Vary: Foo
			> GET | Foo: a => MISS
			> GET | Foo: A => MISS`},
		{rule: "§4.1 Accept-Language in any case", script: `
			< 200 | Cache-Control: max-age=100 | Vary: Accept-Language
			> GET | Accept-Language: en-US, de;q=0.5 => MISS
			> GET | Accept-Language: EN-us,DE;q=0.5 => HIT | = 1
			> GET | Accept-Language: en-US => MISS | = 2
			> GET | Accept-Language: de => MISS | = 3`},
		{rule: "§4.1 Accept-Encoding in any order and case", script: `
			< 200 | Cache-Control: max-age=100 | Vary: Accept-Encoding
			> GET | Accept-Encoding: gzip, br => MISS
			> GET | Accept-Encoding: br,gzip => HIT | = 1
			> GET | Accept-Encoding: BR, GZip => HIT | = 1
			> GET | Accept-Encoding: gzip;q=1.0, br;q=1 => HIT | = 1
			> GET | Accept-Encoding: br | Accept-Encoding: gzip => HIT | = 1
			> GET | Accept-Encoding: gzip => MISS | = 2
			> GET => MISS | = 3`},
		{rule: "§4.1 weights of Accept-Encoding count", script: `
			< 200 | Cache-Control: max-age=100 | Vary: Accept-Encoding
			> GET | Accept-Encoding: gzip, br;q=0.5 => MISS
			> GET | Accept-Encoding: gzip;q=0.5, br => MISS
			> GET | Accept-Encoding: gzip, br, identity;q=0 => MISS
			> GET | Accept-Encoding: br;q=0.5, gzip => HIT | = 1`},
		{rule: "§4.1 a response that names fewer fields hides no other", script: `
			< 200 | Cache-Control: max-age=100 | Vary: Foo
			> GET | Foo: 1 => MISS | = 1
			< 200 | Cache-Control: max-age=100
			> GET | Foo: 2 => MISS | = 2
			> GET | Foo: 1 => HIT | = 1
			> GET | Foo: 2 => HIT | = 2`},
		{rule: "§4.1 a response that names more fields", script: `
			< 200 | Cache-Control: max-age=100 | Vary: Foo
			> GET | Foo: 1 => MISS | = 1
			< 200 | Cache-Control: max-age=100 | Vary: Foo, Bar
			> GET | Foo: 2 | Bar: 1 => MISS | = 2
			> GET | Foo: 2 | Bar: 2 => MISS | = 3
			> GET | Foo: 2 | Bar: 1 => HIT | = 2`},
		{rule: "RFC 9110 §8.4 an encoded response whose origin forgot Vary", script: `
			< 200 | Cache-Control: max-age=100 | Content-Encoding: br
			> GET | Accept-Encoding: br => MISS
			> GET | Accept-Encoding: br => HIT | = 1
			> GET => MISS | = 2`},
		{rule: "§4.3.1 each variant has its validators", script: `
			< 200 | Cache-Control: max-age=100 | Age: 100 | Vary: Foo | Etag: "one"
			> GET | Foo: 1 => MISS
			< 200 | Cache-Control: max-age=100 | Age: 100 | Vary: Foo | Etag: "two"
			> GET | Foo: 2 => MISS
			< 304 | Etag: "one" | Vary: Foo
			> GET | Foo: 1 => REVALIDATED | = 1 | saw If-None-Match: "one" | saw Foo: 1
			< 304 | Etag: "two" | Vary: Foo
			> GET | Foo: 2 => REVALIDATED | = 2 | saw If-None-Match: "two" | saw Foo: 2`},
	}
}
