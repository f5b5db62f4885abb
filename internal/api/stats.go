package api

import "time"

// Waiting are the purges of a node that are not recorded yet.
type Waiting struct {
	Purges int       `json:"purges"` // entries of the journal
	Since  time.Time `json:"since"`
}
