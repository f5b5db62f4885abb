package rediscache

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
	"github.com/gplus-recycling/caddy-redis-cache/internal/lint"
)

// authorize is a handler of somebody else.
type authorize struct{}

func (authorize) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.authorize", New: func() caddy.Module { return new(authorize) }}
}

func (authorize) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return next.ServeHTTP(w, r)
}

func init() {
	caddy.RegisterModule(authorize{})
	httpcaddyfile.RegisterHandlerDirective("authorize", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		h.Next()
		return authorize{}, nil
	})
}

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
	for _, c := range app.lintConfig().Lint() {
		lines = append(lines, string(c.Status)+" "+c.Detail)
	}
	return strings.Join(lines, "\n")
}

func TestLint(t *testing.T) {
	const user = "bob $2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG"
	const auth = " {\n" + user + "\n}\n"
	const forward = "forward_auth localhost:9 {\nuri /verify\n}\n"
	const copies = "forward_auth localhost:9 {\nuri /verify\ncopy_headers Remote-Name>Person Remote-Team>Team\n}\n"
	const named = "\n}\n&(named) {\n"
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
		{"authentication behind some", "", "@get method GET\nroute {\nredis_cache @get\nbasic_auth @get" + auth + "}", []string{"fail …authentication"}},
		{"authentication of what is left out", "", "@open not path /a/* /b\nroute {\nredis_cache @open\nbasic_auth /a/b*" + auth + "}", []string{"ok nothing"}},
		{"authentication of more than is left out", "", "@open not path /a/*\nroute {\nredis_cache @open\nbasic_auth /a*" + auth + "}", []string{"warn …authentication"}},
		{"authentication of another path", "", "@get {\nmethod GET\npath /a/*\n}\nroute {\nredis_cache @get\nbasic_auth /b/*" + auth + "}", []string{"ok nothing"}},
		{"forward_auth", "", forward + "redis_cache\nreverse_proxy localhost:9", []string{"ok nothing"}},
		{"forward_auth behind", "", "route {\nredis_cache\n" + forward + "}", []string{"fail …forward_auth runs behind"}},
		{"forward_auth perhaps", "", "@get method GET\nroute {\nredis_cache /a/*\nforward_auth @get localhost:9 {\nuri /verify\n}\n}", []string{"warn …forward_auth may run behind"}},
		{"authentication by another module", "", "route {\nredis_cache\nauthorize\n}", []string{"warn …authorize runs behind redis_cache: if"}},
		{"cache invoked", "", "route {\ninvoke named\nbasic_auth" + auth + "}" + named + "redis_cache", []string{"fail server srv0, host x.test, namespace general: authentication"}},
		{"authentication invoked", "", "route {\nredis_cache /a/*\ninvoke /b/* named\ninvoke /a/b/* named\n}" + named + "basic_auth" + auth, []string{"fail server srv0, host x.test, path /a/*, …authentication"}},
		{"invoked with a matcher", "", "invoke /a/* named" + named + "redis_cache {\nshared\n}", []string{"ok nothing"}},
		{"invoked by itself", "", "invoke named" + named + "redis_cache\ninvoke named", []string{"ok nothing"}},
		{"cache for a response", "", "route {\nreverse_proxy localhost:9 {\nhandle_response {\nredis_cache\n}\n}\nbasic_auth" + auth + "}", []string{"fail …authentication"}},
		{"cache for an intercepted response", "", "intercept {\nhandle_response {\nredis_cache {\nshared\n}\n}\n}", []string{"warn …shared holds"}},
		{"authentication of a rewritten path", "", "route {\nredis_cache /api/admin/*\nhandle_path /api/* {\nbasic_auth /admin/*" + auth + "}\n}", []string{"warn …authentication may run behind"}},
		{"authentication of a whole rewritten path", "", "route {\nredis_cache\nhandle_path /api/* {\nbasic_auth" + auth + "}\n}", []string{"fail …authentication runs behind"}},
		{"authentication of another rewritten path", "", "route {\nredis_cache /api/*\nhandle_path /admin/* {\nbasic_auth" + auth + "}\n}", []string{"ok nothing"}},
		{"encode behind", "", "route {\nredis_cache\nencode\n}", []string{"warn …encode runs behind"}},
		{"abort behind", "", "@denied not remote_ip 127.0.0.1\nredis_cache\nabort @denied", []string{"warn server srv0, host x.test, namespace general: abort runs behind redis_cache and looks at remote_ip"}},
		{"error behind", "", "@denied client_ip 127.0.0.1\nredis_cache\nerror @denied 403", []string{"warn …error runs behind redis_cache and looks at client_ip"}},
		{"respond behind", "", "@denied not header X-Key secret\nredis_cache\nrespond @denied 403", []string{"warn …respond runs behind redis_cache and looks at header,"}},
		{"respond behind on a pattern", "", "@bot header_regexp User-Agent bot\nredis_cache\nrespond @bot 403", []string{"warn …header_regexp"}},
		{"respond behind on an expression", "", "@denied expression {http.vars.a}.startsWith(\"b\")\nredis_cache\nrespond @denied 403", []string{"warn …expression"}},
		{"respond behind on a variable", "", "@denied vars {http.vars.a} b\nredis_cache\nrespond @denied 403", []string{"warn …vars"}},
		{"redir behind", "", "@bot header User-Agent bot\nroute {\nredis_cache\nredir @bot /bot\n}", []string{"warn …redir runs"}},
		{"abort in a handle behind", "", "@denied not remote_ip 127.0.0.1\nredis_cache\nhandle @denied {\nabort\n}", []string{"warn …abort"}},
		{"abort in front", "", "@denied not remote_ip 127.0.0.1\nroute {\nabort @denied\nredis_cache\n}", []string{"ok nothing"}},
		{"abort of what is bypassed", "", "@denied {\nnot remote_ip 127.0.0.1\nheader X-A b\n}\nredis_cache {\nbypass @denied\n}\nabort @denied", []string{"ok nothing"}},
		{"abort of more than is bypassed", "", "@denied not remote_ip 127.0.0.1\n@other not remote_ip 127.0.0.2\nredis_cache {\nbypass @other\n}\nabort @denied", []string{"warn …abort"}},
		{"abort of what is left", "", "@ok remote_ip 127.0.0.1\n@denied not remote_ip 127.0.0.1\nredis_cache @ok\nabort @denied", []string{"ok nothing"}},
		{"abort of what is left out", "", "@ok not remote_ip 127.0.0.1\n@denied remote_ip 127.0.0.1\nredis_cache @ok\nabort @denied", []string{"ok nothing"}},
		{"abort of another path", "", "@denied {\npath /b/*\nnot remote_ip 127.0.0.1\n}\nredis_cache /a/*\nabort @denied", []string{"ok nothing"}},
		{"respond by path and method", "", "@some {\npath /a\nmethod GET\n}\nredis_cache\nrespond @some 404\nrespond x", []string{"ok nothing"}},
		{"respond by a field of the key", "", "@anonymous not header X-Key *\n@old header_regexp X-Version ^1\nredis_cache {\nvary_header x-key\nkey {header.x-version}\n}\nrespond @anonymous 401\nrespond @old 410", []string{"ok nothing"}},
		{"request_header", "", "request_header X-Country {http.vars.a}\nredis_cache", []string{"ok nothing"}},
		{"request_header behind", "", "route {\nredis_cache\nrequest_header X-Country {http.vars.a}\n}", []string{"warn …request_header runs behind redis_cache: the key"}},
		{"request_header added behind", "", "route {\nredis_cache /a/*\nrequest_header /a/* +X-Country {http.vars.a}\n}", []string{"warn …request_header"}},
		{"request_header behind for some", "", "@tablet header User-Agent *pad*\nroute {\nredis_cache\nrequest_header @tablet X-Device tablet\n}", []string{"warn …request_header runs behind redis_cache and looks at header"}},
		{"the same request_header behind for all", "", "route {\nredis_cache\nrequest_header X-Tenant a\nrequest_header -Accept-Language\nheader X-A {http.vars.a}\n}", []string{"ok nothing"}},
		{"nested", "", "redis_cache\nhandle /a/* {\nredis_cache\n}", []string{"warn …passes them through"}},
		{"nested in a part", "", "route {\n@some path /a/* /b\nredis_cache @some\nredis_cache /a/b*\n}", []string{"warn server srv0, host x.test, path /a/b*, …passes them through"}},
		{"for what is left", "", "redis_cache /a/*\nredis_cache /a/b/*\nredis_cache", []string{"ok nothing"}},
		{"for another part", "", "route {\nredis_cache /a/b/*\nredis_cache /a/*\nredis_cache /b\n}", []string{"ok nothing"}},
		{"unused", "namespace a\nnamespace b", "redis_cache a", []string{"warn namespace b …declared"}},
		{"shared", "", "redis_cache {\nshared\n}", []string{"warn …shared holds"}},
		{"shared for a part", "", "redis_cache /a/* {\nshared\n}", []string{"ok nothing"}},
		{"override", "", "redis_cache {\nttl 5m override\n}", []string{"warn …override holds"}},
		{"cookies", "", "redis_cache {\nset_cookie store\n}", []string{"warn …set_cookie store"}},
		{"cookies left out", "", "redis_cache {\nset_cookie strip\n}", []string{"warn …set_cookie strip stores for everybody what the origin made for one visitor"}},
		{"tokens ignored", "", "redis_cache {\nignore_cookies theme csrftoken\n}", []string{"warn …ignore_cookies csrftoken"}},
		{"tokens ignored by a glob", "", "redis_cache {\nignore_cookies XSRF-*\n}", []string{"warn …ignore_cookies XSRF-*"}},
		{"sessions ignored", "", "redis_cache {\nignore_cookies PHPSESSID\n}", []string{"warn …ignore_cookies PHPSESSID"}},
		{"all ignored", "", "redis_cache {\nignore_cookies *\n}", []string{"warn …ignore_cookies *"}},
		{"other cookies ignored", "", "redis_cache {\nignore_cookies theme lang_*\n}", []string{"ok nothing"}},
		{"sessions in the key", "", "redis_cache {\nvary_cookie laravel_session\n}", []string{"warn …vary_cookie laravel_session"}},
		{"tokens in the key", "", "redis_cache {\nvary_header X-CSRF-Token\n}", []string{"warn …vary_header X-Csrf-Token"}},
		{"cookies of one user", "secret s", "redis_cache {\nset_cookie store\nby_user {cookie.sid}\n}", []string{"ok nothing"}},
		{"deferred by a deletion", "", "header {\n-Server\nCache-Control no-store\n}\nredis_cache", []string{"warn …header in front changes Cache-Control when the response is sent"}},
		{"deferred by a sign", "", "header >Vary Cookie\nredis_cache", []string{"warn …changes Vary"}},
		{"deferred by a default", "", "header ?Surrogate-Control max-age=1\nredis_cache", []string{"warn …changes Surrogate-Control"}},
		{"deferred deletion", "", "header -Set-Cookie\nredis_cache", []string{"warn …changes Set-Cookie"}},
		{"deferred for some", "", "@a path /a/*\nheader @a {\ndefer\nSet-Cookie a=b\n}\nredis_cache", []string{"warn …changes Set-Cookie"}},
		{"deferred in a handle", "", "header /x* >Cache-Control no-store\nhandle /a/* {\nredis_cache\n}", []string{"warn server srv0, host x.test, path /a/*, …changes Cache-Control"}},
		{"deferred elsewhere", "", "handle /b/* {\nheader >Cache-Control no-store\n}\nhandle /a/* {\nredis_cache\n}", []string{"ok nothing"}},
		{"deferred behind", "", "route {\nredis_cache\nheader >Cache-Control no-store\n}", []string{"ok nothing"}},
		{"deferred, of another field", "", "header {\n-Server\nX-Frame-Options DENY\n}\nredis_cache", []string{"ok nothing"}},
		{"not deferred", "", "header Cache-Control no-store\nredis_cache", []string{"ok nothing"}},
		{"identity copied", "", copies + "redis_cache", []string{"warn …copies Person, Team into requests"}},
		{"identity copied in a snippet", "", "route {\ninvoke named\nredis_cache\n}" + named + copies, []string{"warn …copies Person, Team"}},
		{"identity copied, one in the key", "", copies + "redis_cache {\nvary_header person\n}", []string{"warn …copies Team into"}},
		{"identity copied, all in the key", "", copies + "redis_cache {\nvary_header Person Team\n}", []string{"ok nothing"}},
		{"identity copied, of users", "secret s", copies + "redis_cache {\nby_user {header.Person}\n}", []string{"ok nothing"}},
		{"identity copied, for all", "", copies + "redis_cache /a/* {\nshared\n}", []string{"ok nothing"}},
		{"identity copied that is none", "", copies + "redis_cache {\ncredential_headers -person -Team\n}", []string{"ok nothing"}},
		{"identity copied elsewhere", "", "handle /b/* {\n" + copies + "}\nhandle /a/* {\nredis_cache\n}", []string{"ok nothing"}},
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

// lintOfHandler are the findings about a handler behind a matcher.
func lintOfHandler(h *Handler) []api.Check {
	route := caddyhttp.Route{Group: "g", Handlers: []caddyhttp.MiddlewareHandler{h}}
	c := lint.Config{Servers: map[string]*caddyhttp.Server{"s": {Routes: caddyhttp.RouteList{route}}}, Directive: directiveOf}
	return slices.DeleteFunc(c.Lint(), func(c api.Check) bool { return c.Detail == "nothing to say" })
}

func TestLintCredentials(t *testing.T) {
	for _, tt := range []struct {
		name, policy, origin string
		plain, secret        int // requests
		want                 string
	}{
		{"some", `{"ttl":{"duration":60000000000}}`, "", 90, 10, `ttl does not hold for 10 of 100 requests, which carried credentials such as "cookie sid"`},
		{"by a rule", `{"ttl_rules":[{"duration":60000000000}]}`, "", 0, 12, `ttl does not hold for 12 of 12 requests, …"cookie sid"`},
		{"too few", `{"ttl":{"duration":60000000000}}`, "", 0, 9, ""},
		{"a small share", `{"ttl":{"duration":60000000000}}`, "", 91, 10, ""},
		{"no ttl", `{}`, "max-age=60", 1, 20, "the responses to 95% of 21 requests are not stored: credentials"},
		{"public", `{"ttl":{"duration":60000000000}}`, "public", 1, 20, ""},
		{"never stored", `{"ttl":{"duration":60000000000}}`, "no-store", 1, 20, "the responses to 100% of 21 requests are not stored: no-store"},
		{"covered", `{"ttl":{"duration":60000000000},"vary_cookie":["sid"]}`, "", 1, 20, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, tt.policy, answer("x", "Cache-Control", tt.origin))
			for range tt.plain {
				s.get("/a")
			}
			for range tt.secret {
				s.get("/a", "Cookie", "sid=secret")
			}
			s.do(http.MethodPost, "/a", "Cookie", "other=secret") // no request that counts
			findings := lintOfHandler(s.handler)
			got := fmt.Sprint(findings)
			begin, end, _ := strings.Cut(tt.want, "…")
			if (len(findings) == 0) != (tt.want == "") || !strings.Contains(got, begin) || !strings.Contains(got, end) || strings.Contains(got, "secret") {
				t.Errorf("found %s", got)
			}
		})
	}
}

