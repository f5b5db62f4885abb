package journal

// A checkpoint is a table in Redis, and the ID of the last entry that was applied to
// it. A node that joins loads it and reads on from there, so that it knows what was
// trimmed away meanwhile: its floor is that of the table, and not the first entry.
// It is written by one node, for economy only. Two at a time spoil each other's
// chunks, and who reads what is spoiled, cut or missing reads the journal from its
// first entry, as without one.
//
// What a checkpoint says counts only for who finds its entry in the stream. The
// invariant is that the table holds every purge of its epoch up to that entry, from
// its floor on:
//
//   - The writer had applied every entry up to it without a gap, or had taken over a
//     checkpoint of which this holds. What it adds meanwhile only covers more.
//   - A stream grows at its end alone, and what falls back, a replica that takes over
//     or a snapshot, is an earlier state of it. So one that holds the entry, ID and
//     fields equal, has before it what it had for the writer, trimmed or not. If the
//     stream was lost, emptied or replaced since, or has fallen back behind it, the
//     entry is not there. A token makes the fields of each entry unique that a node
//     writes.
//   - The key of the epoch names that of the checkpoint. Who lost entries behind it is
//     noticed as ever: by those who had applied them, who begin another epoch.
//   - The rules are the same under which selectors were expanded.
//
// The hashes of a table depend on a secret, which the checkpoint brings along, and
// with it the epochs that the writer has seen: nobody reads the entries of those before.

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// checkpointVersion is raised when the form changes, when the same selectors come to
	// other marks than before, and when entries are applied that were skipped before.
	// Other versions then read the journal.
	checkpointVersion = 1
	// checkpointRetry is how long the next try waits after one that failed.
	checkpointRetry = 10 * time.Second
	maxHeader       = 4 << 10
)

// checkpointHeader says what the chunks are.
type checkpointHeader struct {
	Version int    `json:"version"`
	Epoch   string `json:"epoch"`
	ID      string `json:"id"`     // of the last entry that was applied
	Entry   string `json:"entry"`  // a hash of its fields
	Rules   string `json:"rules"`  // under which selectors were expanded
	Secret  string `json:"secret"` // of the hashes
	Half    int    `json:"half"`   // where the chunks are; the other half is written next
	Chunks  int    `json:"chunks"`
	Sum     string `json:"sum"` // a hash of the chunks
}

// position is what the checkpoint reaches. It is zero if that is unknown.
func (h *checkpointHeader) position() Position {
	id, err := ParseID(h.ID)
	if err != nil {
		return Position{}
	}
	return Position{Epoch: parseEpoch(h.Epoch), ID: id}
}

