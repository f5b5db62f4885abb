package subrequest

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestMarks has a handler see what a request is for, while it is under way and not
// longer, however it ends.
func TestMarks(t *testing.T) {
	var seen *http.Request
	for name, end := range map[string]func(http.ResponseWriter){
		"answer": func(w http.ResponseWriter) { w.WriteHeader(http.StatusTeapot) },
		"panic":  func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			var warms bool
			var explains any
			server := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				seen, warms, explains = r, Warming(r), Explaining(r)
				end(w)
			})
			var caught any
			thrown := func(recovered any) { caught = recovered }
			plain := httptest.NewRequest(http.MethodGet, "/", http.NoBody)

			status, _ := Warm(t.Context(), server, plain, thrown)
			if !warms || explains != nil || seen.RemoteAddr != "192.0.2.1:0" || Warming(seen) {
				t.Errorf("warming: %t, explained as %v, from %s, and then %t", warms, explains, seen.RemoteAddr, Warming(seen))
			}
			if (status == http.StatusTeapot) == (caught != nil) {
				t.Errorf("status %d, thrown %v", status, caught)
			}
			Explain(t.Context(), server, plain, "e", thrown)
			if warms || explains != "e" || seen.Context().Err() == nil || Explaining(seen) != nil {
				t.Errorf("warming: %t, explained as %v, and then %v", warms, explains, Explaining(seen))
			}
		})
	}
}

func TestNobodysAddress(t *testing.T) {
	for remote, want := range map[string]string{"": nobodysIPv4, "10.0.0.1:1": nobodysIPv4, "[::1]:1": nobodysIPv6} {
		if _, ip := NobodysAddress(remote); ip != want {
			t.Errorf("%q: %s, want %s", remote, ip, want)
		}
	}
}
