package integration

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dunglas/httpsfv"
)

// siteHost is the Host that requests carry. It is the same for every node, as
// it is behind a load balancer, and part of every key.
const siteHost = "shop.test"

// reply is an answer, read to its end.
type reply struct {
	status  int
	header  http.Header
	trailer http.Header
	body    string
	broken  error // why the body ended early
}

func (r reply) outcome() string { return r.header.Get("X-Cache") }
func (r reply) key() string     { return r.header.Get("X-Cache-Key") }

// ttl returns X-Cache-TTL-Remaining, -1 when it is no number.
func (r reply) ttl() int {
	n, err := strconv.Atoi(r.header.Get("X-Cache-TTL-Remaining"))
	if err != nil {
		return -1
	}
	return n
}

// cacheStatus returns the parameters that this cache put into Cache-Status,
// with strings and tokens alike as text.
func (r reply) cacheStatus(t *testing.T) map[string]string {
	t.Helper()
	list, err := httpsfv.UnmarshalList(r.header.Values("Cache-Status"))
	if err != nil {
		t.Fatalf("Cache-Status %q: %v", r.header.Values("Cache-Status"), err)
	}
	for _, member := range list {
		item, ok := member.(httpsfv.Item)
		if !ok || text(item.Value) != "redis_cache" {
			continue
		}
		params := make(map[string]string)
		for _, name := range item.Params.Names() {
			value, _ := item.Params.Get(name)
			params[name] = text(value)
		}
		return params
	}
	t.Fatalf("Cache-Status %q lacks this cache", r.header.Values("Cache-Status"))
	return nil
}

func text(bare any) string {
	switch v := bare.(type) {
	case string:
		return v
	case httpsfv.Token:
		return string(v)
	case bool:
		return strconv.FormatBool(v)
	case int64:
		return strconv.FormatInt(v, 10)
	}
	return ""
}

// request builds a request; fields are "Name: value", a Host among them counts.
func (n *node) request(ctx context.Context, method, path, body string, fields ...string) (*http.Request, error) {
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, n.url(path), content)
	if err != nil {
		return nil, err
	}
	req.Host = siteHost
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		if name == "Host" {
			req.Host = value
			continue
		}
		req.Header.Add(name, value)
	}
	return req, nil
}

// unproven reports whether the node has stood still for so long that it had to find out
// first which purges it has missed, and therefore did not answer from its store.
func (r reply) unproven() bool {
	return strings.Contains(strings.Join(r.header.Values("Cache-Status"), ","), "detail=unproven")
}

// try sends a request and returns what came of it, for use outside the test's goroutine.
func (n *node) try(ctx context.Context, method, path, body string, fields ...string) (reply, error) {
	req, err := n.request(ctx, method, path, body, fields...)
	if err != nil {
		return reply{}, err
	}
	var r reply
	within(patience, func() bool {
		r, err = send(n.client, req)
		// Each configuration of Caddy listens on a socket of its own, and
		// connections that nobody has accepted yet are lost with the old one.
		return !n.reloaded.Load() || body != "" || !lost(err)
	})
	return r, err
}

// lost reports whether a connection ended before there was an answer.
func lost(err error) bool { return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF) }

func send(client *http.Client, req *http.Request) (reply, error) {
	resp, err := client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return reply{status: resp.StatusCode, header: resp.Header, trailer: resp.Trailer, body: string(b), broken: err}, nil
}

// do sends a request that must be answered in full.
func (n *node) do(t *testing.T, method, path, body string, fields ...string) reply {
	t.Helper()
	r, err := n.try(t.Context(), method, path, body, fields...)
	if err == nil {
		err = r.broken
	}
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return r
}

func (n *node) get(t *testing.T, path string, fields ...string) reply {
	t.Helper()
	return n.do(t, http.MethodGet, path, "", fields...)
}

// want sends a GET, or what "METHOD /path" says, and holds the answer to an
// outcome: to the header that claims it, and to what the origin saw.
func (n *node) want(t *testing.T, outcome, target string, fields ...string) reply {
	t.Helper()
	method, path, ok := strings.Cut(target, " ")
	if !ok {
		method, path = http.MethodGet, target
	}
	fromStore := outcome == "HIT" || outcome == "STALE" || outcome == "REVALIDATED"
	var before int
	var r reply
	within(patience/20, func() bool {
		before = n.originRequests()
		r = n.do(t, method, path, "", fields...)
		return !fromStore || !r.unproven()
	})
	if r.outcome() != outcome {
		t.Fatalf("%s %s %q is %q, want %s (Cache-Status %q, key %q)",
			method, path, fields, r.outcome(), outcome, r.header.Get("Cache-Status"), r.key())
	}
	if n.layout.origin == nil {
		return r
	}
	fetched := n.originRequests() > before
	if (outcome == "HIT" || outcome == "STALE") == fetched {
		t.Fatalf("%s %s %q says %s, but origin asked is %t", method, path, fields, outcome, fetched)
	}
	return r
}

// script runs lines of the form
//
//	OUTCOME [METHOD] /path [| Name: value]...
//
// one after the other. A # starts a comment.
func (n *node) script(t *testing.T, lines string) {
	t.Helper()
	for line := range strings.Lines(lines) {
		line, _, _ = strings.Cut(line, " # ")
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		parts := strings.Split(line, " | ")
		outcome, target, _ := strings.Cut(strings.TrimSpace(parts[0]), " ")
		n.want(t, outcome, strings.TrimSpace(target), parts[1:]...)
	}
}

// between fails unless a number of seconds lies in a range.
func between(t *testing.T, what string, got, low, high int) {
	t.Helper()
	if got < low || got > high {
		t.Errorf("%s is %d, want %d to %d", what, got, low, high)
	}
}

// newClient returns a client that shows responses as they came.
func newClient() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       time.Minute,
	}
}
