package rediscache

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// redisHook counts commands and measures round trips. A memory hit has none.
type redisHook struct {
	results [numRedisOps][numRedisResults]atomic.Uint64
	took    *prometheus.HistogramVec
	byOp    [numRedisOps]prometheus.Observer
}

// redisOps are the commands that are told apart: those of lookups, writes,
// sweeps and the journal.
var redisOps = [...]string{
	"get", "set", "getrange", "unlink", "scan", "expire", "eval", "evalsha", "publish",
	"xadd", "xread", "xrange", "xrevrange", "xtrim", "hset", "hdel", "hgetall", "other", "pipeline",
}

const (
	numRedisOps   = len(redisOps)
	redisOther    = numRedisOps - 2
	redisPipeline = numRedisOps - 1 // a round trip of different commands
)

var redisOpIndex = func() map[string]int {
	index := make(map[string]int)
	for i, op := range redisOps[:redisOther] {
		index[op] = i
	}
	return index
}()

func redisOpOf(cmd redis.Cmder) int {
	if i, known := redisOpIndex[cmd.Name()]; known {
		return i
	}
	return redisOther
}

var redisResults = [...]string{"ok", "absent", "refused", "failed"}

const numRedisResults = len(redisResults)

func redisResult(err error) int {
	if err == nil {
		return 0
	}
	// A transaction that another one has forestalled is a reply of nil, too, and a
	// script that is not there is sent next.
	if errors.Is(err, redis.Nil) || errors.Is(err, redis.TxFailedErr) || redis.HasErrorPrefix(err, "NOSCRIPT") {
		return 1
	}
	if _, refused := errors.AsType[redis.Error](err); refused {
		return 2
	}
	return 3
}

func newRedisHook() *redisHook {
	h := &redisHook{took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: metricPrefix + "redis_duration_seconds", Help: helpDuration, Buckets: prometheus.ExponentialBuckets(0.0001, 2, 15),
	}, []string{"op"})}
	for i, op := range redisOps {
		h.byOp[i] = h.took.WithLabelValues(op)
	}
	return h
}

// collect sends what was counted.
func (h *redisHook) collect(m metrics) {
	for i, op := range redisOps[:redisPipeline] {
		for j, result := range redisResults {
			if n := h.results[i][j].Load(); n > 0 || j == 0 {
				m.count(descOperations, n, op, result)
			}
		}
	}
	h.took.Collect(m.ch)
}

// DialHook implements redis.Hook.
func (*redisHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

// ProcessHook implements redis.Hook.
func (h *redisHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		began := time.Now()
		err := next(ctx, cmd)
		op := redisOpOf(cmd)
		h.results[op][redisResult(err)].Add(1)
		if cmd.Name() != "xread" && cmd.Name() != "wait" { // they wait for others
			h.byOp[op].Observe(time.Since(began).Seconds())
		}
		return err
	}
}

// ProcessPipelineHook implements redis.Hook. A round trip counts once.
func (h *redisHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		began := time.Now()
		err := next(ctx, cmds)
		took := time.Since(began)
		kind := -1
		for _, cmd := range cmds {
			op := redisOpOf(cmd)
			h.results[op][redisResult(cmd.Err())].Add(1)
			if kind >= 0 && kind != op {
				kind = redisPipeline
				continue
			}
			kind = op
		}
		if kind >= 0 {
			h.byOp[kind].Observe(took.Seconds())
		}
		return err
	}
}

// Interface guards
var _ redis.Hook = (*redisHook)(nil)
