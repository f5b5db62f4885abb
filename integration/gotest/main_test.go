package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	in := strings.Join([]string{
		`{"Action":"output","Package":"p","Test":"TestGood","Output":"quiet\n"}`,
		`{"Action":"pass","Package":"p","Test":"TestGood"}`,
		`{"Action":"output","Package":"p","Test":"TestBad","Output":"    bad_test.go:7: loud\n"}`,
		`{"Action":"output","Package":"p","Test":"TestBad","Output":"pages of a log\n"}`,
		`{"Action":"fail","Package":"p","Test":"TestBad"}`,
		`{"Action":"skip","Package":"p","Test":"TestGone"}`,
		`{"Action":"skip","Package":"without tests"}`,
		`{"Action":"output","Package":"p","Output":"FAIL\tp\t0.1s\n"}`,
		`{"Action":"fail","Package":"p"}`,
		`no json at all`,
	}, "\n")
	var out bytes.Buffer
	res := read(strings.NewReader(in), &out)
	if res.passed != 1 || res.failed != 1 {
		t.Errorf("%d passed, %d failed; want 1 and 1", res.passed, res.failed)
	}
	if want := []string{"p.TestGone"}; !slices.Equal(res.skipped, want) {
		t.Errorf("skipped %q, want %q", res.skipped, want)
	}
	if want := []string{"FAILED p.TestBad", "    bad_test.go:7: loud"}; !slices.Equal(res.complaints, want) {
		t.Errorf("complaints %q, want %q", res.complaints, want)
	}
	if got := out.String(); strings.Contains(got, "quiet") || !strings.Contains(got, "loud") ||
		!strings.Contains(got, "FAIL\tp") || !strings.Contains(got, "no json") {
		t.Errorf("printed\n%s", got)
	}
}
