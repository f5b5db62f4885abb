// Package explain says why a request was not a hit, or would be none: what the engine finds
// out about it, what is stored for it, and what would have to change. It reads, and does
// nothing. Begin with [Explanation.Explain].
package explain
