// Package engine is the path of a request through the cache: a shared cache in the sense
// of RFC 9111, for any server. It knows neither Caddy nor a logger of its own; what it has
// to be told of a site, such as matchers, placeholders and the handlers behind, are
// functions of a [Route] and the [Upstream] of a request.
//
// A request passes through stages. The result of each is a value that is set once:
//
//   - [Request], by identify: what is asked for, by whom, under which key
//   - [Found], by a look into the store: what is stored for it, and why that is no answer
//   - [Plan], by decide, which is pure: what is done
//   - fetch, where the upstream is asked: alone, for others, too, or by another request
//   - Verdict, by judge, which is pure, at the header of a response: what is stored of it
//   - [Outcome]: how the request was answered, for header, log, metrics and statistics
//
// Begin to read at [Answer.Serve].
package engine
