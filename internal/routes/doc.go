// Package routes reads the routes of a server that runs: what a request may have passed
// before it reaches a handler, and what the handlers in front of a cache write into it
// that tells who asks. It judges nothing: package lint does.
//
// Begin with Walk, then Read.
package routes
