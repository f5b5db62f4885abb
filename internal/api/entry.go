package api

import "time"

// Entry is a stored response in GET /redis_cache/entries and /entry.
type Entry struct {
	Key         string    `json:"key"`
	Namespace   string    `json:"namespace"`
	Identifier  string    `json:"identifier"`
	URL         string    `json:"url"`
	Status      int       `json:"status"`
	ContentType string    `json:"content_type"`
	Size        int64     `json:"size"` // in Redis, or in memory where there is no Redis
	StoredAt    time.Time `json:"stored_at"`
	Age         float64   `json:"age"`
	TTL         float64   `json:"ttl_remaining"`
	Soft        bool      `json:"soft_purged,omitempty"`
	Tags        []string  `json:"tags"`
	Tiers       []string  `json:"tiers"`
	Base        string    `json:"base,omitempty"` // the key of the URL, for a variant

	Header       map[string][]string `json:"header,omitempty"`
	Body         *string             `json:"body,omitempty"`
	BodyEncoding string              `json:"body_encoding,omitempty"` // text or base64
}
