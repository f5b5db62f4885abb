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
func (j *Journal) maintain(ctx context.Context) {
	now := time.Now()
	j.cycle.Lock()
	defer j.cycle.Unlock()
	t := &j.tail
	if now.Sub(t.maintained) < maintainEvery || j.closed.Load() {
		return
	}
	t.maintained = now
	j.expire(&t.progress, now)
	_ = j.trim(ctx, j.tooOld(t.position.ID, now))
	_ = j.bury(ctx)
}

// tooOld returns the time before which nothing matters any more, by the clock of
// the journal or this node's, whichever is behind.
func (j *Journal) tooOld(newest ID, now time.Time) uint64 {
	ms, age := min(newest.Ms, uint64(now.UnixMilli())), uint64(j.opts.MaxAge.Milliseconds())
	return ms - min(ms, age)
}

// expire forgets old marks, seldom: the table is searched for them. Responses of a
// quiet time are positioned at the newest of them.
func (j *Journal) expire(p *progress, now time.Time) {
	if now.Sub(j.expired) < j.opts.MaxAge/64 {
		return
	}
	j.expired = now
	p.table.expire(j.tooOld(p.position.ID, now))
}

// trim removes old entries from the journal, and those beyond its length. The
// newest of the old ones stays: nodes that have applied it have their anchor in
// it, and responses are positioned at it.
func (j *Journal) trim(ctx context.Context, before uint64) error {
	if before > 0 {
		kept, err := j.newestEntry(ctx, before-1)
		if err != nil {
			return err
		}
		if kept != "" {
			err = j.trimRounds(ctx, func(ctx context.Context) *redis.IntCmd {
				return j.client.XTrimMinIDApprox(ctx, j.keys.stream, kept, 0)
			})
		}
		if err != nil {
			return err
		}
	}
	return j.trimRounds(ctx, func(ctx context.Context) *redis.IntCmd {
		return j.client.XTrimMaxLenApprox(ctx, j.keys.stream, j.opts.MaxLen, 0)
	})
}

// newestEntry returns the ID of the newest entry up to a time, or "".
func (j *Journal) newestEntry(ctx context.Context, ms uint64) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	end := ID{Ms: ms, Seq: maxID.Seq}
	messages, err := j.client.XRevRangeN(ctx, j.keys.stream, end.String(), "-", 1).Result()
	if err != nil || len(messages) == 0 {
		return "", err
	}
	return messages[0].ID, nil
}

func (j *Journal) trimRounds(ctx context.Context, trim func(context.Context) *redis.IntCmd) error {
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
func (j *Journal) bury(ctx context.Context) error {
	for id, raw := range j.registry.remains() {
		callCtx, cancel := context.WithTimeout(ctx, callTimeout)
		err := j.client.Eval(callCtx, buryScript, []string{j.keys.nodes}, id, raw).Err()
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}
