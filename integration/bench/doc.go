// Package bench measures the real binary: hits, misses, memory, purges and faults. Speed is
// shown as a ratio within one run. Its benchmarks need the build tag bench, see `make bench`.
package bench
