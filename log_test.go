package rediscache

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddyserver/caddy/v2"

	"github.com/gplus-recycling/caddy-redis-cache/internal/admin"
	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/subrequest"
)

func TestLog(t *testing.T) {
	s := newSite(t, `{"ttl":{"duration":3600000000000}}`, answer("body"))
	core, logged := observer.New(zap.DebugLevel)
	s.handler.logger = zap.New(core)
	s.get("/a?q=1")
	s.get("/a?q=1")
	s.do(http.MethodOptions, "/a")
	lines := logged.TakeAll()
	if len(lines) != 3 {
		t.Fatalf("%d lines", len(lines))
	}
	for i, want := range []struct{ event, outcome, tier, reason string }{
		{"cache_miss", "MISS", "", "absent"}, {"cache_hit", "HIT", "memory", ""}, {"cache_bypass", "BYPASS", "", "method"},
	} {
		fields := lines[i].ContextMap()
		if lines[i].Message != want.event || fields["outcome"] != want.outcome || fields["tier"] != want.tier ||
			fields["reason"] != want.reason || fields["path"] != "/a" || fields["namespace"] != "general" {
			t.Errorf("%s %v, want %v", lines[i].Message, fields, want)
		}
		if key, _ := fields["key"].(string); strings.Contains(key, "example.com/a:") == (want.event == "cache_bypass") {
			t.Errorf("%s shows the key %q", want.event, key)
		}
		if _, ok := fields["duration"].(time.Duration); !ok {
			t.Errorf("duration is %v", fields["duration"])
		}
	}
	core, logged = observer.New(zap.InfoLevel)
	s.handler.logger = zap.New(core)
	if s.get("/a?q=1"); logged.Len() != 0 {
		t.Errorf("at info there are %v", logged.All())
	}
}

// TestNothingSecretIsShown plants secrets wherever a request can hold one, in
// keys and selectors as well.
func TestNothingSecretIsShown(t *testing.T) {
	s := newSite(t, `{"ttl":{"duration":3600000000000},"shared":true,"methods":["GET","POST"],"vary_body":1024,
		"key":{"template":"{http.request.uri.query.token}:{http.request.cookie.sid}:x"},
		"invalidate":[{"selector":"key","values":["general:{http.request.uri.query.token}:*"]},
			{"selector":"tag","values":["{http.request.header.X-Api-Key}"]}]}`, answer("body"))
	core, logged := observer.New(zap.DebugLevel)
	logger := zap.New(core)
	s.handler.logger, s.handler.app.logger = logger, logger
	s.handler.node.Start(s.handler.app.settings())
	one := s.handler.node.Tails.Join("", "")
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPost, http.MethodPut} {
		r := httptest.NewRequest(method, "/a?token=secret-query", strings.NewReader("secret-body"))
		if method == http.MethodGet {
			r = httptest.NewRequest(method, "/a?token=secret-query", http.NoBody)
		}
		s.send(r, "Authorization", "Bearer secret-auth", "Cookie", "sid=secret-cookie", "X-Api-Key", "secret-field")
	}
	eventually := 0
	var text strings.Builder
	for _, line := range logged.All() {
		encoded, err := json.Marshal(line.ContextMap())
		if err != nil {
			t.Fatal(err)
		}
		text.WriteString(line.Message + string(encoded))
		if line.Message == "cache_invalidate" {
			eventually++
		}
	}
	if eventually != 1 || len(one.Lines) != 4 {
		t.Errorf("%d purges are logged and %d requests streamed:\n%s", eventually, len(one.Lines), &text)
	}
	for len(one.Lines) > 0 {
		text.Write(<-one.Lines)
	}
	if strings.Contains(text.String(), "secret") {
		t.Errorf("a secret is shown:\n%s", &text)
	}
	for _, shown := range []string{"cache_hit", ":general:-:", `"selectors":["key","tag","url"]`} {
		if !strings.Contains(text.String(), shown) {
			t.Errorf("%s is missing in\n%s", shown, &text)
		}
	}
}

