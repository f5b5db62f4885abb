// Package admin holds what the admin routes do, one method of API each. It knows
// neither how routes are registered nor a logger: what is to be logged, counted or
// sent as an event goes to functions that it is given.
//
// Begin with API.
package admin
