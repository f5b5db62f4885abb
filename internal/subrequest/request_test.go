package subrequest

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
)

func TestAddField(t *testing.T) {
	r := httptest.NewRequest("GET", "/", http.NoBody)
	for _, line := range []string{"", "x", ": x", "a b: c", "A: b\r\nC: d", "Content-Length: x"} {
		if AddField(r, line) == nil {
			t.Errorf("%q is accepted", line)
		}
	}
	for _, line := range []string{"Host: a.test", "X-A: 1", "X-A:2", "Content-Length: 3"} {
		if err := AddField(r, line); err != nil {
			t.Errorf("%q: %v", line, err)
		}
	}
	if r.Host != "a.test" || !slices.Equal(r.Header["X-A"], []string{"1", "2"}) || r.ContentLength != 3 {
		t.Errorf("%s %v %d", r.Host, r.Header, r.ContentLength)
	}
}
