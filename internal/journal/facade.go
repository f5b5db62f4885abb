package journal

import (
	"context"
	"time"
)

// What users of the package ask of the parts of a journal.

// Append records a purge and waits, no longer than wait, until every live node
// has applied it. One that cannot be recorded covers what this node has begun to
// fetch by now, and waits until it can be. The end of ctx ends the wait as well.
// The error is ErrInvalid or ErrNotRecorded; after the latter nothing is promised.
func (j *Journal) Append(ctx context.Context, p Purge, wait time.Duration) (Result, error) {
	return j.appender.purge(ctx, p, wait)
}

// Record is Append for those who want a purge that is recorded or none: one that
// cannot be recorded is ErrNotRecorded. It may be in the journal all the same, if
// Redis did not answer in time.
func (j *Journal) Record(ctx context.Context, p Purge, wait time.Duration) (Result, error) {
	return j.appender.recordOnly(ctx, p, wait)
}

// AppendAsync records a purge that a request has made, and covers at once what
// matches and was being fetched here. It waits until this node has read the purge
// back, so that what is fetched from then on is not covered, but not longer than
// the write timeout, and not for other nodes. While Redis is away the purge is
// kept and appended later. A purge that is invalid does nothing.
func (j *Journal) AppendAsync(p Purge) error { return j.appender.purgeSoon(p) }

// Switch enables or disables the cache in the whole fleet, or one namespace of
// it. It waits as Append does.
func (j *Journal) Switch(ctx context.Context, enable bool, namespace, by, reason string, wait time.Duration) (Result, error) {
	return j.appender.toggle(ctx, enable, namespace, by, reason, wait)
}

// Waiting returns how many entries of purges are yet to be appended, and since
// when the first of them is.
func (j *Journal) Waiting() (entries int, since time.Time) { return j.appender.waiting() }

// Adopt takes over the purges that a journal which has been closed could not
// append, and those that it will yet be given. Both are about the same stream.
func (j *Journal) Adopt(closed *Journal) { j.appender.adopt(closed.appender) }

// Trust says whether a request may be answered from the store. Every lookup
// asks it, before Check. Within the lease that takes a look at the clock;
// past it the node catches up first, once for all who wait, and nobody waits
// longer than the read timeout. While Redis is known not to answer, nobody waits.
func (j *Journal) Trust(ctx context.Context) Standing { return j.lease.trust(ctx) }

// Position returns what this node has applied. A request notes it before the
// lookup whose miss leads to a fetch.
func (j *Journal) Position() Position { return j.view.now() }

// Check tells what purges say about a record. upTo is what an earlier check of
// the same record returned with Valid, or zero; up to there it is not searched
// again. It neither locks nor allocates when nothing newer has been applied.
func (j *Journal) Check(s *Subject, upTo Checked) (Verdict, Checked) { return j.view.check(s, upTo) }

// CoveredBy tells whether a record may be removed, and which hard purge covers
// it, the newest if several do; for an Absent record the ID says nothing. A purge
// that is not in the journal yet covers nothing here: it has no ID.
func (j *Journal) CoveredBy(s *Subject) (Verdict, ID) { return j.view.coveredBy(s) }

// Matcher returns a function that reports whether a purge would concern a
// record, whatever its position.
func (j *Journal) Matcher(p Purge) (func(*Subject) bool, error) { return j.view.matcher(p) }

// AddRemoved adds to what purges removed. A count of zero makes known that
// nothing was.
func (j *Journal) AddRemoved(ctx context.Context, counts map[ID]int64) error {
	return j.removals.add(ctx, counts)
}
