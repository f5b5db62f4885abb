package engine_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/gplus-recycling/caddy-redis-cache/internal/cachekey"
	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// behind lets a handler of net/http answer for the cache in front of it.
type behind struct{ handler http.Handler }

func (b behind) Serve(w http.ResponseWriter, r *http.Request) error {
	b.handler.ServeHTTP(w, r)
	return nil
}

func (behind) Again(came *http.Request, _ http.ResponseWriter, body []byte) *http.Request {
	came.Body = io.NopCloser(bytes.NewReader(body))
	return came
}

func (b behind) Nobody(came *http.Request, w http.ResponseWriter, body []byte, _ func() *engine.Outcome) (*http.Request, engine.Upstream) {
	if b.Presents(came) {
		return nil, nil
	}
	return b.Again(came.Clone(context.Background()), w, body), b
}

func (behind) Presents(r *http.Request) bool {
	return len(r.Header["Cookie"])+len(r.Header["Authorization"]) > 0
}

// Nobody is known in front of this handler, and its route has no templates.
func (behind) Unstorable() bool                      { return false }
func (behind) UserID() string                        { return "" }
func (behind) Identity(*http.Request) string         { return "" }
func (behind) User() string                          { return "" }
func (behind) Identifier() (string, string, bool)    { return "", "", false }
func (behind) Tags() []string                        { return nil }
func (behind) Selectors(rule int) []journal.Selector { return nil }

// A handler of net/http behind a cache in memory.
func Example() {
	var purges *journal.Journal
	check := func(rec *store.Record, upTo journal.Checked) (journal.Verdict, journal.Checked) {
		return engine.Check(purges, rec, upTo)
	}
	responses := store.NewTiered(store.NewMemory(1<<20, check), nil, store.Options{Check: check})
	purges = journal.New(journal.Options{Prefix: "cache", MaxAge: engine.MaxLifetime})
	responses.Start()
	purges.Start()
	defer responses.Close()
	defer purges.Close(context.Background())

	route := engine.NewRoute(engine.NewCache(responses, purges, nil), cachekey.Spec{Prefix: "cache", Namespace: "general"})
	hello := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		fmt.Fprint(w, "hello")
	})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path, query := cachekey.SplitURI(r.URL, r.RequestURI)
		target := cachekey.Target{
			Scheme: "http", URLScheme: "http", Host: cachekey.NormalHost("http", r.Host), Path: path, Query: query, RewrittenQuery: query,
		}
		var answer engine.Answer
		answer.Begin(route, w, r, behind{hello}, &target)
		defer answer.End()
		if err := answer.Serve(); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
		}
	}))
	defer server.Close()

	for range 2 {
		response, err := http.Get(server.URL)
		if err != nil {
			fmt.Println(err)
			return
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		fmt.Println(response.Header.Get("X-Cache"), string(body))
	}
	http.DefaultClient.CloseIdleConnections()
	// Output:
	// MISS hello
	// HIT hello
}
