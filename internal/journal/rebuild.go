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
func (t *tail) rebuild(ctx context.Context, reason gapError) (proof time.Time, err error) {
	t.lease.proof.Store(nil)
	t.lease.phase.Store(phaseProving)
	for range attempts {
		var epoch uint64
		if epoch, reason, err = t.chooseEpoch(ctx, reason); err != nil {
			return proof, err
		}
		news := replay{upTo: maxID}
		if t.attached {
			news.upTo = laterOf(t.position.ID, t.replayed)
		}
		var p progress
		p, proof, err = t.replay(ctx, epoch, news)
		if errors.Is(err, errVanished) {
			t.epochs.entering = 0
			continue
		}
		if err != nil {
			return proof, err
		}
		t.attach(p, reason)
		return proof, nil
	}
	return proof, err
}

// attach makes what was replayed the state of the node.
func (t *tail) attach(p progress, reason gapError) {
	t.adopt(p)
	t.attached, t.replayed, t.strays, t.epochs.entering = true, ID{}, 0, 0
	t.applier.settle(&t.progress, nil)
	t.applier.gap(reason)
}

// renew makes the table anew under other rules, up to the anchor, and reads on.
func (t *tail) renew(ctx context.Context) (time.Time, error) {
	p, proof, err := t.replay(ctx, t.position.Epoch, replay{upTo: maxID, anchor: &t.anchor})
	if err != nil {
		return proof, err
	}
	p.table.raise(t.table.lowest())
	t.adopt(p)
	t.applier.settle(&t.progress, nil)
	return t.readOn(ctx)
}

// chooseEpoch decides in which epoch the node goes on. Its own goes on if
// entries were trimmed and nothing else happened; else it enters one that
// another node has begun, or begins one.
func (t *tail) chooseEpoch(ctx context.Context, reason gapError) (uint64, gapError, error) {
	for range attempts {
		found, first, err := t.epochs.look(ctx)
		if err != nil {
			return 0, reason, err
		}
		epoch := parseEpoch(found)
		switch {
		case t.attached && reason != errStrayEpoch && epoch == t.position.Epoch && t.position.ID.Before(first):
			return epoch, errTrimmed, nil
		case epoch != 0 && !first.IsZero() && (!t.epochs.known[epoch] || epoch == t.epochs.entering):
			t.epochs.know(epoch)
			t.epochs.entering = epoch
			return epoch, reason, nil
		}
		epoch, err = t.epochs.begin(ctx, found)
		if !errors.Is(err, redis.TxFailedErr) {
			t.epochs.entering = epoch
			return epoch, reason, err
		}
	}
	return 0, reason, redis.TxFailedErr
}

// epochs are those that the journal has had. The cycle guards them.
type epochs struct {
	*shared

	known    map[uint64]bool // that were seen; none is ever entered again
	entering uint64          // but for this one, in which nothing was vouched for yet
}

// look returns the key of the epoch and the ID of the first entry, as they are
// at one moment.
func (e *epochs) look(ctx context.Context) (epoch string, first ID, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var key *redis.StringCmd
	var page *redis.XMessageSliceCmd
	err = transact(ctx, e.client, func(pipe redis.Pipeliner) error {
		key = pipe.Get(ctx, e.keys.epoch)
		page = pipe.XRangeN(ctx, e.keys.stream, "-", "+", 1)
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
func (e *epochs) begin(ctx context.Context, found string) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	epoch := newEpoch()
	err := e.client.Watch(ctx, func(tx *redis.Tx) error {
		now, err := tx.Get(ctx, e.keys.epoch).Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
		if now != found {
			return redis.TxFailedErr
		}
		return transact(ctx, tx, func(pipe redis.Pipeliner) error {
			pipe.Set(ctx, e.keys.epoch, formatEpoch(epoch), e.epochTTL())
			pipe.XAdd(ctx, e.xadd(fields{fieldOp, string(OpEpoch), fieldEpoch, formatEpoch(epoch)}))
			return nil
		})
	}, e.keys.epoch)
	if err != nil {
		return 0, err
	}
	e.know(epoch)
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
func (e *epochs) know(epochs ...uint64) {
	if e.known == nil || len(e.known) > maxKnown {
		e.known = make(map[uint64]bool)
	}
	for _, epoch := range epochs {
		e.known[epoch] = true
	}
}

// replay reads the journal from its first entry, or from a checkpoint, to its end,
// or to the anchor.
func (t *tail) replay(ctx context.Context, epoch uint64, news replay) (p progress, sent time.Time, err error) {
	p = progress{position: Position{Epoch: epoch}, table: t.newTable(), replay: &news}
	p.version = t.view.rules.Load()
	p.name = t.opts.Rules()
	t.checkpoints.load(ctx, &p, news.anchor)
	from := cmp.Or(p.from, "-")
	for {
		if err = t.presence.stayRegistered(ctx); err != nil {
			return p, sent, err
		}
		sent = time.Now()
		var messages []redis.XMessage
		var end bool
		if _, messages, end, err = t.readPage(ctx, from); err != nil {
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
		t.applier.deliver(t.applier.apply(&p, messages))
		t.replayed = p.position.ID
		if end {
			p.replay = nil
			return p, sent, nil
		}
		from = p.anchor.ID
	}
}