// TestLintUnstated has origins that state no lifetime for what can be revalidated: it is
// stored, and no request is answered without the origin.
func TestLintUnstated(t *testing.T) {
	for _, tt := range []struct{ name, policy, control, want string }{
		{"confirmed", `{}`, "", "warn 100% of 12 requests went to the origin, which states no lifetime for what is stored: no-lifetime …The line: ttl 5m"},
		{"another status", `{}`, "404", "warn 100% of 12 requests …The line: ttl status 404 1m"},
		{"with a lifetime", `{"ttl":{"duration":60000000000}}`, "", ""},
		{"wanted", `{}`, "no-cache", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, tt.policy, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Etag", `"1"`)
				switch {
				case tt.control == "404":
					w.WriteHeader(http.StatusNotFound)
				case r.Header.Get("If-None-Match") != "":
					w.WriteHeader(http.StatusNotModified)
					return
				case tt.control != "":
					w.Header().Set("Cache-Control", tt.control)
				}
				_, _ = io.WriteString(w, "x")
			})
			for range 12 {
				s.get("/a")
			}
			findings := lintOfHandler(s.handler)
			got := fmt.Sprint(findings)
			begin, end, _ := strings.Cut(strings.TrimPrefix(tt.want, "warn "), "…")
			if (len(findings) == 0) != (tt.want == "") || !strings.Contains(got, begin) || !strings.Contains(got, end) || !strings.Contains(got, "warn") && tt.want != "" {
				t.Errorf("found %s", got)
			}
		})
	}
}
