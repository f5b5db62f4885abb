package rediscache

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// TestUnknownParameters mistypes a parameter of every route.
func TestUnknownParameters(t *testing.T) {
	newSite(t, `{}`, answer("x"))
	tried := 0
	for _, admin := range (adminAPI{}).Routes() {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
			for query, want := range map[string]string{"windo=24h": `unknown parameter "windo"`, "key=%zz": "query"} {
				err := admin.Handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, admin.Pattern+"?"+query, http.NoBody))
				answer, ok := err.(caddy.APIError) //nolint:errorlint // routes return it as it is
				if ok && answer.HTTPStatus == http.StatusMethodNotAllowed {
					continue
				}
				if tried++; !ok || answer.HTTPStatus != http.StatusBadRequest || !strings.Contains(answer.Err.Error(), want) {
					t.Errorf("%s %s?%s: %v, want %s", method, admin.Pattern, query, err, want)
				}
			}
		}
	}
	if tried < 28 {
		t.Errorf("%d requests were tried", tried)
	}
}
