package harness

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// Origin is the server behind the cache. It counts, and unless told otherwise
// answers with a body that no other request gets, so that a test sees from the
// body alone which request brought it.
type Origin struct {
	Addr string

	mu       sync.Mutex
	total    int
	counts   map[string]int
	handlers map[string]http.HandlerFunc // by path; one that ends in a slash stands for all below it
}

func NewOrigin(t testing.TB) *Origin {
	t.Helper()
	o := &Origin{counts: make(map[string]int), handlers: make(map[string]http.HandlerFunc)}
	srv := httptest.NewServer(o)
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	o.Addr = srv.Listener.Addr().String()
	return o
}

func (o *Origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	o.total++
	o.counts[r.URL.Path]++
	n := o.total
	handler, longest := http.HandlerFunc(nil), -1
	for path, h := range o.handlers {
		below := strings.HasSuffix(path, "/") && strings.HasPrefix(r.URL.Path, path)
		if (below || path == r.URL.Path) && len(path) > longest {
			handler, longest = h, len(path)
		}
	}
	o.mu.Unlock()
	if handler != nil {
		handler(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"uri":%q,"request":%d}`, r.URL.RequestURI(), n)
}

// Handle scripts a path, or with a slash at its end all paths below it.
func (o *Origin) Handle(path string, h http.HandlerFunc) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.handlers[path] = h
}

// With answers as the default does, with more header fields: "Name: value".
func (o *Origin) With(path string, fields ...string) {
	o.Answer(path, http.StatusOK, "", fields...)
}

// Answer scripts status, body and header fields of a path. An empty body stands
// for one that differs each time.
func (o *Origin) Answer(path string, status int, body string, fields ...string) {
	o.Handle(path, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for _, f := range fields {
			name, value, _ := strings.Cut(f, ": ")
			w.Header().Add(name, value)
		}
		w.WriteHeader(status)
		if body != "" {
			fmt.Fprint(w, body)
			return
		}
		fmt.Fprintf(w, `{"uri":%q,"request":%d}`, r.URL.RequestURI(), o.Requests())
	})
}

// Requests returns how many requests have arrived.
func (o *Origin) Requests() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.total
}

// Count returns how many requests for the path have arrived.
func (o *Origin) Count(path string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.counts[path]
}
