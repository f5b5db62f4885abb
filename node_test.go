package rediscache

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddyserver/caddy/v2"
)

// slowJournal lets the journal find out later than the store that Redis is away.
type slowJournal struct {
	redis.Hook
	refused <-chan struct{}
}

func (h slowJournal) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		<-h.refused
		time.Sleep(200 * time.Millisecond)
		return next(ctx, cmd)
	}
}

func (slowJournal) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h slowJournal) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		<-h.refused
		return next(ctx, cmds)
	}
}

// refusal tells of the first command that fails.
type refusal struct {
	redis.Hook
	told func()
}

func (h refusal) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if err != nil {
			h.told()
		}
		return err
	}
}

func (refusal) DialHook(next redis.DialHook) redis.DialHook { return next }

func (refusal) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// Without Redis, the first request already may be answered from memory.
func TestStartWithoutRedis(t *testing.T) {
	ctx, err := caddy.ProvisionContext(&caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}})
	if err != nil {
		t.Fatal(err)
	}
	app := new(App)
	if err := json.Unmarshal([]byte(`{"prefix":"slow","redis":{"url":"redis://127.0.0.1:1"}}`), app); err != nil {
		t.Fatal(err)
	}
	if err := app.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	refused := make(chan struct{})
	app.node.Client.AddHook(refusal{told: sync.OnceFunc(func() { close(refused) })})
	app.node.Slow.AddHook(slowJournal{refused: refused})
	if err := app.Start(); err != nil {
		t.Fatal(err)
	}
	if !app.node.Usable(t.Context(), false) {
		t.Error("the node has started, and answers nothing from memory")
	}
	if err := errors.Join(app.Stop(), app.Cleanup()); err != nil {
		t.Error(err)
	}
}

// A client that does not close keeps no other one open.
func TestDestructClosesBothClients(t *testing.T) {
	n := redisNode(t)
	if err := n.Slow.Close(); err != nil {
		t.Fatal(err)
	}
	if err := n.Destruct(); err == nil {
		t.Error("a client that was closed already is no error")
	}
	if err := n.Client.Close(); err == nil {
		t.Error("the other client was left open")
	}
}
