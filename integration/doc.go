// Package integration tests the cache as its users meet it: the real binary,
// built from cmd/caddy, in front of a scripted origin, with a real redis-server.
//
// The files without a theme are the harness: main_test.go builds the binary,
// process_test.go starts and ends processes, redis_test.go, node_test.go and
// origin_test.go hold the three parties of a test, request_test.go what it asks
// and expects. Ports are picked per test and nothing waits for a fixed time, so
// tests run beside each other.
package integration
