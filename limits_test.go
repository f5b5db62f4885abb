package rediscache

import "time"

// The limits of the engine that tests here wait for.
const (
	strayLimit     = time.Minute
	strayWait      = 10 * time.Second
	followLimit    = 10 * time.Second
	failureLimit   = time.Second
	refreshTimeout = time.Minute
	maxRefreshes   = 64
	maxVariants    = 64
)