// TestPurgesAreShown purges as an operator does, who knows the keys from
// X-Cache-Key.
func TestPurgesAreShown(t *testing.T) {
	for _, c := range []struct {
		template string
		selector journal.Selector
		want     string
	}{
		{"{http.request.uri.query.token}:x", journal.Selector{Kind: journal.KindKey, Value: "general:secret:x"}, "key"},
		{"{http.request.uri.query.token}:x", journal.Selector{Kind: journal.KindKey, Value: "PREFIX:general:secret:x:0123"}, "key"},
		{"{http.request.uri.query.token}:x", journal.Selector{Kind: journal.KindKey, Value: "other:1:x"}, "key other:1:x"},
		{"{http.request.uri.query.token}:x", journal.Selector{Kind: journal.KindPattern, Value: "general:secret:?"}, "pattern"},
		{"{http.request.uri.query.token}:x", journal.Selector{Kind: journal.KindPattern, Value: "gen*:secret:?"}, "pattern"},
		{"{http.request.uri.query.token}:x", journal.Selector{Kind: journal.KindPattern, Value: "*secret*"}, "pattern"},
		{"{http.request.uri.query.token}:x", journal.Selector{Kind: journal.KindPattern, Value: "PREFIX?general:secret:*"}, "pattern"},
		{"{http.request.uri.query.token}:x", journal.Selector{Kind: journal.KindPattern, Value: "PREFIX*:secret:*"}, "pattern"},
		{"{http.request.uri.query.token}:x", journal.Selector{Kind: journal.KindPattern, Value: "general2:12?:*"}, "pattern general2:12?:*"},
		{"{http.request.uri.query.token}:x", journal.Selector{Kind: journal.KindTag, Value: "company-7"}, "tag company-7"},
		{"{http.request.uri.path}:x", journal.Selector{Kind: journal.KindKey, Value: "PREFIX:general:/a:x:0123"}, "key general:/a:x:0123"},
		{"{http.request.uri.path}:x", journal.Selector{Kind: journal.KindPattern, Value: "user:12?:*"}, "pattern user:12?:*"},
		{"{http.request.uri.path}:x", journal.Selector{Kind: journal.KindTag, Value: "really?"}, "tag really?"},
		{"{http.request.uri.path}:x", journal.Selector{Kind: journal.KindURL, Value: "http://example.com/a?token=secret"}, "url http://example.com/a"},
		{"{http.request.uri.path}:x", journal.Selector{Kind: journal.KindPrefix, Value: "http://example.com/a?token=secret"}, "prefix http://example.com/a"},
	} {
		s := newSite(t, `{"key":{"template":"`+c.template+`"}}`, answer("body"))
		core, logged := observer.New(zap.InfoLevel)
		s.handler.app.logger = zap.New(core)
		s.handler.node.Start(s.handler.app.settings())
		c.selector.Value = strings.Replace(c.selector.Value, "PREFIX", s.handler.app.Prefix, 1)
		s.purge(journal.Purge{Selectors: []journal.Selector{c.selector}, By: "ops"})
		lines := logged.FilterMessage("cache_invalidate").All()
		if len(lines) != 1 {
			t.Fatalf("%d purges are logged", len(lines))
		}
		if got := fmt.Sprint(lines[0].ContextMap()["selectors"]); got != "["+c.want+"]" {
			t.Errorf("key %s: %s is shown as %s, want %s", c.template, c.selector, got, c.want)
		}
		s.close()
	}
}

// The limits of tails: how many there may be, and how many lines wait for a client.
const (
	maxTails   = 16
	tailBuffer = 256
)

// TestTail runs the route on a server, as writers of tests know no deadlines.
func TestTail(t *testing.T) {
	s := newSite(t, `{"ttl":{"duration":3600000000000}}`, answer("body"))
	app := s.handler.app
	ctx, unload := caddy.NewContext(caddy.Context{Context: t.Context()})
	app.ctx = ctx
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := does((*admin.API).Tail)(app, w, r); err != nil {
			w.WriteHeader(err.(caddy.APIError).HTTPStatus)
		}
	}))
	defer server.Close()
	open := func(query string, status int) *bufio.Scanner {
		t.Helper()
		resp, err := http.Get(server.URL + query)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		if resp.StatusCode != status {
			t.Fatalf("%s: status %d, want %d", query, resp.StatusCode, status)
		}
		return bufio.NewScanner(resp.Body)
	}
	open("?outcome=hit", http.StatusBadRequest)
	all, hits := open("", http.StatusOK), open("?namespace=general&outcome=HIT", http.StatusOK)
	none := open("?namespace=other", http.StatusOK)
	for range maxTails - 3 {
		open("?outcome=STALE", http.StatusOK)
	}
	open("", http.StatusServiceUnavailable)
	s.get("/a?token=1")
	s.get("/a?token=1", "If-None-Match", "*")
	for i, scanner := range []*bufio.Scanner{all, all, hits} {
		var line api.TailLine
		if !scanner.Scan() {
			t.Fatal(scanner.Err())
		}
		if err := json.Unmarshal(scanner.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		want := api.TailLine{Namespace: "general", Outcome: "HIT", Tier: "memory", Method: "GET", Path: "/a", Status: 304}
		if i == 0 {
			want.Outcome, want.Tier, want.Reason, want.Status = "MISS", "", "absent", 200
		}
		if line.Time.IsZero() || line.Key == "" {
			t.Errorf("%+v", line)
		}
		line.Time, line.DurationMS, line.Key = want.Time, 0, ""
		if line != want {
			t.Errorf("%+v, want %+v", line, want)
		}
	}
	unload()
	for _, scanner := range []*bufio.Scanner{all, hits, none} {
		if scanner.Scan() || scanner.Err() != nil {
			t.Errorf("%q, %v after the configuration is gone", scanner.Text(), scanner.Err())
		}
	}
}

