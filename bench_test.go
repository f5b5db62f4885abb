package rediscache

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
	"github.com/gplus-recycling/caddy-redis-cache/internal/subrequest"
)

// BenchmarkHit shows what a memory hit costs beside Caddy's `respond` with the
// same body, without the server around them: compare allocs/op.
func BenchmarkHit(b *testing.B) {
	body := strings.Repeat("x", 1<<10)
	s := newSite(b, `{}`, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Etag", `"v1"`)
		_, _ = io.WriteString(w, body)
	})
	s.get("/a")
	respond := caddyhttp.StaticResponse{Body: body, Headers: http.Header{
		"Cache-Control": {"max-age=3600"}, "Content-Type": {"text/plain"}, "Etag": {`"v1"`},
	}}
	for name, handler := range map[string]caddyhttp.MiddlewareHandler{"respond": respond, "cached": s.handler} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			w := subrequest.NewDiscard(make(http.Header))
			server := new(caddyhttp.Server)
			plain := httptest.NewRequest(http.MethodGet, "/a", http.NoBody)
			for b.Loop() {
				clear(w.Header())
				r := caddyhttp.PrepareRequest(plain, caddy.NewReplacer(), w, server)
				if err := handler.ServeHTTP(w, r, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkObserve shows what counting, log, tail and span cost a memory hit while
// nobody listens: compare with BenchmarkHit.
func BenchmarkObserve(b *testing.B) {
	s := newSite(b, `{}`, nil)
	r := caddyhttp.PrepareRequest(httptest.NewRequest(http.MethodGet, "/a", http.NoBody), caddy.NewReplacer(),
		subrequest.NewDiscard(make(http.Header)), new(caddyhttp.Server))
	s.handler.logger = zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(io.Discard), zap.InfoLevel))
	c, _ := s.handler.call(subrequest.NewDiscard(make(http.Header)), r, nil)
	*c.answer.End() = engine.Outcome{Result: engine.Hit, Tier: store.TierMemory, Headed: time.Now()}
	b.ReportAllocs()
	for b.Loop() {
		c.observe()
	}
}
