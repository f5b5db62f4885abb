// Package journal makes purges final across a fleet. A purge is one entry of a
// Redis stream, the only clock that purges know. Every node reads the stream
// from its first entry on into a table; each record carries the position its
// fetch started at, and is covered by a matching purge that is newer. So a
// purge costs one command whatever it matches, and it reaches fetches in flight.
//
// What a node may say about records rests on three things:
//
//   - the anchor (tail.go): each read begins with the entry applied last, so that
//     a stream that was emptied, replaced, cut or rolled back is noticed;
//   - the lease (lease.go): a node answers from its store only for a bounded time
//     after it read the stream to its end;
//   - the registry (registry.go): nodes publish what they have applied, and a
//     purge is confirmed when each live one has applied it (append.go).
//
// Anybody may make a server purge, by a POST. What requests have purged waits for
// Redis in a queue of its own (queue.go) and is remembered in a table of its own
// (marks.go), so that it displaces nothing that operators have purged. The stream is
// trimmed; who joins later learns what was in it from a checkpoint (checkpoint.go).
//
// For the rest of the code a purge comes to four things:
//
//   - A request notes Position before its lookup, and what it fetches is stored with it. So
//     a purge during the fetch is newer than the record, which is born covered.
//
//   - Only the store asks whether a record is covered, at every lookup; nothing is deleted
//     for the sake of correctness. A memory entry remembers up to which purge it was
//     checked.
//
//   - Before a lookup, Trust says whether this node may answer from its store at all:
//     usually a look at the clock.
//
//   - The sweep removes covered records from Redis, for economy only, and counts them by
//     purge in <prefix>::removed:{…}.
//
// Before a node trusts its store after it has joined, or after a lapse, it waits for two
// thirds of a lease if there are others: Redis may have lost purges that they have applied,
// and each of them notices within its lease. A node counts as cut off, and consistency
// decides, only while Redis cannot be read, or takes no writes from anybody: one that is
// still reading, was stopped itself, or alone may not write, goes to the origin. What
// cannot be recorded waits in a queue (queue.go). It has no ID, so a counter of this
// process stands in for one: Position.Local counts the purges that were taken so, and what
// has a lower count is covered while they wait. It is kept in memory alone. A record from
// Redis may be older than any of them and counts as 0, until a check has found that none
// covers it. The queue is drained before the node trusts Redis again. Its table depends on
// vary_query, on and the secret: when a reload changes them, NewRules has it made anew from
// the stream. What requests have purged is remembered apart from that, in 16 bytes each
// (marks.go): anybody may purge so, and on overflow only the hosts with the most of it lose
// what was stored before. Every 100,000 entries one node writes its table into Redis
// (checkpoint.go says when another may use it), so that trimming the stream costs those who
// join later nothing. Purges are remembered for 30 days, and no response is fresh, or stays
// stored, for longer.
//
// The journal has a Redis client of its own, with longer timeouts: its calls are not on the
// path of requests, but for catching up after a lapse and for invalidation by requests.
// Statistics, walks, pages, sweeps and the doctor use it, too.
//
// The package writes no log and exports no metric: it returns outcomes, keeps
// counters and calls the functions in Options.
package journal
