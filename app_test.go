package rediscache

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
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
	connection := func(config *RedisConfig) string {
		opts, err := config.options()
		if err != nil {
			return err.Error()
		}
		return opts.Addr + " " + opts.Username + ":" + opts.Password + " " + string(rune('0'+opts.DB))
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
	if got := connection(&RedisConfig{URL: "redis://u:p@third:1/2", Password: "{env.SOME_PASSWORD}"}); got != "third:1 u:from env 2" {
		t.Errorf("the configuration gives %s", got)
	}
	set("REDIS_URL", "redis://u:topsecret@other:1/two")
	if got := connection(nil); !strings.Contains(got, "REDIS_URL") || strings.Contains(got, "topsecret") {
		t.Errorf("got %s", got)
	}

	set("REDIS_URL", "")
	set("REDIS_HOST", "")
	set("REDIS_PORT", "")
	set("REDIS_DB", "")
	set("REDIS_CACHE_KEY_PREFIX", "shop")
	set("REDIS_CACHE_ENABLED", "False")
	app, err := load(t, `{}`)
	if err != nil || app.Prefix != "shop" || app.enabled {
		t.Errorf("prefix %s, enabled %v, %v", app.Prefix, app.enabled, err)
	}
	if app, err = load(t, `{"prefix":"own","enabled":true}`); err != nil || app.Prefix != "own" || !app.enabled {
		t.Errorf("prefix %s, enabled %v, %v", app.Prefix, app.enabled, err)
	}
	set("REDIS_CACHE_ENABLED", "perhaps")
	if _, err := load(t, `{}`); err == nil || !strings.Contains(err.Error(), "REDIS_CACHE_ENABLED") {
		t.Errorf("got %v", err)
	}
}

// Options that together would let users share a response.
func TestMergedPolicyErrors(t *testing.T) {
	for config, want := range map[string]string{
		`{"key":{"template":"a","exact":true},"by_user":"{http.request.cookie.uid}"}`: "the template is the whole key",
		`{"key":{"template":"a","exact":true},"vary_cookie":["uid"]}`:                 "the template is the whole key",
		`{"by_user":"http.auth.user.id"}`:                                             "no placeholder",
		`{"methods":["GET","POST"]}`:                                                  "need vary_body",
		`{"vary_body":1}`:                                                             "no method with a body",
	} {
		var p Policy
		if err := json.Unmarshal([]byte(config), &p); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(p.validate(), p.validateMerged()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", config, err, want)
		}
	}
}

func TestPolicyMerge(t *testing.T) {
	var ns, directive Policy
	for into, config := range map[*Policy]string{
		&ns: `{"ttl":{"duration":1},"ttl_status":[{"duration":1,"status":[404]}],"vary_query":{"mode":"none"},
			"ignore_cookies":["a"],"no_store":[{"status_code":[500]}],"tags":["a"],"max_body":1,"by_user":"x",
			"encode":{"format":"off"}}`,
		&directive: `{"ttl":{"duration":2},"vary_header":["accept"],"ignore_cookies":["b"],"no_store":[{"status_code":[501]}],"tags":["b"]}`,
	} {
		if err := json.Unmarshal([]byte(config), into); err != nil {
			t.Fatal(err)
		}
	}
	merged, err := json.Marshal(directive.merge(ns))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"ttl":{"duration":2},"ttl_status":[{"duration":1,"status":[404]}],"vary_query":{"mode":"none"},` +
		`"vary_header":["accept"],"by_user":"x","ignore_cookies":["a","b"],"no_store":[{"status_code":[500]},{"status_code":[501]}],` +
		`"max_body":1,"tags":["a","b"],"encode":{"format":"off"}}`
	if string(merged) != want {
		t.Errorf("merged to %s\nwant %s", merged, want)
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
		{memoryOff, 1, false},
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
