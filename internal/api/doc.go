// Package api holds what the admin API answers and takes, as JSON: the admin routes
// write it, the command reads it.
package api
