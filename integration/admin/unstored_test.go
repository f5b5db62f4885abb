package admin

import (
	"cmp"
	"net/http"
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// TestDoctorSaysWhyNothingIsStored has sites that cache nothing, each for a reason of its
// own: the doctor names the reason, its share and the line that changes it, unasked.
func TestDoctorSaysWhyNothingIsStored(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		options string
		method  string
		fields  []string // of the request
		status  int
		answer  []string // fields of the origin
		want    []string
		quiet   bool // in the log: the configuration wants it so
	}{
		"no lifetime":        {want: []string{"warn ", "100% of 12 requests are not stored: no-lifetime", "ttl 5m"}},
		"no lifetime of 404": {options: "ttl 5m", status: http.StatusNotFound, want: []string{"warn ", "no-lifetime", "ttl status 404 1m"}},
		"no-store":           {options: "ttl 5m", answer: []string{"Cache-Control: no-store"}, want: []string{"warn ", "no-store", "ttl 5m override, limited by a matcher"}},
		"private":            {options: "ttl 5m", answer: []string{"Cache-Control: private, max-age=60"}, want: []string{"warn ", "not stored: private", "by_user {http.auth.user.id}"}},
		"stale":              {answer: []string{"Cache-Control: max-age=0"}, want: []string{"warn ", "not stored: expired", "ttl 5m override"}},
		"cookie of response": {options: "ttl 5m", answer: []string{"Set-Cookie: id=1"}, want: []string{"warn ", "not stored: set-cookie", "no cookie"}},
		"vary by anything":   {options: "ttl 5m", answer: []string{"Vary: *"}, want: []string{"warn ", "not stored: vary-any", "Vary"}},
		"credentials": {
			fields: []string{"Cookie: session=hidden"}, answer: []string{"Cache-Control: max-age=60"},
			want: []string{"warn ", "100% of 12 requests are not stored: credentials", "by_user {http.request.cookie.session}"},
		},
		"a name that is no token": {
			fields: []string{`Cookie: a}b{c=hidden`}, answer: []string{"Cache-Control: max-age=60"},
			want: []string{"warn ", "not stored: credentials", "by_user {http.auth.user.id}"},
		},
		"method":      {method: http.MethodPost, want: []string{"ok ", "not stored: method", "methods GET HEAD POST"}, quiet: true},
		"bypass":      {options: "bypass @all", want: []string{"ok ", "not stored: bypass-rule", "bypass"}, quiet: true},
		"an own rule": {options: "no_store status 200", answer: []string{"Cache-Control: max-age=60"}, want: []string{"ok ", "not stored: no-store-rule", "no_store"}, quiet: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := harness.NewOrigin(t)
			status := cmp.Or(tt.status, http.StatusOK)
			o.Answer("/page/", status, "x", tt.answer...)
			node := harness.StartCaddy(t, harness.Layout{Origin: o, Site: "@all path /page/*\nredis_cache {\n" + tt.options + "\n}"})
			ask := func(times int) {
				for range times {
					req, err := node.Request(t.Context(), cmp.Or(tt.method, http.MethodGet), "/page/1", "", tt.fields...)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := harness.Send(node.Client, req); err != nil {
						t.Fatal(err)
					}
				}
			}
			ask(9)
			if _, checks := node.Doctor(t); !strings.HasPrefix(checks["configuration"], "ok nothing to say") {
				t.Errorf("after nine requests: %q", checks["configuration"])
			}
			ask(3)
			_, checks := node.Doctor(t)
			for _, want := range tt.want {
				if !strings.Contains(checks["configuration"], want) || strings.Contains(checks["configuration"], "hidden") {
					t.Errorf("%q, want %q", checks["configuration"], want)
				}
			}
			out, err := harness.Command(t, "redis-cache", "doctor", "--address", node.Admin)
			if err != nil || !strings.Contains(out, "not stored: ") {
				t.Errorf("%v\n%s", err, out)
			}
			lines := strings.Count(node.Proc.Log.String(), "most responses are not stored")
			if want := map[bool]int{false: 1, true: 0}[tt.quiet]; lines != want {
				t.Errorf("%d lines in the log, want %d", lines, want)
			}
		})
	}
}

// TestDoctorIsQuietWhereResponsesAreStored has one response in three that may not be stored.
func TestDoctorIsQuietWhereResponsesAreStored(t *testing.T) {
	t.Parallel()
	o := harness.NewOrigin(t)
	o.With("/stored", "Cache-Control: max-age=60")
	node := harness.StartCaddy(t, harness.Layout{Origin: o, Site: "redis_cache"})
	for range 12 {
		node.Get(t, "/stored")
		node.Get(t, "/stored")
		node.Get(t, "/other")
	}
	if _, checks := node.Doctor(t); !strings.HasPrefix(checks["configuration"], "ok nothing to say") {
		t.Errorf("%q", checks["configuration"])
	}
}
