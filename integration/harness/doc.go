// Package harness runs what the tests of the packages around it need: Caddy, built from
// cmd/caddy with the race detector, a scripted origin and a real Redis. It holds no tests.
//
// Begin with StartCaddy, whose Layout is what differs between the tests, and with Node.Want
// and Node.Script, which ask and expect. NewOrigin is behind a node, StartRedis beside it;
// Fleet is some nodes on one Redis, Topology a Redis of another shape. Ports are picked per
// process and nothing waits for a fixed time, so that tests run beside each other.
package harness
