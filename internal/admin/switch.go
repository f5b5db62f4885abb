package admin

import (
	"errors"
	"net/http"

	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
)

// switchRequest is the body of POST /redis_cache/enable and /disable: everything,
// or one namespace.
type switchRequest struct {
	Namespace *string `json:"namespace"`
	All       *bool   `json:"all"`
	Wait      string  `json:"wait"` // for the other nodes; default 1s
	By        string  `json:"by"`   // for the listing
	Reason    string  `json:"reason"`
}

// Enable is POST /redis_cache/enable.
func (a *API) Enable(w http.ResponseWriter, r *http.Request) error {
	return a.turnSwitch(w, r, true)
}

// Disable is POST /redis_cache/disable.
func (a *API) Disable(w http.ResponseWriter, r *http.Request) error {
	return a.turnSwitch(w, r, false)
}

func (a *API) turnSwitch(w http.ResponseWriter, r *http.Request, enable bool) error {
	var request switchRequest
	if err := ReadJSON(r, &request); err != nil {
		return err
	}
	wait, err := parseWait(request.Wait)
	if err != nil {
		return err
	}
	target := journal.Selector{Kind: journal.KindAll}
	switch {
	case request.All != nil && *request.All == (request.Namespace != nil):
		return Error(http.StatusBadRequest, errors.New("want all, or one namespace"))
	case request.Namespace != nil:
		target = journal.Selector{Kind: journal.KindNamespace, Value: *request.Namespace}
		if err := a.checkNamespace(target.Value); err != nil {
			return err
		}
	}
	if enable && a.Off {
		return Error(http.StatusBadRequest, errors.New("the configuration switches this node off, by the global option enabled or REDIS_CACHE_ENABLED"))
	}
	result, err := a.Journal.Switch(r.Context(), enable, target.Value, request.By, request.Reason, wait)
	return a.answerPurge(w, &result, []journal.Selector{target}, api.Matched{}, err)
}
