package http

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// TestConditionsOfBrokenFetches has an upstream break off while it is asked with the
// conditions of the cache: the access log shows the fields that the client has sent.
func TestConditionsOfBrokenFetches(t *testing.T) {
	t.Parallel()
	for name, option := range map[string]string{"a flight": "", "alone": "coalesce off"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := harness.NewOrigin(t)
			breaks := make(chan bool, 1)
			breaks <- false
			o.Handle("/page/", func(w http.ResponseWriter, _ *http.Request) {
				broken := <-breaks
				breaks <- broken
				w.Header().Set("Cache-Control", "max-age=60, stale-if-error=0")
				w.Header().Set("Etag", `"of-the-cache"`)
				if broken {
					w.Header().Set("Content-Length", "100")
				}
				fmt.Fprint(w, "some")
				if broken {
					_ = http.NewResponseController(w).Flush()
					panic(http.ErrAbortHandler)
				}
			})
			node := harness.StartCaddy(t, harness.Layout{Origin: o, Site: "log\nredis_cache {\n" + option + "\n}"})
			for i, fields := range [][]string{
				{"If-None-Match: \"of-the-client\""},
				{"If-Modified-Since: Mon, 01 Jan 2024 00:00:00 GMT"},
				{"Range: bytes=0-1"},
				{"If-Match: \"of-the-client\"", "If-None-Match: \"of-the-client\""},
				{},
			} {
				path := fmt.Sprintf("/page/%d", i)
				node.Want(t, "MISS", path)
				node.Purge(t, `{"all":true,"soft":true}`)
				<-breaks
				breaks <- true
				req, err := node.Request(t.Context(), http.MethodGet, path, "", append(fields, "X-Broken: 1")...)
				if err != nil {
					t.Fatal(err)
				}
				if r, err := harness.Send(node.Client, req); err == nil && r.Broken == nil {
					t.Errorf("%v: the client does not see that it broke off: %+v", fields, r)
				}
				<-breaks
				breaks <- false
				var line string
				harness.Eventually(t, "the access log shows "+path, func() bool {
					line = regexp.MustCompile(`.*http\.log\.access.*"uri": ?"` + path + `".*X-Broken.*`).FindString(node.Proc.Log.String())
					return line != ""
				})
				for _, name := range []string{"If-None-Match", "If-Modified-Since", "If-Match", "Range"} {
					sent := ""
					for _, field := range fields {
						if value, ok := strings.CutPrefix(field, name+": "); ok {
							sent = value
						}
					}
					logged := regexp.MustCompile(`"` + name + `": ?\["((?:\\.|[^"\\])*)"\]`).FindStringSubmatch(line)
					if got := append(logged, "", "")[1]; strings.ReplaceAll(got, `\"`, `"`) != sent {
						t.Errorf("%v: %s is logged as %q", fields, name, got)
					}
				}
			}
		})
	}
}
