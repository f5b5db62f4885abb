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
// The package writes no log and exports no metric: it returns outcomes, keeps
// counters and calls the functions in Options.
package journal
