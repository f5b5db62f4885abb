// Command bareget answers every request with the value of one Redis key, by one
// plain GET: what a cache in Redis costs at the least without pipelining. It is
// the reference of a benchmark.
package main

import (
	"log"
	"net/http"
	"os"

	"github.com/redis/go-redis/v9"
)

func main() {
	client := redis.NewClient(&redis.Options{Addr: os.Args[2]})
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		value, err := client.Get(r.Context(), "bare").Bytes()
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write(value)
	})
	log.Fatal(http.ListenAndServe(os.Args[1], handler)) //nolint:gosec // it serves a benchmark
}
