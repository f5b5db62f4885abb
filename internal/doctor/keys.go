package doctor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// keyTTL is how long a key of checkRights may be left behind.
const keyTTL = 10 * time.Second

// subscribeTimeout bounds the wait for the answer to SUBSCRIBE.
const subscribeTimeout = time.Second

// rights are what Redis has refused.
type rights struct {
	commands   []string
	keys       bool  // or channels
	unwritable error // for another reason
	unanswered bool
	stop       func() // called when Redis does not answer
}

// try notes the answer to a command and reports whether the command may be used.
func (r *rights) try(command string, err error) bool {
	if denied(err) {
		r.keys = r.keys || strings.Contains(err.Error(), "access")
		if !slices.Contains(r.commands, command) {
			r.commands = append(r.commands, command)
		}
		return false
	}
	if _, answered := errors.AsType[redis.Error](err); err != nil && !answered {
		r.unanswered = true
		r.stop()
	}
	return true
}

// checkRights tries the commands of the cache on every server that holds keys, for
// each has its own list of users.
func (s *Subject) checkRights(ctx context.Context) api.Check {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &rights{stop: cancel}
	for _, key := range s.newKeys(ctx) {
		s.tryKey(ctx, r, key)
	}
	r.try("scan", s.eachMaster(ctx, func(client *redis.Client) error {
		r.try("ping", client.Ping(ctx).Err())
		r.try("wait", client.Do(ctx, "wait", 0, 1).Err())
		if s.isCluster() {
			r.try("asking", s.tryAsking(ctx, client))
		}
		return client.Scan(ctx, 0, s.Prefix+"::doctor:*", 1).Err()
	}))
	return r.check(s.Prefix)
}

// newKeys are new keys, at least one on each server.
func (s *Subject) newKeys(ctx context.Context) []string {
	cluster, ok := s.Client.(*redis.ClusterClient)
	if !ok {
		return []string{s.newKey()}
	}
	keys := make(map[string]string)
	for range 256 {
		key := s.newKey()
		if master, err := cluster.MasterForKey(ctx, key); err == nil {
			keys[master.Options().Addr] = key
		}
	}
	return slices.Collect(maps.Values(keys))
}

func (s *Subject) newKey() string { return s.Prefix + "::doctor:" + rand.Text() }

// tryKey tries commands on a key that holds a string: what wants another type is
// then refused for the type, unless the command is not allowed at all. Where there is no
// such key, what would make another one has arguments that Redis does not accept.
func (s *Subject) tryKey(ctx context.Context, r *rights, key string) {
	c, try := s.Client, r.try
	if err := c.Set(ctx, key, "", keyTTL).Err(); try("set", err) && err != nil && !r.unanswered {
		r.unwritable = err
	}
	try("hset", c.Do(ctx, "hset", key, "f", "v", "without a value").Err())
	try("hincrby", c.Do(ctx, "hincrby", key, "f", "no number").Err())
	try("xadd", c.Do(ctx, "xadd", key, "no ID", "f", "v").Err())
	try("get", c.Get(ctx, key).Err())
	try("getrange", c.GetRange(ctx, key, 0, 1).Err())
	try("expire", c.Expire(ctx, key, keyTTL).Err())
	try("pexpire", c.PExpire(ctx, key, keyTTL).Err())
	try("pttl", c.PTTL(ctx, key).Err())
	try("eval", c.Eval(ctx, "return 1", []string{key}).Err())
	try("evalsha", c.EvalSha(ctx, strings.Repeat("0", 40), []string{key}).Err())
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
	err := c.Watch(ctx, func(tx *redis.Tx) error {
		try("unwatch", tx.Unwatch(ctx).Err())
		return nil
	}, key)
	if !try("watch", err) && !r.keys {
		try("unwatch", err) // it has not been tried, and goes with it
	}
	_, err = c.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.PTTL(ctx, key)
		return nil
	})
	if !slices.Contains(r.commands, "pttl") || err != nil && strings.Contains(err.Error(), "'multi'") {
		try("multi, exec", err)
	}
	try("publish", c.Publish(ctx, key, "").Err())
	subscription := c.Subscribe(ctx, key)
	_, err = subscription.ReceiveTimeout(ctx, subscribeTimeout)
	try("subscribe", err)
	_ = subscription.Close()
	try("del", c.Del(ctx, key).Err())
	try("unlink", c.Unlink(ctx, key).Err())
}

// tryAsking sends another command behind it, which takes its effect.
func (s *Subject) tryAsking(ctx context.Context, client *redis.Client) error {
	pipe := client.Pipeline()
	asking := pipe.Do(ctx, "asking")
	pipe.Ping(ctx)
	_, _ = pipe.Exec(ctx) // each command has its own error
	return asking.Err()
}

