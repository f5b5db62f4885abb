package rediscache

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/gplus-recycling/caddy-redis-cache/internal/config"
)

// load provisions an app and lets go of it again, as `caddy validate` does.
func load(t *testing.T, config string) (*App, error) {
	t.Helper()
	ctx, err := caddy.ProvisionContext(&caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}})
	if err != nil {
		t.Fatal(err)
	}
	app := new(App)
	if err := json.Unmarshal([]byte(config), app); err != nil {
		t.Fatal(err)
	}
	err = app.Provision(ctx)
	if cleanupErr := app.Cleanup(); cleanupErr != nil {
		t.Error(cleanupErr)
	}
	return app, err
}

func TestAppErrors(t *testing.T) {
	for config, want := range map[string]string{
		`{"prefix":"general"}`:                               "a namespace has this name",
		`{"prefix":"a:b"}`:                                   "only letters",
		`{"memory":-2}`:                                      "negative",
		`{"memory":-1,"redis":{"off":true}}`:                 "no place to store",
		`{"redis":{"url":"ftp://x"}}`:                        "not a URL scheme of Redis",
		`{"redis":{"url":"{env.NOT_SET_HERE}"}}`:             "NOT_SET_HERE",
		`{"redis":{"db":-1}}`:                                "negative",
		`{"redis":{"read_timeout":-1}}`:                      "negative",
		`{"redis":{"pool_size":-1}}`:                         "not between",
		`{"redis":{"pool_size":20000}}`:                      "not between",
		`{"redis":{"url":"a:1","addresses":["b:1"]}}`:        "exclude each other",
		`{"redis":{"cluster":true,"url":"redis://a/1"}}`:     "only database 0",
		`{"redis":{"sentinel":{}}}`:                          "name of the master",
		`{"redis":{"tls":{"key":"/k"}}}`:                     "cert and key need each other",
		`{"redis":{"tls":{"ca":"/no/such/file"}}}`:           "/no/such/file",
		`{"redis":{"tls":{"ca":"go.mod"}}}`:                  "go.mod holds no certificate",
		`{"redis":{"tls":{"cert":"go.mod","key":"go.mod"}}}`: "tls: cert and key",
		`{"secret":"{env.NOT_SET_HERE}"}`:                    "NOT_SET_HERE",
		`{"namespaces":{"A":{}}}`:                            "lower-case",
		`{"namespaces":{"cache":{}}}`:                        "same as the prefix",
		`{"namespaces":{"a":null}}`:                          "null",
		`{"namespaces":{"a":{"bypass":[{}]}}}`:               "belong into the handler",
		`{"namespaces":{"a":{"jitter":200}}}`:                "jitter",
		`{"namespaces":{"a":{"max_body":-1}}}`:               "max_body",

		`{"namespaces":{"a":{"encode":{"min_size":-1}}}}`:   "negative",
		`{"namespaces":{"a":{"encode":{"format":"gzip"}}}}`: "unknown value",
	} {
		if _, err := load(t, config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", config, err, want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	for _, name := range []string{"REDIS_URL", "REDIS_HOST", "REDIS_PORT", "REDIS_DB", "REDIS_PASSWORD", "REDIS_CACHE_ENABLED", "REDIS_CACHE_KEY_PREFIX"} {
		t.Setenv(name, "")
	}
	set := func(name, value string) { t.Setenv(name, value) }

	set("REDIS_CACHE_KEY_PREFIX", "shop")
	set("REDIS_CACHE_ENABLED", "False")
	app, err := load(t, `{}`)
	if err != nil || app.Prefix != "shop" || app.IsEnabled() {
		t.Errorf("prefix %s, enabled %v, %v", app.Prefix, app.IsEnabled(), err)
	}
	if app, err = load(t, `{"prefix":"own","enabled":true}`); err != nil || app.Prefix != "own" || !app.IsEnabled() {
		t.Errorf("prefix %s, enabled %v, %v", app.Prefix, app.IsEnabled(), err)
	}
	set("REDIS_CACHE_ENABLED", "perhaps")
	if _, err := load(t, `{}`); err == nil || !strings.Contains(err.Error(), "REDIS_CACHE_ENABLED") {
		t.Errorf("got %v", err)
	}
}

func TestTooMuchMemory(t *testing.T) {
	for _, c := range []struct {
		memory, limit int64
		want          bool
	}{
		{256 << 20, math.MaxInt64, false},
		{256 << 20, 384 << 20, false},
		{256<<20 + 3, 384 << 20, true},
		{config.MemoryOff, 1, false},
		{math.MaxInt64, 1 << 30, true},
	} {
		if got := tooMuchMemory(c.memory, c.limit); got != c.want {
			t.Errorf("memory %d, limit %d: %t", c.memory, c.limit, got)
		}
	}
}

// While a reload can still fail, a smaller memory tier displaces nothing.
func TestReloadToLessMemory(t *testing.T) {
	provision := func(memory string) *App {
		t.Helper()
		ctx, err := caddy.ProvisionContext(&caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}})
		if err != nil {
			t.Fatal(err)
		}
		app := new(App)
		if err := json.Unmarshal([]byte(`{"prefix":"less","redis":{"off":true},"memory":`+memory+`}`), app); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(app.Provision(ctx), app.Start()); err != nil {
			t.Fatal(err)
		}
		return app
	}
	end := func(app *App) {
		t.Helper()
		if err := errors.Join(app.Stop(), app.Cleanup()); err != nil {
			t.Error(err)
		}
	}
	want := func(app *App, memory int64) {
		t.Helper()
		if got := app.node.Memory.Max(); got != memory {
			t.Errorf("%d bytes, want %d", got, memory)
		}
	}
	older := provision("8000000")
	want(older, 8000000)
	failing := provision("2000000")
	want(older, 8000000)
	end(failing)
	want(older, 8000000)
	larger := provision("9000000")
	want(older, 9000000)
	end(larger)
	want(older, 8000000)
	newer := provision("3000000")
	end(older)
	want(newer, 3000000)
	end(newer)
}
