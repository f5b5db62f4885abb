package journal

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// presence is the line of this node in the registry. The cycle guards it.
type presence struct {
	*shared

	view     *view
	cycle    *cycle
	lease    *lease
	registry *registry
	tail     *tail

	counter   uint64
	lineSent  time.Time // when the own line was sent last
	fullSent  time.Time // when it was sent along with a read of the others
	proveFrom time.Time // after a lapse: a proof must not be older
}

// register announces the node before it reads what it will vouch for: a purge
// either sees the line or is seen.
func (p *presence) register(ctx context.Context) error {
	ctx, answered := p.cycle.call(ctx)
	defer answered()
	sent := time.Now()
	if err := p.client.HSet(ctx, p.keys.nodes, p.opts.NodeID, p.nextLine(stateJoining)).Err(); err != nil {
		return err
	}
	p.lineWritten(sent)
	if err := p.registry.readAfter(ctx); err != nil {
		p.lineSent = time.Time{} // registers again
		return err
	}
	if p.registry.hasOthers() {
		// Redis may have lost purges that others have applied. Those that live read
		// the journal within their lease, and begin a new epoch if so.
		p.proveFrom = sent.Add(p.lease.term())
	}
	return nil
}

// lineWritten notes that the own line was sent. If the one before is too old,
// purges may have been confirmed without this node. Those after the new line
// wait for it; those before it are found by a read that follows. That is put off
// as for a joiner: what Redis has lost meanwhile, others may have yet to notice.
func (p *presence) lineWritten(sent time.Time) {
	if !p.lineSent.IsZero() && elapsed(p.lineSent, time.Now()) >= p.lease.unbroken() {
		p.proveFrom = sent.Add(p.opts.Heartbeat)
		if p.registry.hasOthers() {
			p.proveFrom = sent.Add(p.lease.term())
		}
	}
	p.lineSent = sent
}

func (p *presence) nextLine(state string) string {
	p.counter++
	return line{p.counter, p.view.now(), state, p.opts.Version}.String()
}

// sendLine writes the own line. At each heartbeat it reads the others as well,
// and refreshes what would expire.
func (p *presence) sendLine(ctx context.Context, state string, now time.Time) error {
	own := p.nextLine(state)
	ctx, answered := p.cycle.call(ctx)
	defer answered()
	if now.Sub(p.fullSent) < p.opts.Heartbeat/2 {
		return p.client.HSet(ctx, p.keys.nodes, p.opts.NodeID, own).Err()
	}
	var lines *redis.MapStringStringCmd
	_, err := p.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.HSet(ctx, p.keys.nodes, p.opts.NodeID, own)
		pipe.Expire(ctx, p.keys.nodes, nodesTTL)
		if p.tail.keyGone {
			// The stream has proved the epoch, so that it may be told again.
			pipe.SetNX(ctx, p.keys.epoch, formatEpoch(p.tail.position.Epoch), p.epochTTL())
		} else {
			pipe.Expire(ctx, p.keys.epoch, p.epochTTL())
		}
		lines = pipe.HGetAll(ctx, p.keys.nodes)
		return nil
	})
	if err != nil {
		return err
	}
	p.fullSent = now
	p.registry.observe(now, time.Now(), lines.Val())
	for _, c := range p.registry.changes() {
		p.opts.OnNode(c)
	}
	return nil
}

func (p *presence) fetchLines(ctx context.Context) (map[string]string, error) {
	return p.client.HGetAll(ctx, p.keys.nodes).Result()
}
