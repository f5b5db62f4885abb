package config

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestOptionsAreShown finds every option of a policy in the syntax above parseDirective and
// among what TestAdapt and TestAdaptErrors read.
func TestOptionsAreShown(t *testing.T) {
	source, err := os.ReadFile("../../caddyfile.go")
	if err != nil {
		t.Fatal(err)
	}
	_, syntax, _ := strings.Cut(string(source), "// parseDirective parses")
	syntax, _, _ = strings.Cut(syntax, "\nfunc ")
	adapted, err := os.ReadFile("../../testdata/full.caddyfiletest")
	if err != nil {
		t.Fatal(err)
	}
	errors, err := os.ReadFile("../../caddyfile_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for i := range options {
		name := options[i].name
		word := regexp.MustCompile(`(^|[\s"(\x60])` + name + `\b`)
		for where, text := range map[string]string{"the syntax of the directive": syntax, "testdata/full.caddyfiletest": string(adapted), "TestAdaptErrors": string(errors)} {
			if !word.MatchString(text) {
				t.Errorf("%s is not in %s", name, where)
			}
		}
	}
}
