package harness

import (
	"compress/gzip"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// Decoded undoes Content-Encoding.
func Decoded(r Reply) (string, error) {
	var in io.Reader
	var err error
	switch encoding := r.Header.Get("Content-Encoding"); encoding {
	case "":
		return r.Body, nil
	case "gzip":
		in, err = gzip.NewReader(strings.NewReader(r.Body))
	case "zstd":
		in, err = zstd.NewReader(strings.NewReader(r.Body))
	default:
		err = fmt.Errorf("encoding %q", encoding)
	}
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(in)
	return string(b), err
}

// OwnFields are the fields that the cache adds to answers, and those that change with time.
var OwnFields = []string{"X-Cache", "X-Cache-Key", "X-Cache-Ttl-Remaining", "X-Cache-Date", "Age", "Cache-Status", "Date"}

// SameAnswer compares an answer with another one, usually that of a route
// without the cache, but for what the cache adds.
func SameAnswer(t *testing.T, what string, want, got Reply) {
	t.Helper()
	if got.Status != want.Status || got.Body != want.Body {
		t.Errorf("%s: %d %.200q, want %d %.200q", what, got.Status, got.Body, want.Status, want.Body)
	}
	for _, r := range []Reply{want, got} {
		for name := range r.Header {
			if w, g := want.Header[name], got.Header[name]; !slices.Contains(OwnFields, name) && !slices.Equal(w, g) {
				t.Errorf("%s: %s is %q, want %q", what, name, g, w)
			}
		}
	}
}
