// Package lint looks for mistakes in a configuration that runs: redis_cache directives
// in the wrong order, handlers behind one that look at what its key does not hold,
// options by which one visitor's response may become everybody's, and what keeps most
// responses from being stored. Package doctor examines Redis.
//
// Begin with Config.Lint.
package lint
