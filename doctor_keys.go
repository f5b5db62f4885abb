package rediscache

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// doctorKeyTTL is how long the key of checkRights may be left behind.
const doctorKeyTTL = 10 * time.Second

// checkRights tries the commands of the cache on a key of its own that holds a
// string: what wants another type is then refused for the type, unless the
// command is not allowed at all.
func (n *node) checkRights(ctx context.Context) check {
	c, key := n.log, n.prefix+"::doctor:"+rand.Text()
	var refused []string
	keys, unanswered := false, false
	try := func(command string, err error) bool {
		if !denied(err) {
			_, answered := errors.AsType[redis.Error](err)
			unanswered = unanswered || err != nil && !answered
			return true
		}
		keys = keys || strings.Contains(err.Error(), "access")
		refused = append(refused, command)
		return false
	}
	if try("set", c.Set(ctx, key, "", doctorKeyTTL).Err()) {
		try("hset", c.HSet(ctx, key, "f", "v").Err())
		try("hincrby", c.HIncrBy(ctx, key, "f", 1).Err())
		try("xadd", c.XAdd(ctx, &redis.XAddArgs{Stream: key, Values: []string{"f", "v"}}).Err())
	}
	try("get", c.Get(ctx, key).Err())
	try("getrange", c.GetRange(ctx, key, 0, 1).Err())
	try("expire", c.Expire(ctx, key, doctorKeyTTL).Err())
	try("pexpire", c.PExpire(ctx, key, doctorKeyTTL).Err())
	try("pttl", c.PTTL(ctx, key).Err())
	try("eval", c.Eval(ctx, "return 1", []string{key}).Err())
	try("evalsha", c.EvalSha(ctx, strings.Repeat("0", 40), []string{key}).Err())
	try("ping", c.Ping(ctx).Err())
	try("hget", c.HGet(ctx, key, "f").Err())
	try("hdel", c.HDel(ctx, key, "f").Err())
	try("hgetall", c.HGetAll(ctx, key).Err())
	try("hmget", c.HMGet(ctx, key, "f").Err())
	try("hkeys", c.HKeys(ctx, key).Err())
	try("hlen", c.HLen(ctx, key).Err())
	try("xread", c.XRead(ctx, &redis.XReadArgs{Streams: []string{key, "0"}, Count: 1, Block: -1}).Err())
	try("xrange", c.XRangeN(ctx, key, "-", "+", 1).Err())
	try("xrevrange", c.XRevRangeN(ctx, key, "+", "-", 1).Err())
	try("xtrim", c.XTrimMaxLen(ctx, key, 1).Err())
	try("scan", n.eachMaster(ctx, func(client redis.Cmdable) error { return client.Scan(ctx, 0, key, 1).Err() }))
	try("wait", c.Do(ctx, "wait", 0, 1).Err())
	try("watch", c.Watch(ctx, func(*redis.Tx) error { return nil }, key))
	_, err := c.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.PTTL(ctx, key)
		return nil
	})
	if !slices.Contains(refused, "pttl") {
		try("multi, exec", err)
	}
	try("publish", c.Publish(ctx, key, "").Err())
	subscription := c.Subscribe(ctx, key)
	_, err = subscription.ReceiveTimeout(ctx, journalTimeout)
	try("subscribe", err)
	_ = subscription.Close()
	try("del", c.Del(ctx, key).Err())
	try("unlink", c.Unlink(ctx, key).Err())
	return rightsCheck(n.prefix, refused, keys, unanswered)
}

func rightsCheck(prefix string, refused []string, keys, unanswered bool) check {
	switch {
	case len(refused) > 0 && keys:
		return check{
			"rights", statusFail, "keys or channels are refused to " + strings.Join(refused, ", "),
			fmt.Sprintf("ACL SETUSER <user> '~%[1]s:*' '&%[1]s:*'", prefix),
		}
	case len(refused) > 0:
		grant := strings.ReplaceAll(strings.Join(refused, " +"), ", ", " +")
		return check{"rights", statusFail, "redis refuses " + strings.Join(refused, ", "), "ACL SETUSER <user> +" + grant}
	case unanswered:
		return check{"rights", statusSkip, "not all commands could be tried in time", ""}
	}
	return check{"rights", statusOK, "every command that the cache needs is allowed", ""}
}

// names calls f with the names of up to doctorKeys keys under the prefix.
func (n *node) names(ctx context.Context, f func([]string) error) error {
	seen := 0
	return n.eachMaster(ctx, func(client redis.Cmdable) error {
		for cursor := uint64(0); seen < doctorKeys; {
			names, next, err := client.Scan(ctx, cursor, n.prefix+":*", 500).Result()
			if err != nil {
				return err
			}
			seen += len(names)
			if err := f(names); err != nil || next == 0 {
				return err
			}
			cursor = next
		}
		return nil
	})
}

// checkTTL looks for keys that stay for ever. Only the journal may: it is trimmed.
func (n *node) checkTTL(ctx context.Context) check {
	var lasting []string
	looked := 0
	err := n.names(ctx, func(names []string) error {
		looked += len(names)
		names, err := n.withoutTTL(ctx, names)
		lasting = append(lasting, names...)
		return err
	})
	if err == nil {
		// One that was being written gets its lifetime by a second command.
		lasting, err = n.withoutTTL(ctx, lasting)
	}
	if err != nil {
		return skipped("lifetimes", err, "+scan +pttl")
	}
	if len(lasting) > 0 {
		return check{
			"lifetimes", statusWarn, fmt.Sprintf("%d of %d keys never expire, such as %q", len(lasting), looked, lasting[0]),
			"the cache did not write them: remove them, or keep other data under another prefix",
		}
	}
	return check{"lifetimes", statusOK, fmt.Sprintf("%d keys looked at", looked), ""}
}

func (n *node) withoutTTL(ctx context.Context, names []string) (lasting []string, err error) {
	if len(names) == 0 {
		return nil, nil
	}
	pipe := n.log.Pipeline()
	for _, name := range names {
		pipe.PTTL(ctx, name)
	}
	cmds, err := pipe.Exec(ctx)
	if err != nil {
		return nil, err
	}
	for i, cmd := range cmds {
		if cmd.(*redis.DurationCmd).Val() == -1 && names[i] != n.prefix+"::journal" {
			lasting = append(lasting, names[i])
		}
	}
	return lasting, nil
}

// checkForeign looks for keys that are no stored responses where those are.
func (n *node) checkForeign(ctx context.Context) check {
	var foreign []string
	looked := 0
	err := n.redis.Walk(ctx, func(name string, rec *store.Record, _ int64) bool {
		looked++
		namespace, _, _ := strings.Cut(strings.TrimPrefix(name, n.prefix+":"), ":")
		if rec == nil || !namespaceFormat.MatchString(namespace) {
			foreign = append(foreign, name)
		}
		return looked < doctorKeys
	})
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return skipped("foreign keys", err, "+scan +getrange")
	}
	if len(foreign) > 0 {
		return check{
			"foreign keys", statusWarn, fmt.Sprintf("%d of %d keys are no stored responses of this version, such as %q", len(foreign), looked, foreign[0]),
			"keep other data under another prefix; after a change of version such keys expire",
		}
	}
	if err != nil {
		return check{"foreign keys", statusSkip, "not enough time to look at the keys", ""}
	}
	return check{"foreign keys", statusOK, fmt.Sprintf("%d keys looked at", looked), ""}
}