// TestTailDrops fills the buffer of a tail that nobody reads, then reads it.
func TestTailDrops(t *testing.T) {
	s := newSite(t, `{}`, answer("body"))
	n := s.handler.node
	read, w := io.Pipe()
	ended := make(chan error)
	go func() {
		stuck := &pipeWriter{subrequest.NewDiscard(make(http.Header)), w}
		ended <- does((*admin.API).Tail)(s.handler.app, stuck, httptest.NewRequest(http.MethodGet, "/", http.NoBody))
	}()
	for n.Tails.Listening() == 0 {
		runtime.Gosched()
	}
	for range tailBuffer + 10 {
		n.Tails.Publish(&api.TailLine{Outcome: "HIT"})
	}
	lines := bufio.NewScanner(read)
	got, dropped := 0, 0
	for got+dropped < tailBuffer+10 && lines.Scan() {
		var note struct{ Dropped int }
		if err := json.Unmarshal(lines.Bytes(), &note); err != nil {
			t.Fatal(err)
		}
		if dropped += note.Dropped; note.Dropped == 0 {
			got++
		}
	}
	// One line may have left the buffer before it was full.
	if got+dropped != tailBuffer+10 || got < tailBuffer || got > tailBuffer+1 {
		t.Errorf("%d lines, %d dropped", got, dropped)
	}
	read.Close()
	n.Tails.Publish(&api.TailLine{})
	if err := <-ended; err != nil || n.Tails.Listening() != 0 {
		t.Errorf("a client that left ends the tail with %v", err)
	}
}

// pipeWriter is a client that reads when the test does.
type pipeWriter struct {
	*subrequest.Discard
	pipe *io.PipeWriter
}

func (w *pipeWriter) Write(p []byte) (int, error)        { return w.pipe.Write(p) }
func (*pipeWriter) FlushError() error                    { return nil }
func (*pipeWriter) SetReadDeadline(time.Time) error      { return nil }
func (w *pipeWriter) SetWriteDeadline(_ time.Time) error { return nil }

func TestTrace(t *testing.T) {
	s := newSite(t, `{"ttl":{"duration":3600000000000}}`, answer("body"))
	var spans [2]recordedSpan
	for i := range spans {
		ctx := trace.ContextWithSpan(t.Context(), &spans[i])
		s.send(httptest.NewRequest(http.MethodGet, "/a", http.NoBody).WithContext(ctx))
	}
	for i, want := range []map[string]string{
		{"redis_cache.outcome": "MISS", "redis_cache.reason": "absent", "redis_cache.tier": "", "redis_cache.namespace": "general"},
		{"redis_cache.outcome": "HIT", "redis_cache.reason": "", "redis_cache.tier": "memory", "redis_cache.namespace": "general"},
	} {
		got := make(map[string]string)
		for _, a := range spans[i].attributes {
			got[string(a.Key)] = a.Value.AsString()
		}
		if len(got) != len(want) {
			t.Errorf("attributes are %v", got)
		}
		for name, value := range want {
			if got[name] != value {
				t.Errorf("%s is %q, want %q", name, got[name], value)
			}
		}
	}
}

// recordedSpan is a span that records and keeps its attributes.
type recordedSpan struct {
	noop.Span
	attributes []attribute.KeyValue
}

func (*recordedSpan) IsRecording() bool { return true }

func (s *recordedSpan) SetAttributes(kv ...attribute.KeyValue) {
	s.attributes = append(s.attributes, kv...)
}
