package api

// Check is what one check of the doctor has found.
type Check struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Detail string `json:"detail"`
	Advice string `json:"advice,omitempty"` // what to do about it
}

// Status is how a check has ended.
type Status string

// The statuses of checks, the worst last.
const (
	Skip Status = "skip" // it could not be made
	OK   Status = "ok"
	Warn Status = "warn"
	Fail Status = "fail"
)

// Statuses are all of them, the worst last.
var Statuses = []Status{Skip, OK, Warn, Fail}
