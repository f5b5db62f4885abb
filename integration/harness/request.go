package harness

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dunglas/httpsfv"
)

// SiteHost is the Host that requests carry. It is the same for every node, as
// it is behind a load balancer, and part of every key.
const SiteHost = "shop.test"

// Reply is an answer, read to its end.
type Reply struct {
	Status  int
	Header  http.Header
	Trailer http.Header
	Body    string
	Broken  error // why the body ended early
}

func (r Reply) Outcome() string { return r.Header.Get("X-Cache") }

func (r Reply) Key() string { return r.Header.Get("X-Cache-Key") }

// TTL returns X-Cache-TTL-Remaining, -1 when it is no number.
func (r Reply) TTL() int {
	n, err := strconv.Atoi(r.Header.Get("X-Cache-TTL-Remaining"))
	if err != nil {
		return -1
	}
	return n
}

// CacheStatus returns the parameters that this cache put into Cache-Status,
// with strings and tokens alike as text.
func (r Reply) CacheStatus(t *testing.T) map[string]string {
	t.Helper()
	list, err := httpsfv.UnmarshalList(r.Header.Values("Cache-Status"))
	if err != nil {
		t.Fatalf("Cache-Status %q: %v", r.Header.Values("Cache-Status"), err)
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
	t.Fatalf("Cache-Status %q lacks this cache", r.Header.Values("Cache-Status"))
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

// Request builds a request; fields are "Name: value", a Host among them counts.
func (n *Node) Request(ctx context.Context, method, path, body string, fields ...string) (*http.Request, error) {
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, n.URL(path), content)
	if err != nil {
		return nil, err
	}
	req.Host = SiteHost
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

// Unproven reports whether the node has stood still for so long that it had to find out
// first which purges it has missed, and therefore did not answer from its store.
func (r Reply) Unproven() bool {
	return strings.Contains(strings.Join(r.Header.Values("Cache-Status"), ","), "detail=unproven")
}

// Try sends a request and returns what came of it, for use outside the test's goroutine.
func (n *Node) Try(ctx context.Context, method, path, body string, fields ...string) (Reply, error) {
	req, err := n.Request(ctx, method, path, body, fields...)
	if err != nil {
		return Reply{}, err
	}
	var r Reply
	Within(Patience, func() bool {
		r, err = Send(n.Client, req)
		// Each configuration of Caddy listens on a socket of its own, and
		// connections that nobody has accepted yet are lost with the old one.
		return !n.reloaded.Load() || body != "" || !lost(err)
	})
	return r, err
}

// lost reports whether a connection ended before there was an answer.
func lost(err error) bool { return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF) }

func Send(client *http.Client, req *http.Request) (Reply, error) {
	resp, err := client.Do(req)
	if err != nil {
		return Reply{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return Reply{Status: resp.StatusCode, Header: resp.Header, Trailer: resp.Trailer, Body: string(b), Broken: err}, nil
}

// Do sends a request that must be answered in full.
func (n *Node) Do(t *testing.T, method, path, body string, fields ...string) Reply {
	t.Helper()
	r, err := n.Try(t.Context(), method, path, body, fields...)
	if err == nil {
		err = r.Broken
	}
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return r
}

func (n *Node) Get(t *testing.T, path string, fields ...string) Reply {
	t.Helper()
	return n.Do(t, http.MethodGet, path, "", fields...)
}

// Want sends a GET, or what "METHOD /path" says, and holds the answer to an
// outcome: to the header that claims it, and to what the origin saw.
func (n *Node) Want(t *testing.T, outcome, target string, fields ...string) Reply {
	t.Helper()
	method, path, ok := strings.Cut(target, " ")
	if !ok {
		method, path = http.MethodGet, target
	}
	fromStore := outcome == "HIT" || outcome == "STALE" || outcome == "REVALIDATED"
	var before int
	var r Reply
	Within(Patience/20, func() bool {
		before = n.OriginRequests()
		r = n.Do(t, method, path, "", fields...)
		return !fromStore || !r.Unproven()
	})
	if r.Outcome() != outcome {
		t.Fatalf("%s %s %q is %q, want %s (Cache-Status %q, key %q)",
			method, path, fields, r.Outcome(), outcome, r.Header.Get("Cache-Status"), r.Key())
	}
	if n.Layout.Origin == nil {
		return r
	}
	fetched := n.OriginRequests() > before
	if (outcome == "HIT" || outcome == "STALE") == fetched {
		t.Fatalf("%s %s %q says %s, but origin asked is %t", method, path, fields, outcome, fetched)
	}
	return r
}

// Script runs lines of the form
//
//	OUTCOME [METHOD] /path [| Name: value]...
//
// one after the other. A # starts a comment.
func (n *Node) Script(t *testing.T, lines string) {
	t.Helper()
	for line := range strings.Lines(lines) {
		line, _, _ = strings.Cut(line, " # ")
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		parts := strings.Split(line, " | ")
		outcome, target, _ := strings.Cut(strings.TrimSpace(parts[0]), " ")
		n.Want(t, outcome, strings.TrimSpace(target), parts[1:]...)
	}
}

// Between fails unless a number of seconds lies in a range.
func Between(t *testing.T, what string, got, low, high int) {
	t.Helper()
	if got < low || got > high {
		t.Errorf("%s is %d, want %d to %d", what, got, low, high)
	}
}

// NewClient returns a client that shows responses as they came.
func NewClient() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       time.Minute,
	}
}

// Raw sends a request target as it stands, which no HTTP library would.
func (n *Node) Raw(t *testing.T, target string, fields ...string) Reply {
	t.Helper()
	conn, err := net.Dial("tcp", n.Site)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(Patience))
	lines := append([]string{"GET " + target + " HTTP/1.1", "Host: " + SiteHost, "Connection: close"}, fields...)
	io.WriteString(conn, strings.Join(lines, "\r\n")+"\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/"}})
	if err != nil {
		t.Fatalf("%.80s: %v", target, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%.80s: %v", target, err)
	}
	return Reply{Status: resp.StatusCode, Header: resp.Header, Body: string(body)}
}
