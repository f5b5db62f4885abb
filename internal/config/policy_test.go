package config

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

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
		if err := errors.Join(p.Validate(), p.ValidateMerged()); err == nil || !strings.Contains(err.Error(), want) {
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
	merged, err := json.Marshal(directive.Merge(ns))
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
