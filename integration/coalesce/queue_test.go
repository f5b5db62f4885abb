package coalesce

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// holdback is an origin that keeps every answer back until the test lets it go on.
type holdback struct {
	arrived atomic.Int32
	answer  *harness.Gate
}

// events handles a path whose responses begin with their first event.
func (h *holdback) events(web *harness.Origin, path, contentType string) {
	web.Handle(path, func(w http.ResponseWriter, r *http.Request) {
		n := h.arrived.Add(1)
		select {
		case <-h.answer.C:
		case <-r.Context().Done():
			return
		}
		w.Header().Set("Content-Type", contentType)
		fmt.Fprintf(w, "event for %d\n", n)
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
}

// subscribe opens a stream and hands over its first line.
func subscribe(ctx context.Context, n *harness.Node, path string, fields ...string) <-chan string {
	first := make(chan string, 1)
	go func() {
		req, err := n.Request(ctx, http.MethodGet, path, "", fields...)
		if err != nil {
			first <- err.Error()
			return
		}
		resp, err := n.Client.Do(req)
		if err != nil {
			first <- err.Error()
			return
		}
		defer resp.Body.Close()
		line, err := bufio.NewReader(resp.Body).ReadString('\n')
		if err != nil {
			line += err.Error()
		}
		first <- line
		<-ctx.Done()
	}()
	return first
}

// TestSubscribersDoNotQueue has several subscribers before there is any event: each has a
// stream of its own, in the process and in the fleet, which begins with its first event.
func TestSubscribersDoNotQueue(t *testing.T) {
	t.Parallel()
	f := &harness.Fleet{Redis: harness.StartRedis(t), Web: harness.NewOrigin(t)}
	for range 2 {
		f.Join(t, harness.Layout{Redis: f.Redis, Origin: f.Web, Site: "redis_cache {\nttl 5m\n}"})
	}
	harness.Eventually(t, "the nodes know each other", func() bool {
		return len(f.Nodes[0].JSON(t, http.StatusOK, http.MethodGet, "/redis_cache/nodes", "")["nodes"].([]any)) == 2
	})
	for i, tt := range []struct{ accept, contentType string }{
		{"text/event-stream", "text/event-stream"},
		{"application/json, Text/Event-Stream;q=0.5", "application/x-ndjson"},
		{"text/event-stream; charset=utf-8", "text/plain"},
		{"*/*, text/event-stream", "text/event-stream; charset=utf-8"},
	} {
		t.Run(tt.accept, func(t *testing.T) {
			path := fmt.Sprintf("/events/%d", i)
			h := &holdback{answer: harness.NewGate(t)}
			h.events(f.Web, path, tt.contentType)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var streams []<-chan string
			for i := range 4 {
				streams = append(streams, subscribe(ctx, f.Nodes[i%2], path, "Accept: "+tt.accept))
				harness.Eventually(t, fmt.Sprintf("subscriber %d is at the origin", i+1), func() bool { return int(h.arrived.Load()) == i+1 })
			}
			if keys := f.Redis.Keys(t, "cache::lease:*"); len(keys) > 0 {
				t.Errorf("a subscriber holds up the fleet: %q", keys)
			}
			h.answer.Open()
			seen := make(map[string]bool)
			for _, s := range streams {
				seen[<-s] = true
			}
			for i := range 4 {
				if !seen[fmt.Sprintf("event for %d\n", i+1)] {
					t.Errorf("nobody got the event for %d: %v", i+1, seen)
				}
			}
		})
	}
}

// TestPushedImages has a camera whose pictures replace each other in one response
// without an end: nothing of it is kept, and whoever watches has a stream of his own.
func TestPushedImages(t *testing.T) {
	t.Parallel()
	web := harness.NewOrigin(t)
	node := harness.StartCaddy(t, harness.Layout{Origin: web, Site: "redis_cache {\nttl 5m\n}"})
	for i, contentType := range []string{
		"multipart/x-mixed-replace;boundary=frame", "Multipart/X-Mixed-Replace; boundary=--x", "multipart/x-mixed-replace",
	} {
		path := fmt.Sprintf("/camera/%d", i)
		h := &holdback{answer: harness.NewGate(t)}
		h.events(web, path, contentType)
		h.answer.Open()
		ctx, cancel := context.WithCancel(t.Context())
		for want := range 2 {
			if got := <-subscribe(ctx, node, path); got != fmt.Sprintf("event for %d\n", want+1) {
				t.Errorf("%s: viewer %d got %q", contentType, want+1, got)
			}
		}
		cancel()
		web.Handle(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.Header().Set("Cache-Control", "public, max-age=600")
			io.WriteString(w, "frame")
		})
		for range 2 {
			r := node.Want(t, "MISS", path)
			if detail := r.CacheStatus(t)["detail"]; detail != "streaming" {
				t.Errorf("%s: detail %q", contentType, detail)
			}
		}
	}
}

// remembered is why a key is not waited for; "" if it is.
func remembered(t *testing.T, n *harness.Node, path string) string {
	t.Helper()
	query := url.Values{"url": {n.URL(path)}, "header": {"Host: " + harness.SiteHost}}
	e := n.JSON(t, http.StatusOK, http.MethodGet, "/redis_cache/explain?"+query.Encode(), "")
	if miss, ok := e["hit_for_miss"].(map[string]any); ok {
		return miss["reason"].(string)
	}
	return ""
}

// TestPollersDoNotQueue has clients that poll for something that may never happen. Once
// one of them has given an answer up, or one has broken off, nobody queues for that URL
// until an answer was complete again.
func TestPollersDoNotQueue(t *testing.T) {
	t.Parallel()
	web := harness.NewOrigin(t)
	node := harness.StartCaddy(t, harness.Layout{Origin: web, Site: "redis_cache {\nttl 5m\n}"})
	polls := func(t *testing.T, path string) {
		t.Helper()
		h := &holdback{answer: harness.NewGate(t)}
		h.events(web, path, "text/plain")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var streams []<-chan string
		for i := range 3 {
			streams = append(streams, subscribe(ctx, node, path))
			harness.Eventually(t, fmt.Sprintf("poll %d is at the origin", i+1), func() bool { return int(h.arrived.Load()) == i+1 })
		}
		h.answer.Open()
		seen := make(map[string]bool)
		for _, s := range streams {
			seen[<-s] = true
		}
		if len(seen) != 3 {
			t.Errorf("the polls got %v", seen)
		}
	}
	recovers := func(t *testing.T, path string) {
		t.Helper()
		if remembered(t, node, path) == "" {
			t.Error("forgotten before it is complete again")
		}
		web.Answer(path, http.StatusOK, "done", "Content-Type: text/plain")
		// Polls that have been given up may yet end.
		harness.Eventually(t, "it is forgotten", func() bool {
			node.Purge(t, fmt.Sprintf(`{"url":%q}`, "http://"+harness.SiteHost+path))
			node.Want(t, "MISS", path)
			node.Want(t, "HIT", path)
			return remembered(t, node, path) == ""
		})
	}
	giveUp := func(t *testing.T, path string, part string) {
		t.Helper()
		arrived, end := make(chan struct{}, 1), harness.NewGate(t)
		web.Handle(path, func(w http.ResponseWriter, r *http.Request) {
			arrived <- struct{}{}
			if part != "" {
				io.WriteString(w, part)
				http.NewResponseController(w).Flush()
			}
			select {
			case <-end.C:
				if part == "" { // a proxy would try again if there were no answer
					w.WriteHeader(http.StatusServiceUnavailable)
				}
			case <-r.Context().Done():
			}
		})
		ctx, leave := context.WithCancel(t.Context())
		defer leave()
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			req, err := node.Request(ctx, http.MethodGet, path, "")
			if err != nil {
				return
			}
			if resp, err := node.Client.Do(req); err == nil {
				_, _ = io.ReadFull(resp.Body, make([]byte, len(part)))
				leave()
				resp.Body.Close()
			}
		}()
		<-arrived
		if part == "" {
			leave()
		}
		<-gone
		harness.Eventually(t, "it is remembered", func() bool { return remembered(t, node, path) != "" })
	}
	t.Run("before the header", func(t *testing.T) {
		giveUp(t, "/poll/header", "")
		polls(t, "/poll/header")
		recovers(t, "/poll/header")
	})
	t.Run("in the body", func(t *testing.T) {
		giveUp(t, "/poll/body", "first")
		polls(t, "/poll/body")
		recovers(t, "/poll/body")
	})
	t.Run("a second time", func(t *testing.T) {
		for range 2 {
			giveUp(t, "/poll/twice", "")
		}
		polls(t, "/poll/twice")
	})
	for name, raw := range map[string]string{
		"length":  "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
		"chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n",
	} {
		t.Run("broke off, "+name, func(t *testing.T) {
			path := "/poll/broken/" + name
			web.Handle(path, harness.CutOff(raw))
			if r, err := node.Try(t.Context(), http.MethodGet, path, ""); err == nil && r.Broken == nil {
				t.Errorf("took %q for a whole response", r.Body)
			}
			harness.Eventually(t, "it is remembered", func() bool { return remembered(t, node, path) != "" })
			polls(t, path)
			recovers(t, path)
		})
	}
}

