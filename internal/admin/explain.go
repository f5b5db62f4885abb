package admin

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
	"github.com/gplus-recycling/caddy-redis-cache/internal/explain"
	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
	"github.com/gplus-recycling/caddy-redis-cache/internal/subrequest"
)

// Explain is GET /redis_cache/explain.
func (a *API) Explain(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	server, u, err := subrequest.ServerOf(a.Context, query.Get("url"))
	if err != nil {
		return Error(http.StatusBadRequest, err)
	}
	request := subrequest.New(u, nil)
	if method := query.Get("method"); method != "" {
		if !rfc9111.IsToken(method) {
			return Error(http.StatusBadRequest, errors.New("method is not a token"))
		}
		if !rfc9111.SafeMethod(method) && !a.Caches(method) {
			return Error(http.StatusBadRequest, fmt.Errorf("method: no response to %s is ever stored or answered from the cache,"+
				" and the request might change something on its way", method))
		}
		request.Method = method
	}
	for _, line := range query["header"] {
		if err := subrequest.AddField(request, line); err != nil {
			return Error(http.StatusBadRequest, err)
		}
	}
	if engine.IsBodyMethod(request.Method) && request.ContentLength != 0 {
		return Error(http.StatusBadRequest, errors.New("header: an explained request has no body"))
	}
	e := &explain.Explanation{URL: query.Get("url"), Method: request.Method}
	status := subrequest.Explain(r.Context(), server, request, e, func(recovered any) {
		a.Thrown("a handler that an explained request has met", recovered)
	})
	if !e.Reached {
		e.Reason = "no redis_cache was reached: another handler took the request, or none did"
		if status != 0 && status != engine.StatusClientGone { // which a handler answers that would have asked another server
			e.Reason = fmt.Sprintf("no redis_cache was reached: another handler or route answered with status %d", status)
		}
		e.Advice = "Route the request through a redis_cache directive, and mind the order of directives."
	}
	return WriteJSON(w, http.StatusOK, e)
}
