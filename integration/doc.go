// Package integration holds the tests of the cache as its users meet it: the real binary in
// front of a scripted origin, with a real Redis. There is a package for each topic, and
// package harness for what they share; package gotest runs them.
package integration
