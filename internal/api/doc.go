// Package api holds what the admin API answers and takes, as JSON: the admin routes
// write it, the command reads it.
package api

// DefaultListed is how many lines a listing has that does not say how many.
const DefaultListed = 100

// RequireRecorded, as require, refuses a purge that cannot be recorded now, in place of
// letting it wait.
const RequireRecorded = "recorded"
