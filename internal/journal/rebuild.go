package journal

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// attempts is how often a node tries to read a journal that changes under it
// before it waits for the next heartbeat.
const attempts = 3

// rebuild reads the journal from its first entry, after a gap and at the start.
// Until it has come to the end, the node answers nothing from its store.
func (j *Journal) rebuild(ctx context.Context, reason gapError) (proof time.Time, err error) {
	j.lease.Store(nil)
	j.phase.Store(phaseProving)
	for range attempts {
		var epoch uint64
		if epoch, reason, err = j.chooseEpoch(ctx, reason); err != nil {
			return proof, err
		}
		news := replay{upTo: maxID}
		if j.tail.attached {
			news.upTo = laterOf(j.tail.position.ID, j.tail.replayed)
		}
		var p progress
		p, proof, err = j.replay(ctx, epoch, news)
		if errors.Is(err, errVanished) {
			j.tail.entering = 0
			continue
		}
		if err != nil {
			return proof, err
		}
		j.attach(p, reason)
		return proof, nil
	}
	return proof, err
}

// attach makes what was replayed the state of the node.
func (j *Journal) attach(p progress, reason gapError) {
	t := &j.tail
	t.adopt(p)
	t.attached, t.replayed, t.strays, t.entering = true, ID{}, 0, 0
	j.settle(&t.progress, nil)
	j.gap(reason)
}

// renew makes the table anew under other rules, up to the anchor, and reads on.
func (j *Journal) renew(ctx context.Context) (time.Time, error) {
	t := &j.tail
	p, proof, err := j.replay(ctx, t.position.Epoch, replay{upTo: maxID, anchor: &t.anchor})
	if err != nil {
		return proof, err
	}
	p.table.raise(t.table.lowest())
	t.adopt(p)
	j.settle(&t.progress, nil)
	return j.readOn(ctx)
}

// chooseEpoch decides in which epoch the node goes on. Its own goes on if
// entries were trimmed and nothing else happened; else it enters one that
// another node has begun, or begins one.
func (j *Journal) chooseEpoch(ctx context.Context, reason gapError) (uint64, gapError, error) {
	t := &j.tail
	for range attempts {
		found, first, err := j.look(ctx)
		if err != nil {
			return 0, reason, err
		}
		epoch := parseEpoch(found)
		switch {
		case t.attached && reason != errStrayEpoch && epoch == t.position.Epoch && t.position.ID.Before(first):
			return epoch, errTrimmed, nil
		case epoch != 0 && !first.IsZero() && (!t.known[epoch] || epoch == t.entering):
			j.know(epoch)
			t.entering = epoch
			return epoch, reason, nil
		}
		epoch, err = j.beginEpoch(ctx, found)
		if !errors.Is(err, redis.TxFailedErr) {
			t.entering = epoch
			return epoch, reason, err
		}
	}
	return 0, reason, redis.TxFailedErr
}

// look returns the key of the epoch and the ID of the first entry, as they are
// at one moment.
func (j *Journal) look(ctx context.Context) (epoch string, first ID, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var key *redis.StringCmd
	var page *redis.XMessageSliceCmd
	err = transact(ctx, j.client, func(pipe redis.Pipeliner) error {
		key = pipe.Get(ctx, j.keys.epoch)
		page = pipe.XRangeN(ctx, j.keys.stream, "-", "+", 1)
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return "", ID{}, err
	}
	messages, err := page.Result()
	if err == nil && len(messages) > 0 {
		first, err = ParseID(messages[0].ID)
	}
	return key.Val(), first, err
}

// beginEpoch begins an epoch, unless the key no longer holds what was found.
func (j *Journal) beginEpoch(ctx context.Context, found string) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	epoch := newEpoch()
	err := j.client.Watch(ctx, func(tx *redis.Tx) error {
		now, err := tx.Get(ctx, j.keys.epoch).Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
		if now != found {
			return redis.TxFailedErr
		}
		return transact(ctx, tx, func(pipe redis.Pipeliner) error {
			pipe.Set(ctx, j.keys.epoch, formatEpoch(epoch), j.epochTTL())
			pipe.XAdd(ctx, j.add(fields{fieldOp, string(OpEpoch), fieldEpoch, formatEpoch(epoch)}))
			return nil
		})
	}, j.keys.epoch)
	if err != nil {
		return 0, err
	}
	j.know(epoch)
	return epoch, nil
}

// transact is TxPipelined whose error is what Redis refused, not that it gave up the transaction for
// it.
func transact(ctx context.Context, client interface {
	TxPipelined(context.Context, func(redis.Pipeliner) error) ([]redis.Cmder, error)
}, f func(redis.Pipeliner) error,
) error {
	cmds, err := client.TxPipelined(ctx, f)
	if !redis.HasErrorPrefix(err, "EXECABORT") {
		return err
	}
	for _, cmd := range cmds {
		if refused := cmd.Err(); refused != nil && !redis.HasErrorPrefix(refused, "EXECABORT") {
			return refused
		}
	}
	return err
}

// maxKnown bounds what outsiders can make a node remember. Forgetting is safe:
// the floor keeps what is older than the entry of an epoch absent.
const maxKnown = 4096

// know remembers epochs.
func (j *Journal) know(epochs ...uint64) {
	t := &j.tail
	if t.known == nil || len(t.known) > maxKnown {
		t.known = make(map[uint64]bool)
	}
	for _, epoch := range epochs {
		t.known[epoch] = true
	}
}

// replay reads the journal from its first entry, or from a checkpoint, to its end,
// or to the anchor.
func (j *Journal) replay(ctx context.Context, epoch uint64, news replay) (p progress, sent time.Time, err error) {
	t := &j.tail
	p = progress{position: Position{Epoch: epoch}, table: j.newTable(), replay: &news}
	p.version = j.rules.Load()
	p.name = j.opts.Rules()
	j.loadCheckpoint(ctx, &p, news.anchor)
	from := cmp.Or(p.from, "-")
	for {
		if err = j.stayRegistered(ctx); err != nil {
			return p, sent, err
		}
		sent = time.Now()
		var messages []redis.XMessage
		var end bool
		if _, messages, end, err = j.readPage(ctx, from); err != nil {
			return p, sent, err
		}
		if len(messages) == 0 || (p.anchor.ID != "" && !sameMessage(messages[0], p.anchor)) {
			return p, sent, errVanished
		}
		switch {
		case p.anchor.ID != "":
			messages = messages[1:]
		case p.from == "":
			first, _ := ParseID(messages[0].ID)
			p.table.raise(first)
		}
		if news.anchor != nil {
			if i := slices.IndexFunc(messages, func(m redis.XMessage) bool { return sameMessage(m, *news.anchor) }); i >= 0 {
				messages, end = messages[:i+1], true
			} else if end {
				return p, sent, errAnchorGone
			}
		}
		j.deliver(j.apply(&p, messages))
		t.replayed = p.position.ID
		if end {
			p.replay = nil
			return p, sent, nil
		}
		from = p.anchor.ID
	}
}