func (s *Subject) isCluster() bool {
	_, ok := s.Client.(*redis.ClusterClient)
	return ok
}

func (r *rights) check(prefix string) api.Check {
	switch {
	case len(r.commands) > 0 && r.keys:
		return api.Check{
			Name: "rights", Status: api.Fail, Detail: "keys or channels are refused to " + strings.Join(r.commands, ", "),
			Advice: fmt.Sprintf("ACL SETUSER <user> '~%[1]s:*' '&%[1]s:*'", prefix),
		}
	case len(r.commands) > 0:
		grant := strings.ReplaceAll(strings.Join(r.commands, " +"), ", ", " +")
		return api.Check{Name: "rights", Status: api.Fail, Detail: "redis refuses " + strings.Join(r.commands, ", "), Advice: "ACL SETUSER <user> +" + grant}
	case r.unwritable != nil:
		return api.Check{Name: "rights", Status: api.Fail, Detail: "redis takes no writes: " + r.unwritable.Error(), Advice: "nothing is stored and nothing can be purged: make Redis writable, or name a server that is"}
	case r.unanswered:
		return api.Check{Name: "rights", Status: api.Skip, Detail: "not all commands could be tried in time"}
	}
	return api.Check{Name: "rights", Status: api.OK, Detail: "every command that the cache needs is allowed"}
}

// names calls f with the names of up to maxKeys keys under the prefix.
func (s *Subject) names(ctx context.Context, f func([]string) error) error {
	seen := 0
	return s.eachMaster(ctx, func(client *redis.Client) error {
		for cursor := uint64(0); seen < maxKeys; {
			names, next, err := client.Scan(ctx, cursor, s.Prefix+":*", 500).Result()
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
func (s *Subject) checkTTL(ctx context.Context) api.Check {
	var lasting []string
	looked := 0
	err := s.names(ctx, func(names []string) error {
		looked += len(names)
		names, err := s.withoutTTL(ctx, names)
		lasting = append(lasting, names...)
		return err
	})
	if err == nil {
		// One that was being written gets its lifetime by a second command.
		lasting, err = s.withoutTTL(ctx, lasting)
	}
	if err != nil {
		return skipped("lifetimes", err, "+scan +pttl")
	}
	if len(lasting) > 0 {
		return api.Check{
			Name: "lifetimes", Status: api.Warn, Detail: fmt.Sprintf("%d of %d keys never expire, such as %q", len(lasting), looked, lasting[0]),
			Advice: "the cache did not write them: remove them, or keep other data under another prefix",
		}
	}
	return api.Check{Name: "lifetimes", Status: api.OK, Detail: fmt.Sprintf("%d keys looked at", looked)}
}

func (s *Subject) withoutTTL(ctx context.Context, names []string) (lasting []string, err error) {
	if len(names) == 0 {
		return nil, nil
	}
	pipe := s.Client.Pipeline()
	for _, name := range names {
		pipe.PTTL(ctx, name)
	}
	cmds, err := pipe.Exec(ctx)
	if err != nil {
		return nil, err
	}
	for i, cmd := range cmds {
		if cmd.(*redis.DurationCmd).Val() == -1 && names[i] != s.Prefix+"::journal" {
			lasting = append(lasting, names[i])
		}
	}
	return lasting, nil
}

// checkForeign looks for keys that are no stored responses where those are.
func (s *Subject) checkForeign(ctx context.Context) api.Check {
	var foreign []string
	looked := 0
	err := s.Redis.Walk(ctx, func(name string, rec *store.Record, _ int64) bool {
		looked++
		namespace, _, _ := strings.Cut(strings.TrimPrefix(name, s.Prefix+":"), ":")
		if rec == nil || !s.IsNamespace(namespace) {
			foreign = append(foreign, name)
		}
		return looked < maxKeys
	})
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return skipped("foreign keys", err, "+scan +getrange")
	}
	if len(foreign) > 0 {
		return api.Check{
			Name: "foreign keys", Status: api.Warn, Detail: fmt.Sprintf("%d of %d keys are no stored responses of this version, such as %q", len(foreign), looked, foreign[0]),
			Advice: "keep other data under another prefix; after a change of version such keys expire",
		}
	}
	if err != nil {
		return api.Check{Name: "foreign keys", Status: api.Skip, Detail: "not enough time to look at the keys"}
	}
	return api.Check{Name: "foreign keys", Status: api.OK, Detail: fmt.Sprintf("%d keys looked at", looked)}
}
