package rediscache

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// lintOf provisions a Caddyfile and returns its findings, a line each.
func lintOf(t *testing.T, text string) string {
	t.Helper()
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	var config caddy.Config
	if err := json.Unmarshal(adapted, &config); err != nil {
		t.Fatal(err)
	}
	config.Admin = &caddy.AdminConfig{Disabled: true}
	ctx, err := caddy.ProvisionContext(&config)
	if err != nil {
		t.Fatal(err)
	}
	running, err := ctx.App(appID)
	if err != nil {
		t.Fatal(err)
	}
	app := running.(*App)
	t.Cleanup(func() {
		if err := app.Cleanup(); err != nil {
			t.Error(err)
		}
	})
	var lines []string
	for _, c := range app.lint() {
		lines = append(lines, c.Status+" "+c.Detail)
	}
	return strings.Join(lines, "\n")
}

func TestLint(t *testing.T) {
	const user = "bob $2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG"
	const auth = " {\n" + user + "\n}\n"
	for _, tt := range []struct {
		name, global, site string
		want               []string // what each finding begins with and holds, parted by …
	}{
		{"good", "", "encode\nbasic_auth" + auth + "redis_cache /a/* {\nttl 5m\n}", []string{"ok nothing"}},
		{"authentication behind", "", "route {\nredis_cache\nbasic_auth" + auth + "}", []string{"fail server srv0, host x.test, namespace general…authentication"}},
		{"authentication on a part", "", "route {\nredis_cache /a/*\nbasic_auth /a/b/*" + auth + "}", []string{"fail server srv0, host x.test, path /a/*, …authentication"}},
		{"authentication elsewhere", "", "route {\nredis_cache /a/*\nbasic_auth /b/*" + auth + "}", []string{"ok nothing"}},
		{"authentication perhaps", "", "@get method GET\nroute {\nredis_cache /a/*\nbasic_auth @get" + auth + "}", []string{"warn …authentication"}},
		{"authentication of another handle", "", "handle /a/* {\nredis_cache\n}\nhandle {\nbasic_auth" + auth + "}", []string{"ok nothing"}},
		{"authentication below", "", "route {\nredis_cache\nhandle /b/* {\nbasic_auth" + auth + "}\n}", []string{"fail …authentication"}},
		{"encode behind", "", "route {\nredis_cache\nencode\n}", []string{"warn …encode runs behind"}},
		{"nested", "", "redis_cache\nhandle /a/* {\nredis_cache\n}", []string{"warn …passes it through"}},
		{"unused", "namespace a\nnamespace b", "redis_cache a", []string{"warn namespace b …declared"}},
		{"shared", "", "redis_cache {\nshared\n}", []string{"warn …shared holds"}},
		{"shared for a part", "", "redis_cache /a/* {\nshared\n}", []string{"ok nothing"}},
		{"override", "", "redis_cache {\nttl 5m override\n}", []string{"warn …override holds"}},
		{"cookies", "", "redis_cache {\nset_cookie store\n}", []string{"warn …set_cookie store"}},
		{"secret", "", "redis_cache {\nby_user {http.auth.user.id}\n}", []string{"warn …without a secret"}},
		{"with a secret", "secret s", "redis_cache {\nby_user {http.auth.user.id}\n}", []string{"ok nothing"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := lintOf(t, "{\nredis_cache {\nredis off\n"+tt.global+"\n}\n}\nhttp://x.test {\n"+tt.site+"\n}\n")
			lines := strings.Split(got, "\n")
			if len(lines) != len(tt.want) {
				t.Fatalf("found\n%s", got)
			}
			for i, want := range tt.want {
				begin, holds, _ := strings.Cut(want, "…")
				if !strings.HasPrefix(lines[i], begin) || !strings.Contains(lines[i], holds) {
					t.Errorf("found %q, want %q", lines[i], want)
				}
			}
		})
	}
}

func TestDoctorJudges(t *testing.T) {
	for _, tt := range []struct {
		got  check
		want string
	}{
		{checkVersion(map[string]string{"redis_version": "7.0.0"}), statusOK},
		{checkVersion(map[string]string{"redis_version": "6.2.14"}), statusFail},
		{checkVersion(nil), statusFail},
		{checkEviction(map[string]string{"maxmemory": "1", "maxmemory_policy": "allkeys-lfu"}), statusFail},
		{checkEviction(map[string]string{"maxmemory": "1", "maxmemory_policy": "noeviction"}), statusWarn},
		{checkEviction(map[string]string{"maxmemory": "0", "maxmemory_policy": "noeviction"}), statusWarn},
		{checkEviction(map[string]string{"maxmemory": "1", "maxmemory_policy": "volatile-ttl"}), statusOK},
		{checkMemory(map[string]string{"maxmemory": "100", "used_memory": "91"}), statusWarn},
		{checkMemory(map[string]string{"maxmemory": "100", "used_memory": "90"}), statusOK},
		{checkMemory(map[string]string{"maxmemory": "0", "used_memory": "90"}), statusOK},
		{checkPersistence(map[string]string{"aof_enabled": "1"}), statusOK},
		{checkPersistence(map[string]string{"aof_enabled": "0", "rdb_saves": "2", "rdb_last_save_time": "1"}), statusOK},
		{checkPersistence(map[string]string{"aof_enabled": "0", "rdb_saves": "0", "rdb_last_save_time": "1"}), statusWarn},
		{clockCheck(-time.Second), statusOK},
		{clockCheck(2 * time.Second), statusWarn},
		{clockCheck(31 * time.Second), statusFail},
		{worst([]map[string]string{{"redis_version": "6"}, {"redis_version": "7"}}, checkVersion), statusFail},
	} {
		if tt.got.Status != tt.want || (tt.want == statusOK) != (tt.got.Advice == "") {
			t.Errorf("%+v, want %s", tt.got, tt.want)
		}
	}
}

func TestDoctorCommand(t *testing.T) {
	const warning = `{"ok":true,"checks":[{"name":"redis","status":"ok","detail":"d"},{"name":"memory","status":"warn","detail":"e","advice":"do"}]}`
	const failing = `{"ok":false,"checks":[{"name":"redis","status":"fail","detail":"d"}]}`
	for _, tt := range []struct{ args, answer, out, says string }{
		{"doctor", warning, "ok    redis          d\nwarn  memory         e\n                     do\n", ""},
		{"doctor --strict --json", warning, warning, "warnings: 1"},
		{"doctor", failing, "fail  redis          d\n", "failed checks: 1"},
		{"doctor", `{}`, "", "no checks"},
	} {
		asked, out, err := runCommand(t, http.StatusOK, tt.answer, strings.Fields(tt.args)...)
		said := ""
		if err != nil {
			said = err.Error()
		}
		if asked != "GET /redis_cache/doctor" || out != tt.out || !strings.Contains(said, tt.says) || (said == "") != (tt.says == "") {
			t.Errorf("%s: asked %q\nprinted %q\nerror %v", tt.args, asked, out, err)
		}
	}
}
