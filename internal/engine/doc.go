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
//
// # Flights
//
// A fetch that others may share is a flight. The upstream works on a header map of its own
// and writes its body into memory; a pump serves the leader's client from there, followers
// read the same memory. So the request's context is detached from its client until the
// header says that nobody else may have the response. Across nodes the leader holds a lease
// in Redis; other nodes' leaders wait for it while their own followers wait for them, and
// where the URL turns out to have variants, for that of their own variant. Before a client
// is answered with something complete, flight and lease are given back, for it may read
// slowly. A pump may run handlers in front, which read the request: it does not change
// until the pump has landed. The bodies that slow clients keep in memory are bounded
// together (Group.Take). A body that outgrows max_body ends the flight: the leader streams
// on, and a follower, who has sent a part already, fetches for itself and lets through what
// follows that part if the new response begins with it.
//
// # Records
//
// A hit applies field operations to the header that outer handlers prepared: a record
// stores what the upstream made of that header (set, add, remove), not the header itself.
// So fields of outer handlers stay those of the current request.
//
// A URL whose responses vary has a base record under its key with the selecting fields and
// the list of variants. The fields are the union of what any response named, so that a
// response with a shorter Vary never hides the others.
package engine
