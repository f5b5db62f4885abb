package rediscache

import (
	"context"
	"encoding/json"
	"errors"
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
	app.node.log.AddHook(slowJournal{refused: app.node.refused})
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
	if err := n.log.Close(); err != nil {
		t.Fatal(err)
	}
	if err := n.Destruct(); err == nil {
		t.Error("a client that was closed already is no error")
	}
	if err := n.client.Close(); err == nil {
		t.Error("the other client was left open")
	}
}
