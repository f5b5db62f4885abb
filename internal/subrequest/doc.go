// Package subrequest sends requests through a site's own handlers, without a
// client and without a connection: for warming, so that keys, rules and stored
// responses are those of clients, and to explain what would be done with a
// request. It knows servers and requests, and nothing of what a cache does with
// them: that asks Warming and Explaining what a request is for.
//
// Begin with Warm and Explain in send.go.
package subrequest
