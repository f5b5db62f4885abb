package journal

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// maintainEvery is how often each node looks for what is too old. It costs a
	// few commands, so that nobody needs to be elected for it.
	maintainEvery = time.Minute
	// trimRounds bounds how often XTRIM is called in a row; each call removes
	// up to 10,000 entries, so that Redis is not held up.
	trimRounds = 100
)

// maintain trims the journal and forgets what is too old. What fails is tried
// again a minute later: nothing depends on it but space.
func (t *tail) maintain(ctx context.Context) {
	now := time.Now()
	t.cycle.Lock()
	defer t.cycle.Unlock()
	if now.Sub(t.keeper.maintained) < maintainEvery || t.lease.closed.Load() {
		return
	}
	t.keeper.maintained = now
	t.keeper.expire(&t.progress, now)
	_ = t.keeper.trim(ctx, t.keeper.tooOld(t.position.ID, now))
	_ = t.presence.bury(ctx)
}

// keeper lets go of what is too old, in the table and in Redis. The cycle guards it.
type keeper struct {
	*shared

	expired    time.Time // when the table was last searched for old marks
	maintained time.Time
}

// tooOld returns the time before which nothing matters any more, by the clock of
// the journal or this node's, whichever is behind.
func (k *keeper) tooOld(newest ID, now time.Time) uint64 {
	ms, age := min(newest.Ms, uint64(now.UnixMilli())), uint64(k.opts.MaxAge.Milliseconds())
	return ms - min(ms, age)
}

// expire forgets old marks, seldom: the table is searched for them. Responses of a
// quiet time are positioned at the newest of them.
func (k *keeper) expire(p *progress, now time.Time) {
	if now.Sub(k.expired) < k.opts.MaxAge/64 {
		return
	}
	k.expired = now
	p.table.expire(k.tooOld(p.position.ID, now))
}

// trim removes old entries from the journal, and those beyond its length. The
// newest of the old ones stays: nodes that have applied it have their anchor in
// it, and responses are positioned at it.
func (k *keeper) trim(ctx context.Context, before uint64) error {
	if before > 0 {
		kept, err := k.newestEntry(ctx, before-1)
		if err != nil {
			return err
		}
		if kept != "" {
			err = k.trimRounds(ctx, func(ctx context.Context) *redis.IntCmd {
				return k.client.XTrimMinIDApprox(ctx, k.keys.stream, kept, 0)
			})
		}
		if err != nil {
			return err
		}
	}
	return k.trimRounds(ctx, func(ctx context.Context) *redis.IntCmd {
		return k.client.XTrimMaxLenApprox(ctx, k.keys.stream, k.opts.MaxLen, 0)
	})
}

// newestEntry returns the ID of the newest entry up to a time, or "".
func (k *keeper) newestEntry(ctx context.Context, ms uint64) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	end := ID{Ms: ms, Seq: maxID.Seq}
	messages, err := k.client.XRevRangeN(ctx, k.keys.stream, end.String(), "-", 1).Result()
	if err != nil || len(messages) == 0 {
		return "", err
	}
	return messages[0].ID, nil
}

func (k *keeper) trimRounds(ctx context.Context, trim func(context.Context) *redis.IntCmd) error {
	for range trimRounds {
		callCtx, cancel := context.WithTimeout(ctx, callTimeout)
		n, err := trim(callCtx).Result()
		cancel()
		if err != nil || n == 0 {
			return err
		}
	}
	return nil
}

// buryScript removes a line unless it has changed: its node may have returned.
const buryScript = `if redis.call('hget', KEYS[1], ARGV[1]) == ARGV[2] then return redis.call('hdel', KEYS[1], ARGV[1]) end return 0`

// bury removes the lines of nodes that are long gone.
func (p *presence) bury(ctx context.Context) error {
	for id, raw := range p.registry.remains() {
		callCtx, cancel := context.WithTimeout(ctx, callTimeout)
		err := p.client.Eval(callCtx, buryScript, []string{p.keys.nodes}, id, raw).Err()
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}
