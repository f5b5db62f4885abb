package config

import (
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/internal/redisconn"
)

func TestRedisFromEnvironment(t *testing.T) {
	for _, name := range []string{"REDIS_URL", "REDIS_HOST", "REDIS_PORT", "REDIS_DB", "REDIS_PASSWORD", "REDIS_CACHE_ENABLED", "REDIS_CACHE_KEY_PREFIX"} {
		t.Setenv(name, "")
	}
	connection := func(config *Redis) string {
		opts, err := config.Resolve()
		if err != nil {
			return err.Error()
		}
		return opts.Addr + " " + opts.Username + ":" + opts.Password + " " + string(rune('0'+opts.DB)) + strings.Join(opts.Secrets()[1:], "")
	}
	set := func(name, value string) { t.Setenv(name, value) }

	if got := connection(nil); got != "localhost:6379 : 0" {
		t.Errorf("the default is %s", got)
	}
	set("REDIS_HOST", "redis.internal")
	set("REDIS_PORT", "7000")
	set("REDIS_DB", "3")
	set("REDIS_PASSWORD", "secret")
	if got := connection(nil); got != "redis.internal:7000 :secret 3" {
		t.Errorf("REDIS_HOST and others give %s", got)
	}
	set("REDIS_DB", "three")
	if got := connection(nil); !strings.Contains(got, "REDIS_DB") {
		t.Errorf("got %s", got)
	}
	set("REDIS_PORT", "high")
	if got := connection(nil); !strings.Contains(got, "REDIS_PORT") {
		t.Errorf("got %s", got)
	}
	set("REDIS_URL", "redis://u:p@other:1/2")
	if got := connection(nil); got != "other:1 u:p 2" {
		t.Errorf("REDIS_URL gives %s", got)
	}
	set("SOME_PASSWORD", "from env")
	if got := connection(&Redis{Config: redisconn.Config{URL: "redis://u:p@third:1/2", Password: "{env.SOME_PASSWORD}"}}); got != "third:1 u:from env 2" {
		t.Errorf("the configuration gives %s", got)
	}
	if got := connection(&Redis{Config: redisconn.Config{Addresses: []string{"a:1"}, Sentinel: &redisconn.Sentinel{Master: "m", Password: "{env.SOME_PASSWORD}"}}}); got != "a:1 : 0from env" {
		t.Errorf("the configuration of Sentinels gives %s", got)
	}
	set("REDIS_URL", "redis://u:topsecret@other:1/two")
	if got := connection(nil); !strings.Contains(got, "REDIS_URL") || strings.Contains(got, "topsecret") {
		t.Errorf("got %s", got)
	}
}