// hashEntry stands for the fields of an entry.
func hashEntry(m redis.XMessage) string {
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(m.Values)) {
		value := text(m.Values[name])
		fmt.Fprintf(sum, "%d %d %s%s", len(name), len(value), name, value)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// proves reports whether a checkpoint of the epoch goes on in a stream that holds
// an entry at its ID.
func (h *checkpointHeader) proves(epoch uint64, entry redis.XMessage) bool {
	return h.position().Epoch == epoch && entry.ID == h.ID && hashEntry(entry) == h.Entry
}

// capture is what of a node goes into a checkpoint.
type capture struct {
	at     Position
	anchor redis.XMessage
	table  *table
	rules  string
	epochs []uint64 // that were seen
	read   int      // entries since the last checkpoint
}

// checkpoint writes one when enough was read since the last. Where the node that
// should does not, as it is of another version, others do later.
func (t *tail) checkpoint() {
	t.cycle.Lock()
	defer t.cycle.Unlock()
	due := t.entries >= t.opts.CheckpointEvery && (t.registry.elects() || t.entries >= 2*t.opts.CheckpointEvery)
	c := capture{t.position, t.anchor, t.table, t.name, nil, t.entries}
	if !due || !t.attached || t.lease.closed.Load() || t.version != t.view.rules.Load() || c.rules != t.opts.Rules() ||
		time.Now().Before(t.checkpoints.next) || !t.checkpoints.writing.CompareAndSwap(false, true) {
		return
	}
	known := t.checkpoints.reached
	c.epochs = slices.Collect(maps.Keys(t.epochs.known))
	t.checkpoints.next = time.Now().Add(checkpointRetry)
	t.running.Go(func() {
		defer t.checkpoints.writing.Store(false)
		reached, err := t.checkpoints.write(t.base, c, known)
		if err != nil {
			return // nothing depends on it but what is remembered of a journal that was trimmed
		}
		t.cycle.Lock()
		defer t.cycle.Unlock()
		t.checkpoints.reached, t.checkpoints.next = reached, time.Time{}
		t.entries -= min(c.read, t.entries)
	})
}

// checkpoints are in Redis. The cycle guards what is known of them; one is written at a time.
type checkpoints struct {
	*shared

	cycle    *cycle
	epochs   *epochs
	presence *presence

	reached ID        // what the last known one reaches
	next    time.Time // not to be written before
	writing atomic.Bool

	// believes decides whether one is used. Only tests change it.
	believes func(h *checkpointHeader, epoch uint64, entry redis.XMessage) bool
}

// writeCheckpoint writes a checkpoint, unless there is one that is newer than the
// one that was known. It returns what the checkpoint in Redis reaches.
func (cp *checkpoints) write(ctx context.Context, c capture, known ID) (ID, error) {
	old, err := cp.header(ctx)
	if err != nil {
		return known, err
	}
	if at := old.position(); at.Epoch == c.at.Epoch && old.Rules == c.rules && known.Before(at.ID) {
		return at.ID, nil
	}
	h := checkpointHeader{
		Version: checkpointVersion, Epoch: formatEpoch(c.at.Epoch), ID: c.at.ID.String(), Entry: hashEntry(c.anchor),
		Rules: c.rules, Secret: hex.EncodeToString(c.table.secret[:]), Half: 1 - min(1, max(0, old.Half)),
	}
	half := cp.keys.halves[h.Half]
	do := func(f func(ctx context.Context) error) error {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		return f(ctx)
	}
	err = do(func(ctx context.Context) error { return cp.client.Unlink(ctx, half).Err() })
	if err != nil {
		return known, err
	}
	sum := sha256.New()
	w := tableWriter{t: c.table, epochs: c.epochs[:min(len(c.epochs), maxKnown)], emit: func(chunk []byte) error {
		sum.Write(chunk)
		field := strconv.Itoa(h.Chunks)
		h.Chunks++
		return do(func(ctx context.Context) error {
			return transact(ctx, cp.client, func(pipe redis.Pipeliner) error {
				pipe.HSet(ctx, half, field, chunk)
				pipe.Expire(ctx, half, cp.epochTTL())
				return nil
			})
		})
	}}
	if err := w.write(); err != nil {
		return known, err
	}
	h.Sum = hex.EncodeToString(sum.Sum(nil))
	header, err := json.Marshal(h) //nolint:gosec // the secret is that of the hashes, for who reads them
	if err != nil {
		return known, err
	}
	err = do(func(ctx context.Context) error {
		return cp.client.Set(ctx, cp.keys.checkpoint, header, cp.epochTTL()).Err()
	})
	if err != nil {
		return known, err
	}
	cp.counters.checkpoints.Add(1)
	// Who is reading the other half begins again.
	_ = do(func(ctx context.Context) error { return cp.client.Unlink(ctx, cp.keys.halves[1-h.Half]).Err() })
	return c.at.ID, nil
}

// checkpointHeader returns the header in Redis. It is zero if there is none that
// this version understands.
func (cp *checkpoints) header(ctx context.Context) (h checkpointHeader, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	raw, err := cp.client.Get(ctx, cp.keys.checkpoint).Bytes()
	if errors.Is(err, redis.Nil) {
		return h, nil
	}
	if err != nil {
		return h, err
	}
	if len(raw) > maxHeader || json.Unmarshal(raw, &h) != nil || h.Version != checkpointVersion {
		return checkpointHeader{}, nil
	}
	return h, nil
}

var errNoCheckpoint = errors.New("journal: no checkpoint that can be used")

// loadCheckpoint sets p to what a checkpoint of its epoch reaches, if there is one
// from which the stream goes on, and before an entry if one is given. Else p stays
// as it is.
func (cp *checkpoints) load(ctx context.Context, p *progress, until *redis.XMessage) {
	var tried checkpointHeader
	for range attempts {
		h, err := cp.header(ctx)
		if err != nil || h == tried || h.Version == 0 {
			return
		}
		tried = h
		if err := cp.try(ctx, h, p, until); err == nil {
			cp.counters.loaded.Add(1)
			return
		}
	}
}

func (cp *checkpoints) try(ctx context.Context, h checkpointHeader, p *progress, until *redis.XMessage) error {
	at := h.position()
	if until != nil {
		if last, err := ParseID(until.ID); err != nil || !at.ID.Before(last) {
			return errNoCheckpoint
		}
	}
	secret, err := hex.DecodeString(h.Secret)
	if err != nil || len(secret) != len(ownSecret) || h.Rules != p.name || h.Chunks < 1 || h.Chunks > maxChunks ||
		h.Half < 0 || h.Half >= len(cp.keys.halves) {
		return errNoCheckpoint
	}
	entry, err := cp.entryAt(ctx, at.ID)
	if err != nil {
		return err
	}
	if !cp.believes(&h, p.position.Epoch, entry) {
		return errNoCheckpoint
	}
	t := cp.newTable()
	copy(t.secret[:], secret)
	t.hashes = newHashes(t.secret)
	epochs, err := cp.readChunks(ctx, h, t)
	if err != nil {
		return err
	}
	cp.epochs.know(append(epochs, p.position.Epoch)...)
	t.reserve(0)
	t.bound()
	p.table, p.position.ID, p.anchor, p.from = t, at.ID, entry, h.ID
	return nil
}

// entryAt returns the entry with an ID, or one without.
func (cp *checkpoints) entryAt(ctx context.Context, id ID) (redis.XMessage, error) {
	ctx, answered := cp.cycle.call(ctx)
	defer answered()
	messages, err := cp.client.XRangeN(ctx, cp.keys.stream, id.String(), id.String(), 1).Result()
	if err != nil || len(messages) == 0 {
		return redis.XMessage{}, err
	}
	return messages[0], nil
}

func (cp *checkpoints) readChunks(ctx context.Context, h checkpointHeader, t *table) (epochs []uint64, err error) {
	sum, r := sha256.New(), tableReader{t: t}
	for i := range h.Chunks {
		if err := cp.presence.stayRegistered(ctx); err != nil {
			return nil, err
		}
		callCtx, answered := cp.cycle.call(ctx)
		chunk, err := cp.client.HGet(callCtx, cp.keys.halves[h.Half], strconv.Itoa(i)).Bytes()
		answered()
		if err != nil {
			return nil, err
		}
		sum.Write(chunk)
		if err := r.read(chunk); err != nil {
			return nil, err
		}
	}
	if hex.EncodeToString(sum.Sum(nil)) != h.Sum {
		return nil, errNoCheckpoint
	}
	return r.epochs, nil
}

// stayRegistered keeps the others from thinking that a node which takes long to
// join is gone.
func (p *presence) stayRegistered(ctx context.Context) error {
	if time.Since(p.lineSent) < p.opts.Heartbeat {
		return nil
	}
	return p.register(ctx)
}
