package config

import "testing"

func TestPrivateTemplates(t *testing.T) {
	for template, want := range map[string]bool{
		"plain": false, "{http.request.uri.path.2}:profile": false, "{http.request.host}{http.request.uri.path}": false,
		"{http.request.uri.query.q}": true, "{http.request.uri}": true, "{http.request.cookie.sid}": true, "{http.vars.x}": true,
		"{http.request.header.Accept-Language}": true, "{http.auth.user.id}": true, "{env.SECRET}": true, "{http.response.header.X}": true,
	} {
		if got := private(template); got != want {
			t.Errorf("%s: %t", template, got)
		}
	}
}
