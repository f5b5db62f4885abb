package rediscache

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
)

func init() {
	caddy.RegisterModule(adminAPI{})
}

// adminAPI serves the admin routes under /redis_cache/. Caddy makes one for
// every configuration, also for one that then fails to load, so that each
// request finds the configuration that runs.
type adminAPI struct{}

// CaddyModule returns the Caddy module information.
func (adminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.redis_cache", New: func() caddy.Module { return new(adminAPI) }}
}

// Routes returns the admin routes.
func (adminAPI) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: "/redis_cache/purge", Handler: route(methods{http.MethodPost: handlePurge})},
		{Pattern: "/redis_cache/warm", Handler: route(methods{http.MethodPost: handleWarm, http.MethodGet: handleWarmProgress})},
		{Pattern: "/redis_cache/stats", Handler: route(methods{http.MethodGet: handleStats})},
	}
}

// methods are what a route does, by method.
type methods map[string]func(*App, http.ResponseWriter, *http.Request) error

const maxAdminBody = 1 << 20

// route dispatches on the method and finds the app that runs.
func route(m methods) caddy.AdminHandler {
	return caddy.AdminHandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		handle := m[r.Method]
		if handle == nil {
			return apiError(http.StatusMethodNotAllowed, errors.New("method not allowed"))
		}
		app := started.active()
		if app == nil {
			return apiError(http.StatusServiceUnavailable, errors.New("no configuration with redis_cache runs"))
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxAdminBody)
		return handle(app, w, r)
	})
}

func apiError(status int, err error) error {
	return caddy.APIError{HTTPStatus: status, Err: err}
}

// readJSON decodes the body of a request, which must hold one object and
// nothing that is not known.
func readJSON(r *http.Request, into any) error {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err == nil && decoder.Decode(new(json.RawMessage)) != io.EOF {
		err = errors.New("more than one JSON value")
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return apiError(http.StatusRequestEntityTooLarge, err)
	case err != nil:
		return apiError(http.StatusBadRequest, fmt.Errorf("reading the JSON body: %w", err))
	}
	return nil
}

func writeJSON(w http.ResponseWriter, status int, value any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	return json.NewEncoder(w).Encode(value)
}

// purgeRequest is the body of POST /redis_cache/purge: a union of selectors.
type purgeRequest struct {
	Namespace  string   `json:"namespace"`
	Namespaces []string `json:"namespaces"`
	Key        string   `json:"key"`
	Keys       []string `json:"keys"`
	Pattern    string   `json:"pattern"`
	URL        string   `json:"url"`
	URLs       []string `json:"urls"`
	All        bool     `json:"all"`
}

// selectors lists what the request names, checked.
func (p *purgeRequest) selectors(prefix string) ([]selector, error) {
	var list []selector
	add := func(kind selectorKind, one string, many ...string) {
		if one != "" {
			list = append(list, selector{Kind: kind, Value: one})
		}
		for _, value := range many {
			list = append(list, selector{Kind: kind, Value: value})
		}
	}
	add(selectNamespace, p.Namespace, p.Namespaces...)
	add(selectKey, p.Key, p.Keys...)
	add(selectPattern, p.Pattern)
	add(selectURL, p.URL, p.URLs...)
	if p.All {
		list = append(list, selector{Kind: selectAll})
	}
	if len(list) == 0 {
		return nil, errors.New("nothing is selected: want namespace, namespaces, key, keys, pattern, url, urls or all")
	}
	for i := range list {
		var err error
		if list[i], err = list[i].normalize(prefix); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func handlePurge(app *App, w http.ResponseWriter, r *http.Request) error {
	begun := time.Now()
	var request purgeRequest
	if err := readJSON(r, &request); err != nil {
		return err
	}
	selectors, err := request.selectors(app.Prefix)
	if err != nil {
		return apiError(http.StatusBadRequest, err)
	}
	p := newPurge(selectors)
	if err := app.node.purge(r.Context(), p); err != nil {
		return apiError(http.StatusServiceUnavailable, err)
	}
	return writeJSON(w, http.StatusOK, struct {
		purge
		DurationMS int64 `json:"duration_ms"`
	}{p, time.Since(begun).Milliseconds()})
}
