package config

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
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

// TestMergeKeepsEveryOption sets each option in the namespace alone: it holds in the handler.
func TestMergeKeepsEveryOption(t *testing.T) {
	ofHandlers := []string{"TTLRules", "Bypass", "DiagnosticsRules"} // they have matchers
	for field := range reflect.TypeFor[Policy]().Fields() {
		var ns Policy
		fill(t, reflect.ValueOf(&ns).Elem().FieldByIndex(field.Index))
		merged := Policy{}.Merge(ns)
		if kept := !reflect.ValueOf(merged).FieldByIndex(field.Index).IsZero(); kept == slices.Contains(ofHandlers, field.Name) {
			t.Errorf("%s of a namespace is kept: %t", field.Name, kept)
		}
	}
}

// fill sets a value that is not zero.
func fill(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Kind() { //nolint:exhaustive // those that options have
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int64:
		v.SetInt(1)
	case reflect.String:
		v.SetString("x")
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	default:
		t.Fatalf("a field of kind %s", v.Kind())
	}
}
