package api

import "time"

// TailLine is a request as GET /redis_cache/tail shows it.
type TailLine struct {
	Time       time.Time `json:"time"` // when it arrived
	Namespace  string    `json:"namespace"`
	Outcome    string    `json:"outcome"`
	Reason     string    `json:"reason,omitempty"`
	Tier       string    `json:"tier,omitempty"`
	Method     string    `json:"method"`
	Path       string    `json:"path"`             // without the query
	Status     int       `json:"status,omitempty"` // absent where an error route answers
	DurationMS float64   `json:"duration_ms"`
	Key        string    `json:"key,omitempty"` // "-" in place of an identifier that is not to be shown
}
