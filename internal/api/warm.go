package api

import "net/http"

// Warm is the body of POST /redis_cache/warm.
type Warm struct {
	URLs        []string            `json:"urls"`
	Headers     []map[string]string `json:"headers"`     // one request per URL and set of fields
	Concurrency int                 `json:"concurrency"` // requests at a time
	Wait        bool                `json:"wait"`        // answer when done
}

// How many requests are sent at a time.
const (
	DefaultConcurrency = 4
	MaxConcurrency     = 64
)

// WarmResult is the result of one request.
type WarmResult struct {
	URL     string `json:"url"`
	Status  int    `json:"status,omitempty"`
	Outcome string `json:"outcome,omitempty"` // as X-Cache would show it
	Error   string `json:"error,omitempty"`
}

// Failed reports whether nothing good has come of the request.
func (r *WarmResult) Failed() bool { return r.Error != "" || r.Status >= http.StatusBadRequest }

// WarmProgress is how far a warm job has come.
type WarmProgress struct {
	ID      string       `json:"id"`
	Total   int          `json:"total"`
	Done    int          `json:"done"`
	Failed  int          `json:"failed"`
	Running bool         `json:"running"`
	Results []WarmResult `json:"results,omitempty"` // failed ones first to be kept
	Omitted int          `json:"omitted,omitempty"` // results that are not
}
