package subrequest

import (
	"context"
	"net"
	"net/http"
	"reflect"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// warmMark and explainMark mark the contexts of such requests: no client can send
// one. How many are under way is counted, so that others need not search their
// contexts.
type (
	warmMark    struct{}
	explainMark struct{}
)

var warming, explaining atomic.Int32

// Warming reports whether a request is one of Warm's.
func Warming(r *http.Request) bool {
	return warming.Load() > 0 && r.Context().Value(warmMark{}) != nil
}

// Explaining is what Explain was given with the request, or nil for any other one.
func Explaining(r *http.Request) any {
	if explaining.Load() == 0 {
		return nil
	}
	return r.Context().Value(explainMark{})
}

// Warm runs a request through a server, as nobody's, and returns the status and the
// header of the response. A panic, by which a handler breaks a response off, must not
// take the process with it: thrown is called with it, on its stack.
func Warm(ctx context.Context, server http.Handler, r *http.Request, thrown func(recovered any)) (status int, header http.Header) {
	warming.Add(1)
	defer warming.Add(-1)
	r = r.WithContext(context.WithValue(ctx, warmMark{}, true))
	r.RemoteAddr, _ = NobodysAddress("") // what remains of who asks is taken out at the cache
	return send(server, r, thrown)
}

// Explain runs a request through a server until a cache finds explanation by
// Explaining. It returns the status if another handler has answered. The context is
// cancelled from the start, so that no handler that the request meets on its way asks
// another server.
func Explain(ctx context.Context, server http.Handler, r *http.Request, explanation any, thrown func(recovered any)) (status int) {
	explaining.Add(1)
	defer explaining.Add(-1)
	ctx, cancel := context.WithCancel(context.WithValue(ctx, explainMark{}, explanation))
	cancel()
	status, _ = send(server, r.WithContext(ctx), thrown)
	return status
}

func send(server http.Handler, r *http.Request, thrown func(recovered any)) (status int, header http.Header) {
	// {http.request.local} reads this address.
	ctx := context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}))
	w := NewDiscard(make(http.Header))
	defer func() {
		if recovered := recover(); recovered != nil {
			thrown(recovered)
		}
		status, header = w.status, w.header
	}()
	server.ServeHTTP(w, r.WithContext(ctx))
	return w.status, w.header
}

// Trust lets an operator state X-Forwarded-Proto and the like as the proxy in front
// does, where there is one: Caddy tells no other way whether it knows any.
func Trust(r *http.Request) {
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if server == nil {
		return
	}
	if known := reflect.ValueOf(server).Elem().FieldByName("trustedProxies"); known.IsValid() && !known.IsNil() {
		caddyhttp.SetVar(r.Context(), caddyhttp.TrustedProxyVarKey, true)
	}
}

// Discard is the client of a request that has none.
type Discard struct {
	header http.Header
	status int
}

// NewDiscard begins with a header as handlers in front have prepared it.
func NewDiscard(header http.Header) *Discard { return &Discard{header: header} }

// Header is what handlers have written.
func (w *Discard) Header() http.Header { return w.header }

// WriteHeader notes the status of the response.
func (w *Discard) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status = status
	}
}

// Write accepts anything.
func (w *Discard) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return len(p), nil
}