// TestStalledBody has an origin that stops in the middle of a body. Who follows that fetch
// does not wait for it for ever, and gets the rest from a fetch of its own.
func TestStalledBody(t *testing.T) {
	t.Parallel()
	web := harness.NewOrigin(t)
	node := harness.StartCaddy(t, harness.Layout{Origin: web, Site: "redis_cache {\nttl 5m\n}"})
	stalled, arrived := harness.NewGate(t), make(chan struct{}, 8)
	web.Handle("/stalled", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, "first\n")
		http.NewResponseController(w).Flush()
		arrived <- struct{}{}
		if web.Count("/stalled") == 1 {
			select {
			case <-stalled.C:
			case <-r.Context().Done():
			}
		}
		io.WriteString(w, "second\n")
	})
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	if got := <-subscribe(ctx, node, "/stalled"); got != "first\n" {
		t.Fatalf("the leader got %q", got)
	}
	<-arrived
	r := node.Get(t, "/stalled")
	if _, followed := r.CacheStatus(t)["collapsed"]; !followed || r.Body != "first\nsecond\n" {
		t.Errorf("%q, %q: want a follower to get all of it", r.Body, r.Header.Get("Cache-Status"))
	}
	if n := web.Count("/stalled"); n != 2 {
		t.Errorf("%d fetches", n)
	}
	node.Want(t, "MISS", "/stalled") // nobody joins what has stalled
	node.Want(t, "HIT", "/stalled")
}
